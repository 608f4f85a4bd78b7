from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import suite_ceiling
import torch
from PIL import Image
from suite_images import figures, seen, word

from vlad_lightning.data.synthetic.poster import draw_poster
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.evaluation.suite import Item, Seen
from vlad_lightning.evaluation.suites.innovator_measures import TextLayoutMeasure
from vlad_lightning.evaluation.suites.mini_measures import ColourMeasure, ObjectMeasure, letter_colours, requested
from vlad_lightning.layout.object_requests import RequestedObject

SIZE = 128
POSTERS = 24


@pytest.fixture(scope="module")
def true_posters(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Item, Seen]]:
    return suite_ceiling.true_posters(tmp_path_factory.mktemp("posters"), POSTERS)


def test_true_posters_are_nearly_right_in_every_figure(true_posters: list[tuple[Item, Seen]]) -> None:
    layout = figures(TextLayoutMeasure(), true_posters)
    assert (layout["place_accuracy"], layout["order_accuracy"], layout["text_overlap"]) == (1, 1, 0)
    colours = figures(ColourMeasure(), true_posters)
    assert (colours["background_colour"], colours["word_colour"]) == (1, 1)
    objects = figures(ObjectMeasure(), true_posters)
    assert objects["object_presence"] >= 0.95
    assert objects["object_binding"] >= 0.9
    assert objects["object_extra"] <= 0.05


def test_facts_of_other_posters_are_mostly_wrong(true_posters: list[tuple[Item, Seen]]) -> None:
    items = [item for item, _ in true_posters]
    shifted = [(item, image) for item, (_, image) in zip(items[1:] + items[:1], true_posters, strict=True)]
    assert figures(ObjectMeasure(), shifted)["object_binding"] <= 0.1
    assert figures(ColourMeasure(), shifted)["background_colour"] <= 0.4


def painted(path: Path) -> Path:
    """Draw a blue image with a red and a white bar in the place of letters."""
    pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[:] = (35, 80, 205)
    pixels[30:34, 30:90] = (215, 35, 40)
    pixels[90:94, 30:90] = (245, 245, 245)
    Image.fromarray(pixels).save(path)
    return path


def test_letters_have_the_colour_that_stands_out_in_their_box(tmp_path: Path) -> None:
    path = painted(tmp_path / "image.png")
    words = [word("up", 60 / SIZE, 32 / SIZE, 0.5, 0.1), word("down", 60 / SIZE, 92 / SIZE, 0.5, 0.1)]
    texts = [
        {"words": ["up"], "colour": "red"},
        {"words": ["down"], "colour": "red"},
        {"words": ["no"], "colour": "red"},
    ]
    item = Item("0", "x", "x", (), {"texts": texts, "background": "blue"})
    found = figures(ColourMeasure(), [(item, seen(words=words, path=path))])
    assert found == {"background_colour": 1, "word_colour": pytest.approx(1 / 3)}  # white, and one is not read
    assert letter_colours(torch.zeros(3, 8, 8), []) == []


def test_objects_of_a_number_are_asked_for_one_by_one() -> None:
    things = [
        {"name": "car", "colour": "red", "count": 2},
        {"name": "key", "colour": "blue", "count": 1, "place": "top"},
        {"name": "cat", "count": 1},
    ]
    wanted = requested({"objects": things, "relations": [[0, "left", 2]]})
    car = RequestedObject("car", "red", None, ("left", 3))
    assert wanted == (car, car, RequestedObject("key", "blue", "top"), RequestedObject("cat"))


def test_a_number_of_objects_is_counted_on_the_picture(tmp_path: Path) -> None:
    for index in range(200):
        scene, _ = make_scene(index, SIZE, seed=6, heldout=True, world="rich")
        if any(len(row) == 2 for row in scene.rows):
            break
    path = tmp_path / "poster.png"
    draw_poster(scene, SIZE).save(path)
    row = next(row for row in scene.rows if len(row) == 2)
    for count, right in ((2, 1), (3, 0), (4, 0)):
        thing = {"name": row[0].shape, "colour": row[0].colour, "count": count}
        item = Item("0", "x", "x", (), {"objects": [thing], "relations": []})
        assert figures(ObjectMeasure(), [(item, seen(path=path))])["object_count"] == right
