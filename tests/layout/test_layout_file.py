from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import get_data_path

from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.types import Layout

FONTS = Path(get_data_path(), "fonts", "ttf")
SERIF = str(FONTS / "DejaVuSerif.ttf")
QUAD = [[64, 128], [448, 128], [448, 192], [64, 192]]
# not so thin that an angle is lost, and not exactly upside down, where an angle has two names
BOX = st.tuples(
    *[st.floats(0, 1, width=32)] * 2, *[st.floats(0.03125, 2, width=32)] * 2, st.floats(-3.140625, 3.140625, width=32)
)


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(BOX, st.sampled_from(["HELLO", "two words", 'a "b"', "سلام", "é"])), max_size=4), st.data())
def test_the_text_of_a_layout_reads_back_exactly_equal_and_a_saved_file_nearly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], data: st.DataObject
) -> None:
    width, height = data.draw(st.integers(1, 5000)), data.draw(st.integers(1, 5000))
    fonts = data.draw(st.sampled_from([(), (SERIF,) * len(rows), ("hand",) * len(rows)]))
    boxes = torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 5)
    colours = tuple("red" if i % 2 == 0 else None for i in range(len(rows)))
    layout = Layout(tuple(word for _, word in rows), boxes, fonts, colours=colours)
    first = LayoutFile(layout, width, height, "a 'prompt'")
    again = LayoutFile.from_json(first.to_json())
    torch.testing.assert_close(again.layout.boxes, boxes, rtol=0, atol=1e-14)  # float32: equal, or both about zero
    assert again.layout.words == layout.words
    assert again.layout.fonts == fonts
    assert (again.width, again.height, again.layout.colours, again.prompt) == (width, height, colours, "a 'prompt'")
    path = tmp_path_factory.mktemp("layouts") / "layout.json"
    first.save(path)
    assert LayoutFile.load(path).layout.words == layout.words
    saved, exact = ([word["quad"] for word in json.loads(t)["words"]] for t in (path.read_text(), first.to_json()))
    torch.testing.assert_close(
        torch.tensor(saved, dtype=torch.float64), torch.tensor(exact, dtype=torch.float64), rtol=0, atol=0.00501
    )
    assert list(path.parent.iterdir()) == [path]  # no partial files


def test_a_saved_file_has_two_digits_unless_a_box_is_tiny(tmp_path: Path) -> None:
    boxes = torch.tensor([[0.5, 1 / 3, 0.25, 1 / 7, 0.1]])
    thing = torch.tensor([[0.5, 0.5, 1 / 3, 1 / 3, 0.0]])
    for size, most in ((128, 2), (20, 17)):
        LayoutFile(Layout(("A",), boxes, (), ("a cat",), thing), size, size).save(tmp_path / "a.json")
        content = json.loads((tmp_path / "a.json").read_text())
        numbers = [str(n) for e in content["words"] + content["objects"] for point in e["quad"] for n in point]
        digits = max(len(number.partition(".")[2]) for number in numbers)
        assert digits <= most
        assert (digits > 2) == (most > 2)


def test_corners_are_pixels_of_the_frame(tmp_path: Path) -> None:
    words = [{"text": "HELLO", "quad": QUAD}]
    for frame in ({"width": 512, "height": 256}, {"size": 512}):
        layout = LayoutFile.load(written(tmp_path / "a.json", frame | {"words": words})).layout
        size = torch.tensor([512, frame.get("height", 512)])
        torch.testing.assert_close(layout.quads()[0] * size, torch.tensor(QUAD).float(), atol=1e-3, rtol=0)


def test_predict_writes_layout_files(tmp_path: Path) -> None:
    content = {"prompt": "a 'b'", "size": 64, "words": [{"text": "b", "quad": [[1, 1], [9, 1], [9, 5], [1, 5]]}]}
    file = LayoutFile.load(written(tmp_path / "a.json", content))
    assert (file.width, file.height, file.prompt, file.layout.words) == (64, 64, "a 'b'", ("b",))


