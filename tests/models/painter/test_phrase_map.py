from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vlad_lightning.data.synthetic.backgrounds import in_usual_form
from vlad_lightning.data.synthetic.poster import draw_background
from vlad_lightning.data.synthetic.scene import Background
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.masks import box_coordinates, box_masks
from vlad_lightning.layout.patterns import PATTERNS
from vlad_lightning.models.autoencoder import SpaceToDepth
from vlad_lightning.models.painter.phrase_map import Grounding, PhraseMap

WIDTH, SIZE = 8, (16, 16)


def phrase_map() -> PhraseMap:
    torch.manual_seed(0)
    return PhraseMap(WIDTH, channels=4, side=4, width=16)


def grounding(boxes: list[list[float]], present: list[bool] | None = None, seed: int = 0) -> Grounding:
    phrases = torch.randn(1, len(boxes), WIDTH, generator=torch.Generator().manual_seed(seed))
    mask = torch.tensor([present or [True] * len(boxes)])
    return Grounding(phrases, torch.tensor([boxes]), mask)


LEFT, RIGHT = [0.25, 0.5, 0.25, 0.5, 0.0], [0.75, 0.5, 0.25, 0.5, 0.0]  # edges on whole places


def test_a_phrase_fills_its_box_and_nothing_else() -> None:
    drawn = phrase_map()(grounding([LEFT]), SIZE)
    assert drawn.shape == (1, 7, *SIZE)
    inside = box_masks(torch.tensor([[LEFT]]), torch.tensor([[True]]), SIZE)[0, 0]
    assert torch.equal(drawn[0, -1], inside.float())  # the coverage
    assert not drawn[0, :, ~inside].any()
    assert drawn[0, :, inside].abs().amax(dim=1).gt(0).all()


