from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vlad_lightning.layout.scene_objects import COLOURS, FIELDS, KINDS, SHAPE_KINDS, FoundObject, encode_objects
from vlad_lightning.models.object_detector import ObjectDetector, ObjectMaps, detect_objects
from vlad_lightning.models.object_targets import bumps, count_hits, detection_loss

CELLS = 16
STAR = FoundObject("star", "red", 0.30, 0.71, 0.2, 0.25)
BLOB = FoundObject(None, "blue", 0.8, 0.2, 0.3, 0.3)


def right_maps(*posters: tuple[FoundObject, ...], sure: float = 12.0) -> ObjectMaps:
    """Make the maps of a perfect detector."""
    centre = torch.full((len(posters), 1, CELLS, CELLS), -sure)
    shape = torch.zeros(len(posters), len(KINDS), CELLS, CELLS)
    colour = torch.zeros(len(posters), len(COLOURS), CELLS, CELLS)
    box = torch.zeros(len(posters), 4, CELLS, CELLS)
    for i, objects in enumerate(posters):
        for thing in objects:
            column, row = int(thing.x * CELLS), int(thing.y * CELLS)
            centre[i, 0, row, column] = sure
            for dy in range(max(row - 1, 0), row + 2):  # the neighbouring cells predict the object too
                for dx in range(max(column - 1, 0), column + 2):
                    shape[i, KINDS.index(thing.shape), dy, dx] = sure
                    colour[i, COLOURS.index(thing.colour), dy, dx] = sure
                    where = (thing.x * CELLS - dx - 0.5, thing.y * CELLS - dy - 0.5)
                    box[i, :, dy, dx] = torch.tensor([*where, math.log(thing.width), math.log(thing.height)])
    return ObjectMaps(centre, shape, colour, box)


def test_perfect_maps_decode_to_their_objects() -> None:
    found = detect_objects(right_maps((STAR, BLOB), ()))
    assert found[1] == ()
    for thing, true in zip(sorted(found[0], key=lambda o: o.x), (STAR, BLOB), strict=True):
        assert (thing.shape, thing.colour) == (true.shape, true.colour)
        values = (thing.x, thing.y, thing.width, thing.height)
        assert values == pytest.approx((true.x, true.y, true.width, true.height), abs=1e-5)
        assert thing.score > 0.99


def test_of_two_peaks_on_one_object_the_more_confident_is_kept() -> None:
    maps = right_maps((STAR,))
    row, column = int(STAR.y * CELLS), int(STAR.x * CELLS) + 2
    maps.centre[0, 0, row, column] = 1.0
    maps.box[0, :, row, column] = torch.tensor([-2.0, 0.0, math.log(0.2), math.log(0.25)])
    (thing,) = detect_objects(maps)[0]
    assert thing.score > 0.99
    maps.box[0, 0, row, column] = 2.0  # elsewhere: another object
    assert len(detect_objects(maps)[0]) == 2
    assert len(detect_objects(maps, threshold=0.9)[0]) == 1


def test_the_loss_is_low_for_perfect_maps_and_grows_with_each_mistake() -> None:
    things = encode_objects([(STAR, BLOB)])
    right = detection_loss(right_maps((STAR, BLOB)), things)
    wrong = {
        "missed": (STAR,),
        "invented": (STAR, BLOB, FoundObject("ring", "green", 0.2, 0.2, 0.2, 0.2)),
        "shape": (FoundObject("heart", "red", 0.30, 0.71, 0.2, 0.25), BLOB),
        "colour": (FoundObject("star", "pink", 0.30, 0.71, 0.2, 0.25), BLOB),
        "size": (FoundObject("star", "red", 0.30, 0.71, 0.1, 0.25), BLOB),
    }
    for name, objects in wrong.items():
        assert detection_loss(right_maps(objects), things) > right + 0.05, name


