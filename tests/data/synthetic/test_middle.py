"""The literal world: what a caption gives no place is in the middle."""

from __future__ import annotations

import numpy as np
import pytest

from vlad_lightning.data.synthetic.blocks import MARGIN
from vlad_lightning.data.synthetic.composition import compose
from vlad_lightning.data.synthetic.middle import in_the_middle, tells_a_place
from vlad_lightning.data.synthetic.scene import Scene
from vlad_lightning.data.synthetic.synthetic import make_scene

POSTERS = [make_scene(index, 128, seed=9, heldout=False, world="literal") for index in range(400)]
UNTOLD = [(scene, caption) for scene, caption in POSTERS if not tells_a_place(caption.text)]


def boxes_of(scene: Scene) -> list[tuple[float, float, float, float]]:
    """Return the boxes of the phrases, and of the objects and rows."""
    boxes = [phrase.box for phrase in scene.phrases]
    for row in scene.rows:
        left, top, right, bottom = zip(*(thing.box for thing in row), strict=True)
        boxes.append((min(left), min(top), max(right), max(bottom)))
    return boxes


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("a red cat", False),
        ("a sign with the word SALE on a blue background", False),
        ("a red cat at the bottom left", True),
        ("SALE top, red cat", True),
        ("a red cat Above a tree", True),
        ("the word SALE in the middle", True),
        ("a topless bottomless bright stopper", False),
    ],
)
def test_captions_that_tell_a_place(caption: str, told: bool):
    assert tells_a_place(caption) is told


def test_many_captions_tell_no_place():
    assert 0.35 < len(UNTOLD) / len(POSTERS) < 0.6


def test_one_thing_is_in_the_center():
    alone = [scene for scene, _ in UNTOLD if len(boxes_of(scene)) == 1]
    assert len(alone) > 15
    for scene in alone:
        left, top, right, bottom = boxes_of(scene)[0]
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((0.5, 0.5), abs=1e-9)
        if scene.objects:
            assert 0.38 <= max(right - left, bottom - top) <= 0.5


def test_two_things_are_below_each_other():
    pairs = [boxes_of(scene) for scene, _ in UNTOLD if len(boxes_of(scene)) == 2]
    below = [sorted(boxes, key=lambda box: box[1]) for boxes in pairs]
    middle = [
        (upper, lower)
        for upper, lower in below
        if (upper[0] + upper[2], lower[0] + lower[2]) == pytest.approx((1, 1), abs=1e-9)
    ]
    assert len(middle) / len(pairs) > 0.85  # for the others there is no room
    for upper, lower in middle:
        assert upper[1] + lower[3] == pytest.approx(1, abs=1e-9)  # as much room above as below
        assert 0.05 <= lower[1] - upper[3] <= 0.09


def test_everything_stays_within_the_frame():
    for scene, _ in UNTOLD:
        for left, top, right, bottom in boxes_of(scene):
            assert min(left, top) >= MARGIN - 0.01
            assert max(right, bottom) <= 1.01 - MARGIN


def test_what_is_moved_stays_what_it_is():
    rng = np.random.default_rng(5)
    moved = 0
    for _ in range(100):
        scene = compose(rng, 128, False, "rich")
        middle = in_the_middle(scene, rng)
        moved += middle != scene
        assert [thing.shape for thing in middle.objects] == [thing.shape for thing in scene.objects]
        assert [len(row) for row in middle.rows] == [len(row) for row in scene.rows]
        assert [(w.text, w.pixels, w.angle, w.group) for w in middle.words] == [
            (w.text, w.pixels, w.angle, w.group) for w in scene.words
        ]
        if len(boxes_of(scene)) > 2:
            assert middle == scene
    assert moved > 15
