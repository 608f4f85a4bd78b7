from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from matplotlib import get_data_path
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vlad_lightning import __version__
from vlad_lightning.cli.launcher import main
from vlad_lightning.files import save_picture
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.model_index import weights_hash

PROMPT = "a poster that says 'HI'"
SERIF = Path(get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf")
TURNED = [[10, 30], [80, 20], [85, 55], [15, 65]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the pipeline ``tiny`` and an image ``a.png`` of it, with settings of its own."""
    folder = tmp_path_factory.mktemp("image_text")
    module: Any = tiny.stage("vfe")
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    VLADPipeline.from_module(module).save_pretrained(folder / "tiny")
    own = ("--guidance_scale", "2.5", "--guidance_interval", "0.2", "1", "--solver", "dpmsolver++", "--fuse_qkv")
    made(folder, PROMPT, "--model", "tiny", "--steps", "3", "--device", "cpu", "--seed", "7", *own, "--out", "a.png")
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def made(folder: Path, *args: str) -> bytes:
    before, kernel = Path.cwd(), torch.backends.cuda.flash_sdp_enabled()
    os.chdir(folder)
    torch.backends.cuda.enable_flash_sdp(True)  # as in a new process: an earlier fit in this one may have changed it
    try:
        assert main(["generate", *args]) == 0
        return Path(args[-1]).read_bytes()
    finally:
        torch.backends.cuda.enable_flash_sdp(kernel)
        os.chdir(before)


def test_a_png_says_how_it_was_made(folder: Path) -> None:
    told = dict(Image.open("a.png").info)
    layout = LayoutFile.from_json(told.pop("layout"))
    assert (layout.layout.words, layout.width, layout.height) == (("HI",), tiny.SIZE, tiny.SIZE)
    found = weights_hash(Path("tiny"))
    assert told.pop("parameters") == (
        f"{PROMPT}\nSteps: 3, Sampler: dpmsolver++, CFG scale: 2.5, Layout scale: 1.0, Seed: 7, "
        f"Size: {tiny.SIZE}x{tiny.SIZE}, Model hash: {found[:10]}, Model: tiny, Version: vlad-lightning {__version__}"
    )
    assert told == {
        "prompt": PROMPT,
        "seed": "7",
        "steps": "3",
        "guidance_scale": "2.5",
        "layout_scale": "1.0",
        "guidance_interval": "0.2 1.0",
        "guidance_rescale": "0.0",
        "solver": "dpmsolver++",
        "cache_interval": "1",
        "fuse_qkv": "True",
        "size": f"{tiny.SIZE}x{tiny.SIZE}",
        "model": "tiny",
        "model_hash": found,
        "device": "cpu",
        "layout_origin": "generated",
        "Software": f"vlad-lightning {__version__}",
    }


def test_the_hash_of_the_weights_is_that_of_sha256sum(folder: Path) -> None:
    line = "LC_ALL=C; export LC_ALL; cd tiny && sha256sum */*.safetensors | sha256sum"
    printed = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == weights_hash(Path("tiny"))


def test_another_process_makes_an_image_again_from_its_text(folder: Path) -> None:
    again = [sys.executable, "-m", "vlad_lightning", "generate", "--from", "a.png", "--out", "process.png"]
    subprocess.run(again, check=True, timeout=300)
    assert Path("process.png").read_bytes() == Path("a.png").read_bytes()


def test_options_win_over_the_stored_ones(folder: Path) -> None:
    made(folder, "--from", "a.png", "--seed", "8", "--prompt", "a sign that says 'NO'", "--out", "b.png")
    told, first = Image.open("b.png").info, Image.open("a.png").info
    assert {key for key in told if told[key] != first[key]} == {"prompt", "seed", "parameters", "layout"}


def test_a_negative_prompt_is_followed_and_told(folder: Path) -> None:
    first = made(folder, "--from", "a.png", "--negative_prompt", "a red circle", "--out", "negative.png")
    assert Image.open("negative.png").tobytes() != Image.open("a.png").tobytes()
    told = Image.open("negative.png").info
    assert told["negative_prompt"] == "a red circle"
    assert told["parameters"].splitlines()[:2] == [PROMPT, "Negative prompt: a red circle"]
    assert made(folder, "--from", "negative.png", "--out", "again.png") == first


def test_the_size_of_an_image_is_told_and_made_again(folder: Path) -> None:
    first = made(folder, "--from", "a.png", "--width", "48", "--out", "wide.png")
    wide = Image.open("wide.png")
    assert wide.size == (48, tiny.SIZE)
    assert (wide.info["width"], wide.info["size"]) == ("48", f"48x{tiny.SIZE}")
    assert "height" not in wide.info
    layout = LayoutFile.from_json(wide.info["layout"])
    assert (layout.width, layout.height) == (48, tiny.SIZE)
    assert made(folder, "--from", "wide.png", "--out", "again.png") == first


def test_an_image_has_the_format_of_its_layout_file(folder: Path) -> None:
    word = {"text": "HI", "quad": [[20, 20], [180, 20], [180, 80], [20, 80]]}
    Path("wide.json").write_text(json.dumps({"width": 200, "height": 100, "words": [word]}))
    plain = ("--from", "a.png", "--layout", "wide.json")
    first = made(folder, *plain, "--out", "wide.png")
    assert Image.open("wide.png").size == (46, 22)
    assert made(folder, "--from", "wide.png", "--out", "again.png") == first
    made(folder, *plain, "--width", "32", "--height", "32", "--out", "square.png")
    assert Image.open("square.png").size == (32, 32)


def test_an_enlarged_image_keeps_its_text_and_is_made_again(folder: Path) -> None:
    first = made(folder, "--from", "a.png", "--upscale", "4", "--out", "large.png")
    large, small = Image.open("large.png"), Image.open("a.png")
    assert large.tobytes() == small.resize((4 * tiny.SIZE, 4 * tiny.SIZE), Image.Resampling.LANCZOS).tobytes()
    assert {key for key in large.info if large.info[key] != small.info.get(key)} == {"upscale", "parameters"}
    assert large.info["parameters"].endswith("Postprocess upscale by: 4, Postprocess upscaler: Lanczos")
    assert made(folder, "--from", "large.png", "--out", "again.png") == first
    made(folder, "--from", "large.png", "--upscale", "1", "--out", "again.png")
    assert Image.open("again.png").tobytes() == small.tobytes()


def test_an_image_with_a_given_layout_is_made_again_with_it(folder: Path) -> None:
    words = [{"text": "HI", "quad": TURNED, "colour": "red", "font": "serif"}]
    Path("layout.json").write_text(json.dumps({"width": 100, "height": 90, "words": words}))
    first = made(folder, "--from", "a.png", "--layout", "layout.json", "--out", "given.png")
    assert Image.open("given.png").info["layout_origin"] == "given"
    Path("layout.json").unlink()
    assert made(folder, "--from", "given.png", "--out", "again.png") == first


def test_files_that_an_image_does_not_contain_must_be_named_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(SERIF, "own.ttf")
    first = made(folder, "--from", "a.png", "--font", "own.ttf", "--out", "serif.png")
    assert str(folder) not in str(Image.open("serif.png").info)
    capsys.readouterr()
    assert main(["generate", "--from", "serif.png"]) == 2
    assert capsys.readouterr().err == (
        "vlad-cli generate: --from serif.png: it was made with --font own.ttf, which it does not contain; give --font, "
        "too\n"
    )
    assert made(folder, "--from", "serif.png", "--font", "own.ttf", "--out", "again.png") == first
    assert "warning" not in capsys.readouterr().err
    sans = str(SERIF.with_name("DejaVuSans.ttf"))
    made(folder, "--from", "serif.png", "--font", sans, "--out", "again.png")
    assert "is another file than the own.ttf that was used" in capsys.readouterr().err
    words = [{"text": "HI", "quad": TURNED, "font": "own.ttf"}]
    Path("layout.json").write_text(json.dumps({"size": 100, "words": words}))
    first = made(folder, "--from", "a.png", "--layout", "layout.json", "--out", "lettered.png")
    assert main(["generate", "--from", "lettered.png"]) == 2
    assert "made with --layout layout.json, which it does not contain" in capsys.readouterr().err
    assert made(folder, "--from", "lettered.png", "--layout", "layout.json", "--out", "again.png") == first


def test_other_weights_of_the_model_are_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module: Any = tiny.stage("vfe", seed=1)
    VLADPipeline.from_module(module).save_pretrained(folder / "other")
    made(folder, "--from", "a.png", "--model", "other", "--out", "other.png")
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    made_with, here = weights_hash(Path("tiny"))[:10], weights_hash(Path("other"))[:10]
    assert warning == (
        f"warning: the weights of other have the hash {here}, those that made a.png had {made_with}; the image will be "
        "another"
    )


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "its text does not say how it was made; allowed is a PNG that vlad-cli generate wrote"),
        ({"parameters": "a cat\nSteps: 20"}, "its text does not say how it was made; allowed is a PNG that"),
        ({"prompt": "a", "seed": "x"}, "--seed: invalid int value: 'x'"),
        ({"prompt": "a", "seed": "1", "solver": "euler_a"}, "--solver: invalid choice: 'euler_a'"),
        ({"prompt": "a", "seed": "1", "sheet": "4"}, "it is a sheet of several images; name a single image"),
        ({"prompt": "a", "seed": "1", "layout_origin": "given", "layout": "{"}, "not a JSON file: "),
    ],
)
def test_a_file_without_a_usable_text_is_refused(
    told: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.png"
    software = {"Software": "vlad-lightning 0.1"} if "seed" in told else {}
    save_picture(Image.new("RGB", (8, 8)), path, told | software)
    assert main(["generate", "--from", str(path), "--out", str(tmp_path / "y.png")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"vlad-cli generate: --from {path}: {message}")


def test_files_that_are_no_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.png").write_text("no picture")
    for name, message in {"x.png": "x.png is no picture that can be read", "no.png": "no.png does not exist"}.items():
        assert main(["generate", "--from", str(tmp_path / name)]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert message in error


def test_the_image_of_from_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--from", "a.png", "--out", str(folder / "a.png"), "--seed", "9"]) == 2
    assert "a.png is the image of --from; name another file" in capsys.readouterr().err


def test_texts_that_another_program_adds_do_not_matter(folder: Path, tmp_path: Path) -> None:
    info = PngInfo()
    for key, value in Image.open("a.png").info.items():
        info.add_text(key, value)
    info.add_text("model_name", "x" * 1000)
    Image.open("a.png").save(tmp_path / "edited.png", pnginfo=info)
    assert made(folder, "--from", str(tmp_path / "edited.png"), "--out", "again.png") == Path("a.png").read_bytes()
