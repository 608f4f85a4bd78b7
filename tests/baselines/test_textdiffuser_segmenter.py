from __future__ import annotations

from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from diffusers import UNet2DModel

from vlad_lightning.baselines.textdiffuser_segmenter import CharacterSegmenter, at_latents
from vlad_lightning.baselines.textdiffuser_segmenter_module import TextDiffuserSegmenterModule
from vlad_lightning.data.charseg_data import CharsegDataModule
from vlad_lightning.data.mario import UNKNOWN
from vlad_lightning.models.autoencoder import SpaceToDepth


def segmenter(**changes: int) -> CharacterSegmenter:
    settings = {"in_channels": 12, "out_channels": 96} | changes
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, **blocks, **settings)
    return CharacterSegmenter(SpaceToDepth(2), unet)


def charseg(root: Path, size: int = 32) -> CharsegDataModule:
    return CharsegDataModule(str(root), size=size, batch_size=4, max_objects=8, val_share=0.2, test_share=0.2)


def test_the_loss_is_the_cross_entropy_of_the_known_positions() -> None:
    network = segmenter().double()
    latents = torch.randn(2, 12, 8, 8, dtype=torch.float64)
    truth = torch.randint(0, 96, (2, 16, 16), dtype=torch.uint8)
    truth[0, :8] = UNKNOWN
    with torch.no_grad():
        logits = network.unet(latents, 0).sample.double()
        found = network.loss(latents, truth)
        unknown = network.loss(latents, torch.full_like(truth, UNKNOWN))
    total, count = 0.0, 0
    for b in range(2):
        for y in range(8):
            for x in range(8):
                cell = int(truth[b, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max())
                if cell != UNKNOWN:
                    chances = logits[b, :, y, x].exp()
                    total -= float((chances[cell] / chances.sum()).log())
                    count += 1
    assert 64 < count < 128
    assert float(found) == pytest.approx(total / count, rel=1e-5)
    assert float(unknown) == 0


def test_a_thin_stroke_is_kept_at_the_latents() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.uint8)
    truth[0, :, 3] = 40
    assert at_latents(truth, (4, 4)).tolist() == [[[0, 40, 0, 0]] * 4]


def test_channels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"segmenter\.unet\.in_channels is 4; it must be 12"):
        segmenter(in_channels=4)
    with pytest.raises(ValueError, match=r"segmenter\.unet\.out_channels is 95; it must be 96"):
        segmenter(out_channels=95)


def test_it_learns_what_the_posters_show(lettered_posters: Path, posters: Path) -> None:
    torch.manual_seed(0)
    module = TextDiffuserSegmenterModule(segmenter(), tiny.FAST)
    trainer = tiny.trainer(8, limit_val_batches=1)
    before = trainer.validate(module, datamodule=charseg(lettered_posters), verbose=False)[0]
    trainer.fit(module, datamodule=charseg(lettered_posters))
    after = trainer.validate(module, datamodule=charseg(lettered_posters), verbose=False)[0]
    assert after["val/loss"] < 0.7 * before["val/loss"]
    assert 0 <= after["val/character_accuracy"] <= 1
    with pytest.raises(ValueError, match=r"data is a MarioDataModule; .*charseg_data\.CharsegDataModule"):
        tiny.trainer().fit(module, datamodule=tiny.data(posters))