def test_the_centre_loss_equals_centernets_by_hand() -> None:
    """Eq. 1 of arXiv 1904.07850 at one cell with an object and one without, everything else being right."""
    things = encode_objects([(STAR,)])
    height = bumps(things, CELLS).amax(1)
    maps = right_maps((STAR,), sure=50.0)
    row, column = int(STAR.y * CELLS), int(STAR.x * CELLS)
    maps.centre[0, 0, row, column], maps.centre[0, 0, row, column + 1] = math.log(3.0), 0.0  # scores 0.75 and 0.5
    beside = float(height[0, row, column + 1])
    expected = -(0.25**2) * math.log(0.75) - (1 - beside) ** 4 * 0.5**2 * math.log(0.5)
    rest = detection_loss(right_maps((STAR,), sure=50.0), things)
    assert float(detection_loss(maps, things) - rest) == pytest.approx(expected, rel=1e-3)


def test_a_target_peak_is_at_the_centres_cell() -> None:
    things = encode_objects([(STAR,), ()])
    drawn = bumps(things, CELLS)
    assert drawn[1].max() == 0
    top = int(drawn[0].amax(0).argmax())
    assert divmod(top, CELLS) == (int(STAR.y * CELLS), int(STAR.x * CELLS))
    assert drawn.max() == 1


def test_hits_are_counted() -> None:
    things = encode_objects([(STAR, BLOB), (STAR,)])
    nearly = FoundObject("star", "pink", 0.32, 0.70)
    far = FoundObject("star", "red", 0.5, 0.70)
    counts = count_hits([(nearly, far), (far,)], things).tolist()
    assert counts[:5] == [3, 3, 1, 1, 0]  # true, found, hit, shape, colour
    kinds = len(KINDS)
    assert counts[5 : 5 + kinds][KINDS.index("star")] == 2
    assert counts[5 + kinds :][KINDS.index("star")] == 1


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([STAR] * 13, "13 objects; at most 12"),
        ([FoundObject("cross", "red", 0, 0)], "red cross"),
        ([FoundObject("star", "violet", 0, 0)], "violet star"),
    ],
)
def test_unknown_objects_are_refused(objects: list[FoundObject], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_objects([objects])
    assert encode_objects([]).shape == (0, 12, FIELDS)


def test_pictures_of_any_size_are_accepted() -> None:
    torch.manual_seed(0)
    detector = ObjectDetector(width=8).eval()
    images = F.interpolate(torch.rand(2, 3, 8, 8) * 2 - 1, (64, 64), mode="bilinear")  # smooth: resizing keeps it
    with torch.no_grad():
        small, large = detector(images), detector(F.interpolate(images, (192, 192), mode="nearest"))
    assert small.centre.shape == (2, 1, CELLS, CELLS)
    assert (small.shape.shape[1], small.colour.shape[1]) == (SHAPE_KINDS, len(COLOURS))
    assert (small.shape - large.shape).abs().mean() < 0.1 * small.shape.abs().mean()


def test_a_thing_is_an_object_of_no_shape_to_a_detector_of_shapes() -> None:
    things, nothing = (encode_objects([[FoundObject(kind, "red", 0.5, 0.5, 0.2, 0.2)]]) for kind in ("cat", None))
    plain, knowing = (ObjectDetector(width=8, things=known).eval() for known in (False, True))
    images = torch.zeros(1, 3, 64, 64)
    assert "cat" not in plain.nouns
    assert "cat" in knowing.nouns
    assert knowing(images).shape.shape[1] == len(KINDS)
    assert torch.equal(detection_loss(plain(images), things), detection_loss(plain(images), nothing))
    assert not torch.equal(detection_loss(knowing(images), things), detection_loss(knowing(images), nothing))


def test_every_pixel_of_a_small_shape_has_an_effect() -> None:
    """Each pixel of a cell changes the cell's prediction."""
    torch.manual_seed(0)
    detector = ObjectDetector(width=8).eval()
    images = torch.rand(1, 3, 64, 64).requires_grad_()
    detector(images).shape[0, :, 8, 8].abs().sum().backward()
    assert images.grad is not None
    assert (images.grad[0, :, 32:36, 32:36] != 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 60}, "size is 60; it must be a multiple of 8"), ({"width": 4}, "width is 4; it must be at least 8")],
)
def test_bad_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectDetector(**arguments)
