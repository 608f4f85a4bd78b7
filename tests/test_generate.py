from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from PIL import Image

from vlad_lightning.generate import main
from vlad_lightning.pipeline import VLADPipeline

PROMPT = "a poster that says 'HI'"
QUAD = [[0.1, 0.3], [0.9, 0.3], [0.9, 0.7], [0.1, 0.7]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "pipeline"
    module: Any = tiny.stage("vfe")
    torch.nn.init.normal_(module.painter.vfe.fusion.weight, std=0.3)
    VLADPipeline.from_module(module).save_pretrained(folder)
    return folder


def paint(model: Path, out: Path, *args: object, prompt: str = PROMPT) -> bytes:
    main([prompt, "--model", str(model), "--out", str(out), "--steps", "2", "--device", "cpu", *map(str, args)])
    image = Image.open(out)
    assert image.mode == "RGB"
    return image.tobytes()


def test_same_seed_gives_the_same_image(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = paint(model, tmp_path / "a.png")
    assert f"wrote {tmp_path / 'a.png'}" in capsys.readouterr().out
    assert first == paint(model, tmp_path / "b.png")
    assert first != paint(model, tmp_path / "c.png", "--seed", 1)
    assert first != paint(model, tmp_path / "d.png", "--guidance_scale", 5)
    assert first != paint(model, tmp_path / "e.png", "--layout_scale", 3)


def test_the_settings_for_faster_sampling_reach_the_sampler(model: Path, tmp_path: Path) -> None:
    steps = ("--steps", 4)
    plain = paint(model, tmp_path / "a.png", *steps)
    assert plain == paint(model, tmp_path / "b.png", *steps, "--solver", "ddim", "--cache_interval", 1)
    assert plain != paint(model, tmp_path / "c.png", *steps, "--solver", "dpmsolver++")
    assert plain != paint(model, tmp_path / "d.png", *steps, "--cache_interval", 2)
    fused = paint(model, tmp_path / "e.png", *steps, "--fuse_qkv")
    assert max(abs(a - b) for a, b in zip(plain, fused, strict=True)) <= 1
    with pytest.raises(ValueError, match="cache_interval is 0; it must be at least 1"):
        paint(model, tmp_path / "f.png", "--cache_interval", 0)


def test_several_images_stand_side_by_side(model: Path, tmp_path: Path) -> None:
    paint(model, tmp_path / "grid.png", "--images", 3)
    assert Image.open(tmp_path / "grid.png").size == (3 * tiny.SIZE, tiny.SIZE)


def test_own_layout_is_drawn(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    path.write_text(json.dumps([{"text": "HI", "quad": QUAD}]))
    first = paint(model, tmp_path / "a.png", "--layout", path)
    path.write_text("[]")
    second = paint(model, tmp_path / "b.png", "--layout", path)
    assert first != second  # an empty list is a layout too: no words


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_other_formats_and_new_folders(model: Path, tmp_path: Path, suffix: str) -> None:
    paint(model, tmp_path / "new" / f"out{suffix}", prompt="nothing to draw")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"out{suffix}"]  # nothing half-written is left


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON list"),
        ('[{"text": "HI"}]', "not a JSON list"),
        ("[1]", "not a JSON list"),
        ('[{"text": "HI", "quad": [[0, 0], [1, 0], [1, 1]]}]', "the quad of 'HI' must have 4 corners"),
        ('[{"text": "HI", "quad": [[0], [1, 0], [1, 1], [0, 1]]}]', "not a JSON list"),
    ],
)
def test_malformed_layouts_are_refused(model: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "layout.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"--layout {path}: {message}"):
        paint(model, tmp_path / "out.png", "--layout", path)
    assert not (tmp_path / "out.png").exists()


def test_bad_arguments_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--model .*nowhere is no pipeline folder"):
        paint(tmp_path / "nowhere", tmp_path / "out.png")
    with pytest.raises(ValueError, match=r"--out .*out\.txt: it must end in \.png"):
        paint(model, tmp_path / "out.txt")
    with pytest.raises(FileNotFoundError, match=r"--layout .* does not exist"):
        paint(model, tmp_path / "out.png", "--layout", tmp_path / "no.json")
    with pytest.raises(ValueError, match="--images is 0; it must be at least 1"):
        paint(model, tmp_path / "out.png", "--images", 0)
    with pytest.raises(ValueError, match="guidance_scale is -1"):
        paint(model, tmp_path / "out.png", "--guidance_scale", -1)
    with pytest.raises(ValueError, match="asks for 5 words; the layout holds at most 4"):
        paint(model, tmp_path / "out.png", prompt="'one two three four five'")
    assert not list(tmp_path.glob("out.*"))
