from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from vlad_lightning.baselines.textdiffuser_augmentation import SegmentationAugmentation
from vlad_lightning.diffusion.generators import SampleGenerators


def characters(size: int = 400) -> torch.Tensor:
    blocks = torch.randint(0, 96, (size, 4, 4), generator=torch.Generator().manual_seed(0))
    return blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)


def augmented(maps: torch.Tensor, **shares: float) -> torch.Tensor:
    return SegmentationAugmentation(**shares)(maps, SampleGenerators.of_rows("cpu", (0,), range(len(maps)), len(maps)))


@pytest.mark.parametrize(("share", "reference"), [("dilated", ndimage.grey_dilation), ("eroded", ndimage.grey_erosion)])
def test_dilation_and_erosion_are_those_of_scipy(share: str, reference: object) -> None:
    maps = characters(5)
    shares = {"dilated": 0.0, "eroded": 0.0, "dropped": 0.0} | {share: 1.0}
    found = augmented(maps, **shares)
    for before, after in zip(maps.numpy(), found.numpy(), strict=True):
        assert (reference(before, size=(3, 3), mode="nearest") == after).all()  # type: ignore[operator]


def test_a_tenth_each_is_dilated_eroded_and_loses_pixels() -> None:
    maps = characters()
    found = augmented(maps)
    grown = ((found > maps).flatten(1).any(1)).float().mean()
    shrunk = ((found < maps) & (found > 0)).flatten(1).any(1).float().mean()
    lost = ((found == maps) | (found == 0)).flatten(1).all(1) & (found != maps).flatten(1).any(1)
    assert [float(x) for x in (grown, shrunk, lost.float().mean())] == pytest.approx([0.1] * 3, abs=0.04)
    gone = ((found == 0) & (maps > 0))[lost].float().mean() / (maps > 0)[lost].float().mean()
    assert float(gone) == pytest.approx(0.1, abs=0.02)


def test_shares_that_are_no_shares_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dilated \+ eroded \+ dropped is 1\.3"):
        SegmentationAugmentation(dilated=0.6, eroded=0.6)
    with pytest.raises(ValueError, match="dropped_pixels"):
        SegmentationAugmentation(dropped_pixels=2)