def test_coordinates_run_from_minus_one_to_one_and_turn_with_the_box() -> None:
    upright = phrase_map()(grounding([LEFT]), SIZE)[0]
    row = upright[4, 8, 2:6]  # four places across a box of a quarter of the frame
    torch.testing.assert_close(row, torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    turned = phrase_map()(grounding([[0.5, 0.5, 0.25, 0.5, math.pi / 2]]), SIZE)[0]
    torch.testing.assert_close(turned[4, 6:10, 8], torch.tensor([-0.75, -0.25, 0.25, 0.75]), atol=1e-5, rtol=0)


def test_the_stamp_is_stretched_over_the_box() -> None:
    """In a box with as many cells as the stamp, the map equals the stamp."""
    module, told = phrase_map(), grounding([LEFT])
    stamp = module.draw(told.phrases).view(5, 4, 4)
    square = Grounding(told.phrases, torch.tensor([[[0.25, 0.5, 0.25, 0.25, 0.0]]]), told.mask)
    drawn = module(square, SIZE)[0, :, 6:10, 2:6]
    torch.testing.assert_close(drawn[:4], stamp[:4] * stamp[4].sigmoid(), atol=1e-5, rtol=1e-5)
    assert drawn[6].eq(1).all()  # the coverage is the box's


def test_the_stamp_extends_to_the_edges_of_a_larger_box() -> None:
    """Outside the centres of its outer cells, a stamp keeps their values; its coordinates end at -1 and 1."""
    module, told = phrase_map(), grounding([[0.5, 0.5, 0.53, 0.53, 0.0]])
    stamp = module.draw(told.phrases).view(5, 4, 4)
    drawn = module(told, SIZE)[0]
    cover = drawn[6]
    assert 0 < cover[3, 8] < 1  # a cell that the box covers in part, without its centre
    torch.testing.assert_close(drawn[4, 8, 3] / cover[8, 3], torch.tensor(-1.0))
    torch.testing.assert_close(drawn[5, 12, 8] / cover[12, 8], torch.tensor(1.0))
    expected = stamp[:4, 0, 0] * stamp[4, 0, 0].sigmoid()
    torch.testing.assert_close(drawn[:4, 3, 3] / cover[3, 3], expected, rtol=1e-5, atol=1e-5)


def test_transparent_cells_show_the_phrase_beneath() -> None:
    module = phrase_map()
    large, small = [0.5, 0.5, 0.75, 0.75, 0.0], [0.5, 0.5, 0.25, 0.25, 0.0]
    both = grounding([large, small])
    below, above = (module(grounding([large, small], [i == 0, i == 1]), SIZE) for i in (0, 1))
    opacity = module.draw(both.phrases)[0, 1].view(5, 4, 4)[4].sigmoid()
    inside = (0, slice(4), slice(6, 10), slice(6, 10))
    expected = above[inside] + below[inside] * (1 - opacity)
    torch.testing.assert_close(module(both, SIZE)[inside], expected)


def opaque(module: PhraseMap) -> PhraseMap:
    """Make the stamps opaque."""
    last = module.draw[-1]
    torch.nn.init.constant_(last.bias[-(4 * 4) :], 40.0)
    return module


def test_the_smaller_box_is_on_top_in_any_order() -> None:
    module = opaque(phrase_map())
    large, small = [0.5, 0.5, 0.75, 0.75, 0.0], [0.5, 0.5, 0.25, 0.25, 0.0]
    both, alone = grounding([large, small]), grounding([large, small], [False, True])
    over = module(both, SIZE)[..., 6:10, 6:10]
    torch.testing.assert_close(over, module(alone, SIZE)[..., 6:10, 6:10])
    swapped = Grounding(both.phrases.flip(1), both.boxes.flip(1), both.mask)
    torch.testing.assert_close(module(swapped, SIZE), module(both, SIZE))


def test_masked_phrases_do_not_matter() -> None:
    module = phrase_map()
    two = grounding([LEFT, RIGHT], [True, False])
    assert torch.equal(
        module(two, SIZE), module(Grounding(two.phrases[:, :1], two.boxes[:, :1], two.mask[:, :1]), SIZE)
    )
    assert not module(grounding([LEFT], [False]), SIZE).any()


@pytest.mark.parametrize("present", [True, False])
def test_every_weight_is_used_and_only_phrases_change_it(present: bool) -> None:
    """A batch without objects uses the weights too, so that all devices reduce the same gradients."""
    module = phrase_map()
    module(grounding([LEFT], [present]), SIZE).square().sum().backward()
    for weight in module.parameters():
        assert weight.grad is not None
        assert bool(weight.grad.any()) == present


def test_other_phrases_give_other_maps() -> None:
    module = phrase_map()
    first, second = (module(grounding([LEFT], seed=seed), SIZE) for seed in (0, 1))
    assert (first - second)[:, :4].abs().max() > 0.1
    assert torch.equal(first[:, 4:], second[:, 4:])


def test_edges_are_smooth_and_cover_the_boxs_area() -> None:
    boxes = torch.tensor([[[0.43, 0.57, 0.31, 0.22, 0.0], [0.5, 0.5, 0.4, 0.3, 0.5]]])
    cover = box_coordinates(boxes, (64, 64))[2]
    torch.testing.assert_close(cover.mean(dim=(2, 3)), boxes[..., 2] * boxes[..., 3], rtol=0.02, atol=0)


def test_bfloat16_does_not_move_edges() -> None:
    module, told = phrase_map(), grounding([[0.437, 0.571, 0.313, 0.229, 0.3]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(told, (64, 64))
    assert torch.equal(half[:, 4:], module(told, (64, 64))[:, 4:])


def test_it_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    module = phrase_map()
    module.save_pretrained(tmp_path)
    loaded = PhraseMap.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(grounding([LEFT]), SIZE), module(grounding([LEFT]), SIZE))


def picture_map() -> PhraseMap:
    torch.manual_seed(0)
    return PhraseMap(WIDTH, side=4, width=16, picture=True, opacity_side=8)


def test_a_picture_is_drawn_in_pixels_and_encoded_as_a_glyph_map_is() -> None:
    module, told = picture_map(), grounding([LEFT])
    encoded = module.encode(told, SpaceToDepth(4), image_size=(64, 64), latent_size=(16, 16))
    assert encoded.shape[1] == module.encoded_channels(48) == 99
    drawn = module(told, (64, 64))
    assert drawn.shape == (1, module.out_channels, 64, 64)
    torch.testing.assert_close(torch.nn.functional.pixel_shuffle(encoded[:, :48], 4), drawn[:, :3])
    silhouettes = torch.nn.functional.pixel_shuffle(encoded[:, 48:96], 4)
    torch.testing.assert_close(silhouettes, (2 * drawn[:, 3:4] - 1).expand(-1, 3, -1, -1))
    torch.testing.assert_close(encoded[:, 96:], torch.nn.functional.avg_pool2d(drawn[:, 4:], 4))
    assert drawn[:, :3].abs().max() <= 1


def test_a_pictures_opacity_has_cells_of_its_own() -> None:
    """In a box of as many pixels as the opacity has cells, colours are interpolated and opacity is not."""
    module, told = picture_map(), grounding([LEFT])
    with torch.no_grad():
        module.draw[-1].bias[-64:].normal_(std=3.0)
    square = Grounding(told.phrases, torch.tensor([[[0.25, 0.25, 0.25, 0.25, 0.0]]]), told.mask)
    stamp = module.draw[1:](torch.cat([module.draw[0](told.phrases), torch.zeros(1, 1, 1)], dim=-1))[0, 0]
    colours = torch.nn.functional.interpolate(
        stamp[:48].view(1, 3, 4, 4).tanh(), scale_factor=2, mode="bilinear", align_corners=False
    )
    expected = colours[0] * stamp[48:].view(8, 8).sigmoid()
    torch.testing.assert_close(module(square, (32, 32))[0, :3, 4:12, 4:12], expected, atol=1e-5, rtol=1e-4)


def test_a_picture_map_of_no_phrases_is_an_empty_picture() -> None:
    encoded = picture_map().encode(
        grounding([LEFT], [False]), SpaceToDepth(4), image_size=(64, 64), latent_size=(16, 16)
    )
    assert not encoded[:, :48].any()
    assert encoded[:, 48:96].eq(-1).all()  # black
    assert not encoded[:, 96:].any()


def test_silhouettes_are_the_opacity_of_objects_alone() -> None:
    module = picture_map()
    object_box, frame = [0.5, 0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 1.0, 1.0, 0.0]
    alone, over = (module(grounding([object_box, frame], [True, more]), (32, 32)) for more in (False, True))
    torch.testing.assert_close(alone[:, 3], over[:, 3])
    phrase = grounding([object_box, frame]).phrases[:, :1]
    cells = module.draw[1:](torch.cat([module.draw[0](phrase), torch.zeros(1, 1, 1)], dim=-1))
    opacity = cells[0, 0, 48:].view(1, 1, 8, 8).sigmoid()
    enlarged = torch.nn.functional.interpolate(opacity, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(over[0, 3, 8:24, 8:24], enlarged[0, 0], atol=1e-5, rtol=1e-4)
    assert not over[0, 3, :8].any()


def test_a_pictures_stamp_depends_on_the_ratio_of_the_boxs_sides_only() -> None:
    module = picture_map()
    torch.nn.init.normal_(module.draw[1].weight[:, -1], std=2.0)
    small, large, wide = (
        module(grounding([[0.5, 0.5, w, h, 0.0]]), (64, 64)) for w, h in ((0.25, 0.25), (0.5, 0.5), (0.5, 0.25))
    )
    halved = torch.nn.functional.avg_pool2d(large[:, :3], 2)[..., 8:24, 8:24]
    torch.testing.assert_close(halved, small[..., :3, 24:40, 24:40], atol=0.1, rtol=0)
    squeezed = torch.nn.functional.avg_pool2d(wide[:, :3], (1, 2))[..., 24:40, 8:24]
    assert (squeezed - small[..., :3, 24:40, 24:40]).abs().max() > 0.1


def test_a_picture_map_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    module = picture_map()
    module.save_pretrained(tmp_path)
    torch.testing.assert_close(
        PhraseMap.from_pretrained(tmp_path)(grounding([LEFT]), SIZE), module(grounding([LEFT]), SIZE)
    )


def test_a_named_colour_replaces_that_of_a_stamp() -> None:
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True, opacity_side=8, named_colours=True)
    frame, unnamed = [0.5, 0.5, 1.0, 1.0, 0.0], [0.25, 0.25, 0.25, 0.25, 0.0]
    told = grounding([frame, [0.75, 0.75, 0.25, 0.25, 0.0], unnamed])
    fill = torch.tensor([1.0, -0.5, 0.25])
    colours = torch.zeros(1, 3, 4)
    colours[0, 1] = torch.cat([fill, torch.ones(1)])
    plain, named = (module(replace(told, colours=each), (32, 32)) for each in (None, colours))
    changed = (plain != named).any(dim=1)[0]
    assert changed.nonzero().amin() >= 20  # the object's box only
    assert torch.equal(plain[:, 3:], named[:, 3:])  # the silhouettes and the coordinates
    background = module(grounding([frame, unnamed], [True, False]), (32, 32))[0, :3, 23:25, 23:25]
    share = named[0, 3, 23:25, 23:25]
    expected = background + share * (fill[:, None, None] - background)
    torch.testing.assert_close(named[0, :3, 23:25, 23:25], expected, atol=1e-5, rtol=1e-4)


def test_a_named_colour_fills_a_background() -> None:
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True, opacity_side=8, named_colours=True)
    told = grounding([[0.5, 0.5, 1.0, 1.0, 0.0]])
    colours = torch.tensor([[[0.5, -1.0, 1.0, 1.0]]])
    named = module(replace(told, colours=colours), (16, 16))[0, :3]
    opacity = named[0] / 0.5
    torch.testing.assert_close(named, opacity * colours[0, 0, :3, None, None], atol=1e-6, rtol=1e-5)
    assert (opacity > 0.5).all()


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_named_pattern_is_the_ground_of_a_poster(kind: str) -> None:
    """With an opaque stamp, the map's picture is the ground that the literal world draws, up to its rounding."""
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True, named_colours=True, named_patterns=True)
    with torch.no_grad():
        module.draw[-1].bias[3 * 16 :] = 30.0
    ground = in_usual_form(Background("blue", kind, (PALETTE["blue"],) * 2))
    expected = torch.from_numpy(np.array(draw_background(ground, 128))).permute(2, 0, 1) / 127.5 - 1
    colour = torch.tensor([*(value / 127.5 - 1 for value in PALETTE["blue"]), 1.0]).view(1, 1, 4)
    patterns = torch.tensor([[1 + PATTERNS.index(kind)]])
    told = replace(grounding([[0.5, 0.5, 1.0, 1.0, 0.0]]), colours=colour, patterns=patterns)
    drawn = module(told, (128, 128))[0]
    torch.testing.assert_close(drawn[:3], expected, atol=1 / 127.5, rtol=0)
    assert drawn[:3].flatten(1).std(dim=1).amin() > 0.05
    assert not drawn[3].any()  # a background has no silhouette


