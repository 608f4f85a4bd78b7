from __future__ import annotations

import pytest
import torch

from vlad_lightning.layout.scene_objects import COLOURS, KINDS, FoundObject, encode_objects
from vlad_lightning.models.object_augmentation import NUMBERS, ObjectAugmentation, paint_blobs, palette_colours

STAR = FoundObject("star", "red", 0.3, 0.7, 0.3, 0.3)


def drawn(count: int = 200) -> torch.Tensor:
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(0))


def test_a_blob_has_the_place_and_colour_of_its_label() -> None:
    images = torch.zeros(200, 3, 64, 64)
    changed, things = paint_blobs(images, encode_objects([()] * 200), drawn(), share=1.0, palette=palette_colours())
    blobs = things[:, -1]
    assert (blobs[:, 0] == 1).float().mean() > 0.5  # gray ones cannot be seen on gray
    for image, (there, kind, colour, x, y, width, height) in zip(changed, blobs.tolist(), strict=True):
        ink = (image.abs().amax(0) > 0.02).nonzero() / 64
        if not there:
            assert not len(ink)
            continue
        assert (KINDS[int(kind)], width) == (None, height)
        assert ((ink.mean(0) - torch.tensor([y, x])).abs() < 0.08).all()
        assert ((ink - torch.tensor([y, x])).abs() <= width / 2 + 0.06).all()
        assert int(colour) in range(len(COLOURS))


def test_blobs_touch_no_object_and_only_a_share_gets_one() -> None:
    images, things = torch.zeros(200, 3, 64, 64), encode_objects([(STAR,)] * 200)
    changed, after = paint_blobs(images, things, drawn(), share=0.5, palette=palette_colours())
    assert torch.equal(after[:, :-1], things)
    assert not changed[:, :, 36:54, 11:28].any()  # the star's box
    painted = after[:, -1, 0] == 1
    assert 0.1 < painted.float().mean() < 0.5
    assert torch.equal(changed.flatten(1).any(1), painted)
    assert torch.equal(paint_blobs(images, things, drawn(), share=0.0, palette=palette_colours())[0], images)


def test_mirrored_posters_mirror_their_objects() -> None:
    images = torch.zeros(200, 3, 64, 64)
    images[:, :, 40:50, 14:24] = 1.0  # left
    things = encode_objects([(FoundObject("square", "white", 19 / 64, 45 / 64, 0.2, 0.2),)] * 200)
    changed, after = ObjectAugmentation(blobs=0.0, noise=0.0, blur=0.0)(
        images, things, drawn(), torch.zeros(()), palette_colours()
    )
    right = changed[:, 0, :, 32:].flatten(1).any(1)
    assert 0.3 < right.float().mean() < 0.7
    torch.testing.assert_close(after[:, 0, 3], torch.where(right, 45 / 64, 19 / 64))
    assert not after[:, 1:, 3].any()


def test_noise_and_blur_have_the_given_strength() -> None:
    images, things = torch.zeros(200, 3, 32, 32), encode_objects([()] * 200)
    images[..., 16:] = 0.5
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    noisy, _ = ObjectAugmentation(blobs=0.0, noise=0.1, blur=0.0)(images, things, drawn(), noise, palette_colours())
    assert 0.04 < (noisy - torch.where(drawn()[:, 19, None, None, None] < 0.5, images.flip(3), images)).std() < 0.08
    soft, _ = ObjectAugmentation(blobs=0.0, noise=0.0, blur=1.0)(images, things, drawn(), noise, palette_colours())
    assert 0.0 < soft[0, 0, 8, 15:17].max() - soft[0, 0, 8, 15:17].min() < 0.5
    assert torch.equal(soft[:, 0, 8, 0].unique(), torch.tensor([0.0, 0.5]))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"blobs is 2"):
        ObjectAugmentation(blobs=2)
