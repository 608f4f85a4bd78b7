"""The literal world: what a caption gives no place is in the middle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vlad_lightning.data.synthetic.blocks import MARGIN
from vlad_lightning.data.synthetic.captions import describe
from vlad_lightning.data.synthetic.composition import compose
from vlad_lightning.data.synthetic.middle import in_the_middle, tells_a_place
from vlad_lightning.data.synthetic.scene import Scene
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.data.synthetic.telling import CaptionOdds

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


def test_several_things_are_below_each_other_in_the_captions_order():
    stacks = 0
    several = [(scene, caption) for scene, caption in UNTOLD if len(boxes_of(scene)) in (2, 3)]
    for scene, caption in several:
        boxes = sorted(boxes_of(scene), key=lambda box: box[1])
        if any(left + right != pytest.approx(1, abs=1e-9) for left, _, right, _ in boxes):
            continue  # there is no room
        stacks += 1
        assert boxes[0][1] + boxes[-1][3] == pytest.approx(1, abs=1e-9)  # as much room above as below
        assert all(0.05 - 1e-9 <= lower[1] - upper[3] <= 0.09 + 1e-9 for upper, lower in pairwise(boxes))
        named = {phrase.text: phrase.box[1] for phrase in scene.phrases}
        named |= {said: thing.box[1] for said, thing in zip(caption.phrases, scene.objects, strict=True) if said}
        from_above = sorted(named, key=lambda name: named[name])
        starts = [caption.text.index(name) for name in from_above]
        assert starts == sorted(starts), caption.text
    assert stacks / len(several) > 0.7


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
        middle = in_the_middle(scene, describe(scene, rng, CaptionOdds(untold_places=1.0)), rng)
        moved += middle != scene
        assert [thing.shape for thing in middle.objects] == [thing.shape for thing in scene.objects]
        assert [len(row) for row in middle.rows] == [len(row) for row in scene.rows]
        assert [(w.text, w.pixels, w.angle, w.group) for w in middle.words] == [
            (w.text, w.pixels, w.angle, w.group) for w in scene.words
        ]
        if scene.objects and len(boxes_of(scene)) > 3:
            assert middle == scene
    assert moved > 30