def test_a_named_pattern_is_drawn_on_backgrounds_alone() -> None:
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True, named_patterns=True)
    frame, small = [0.5, 0.5, 1.0, 1.0, 0.0], [0.25, 0.25, 0.25, 0.25, 0.0]
    told = grounding([small, frame])
    plain = module(told, SIZE)
    assert torch.equal(module(replace(told, patterns=torch.tensor([[1, 0]])), SIZE), plain)
    striped = module(replace(told, patterns=torch.tensor([[0, 2]])), SIZE)
    assert torch.equal(striped[:, 3:], plain[:, 3:])
    without = PhraseMap(WIDTH, side=4, width=16, picture=True)
    without.load_state_dict(module.state_dict())
    assert torch.equal(without(replace(told, patterns=torch.tensor([[0, 2]])), SIZE), plain)
    assert (striped != plain)[:, :3].any()


@pytest.mark.parametrize("setting", ["named_colours", "coloured_letters", "named_patterns", "usual_grounds"])
def test_latents_have_no_colours_to_replace(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} is true; it needs picture: true"):
        PhraseMap(WIDTH, **{setting: True})


def test_stamps_are_drawn_on_the_ground_that_nothing_tells() -> None:
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True, usual_grounds=True)
    told = grounding([[0.5, 0.5, 0.5, 0.5, 0.0]])
    white = torch.tensor([[0.5, 0.25, 1.0, 1.0]])
    plain, drawn, unused = (
        module(replace(told, grounds=grounds), (16, 16)).detach() for grounds in (None, white, white * 0)
    )
    assert torch.equal(plain, unused)
    assert torch.equal(plain[:, 3:], drawn[:, 3:])  # no silhouette, and no place
    free = plain[0, -1] == 0
    assert free.sum() > 100
    torch.testing.assert_close(drawn[0, :3, free], white[0, :3, None].expand(3, int(free.sum())))
    seen = (drawn - plain)[0, :3, 8, 8] / white[0, :3]  # through the stamp, which is nearly opaque
    torch.testing.assert_close(seen, seen[:1].expand(3))
    assert 0 < seen[0] < 0.2