def test_a_words_font_overrides_the_files_and_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "own.ttf").write_bytes((FONTS / "DejaVuSans.ttf").read_bytes())
    words = [{"text": "A", "quad": QUAD, "font": "own.ttf"}, {"text": "B", "quad": QUAD}]
    content = {"size": 512, "font": SERIF, "words": words}
    file = LayoutFile.load(written(tmp_path / "a.json", content))
    assert file.layout.fonts == (str(tmp_path / "own.ttf"), SERIF)
    file.save(tmp_path / "elsewhere" / "b.json")  # the font is found from there too
    assert LayoutFile.load(tmp_path / "elsewhere" / "b.json").layout.fonts == file.layout.fonts


def test_each_line_becomes_a_word_with_a_box(tmp_path: Path) -> None:
    words = [
        {"text": "SUMMER\nSALE", "quad": QUAD, "align": "left", "colour": "dark red"},
        {"text": "one two three four", "quad": QUAD, "wrap": True},
        {"text": "alone", "quad": QUAD},
    ]
    file = LayoutFile.load(written(tmp_path / "a.json", {"size": 512, "words": words}))
    assert file.layout.words[:2] == ("SUMMER", "SALE")
    assert " ".join(file.layout.words[2:-1]) == "one two three four"
    assert file.layout.colours[:3] == ("dark red", "dark red", None)
    quads = file.layout.quads()
    assert quads[0, 0, 0].item() == pytest.approx(quads[1, 0, 0].item(), abs=1e-5)
    torch.testing.assert_close(quads[-1] * 512, torch.tensor(QUAD).float(), atol=1e-3, rtol=0)  # one line fills its box


@pytest.mark.parametrize(
    ("words", "prompt", "told"),
    [
        ([("SALE", "red")], "a sign that says 'SALE' at the top", "a sign that says 'SALE' in red letters at the top"),
        ([("SALE", "red")], "a sign “SALE”", "a sign “SALE” in red letters"),
        ([("SALE", "red")], 'a "SALE" in red letters', 'a "SALE" in red letters'),
        ([("SALE", "red")], "a sign.", 'a sign, with the text "SALE" in red letters'),
        ([("NOW", "red")], "says 'BUY NOW'", "says 'BUY NOW', NOW in red letters"),
        ([("A", None), ("B", "dark blue")], "'A' and 'B'", "'A' and 'B' in dark blue letters"),
        ([("A", "#ff8000")], "a sign 'A'", "a sign 'A'"),
    ],
)
def test_colours_are_added_to_the_prompt(words: list[tuple[str, str | None]], prompt: str, told: str) -> None:
    names, colours = (tuple(column) for column in zip(*words, strict=True))
    layout = Layout(names, torch.full((len(words), 5), 0.5), colours=colours)
    assert LayoutFile(layout, 8, 8).completed(prompt) == told


def test_without_colours_the_prompt_is_unchanged() -> None:
    assert LayoutFile(Layout(("A",), torch.zeros(1, 5)), 8, 8).completed("'A'.") == "'A'."


STAR = Layout(
    ("A",), torch.full((1, 5), 0.5), (), ("a red star", "a cat"), torch.tensor([[0.5, 0.5, 0.2, 0.1, 0.3]] * 2)
)


def test_objects_are_saved_and_loaded_beside_the_words(tmp_path: Path) -> None:
    LayoutFile(STAR, 200, 100).save(tmp_path / "a.json")
    again = LayoutFile.load(tmp_path / "a.json").layout
    assert again.objects == STAR.objects
    torch.testing.assert_close(again.object_boxes, STAR.object_boxes, rtol=0, atol=1e-3)
    assert json.loads((tmp_path / "a.json").read_text())["objects"][0]["phrase"] == "a red star"
    upright = {"size": 512, "words": [], "objects": [{"phrase": "a cat", "quad": QUAD}]}
    alone = LayoutFile.load(written(tmp_path / "b.json", upright)).layout
    torch.testing.assert_close(alone.object_boxes[0], Layout.from_quads(["x"], torch.tensor([QUAD]) / 512).boxes[0])


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a Red star beside a cat", "a Red star beside a cat"),
        ("a red star.", "a red star, with a cat"),
        ("", "a red star, with a cat"),
        ("'a cat' and a red star", "'a cat' and a red star, with a cat"),
    ],
)
def test_objects_missing_from_the_prompt_are_added(prompt: str, told: str) -> None:
    assert LayoutFile(STAR, 8, 8).completed(prompt) == told


