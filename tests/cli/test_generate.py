from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from matplotlib import get_data_path
from PIL import Image, ImageChops, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file

from vlad_lightning.cli.generate import main
from vlad_lightning.cli.launcher import main as launch
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pretrained import shipped

SERIF = str(Path(get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf"))
PROMPT = "a poster that says 'HI'"
QUAD = [[0.1, 0.3], [0.9, 0.3], [0.9, 0.7], [0.1, 0.7]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "pipeline"
    module: Any = tiny.stage("vfe")
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    VLADPipeline.from_module(module).save_pretrained(folder)
    return folder


def options(model: Path) -> list[str]:
    return ["--model", str(model), "--steps", "2", "--device", "cpu"]


def generate(model: Path, out: Path, *args: object, prompt: str = PROMPT, seed: int | None = 0) -> bytes:
    seeded = [] if seed is None else ["--seed", str(seed)]
    main([prompt, *options(model), "--out", str(out), *seeded, *map(str, args)])
    image = Image.open(out)
    assert image.mode == "RGB"
    return image.tobytes()


def test_same_seed_gives_the_same_image(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = generate(model, tmp_path / "a.png")
    assert f"wrote {tmp_path / 'a.png'} (seed 0)" in capsys.readouterr().out
    assert first == generate(model, tmp_path / "b.png")
    assert first != generate(model, tmp_path / "c.png", seed=1)
    assert first != generate(model, tmp_path / "d.png", "--guidance_scale", 5)
    assert first != generate(model, tmp_path / "e.png", "--layout_scale", 2)


def test_the_options_of_guidance_reach_the_sampler(model: Path, tmp_path: Path) -> None:
    guided = ("--guidance_scale", 3, "--layout_scale", 3)
    first = generate(model, tmp_path / "a.png", *guided)
    whole = generate(model, tmp_path / "b.png", *guided, "--guidance_interval", 0, 1, "--guidance_rescale", 0)
    assert first == whole
    assert first != generate(model, tmp_path / "c.png", *guided, "--guidance_interval", 0.5, 1)
    assert first != generate(model, tmp_path / "d.png", *guided, "--guidance_rescale", 0.7)


def test_a_random_seed_is_printed_and_stored_and_repeats_the_image(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = generate(model, tmp_path / "a.png", seed=None)
    (printed,) = re.findall(r"\(seed (\d+)\)", capsys.readouterr().out)
    assert first != generate(model, tmp_path / "b.png", seed=None)
    assert first == generate(model, tmp_path / "c.png", seed=int(printed))
    assert Image.open(tmp_path / "a.png").info == Image.open(tmp_path / "c.png").info
    assert Image.open(tmp_path / "a.png").info["seed"] == printed


def test_a_list_of_prompts_gives_a_sheet(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a poster that says 'HI'", "a red circle and 'SALE 50' on a blue background, and much more to read", "'C'"]
    (tmp_path / "prompts.txt").write_text("\n\n".join(lines))
    out = tmp_path / "sheet.png"
    arguments = ["--prompts", str(tmp_path / "prompts.txt"), "--model", str(model), "--steps", "2", "--device", "cpu"]
    assert launch(["generate", *arguments, "--out", str(out), "--seed", "3"]) == 0
    assert f"wrote {out} (seed 3)" in capsys.readouterr().out
    page = Image.open(out)
    assert page.mode == "RGB"
    assert page.width > 3 * 150
    assert (page.info["prompt"], page.info["seed"]) == ("\n".join(lines), "3")
    (tmp_path / "prompts.txt").write_text(lines[0])
    assert launch(["generate", *arguments, "--out", str(out), "--seed", "3"]) == 0
    sheet, alone = Image.open(out).tobytes(), generate(model, tmp_path / "alone.png", prompt=lines[0], seed=3)
    colours = [{pixels[i : i + 3] for i in range(0, len(pixels), 3)} for pixels in (alone, sheet)]
    assert colours[0] <= colours[1]  # the image of that prompt and seed, with larger pixels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a prompt is needed: \"a sign that says 'HELLO'\", or a list of them with --prompts FILE"),
        ([PROMPT, "--prompts", "demo_prompts.txt"], "PROMPT and --prompts both say what to draw; give one of them"),
        (["--prompts", "demo_prompts.txt", "--from", "x.png"], "--from belongs to one prompt"),
        (["--prompt", PROMPT, PROMPT], "PROMPT and --prompt both say what to draw; give one of them"),
        (["--prompts", "demo_prompts.txt", "--width", "64"], "--width belongs to one prompt"),
        (["a 'B'", "--height", "4097"], "--height is 4097; it must be a whole number from 1 to 4,096"),
        (["--prompts", "demo_prompts.txt", "--images", "2"], "--images belongs to one prompt"),
        (["--prompts", "demo_prompts.txt", "--layout", "x.json"], "--layout belongs to one prompt"),
        (["--prompts", "no.txt"], "--prompts no.txt: no configuration file 'no.txt'"),
        (["--prompts", "blank.txt"], "--prompts blank.txt: the number of prompts is 0"),
    ],
)
def test_unusable_lists_of_prompts_are_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("blank.txt").write_text("\n \n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main([*arguments, "--model", str(model)])
    assert not Path("out.png").exists()


def test_the_shipped_model_is_the_default(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    out, again = tmp_path / "out.png", tmp_path / "again.png"
    arguments = ["--steps", "2", "--device", "cpu", "--seed", "0", "--out"]
    assert launch(["generate", PROMPT, *arguments, str(out)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("vlad-cli generate: --model 'vlad-mini' is the name of weights that ship with")
    shutil.copytree(model, tmp_path / "vlad-mini")
    assert launch(["generate", PROMPT, *arguments, str(out)]) == 0
    assert launch(["generate", PROMPT, "--model", "vlad-mini", *arguments, str(again)]) == 0
    assert Image.open(out).tobytes() == Image.open(again).tobytes() == generate(model, tmp_path / "named.png")


def words_file(*words: dict[str, Any]) -> str:
    """Write a layout file with these words, in fractions of the frame."""
    return json.dumps({"width": 1, "height": 1, "words": list(words)})


def test_a_prompt_without_words_to_draw_is_reported(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notice = "notice: the prompt has no words to draw"
    generate(model, tmp_path / "a.png", prompt="a poster with words")
    assert notice in capsys.readouterr().out
    layout = tmp_path / "drawn.json"
    generate(model, tmp_path / "a.png", "--save_layout", layout, prompt="a poster that says HELLO")
    assert "nothing in the prompt is in quotes; it seems to ask for 'HELLO', which is drawn" in capsys.readouterr().out
    assert [word["text"] for word in json.loads(layout.read_text())["words"]] == ["HELLO"]
    generate(model, tmp_path / "a.png", prompt="a poster that says \u201eHALLO\u201c")
    assert notice not in capsys.readouterr().out
    path = tmp_path / "layout.json"
    path.write_text(words_file({"text": "HI", "quad": QUAD}))
    generate(model, tmp_path / "a.png", "--layout", path, prompt="a poster")
    assert notice not in capsys.readouterr().out


def test_objects_that_the_model_has_not_learned_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "a giraffe under a red star on a blue background that says 'HI'"
    generate(model, tmp_path / "a.png", prompt=prompt)
    assert "has not learned" not in capsys.readouterr().out  # its index does not say what it has
    knowing = tmp_path / "pipeline"
    pipe = VLADPipeline.from_pretrained(model)
    pipe.register_to_config(nouns=["star", "cat"])
    pipe.save_pretrained(knowing)
    notice = "notice: this model has not learned to draw 'a giraffe'; its model card lists"
    generate(knowing, tmp_path / "b.png", prompt=prompt)
    assert notice in capsys.readouterr().out
    generate(knowing, tmp_path / "b.png", prompt=prompt.replace("giraffe", "cat"))
    assert "has not learned" not in capsys.readouterr().out
    (tmp_path / "prompts.txt").write_text(f"a cat\n{prompt}\ntwo zebras and a giraffe\n")
    generate(knowing, tmp_path / "b.png", prompt="a star underneath 'HI', white and gold")
    assert "has not learned" not in capsys.readouterr().out
    main(["--prompts", str(tmp_path / "prompts.txt"), *options(knowing), "--out", str(tmp_path / "sheet.png")])
    assert "to draw 'a giraffe', 'two zebras'; its" in capsys.readouterr().out


def test_the_settings_for_faster_sampling_reach_the_sampler(model: Path, tmp_path: Path) -> None:
    steps = ("--steps", 4)
    plain = generate(model, tmp_path / "a.png", *steps)
    assert plain == generate(model, tmp_path / "b.png", *steps, "--solver", "ddim", "--cache_interval", 1)
    assert plain != generate(model, tmp_path / "c.png", *steps, "--solver", "dpmsolver++")
    assert plain != generate(model, tmp_path / "d.png", *steps, "--cache_interval", 2)
    fused = generate(model, tmp_path / "e.png", *steps, "--fuse_qkv")
    assert max(abs(a - b) for a, b in zip(plain, fused, strict=True)) <= 1
    with pytest.raises(ValueError, match="--cache_interval is 0"):
        generate(model, tmp_path / "f.png", "--cache_interval", 0)


def test_generate_uses_the_tests_settings_by_default(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "tested")
    index = tmp_path / "tested" / "model_index.json"
    own = {"solver": "dpmsolver++", "cache_interval": 2, "fuse_qkv": True}
    index.write_text(json.dumps(json.loads(index.read_text()) | own))
    named = ("--steps", 4, "--solver", "dpmsolver++", "--cache_interval", 2, "--fuse_qkv")
    assert generate(tmp_path / "tested", tmp_path / "a.png", "--steps", 4) == generate(
        model, tmp_path / "b.png", *named
    )
    others = ("--steps", 4, "--solver", "ddim", "--cache_interval", 1, "--no-fuse_qkv")
    assert generate(tmp_path / "tested", tmp_path / "c.png", *others) == generate(
        model, tmp_path / "d.png", "--steps", 4
    )


def test_each_of_several_images_is_a_file_that_its_own_seed_repeats(model: Path, tmp_path: Path) -> None:
    main([PROMPT, *options(model), "--out", str(tmp_path / "out.png"), "-n", "3", "--seed", "5", "--grid"])
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["out_0.png", "out_1.png", "out_2.png", "out_grid.png"]
    for index in range(3):
        alone = generate(model, tmp_path / "alone.png", seed=5 + index)
        assert Image.open(tmp_path / f"out_{index}.png").tobytes() == alone
        assert Image.open(tmp_path / f"out_{index}.png").info == Image.open(tmp_path / "alone.png").info
    gap = tiny.SIZE // 16
    sheet = Image.open(tmp_path / "out_grid.png")
    assert sheet.size == (2 * tiny.SIZE + 3 * gap, 2 * tiny.SIZE + 3 * gap)
    second = (gap + tiny.SIZE + gap, gap)
    drawn = sheet.crop((*second, second[0] + tiny.SIZE, second[1] + tiny.SIZE))
    assert drawn.tobytes() == Image.open(tmp_path / "out_1.png").tobytes()
    assert sheet.getpixel((0, 0)) == sheet.getpixel((gap + tiny.SIZE, gap)) == (255, 255, 255)


def test_the_prompt_may_be_an_option(model: Path, tmp_path: Path) -> None:
    main(["--prompt", PROMPT, *options(model), "--out", str(tmp_path / "a.png"), "--seed", "0"])
    assert Image.open(tmp_path / "a.png").tobytes() == generate(model, tmp_path / "b.png")


def test_a_given_layout_is_drawn(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    path.write_text(words_file({"text": "HI", "quad": QUAD}))
    first = generate(model, tmp_path / "a.png", "--layout", path)
    path.write_text(words_file())
    second = generate(model, tmp_path / "b.png", "--layout", path)
    assert first != second  # an empty layout counts too


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_other_formats_and_new_folders_are_written(model: Path, tmp_path: Path, suffix: str) -> None:
    generate(model, tmp_path / "new" / f"out{suffix}", prompt="nothing to draw")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"out{suffix}"]  # no partial files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ('{"size": 1, "words": [{"text": "HI"}]}', r"words\[0\]: missing entry 'quad'"),
        ("[1]", r"the file is \[1\]; it must be an object"),
        ('{"size": 1, "words": [1]}', r"words\[0\] is 1; it must be an object with text, quad"),
        (
            '{"size": 1, "words": [{"text": "HI", "quad": [[0, 0], [1, 0], [1, 1]]}]}',
            r"words\[0\]\.quad is .*; it must be 4 corners",
        ),
        ('{"words": []}', "the frame is given by nothing"),
    ],
)
def test_malformed_layouts_are_refused(model: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "layout.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"--layout: {path}: {message}"):
        generate(model, tmp_path / "out.png", "--layout", path)
    assert not (tmp_path / "out.png").exists()


def test_bad_arguments_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--model .*nowhere is no pipeline folder"):
        generate(tmp_path / "nowhere", tmp_path / "out.png")
    with pytest.raises(ValueError, match=r"--out .*out\.txt: it must end in \.png"):
        generate(model, tmp_path / "out.txt")
    with pytest.raises(FileNotFoundError, match=r"--layout: .* does not exist"):
        generate(model, tmp_path / "out.png", "--layout", tmp_path / "no.json")
    with pytest.raises(ValueError, match="--images is 0"):
        generate(model, tmp_path / "out.png", "--images", 0)
    with pytest.raises(ValueError, match="guidance_scale is -1"):
        generate(model, tmp_path / "out.png", "--guidance_scale", -1)
    with pytest.raises(ValueError, match="asks for 5 words"):
        generate(model, tmp_path / "out.png", prompt="'one two three four five'")
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--steps", "1000000000"), "--steps is 1000000000; it must be a whole number from 1 to 10,000"),
        (("--seed", "-1"), "--seed is -1; it must be a whole number from 0 to 9,223,372,036,854,775,807"),
        (("--upscale", "0"), "--upscale is 0; it must be a whole number from 1 to 16"),
        (("--grid",), "--grid is a sheet of several images; give --images too, or leave it out"),
        (("--images", "1000000"), "--images is 1000000; it must be a whole number from 1 to 1,000"),
        (("--cache_interval", "0"), "--cache_interval is 0; it must be a whole number from 1 to 10,000"),
        (
            ("--guidance_interval", "0.9", "0.2"),
            "--guidance_interval is (0.9, 0.2); it must be two numbers, 0 <= low < high <= 1",
        ),
        (("--guidance_rescale", "2"), "--guidance_rescale=2.0: must lie in [0, 1]"),
    ],
)
def test_numbers_beyond_all_limits_are_refused_before_the_model_is_read(
    args: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model_index.json").write_text("no pipeline at all")
    assert launch(["generate", PROMPT, "--model", str(tmp_path), *args]) == 2
    assert capsys.readouterr().err == f"vlad-cli generate: {message}\n"


def test_a_blank_prompt_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_index.json").write_text("no pipeline at all")
    assert launch(["generate", " ", "--model", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("vlad-cli generate: the prompt is ' '; it must say what to draw: ")


def test_a_prompt_of_a_megabyte_is_refused_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model_index.json").write_text("no pipeline at all")
    assert launch(["generate", "a" * 1_000_000, "--model", str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.endswith("has 1,000,000 characters; at most 10,000 are read")
    assert len(error) < 300


def test_a_saved_layout_draws_the_same_and_can_be_edited(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "layout.json"
    generated = generate(model, tmp_path / "a.png", "--save_layout", path)
    saved = LayoutFile.load(path)
    assert saved.layout.words == ("HI",)
    assert (saved.width, saved.height, saved.prompt) == (tiny.SIZE, tiny.SIZE, PROMPT)
    again = tmp_path / "again.json"
    drawn = generate(model, tmp_path / "b.png", "--layout", path, "--save_layout", again)
    assert again.read_text() == path.read_text()
    path.write_text(path.read_text().replace('"HI"', '"HO"'))
    assert generate(model, tmp_path / "c.png", "--layout", path) != drawn
    assert generated  # its noise differs, because the layout used the first draws


def test_each_of_several_layouts_is_saved(model: Path, tmp_path: Path) -> None:
    saving = ("--images", "2", "--save_layout", str(tmp_path / "layout.json"))
    main([PROMPT, *options(model), "--out", str(tmp_path / "out.png"), *saving, "--seed", "0"])
    first, second = (LayoutFile.load(tmp_path / f"layout_{i}.json") for i in range(2))
    assert not torch.equal(first.layout.boxes, second.layout.boxes)


def test_a_colour_of_the_layout_file_reaches_the_image_generator(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    entry = {"text": "HI", "quad": QUAD}
    path.write_text(words_file(entry))
    plain = generate(model, tmp_path / "a.png", "--layout", path)
    path.write_text(words_file(entry | {"colour": "red"}))
    told = generate(model, tmp_path / "b.png", "--layout", path)
    assert told != plain
    assert told == generate(model, tmp_path / "c.png", "--layout", path, prompt=f"{PROMPT} in red letters")


def test_a_font_is_used_and_saved(model: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout.json"
    layout.write_text(words_file({"text": "HI", "quad": QUAD}))
    plain = generate(model, tmp_path / "a.png", "--layout", layout)
    saved = tmp_path / "saved.json"
    serif = generate(model, tmp_path / "b.png", "--layout", layout, "--font", SERIF, "--save_layout", saved)
    assert serif != plain
    assert serif == generate(model, tmp_path / "c.png", "--layout", saved)
    with pytest.raises(ValueError, match=r"has no glyph for '中' \(U\+4E2D\), '文' \(U\+6587\) of the word '中文'"):
        generate(model, tmp_path / "d.png", prompt="a sign that says '中文'")


def test_a_template_gives_the_layout(model: Path, tmp_path: Path) -> None:
    template = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(template).text((40, 60), "SALE", fill="black", font=ImageFont.truetype(SERIF, 80))
    template.save(tmp_path / "template.png")
    saved = tmp_path / "layout.json"
    drawn = generate(model, tmp_path / "a.png", "--template", tmp_path / "template.png", "--save_layout", saved)
    assert LayoutFile.load(saved).layout.words == ("SALE",)
    again = generate(model, tmp_path / "b.png", "--layout", saved)  # whose corners have two digits
    assert sum(abs(a - b) for a, b in zip(drawn, again, strict=True)) < len(drawn)  # a level on average
    assert drawn != generate(model, tmp_path / "c.png")


def test_incompatible_arguments_are_refused(model: Path, tmp_path: Path) -> None:
    picture, layout = tmp_path / "picture.png", tmp_path / "layout.json"
    Image.new("RGB", (40, 40)).save(picture)
    layout.write_text(words_file())
    out = tmp_path / "out.png"
    with pytest.raises(ValueError, match="--template and --layout both give the layout"):
        generate(model, out, "--template", picture, "--layout", layout)
    with pytest.raises(ValueError, match="--mask is given without --image"):
        generate(model, out, "--mask", picture)
    with pytest.raises(ValueError, match="--image needs --mask or --layout"):
        generate(model, out, "--image", picture)
    with pytest.raises(ValueError, match=r"--save_layout .*\.txt: it must end in \.json"):
        generate(model, out, "--save_layout", tmp_path / "layout.txt")
    with pytest.raises(FileNotFoundError, match=r"--image: .*no\.png does not exist"):
        generate(model, out, "--image", tmp_path / "no.png", "--mask", picture)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"--template: .*pipe\.png: no regular file"):
        generate(model, out, "--template", tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"--template: .*layout\.json is no picture that can be read"):
        generate(model, out, "--template", layout)
    with pytest.raises(FileNotFoundError, match=r"--font .*no\.ttf does not exist"):
        generate(model, out, "--font", tmp_path / "no.ttf")
    assert not out.exists()


@pytest.mark.parametrize("inpaints", [True, False])
def test_a_picture_is_inpainted(inpaints: bool, tmp_path: Path) -> None:
    module: Any = tiny.stage("vfe", inpaints=inpaints)
    if inpaints:
        torch.nn.init.normal_(module.image_generator.vfe.inpainting.weight, std=0.3)
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "pipeline")
    picture, mask = Image.effect_noise((50, 40), 90).convert("RGB"), Image.new("L", (50, 40))
    mask.paste(255, (10, 10, 40, 30))
    picture.save(tmp_path / "picture.png")
    mask.save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    generate(tmp_path / "pipeline", out, "--image", tmp_path / "picture.png", "--mask", tmp_path / "mask.png")
    changed = ImageChops.difference(Image.open(out), picture).getbbox()
    assert changed == (10, 10, 40, 30)


def damaged(model: Path, folder: Path, file: str, content: str | bytes | int) -> Path:
    """Copy the pipeline with one file replaced, or cut to so many bytes."""
    copy = shutil.copytree(model, folder / "pipeline")
    if isinstance(content, int):
        os.truncate(copy / file, content)
    else:
        (copy / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return copy


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("text_encoder/model.safetensors", POINTER, "text_encoder/model.safetensors cannot be read: it is git-LFS"),
        ("text_encoder/model.safetensors", 500, "text_encoder/model.safetensors cannot be read: "),
        ("tokenizer/tokenizer.json", POINTER, "tokenizer/tokenizer.json cannot be read: it is git-LFS"),
        ("tokenizer/tokenizer.json", 30, "tokenizer/tokenizer.json cannot be read: "),
        ("tokenizer/tokenizer.json", "{}", "pipeline cannot be used: "),
        ("model_index.json", "[]", "model_index.json is no index of a pipeline"),
        ("model_index.json", "{", "model_index.json cannot be read: "),
        ("model_index.json", "[" * 100_000, "model_index.json cannot be read: "),
    ],
)
def test_a_damaged_file_is_named(
    model: Path, tmp_path: Path, file: str, content: str | int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = damaged(model, tmp_path, file, content)
    assert launch(["generate", PROMPT, "--model", str(folder), "--out", str(tmp_path / "out.png")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"vlad-cli generate: {tmp_path}")
    assert message in error


def test_contradicting_sizes_are_refused(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "text_encoder" / "config.json").read_text())
    config["intermediate_size"] += 8
    folder = damaged(model, tmp_path, "text_encoder/config.json", json.dumps(config))
    with pytest.raises(ValueError, match=f"{folder} cannot be used: "):
        generate(folder, tmp_path / "out.png")


@pytest.mark.parametrize("device", ["nonsense", "cuda"])
def test_a_missing_device_is_refused(model: Path, tmp_path: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(ValueError, match=f"--device {device} cannot be used here; allowed on this machine: cpu"):
        main([PROMPT, "--model", str(model), "--out", str(tmp_path / "out.png"), "--device", device])


@pytest.mark.parametrize("part", ["unet", "fusion", "tlg"])
def test_weights_with_nan_generate_nothing(model: Path, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(model, tmp_path / "pipeline")
    (file,) = (folder / part).glob("*.safetensors")
    save_file({key: value * float("nan") for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="hold NaN or infinite values"):
        generate(folder, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