def test_letters_lie_over_the_stamps_of_the_picture_and_nothing_else() -> None:
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True, opacity_side=8, coloured_letters=True)
    told, autoencoder = grounding([[0.5, 0.5, 0.6, 0.6, 0.0]]), SpaceToDepth(2)
    letters = torch.zeros(1, 4, 16, 16)
    letters[:, :3], letters[:, 3, 4:6, 2:9] = torch.tensor([1.0, -1.0, 0.5]).view(3, 1, 1), 1.0
    letters[:, 3, 8, 8] = 0.25
    plain, drawn = (module.encode(told, autoencoder, (16, 16), (8, 8), each).detach() for each in (None, letters))
    assert torch.equal(plain[:, 12:], drawn[:, 12:])
    before, after = (autoencoder.decode_latents(each[:, :12])[0] for each in (plain, drawn))
    ink = letters[0, 3].bool()
    assert torch.equal(before[:, ~ink], after[:, ~ink])
    torch.testing.assert_close(after[:, 4, 2], torch.tensor([1.0, -1.0, 0.5]))
    torch.testing.assert_close(after[:, 8, 8], 0.75 * before[:, 8, 8] + 0.25 * torch.tensor([1.0, -1.0, 0.5]))


def test_a_stamp_depends_on_its_box_in_pixels_not_on_the_frame() -> None:
    torch.manual_seed(0)
    module = PhraseMap(WIDTH, side=4, width=16, picture=True)
    square = module(grounding([[0.5, 0.5, 0.5, 0.25, 0.0]]), (16, 16))
    wide = module(grounding([[0.5, 0.5, 0.25, 0.25, 0.0]]), (16, 32))  # the same pixels in the middle
    torch.testing.assert_close(wide[..., 8:24], square, atol=1e-5, rtol=1e-5)
    assert not wide[..., :8].any()