WORD = {"text": "A", "quad": [[1, 1], [7, 1], [7, 3], [1, 3]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        (3, "the file is 3; it must be an object with width, height, size, font, prompt, words"),
        ({"words": []}, "the frame is given by nothing; give width and height, or size"),
        ({"width": 8, "words": []}, "the frame is given by width; give width and height"),
        ({"width": 8, "height": 0, "words": []}, "height is 0; it must be a whole number of pixels"),
        ({"size": 8.5, "words": []}, r"size is 8\.5; it must be a whole number"),
        ({"size": 8}, "the file: missing entry 'words'"),
        ({"size": 8, "words": {}}, r"words is \{\}; it must be a list"),
        ({"size": 8, "words": [], "wrods": []}, "the file: unknown entry 'wrods'; allowed are"),
        ({"size": 8, "words": [], "prompt": 3}, "prompt is 3; it must be a text"),
        ({"size": 8, "words": [], "font": "no.ttf"}, r"font='.*no\.ttf' cannot be read"),
        ({"size": 8, "words": [3]}, r"words\[0\] is 3; it must be an object with text, quad"),
        ({"size": 8, "words": [WORD, {"text": "A"}]}, r"words\[1\]: missing entry 'quad'"),
        ({"size": 8, "words": [WORD | {"color": "red"}]}, r"words\[0\]: unknown entry 'color'; allowed are text, quad"),
        ({"size": 8, "words": [WORD | {"text": " "}]}, r"words\[0\]\.text is ' '; it must be a text"),
        (
            {"size": 8, "words": [WORD | {"colour": "reddish"}]},
            r"words\[0\]\.colour is 'reddish'; allowed are red, orange, yellow, .* CSS, such as 'dark red', and codes",
        ),
        ({"size": 8, "words": [WORD | {"font": 3}]}, r"words\[0\]\.font is 3; it must be the path of a font"),
        ({"size": 8, "words": [WORD | {"align": "top"}]}, r"words\[0\]\.align is 'top'; allowed are left, centre"),
        ({"size": 8, "words": [WORD | {"wrap": 1}]}, r"words\[0\]\.wrap is 1; it must be true or false"),
        ({"size": 8, "words": [WORD | {"quad": QUAD[:3]}]}, r"words\[0\]\.quad is .*; it must be 4 corners"),
        ({"size": 8, "words": [WORD | {"quad": "QUAD"}]}, r"words\[0\]\.quad is 'QUAD'; it must be 4 corners"),
        ({"size": 8, "words": [WORD | {"quad": [["0", 0], *QUAD[1:]]}]}, r"quad is .*; its coordinates must be finite"),
        (
            {"size": 8, "words": [WORD | {"quad": [[0, 0], [1e308, 0], [1e308, 1], [0, 1]]}]},
            "further than 1000 times the",
        ),
        (
            {"size": 8, "words": [WORD | {"quad": [[0, 0], [10**400, 0], [1, 1], [0, 1]]}]},
            "further than 1000 times the",
        ),
        (
            {"size": 8, "words": [WORD | {"quad": [[0, 0], [8001, 0], [8001, 1], [0, 1]]}]},
            "further than 1000 times the",
        ),
        ("[" * 100_000, "not a JSON file"),
        ('{"size": 8, "words": [' + "9" * 5000 + "]}", "not a JSON file"),
        (
            {"size": 10**400, "words": []},
            r"size is 1000*\.\.\.0*; it must be a whole number of pixels, from 1 to 1,000",
        ),
        ({"width": 8, "height": 10**7, "words": []}, "height is 10000000; it must be a whole number of pixels"),
        ({"size": 8, "words": [WORD] * 100_000}, "words has 100,000 entries; at most 1,000 are drawn"),
        ({"size": 8, "words": [WORD | {"text": "a\n" * 900}] * 2}, "words has 1,800 lines; at most 1,000 are drawn"),
        (
            {"size": 8, "words": [WORD | {"text": "a" * 10**6}]},
            r"words\[0\]\.text has 1,000,000 characters; at most 10,",
        ),
        ({"size": 8, "words": [], "objects": [{}] * 10**5}, "objects has 100,000 entries; at most 1,000"),
        (
            {"size": 8, "words": [], "objects": [{"phrase": "a " * 10**6, "quad": QUAD}]},
            r"objects\[0\]\.phrase has 2,000,000 characters; at most 10,000",
        ),
        ({"size": 8, "words": [], "prompt": "a" * 10**6}, "prompt 'aaa.* has 1,000,000 characters; at most 10,000"),
        ({"size": 8, "words": [WORD | {"quad": [[0, 0]] * 10**5}]}, r"words\[0\]\.quad is .*; it must be 4 corners"),
        ('{"size": 8, "words": [{"text": "A", "quad": [[NaN,0],[1,0],[1,1],[0,1]]}]}', "coordinates must be finite"),
        ({"size": 8, "words": [], "objects": {}}, r"objects is \{\}; it must be a list"),
        ({"size": 8, "words": [], "objects": [{"phrase": "a cat"}]}, r"objects\[0\]: missing entry 'quad'"),
        (
            {"size": 8, "words": [], "objects": [{"phrase": "'SALE'", "quad": QUAD}]},
            r"objects\[0\]\.phrase is \"'SALE'\"",
        ),
        ({"size": 8, "words": [], "objects": [{"phrase": "a cat and a dog", "quad": QUAD}]}, "it must be one phrase"),
        ({"size": 8, "words": [WORD | {"quad": QUAD[::-1]}]}, "the corners must run clockwise around an area"),
        (
            {"size": 8, "words": [WORD | {"quad": [[9, 1], [12, 1], [12, 2], [9, 2]]}]},
            r"words\[0\]\.quad is .*; it lies outside the frame of 8 x 8 pixels",
        ),
        (
            {"size": 8, "words": [], "objects": [{"phrase": "a cat", "quad": [[1, -4], [2, -4], [2, 0], [1, 0]]}]},
            r"objects\[0\]\.quad is .*; it lies outside the frame",
        ),
        ({"size": 8, "words": [WORD | {"quad": [[1, 1]] * 4}]}, "the corners must run clockwise around an area"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path / "layout.json", content)
    with pytest.raises(ValueError, match=message) as raised:
        LayoutFile.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_impossible_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        LayoutFile.load(tmp_path / "none.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(FileNotFoundError, match=r"pipe\.json does not exist"):
        LayoutFile.load(tmp_path / "pipe.json")
    with (tmp_path / "long.json").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match=r"long\.json: larger than 10,000,000 bytes"):
        LayoutFile.load(tmp_path / "long.json")
    with pytest.raises(ValueError, match="width and height are 0 and 8"):
        LayoutFile(Layout.empty(), 0, 8)
    with pytest.raises(ValueError, match="colours has 1 entries"):
        Layout((), torch.zeros(0, 5), colours=("red",))


def test_the_example_of_the_documentation_is_read() -> None:
    docs = Path(__file__).parents[2] / "docs"
    example = docs / "images" / "layout.json"
    assert len(LayoutFile.load(example).layout) == 7
    assert example.read_text(encoding="utf-8") in (docs / "layouts.md").read_text(encoding="utf-8")
