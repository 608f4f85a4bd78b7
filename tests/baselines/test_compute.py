from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_baselines
import tiny_system as tiny
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from vlad_lightning.baselines.compute import parameters, sampling_flops, training_flops
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.types import Batch


class Layers(LightningModule):
    """A frozen convolution, then a trained one and a trained linear layer: counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False)
        self.conv = nn.Conv2d(8, 4, 3, padding=1)
        self.linear = nn.Linear(4, 5)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.linear(self.conv(self.frozen(batch.images)).mean(dim=(2, 3))).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_step_is_counted_forward_and_backward_with_frozen_parts(posters: Path) -> None:
    data = tiny.data(posters, batch_size=6)
    pixels = 6 * tiny.SIZE**2
    frozen, conv, linear = (2 * n for n in (pixels * 9 * 3 * 8, pixels * 9 * 8 * 4, 6 * 4 * 5))
    # backward: the first trained layer needs the gradient of its weights alone, the next also that of its input
    assert training_flops(Layers(), data) == frozen + 2 * conv + 3 * linear
    assert parameters(Layers()).trained == 8 * 4 * 9 + 4 + 4 * 5 + 5
    assert parameters(Layers()).whole == parameters(Layers()).trained + 3 * 8 * 9 + 8


def test_an_image_takes_as_many_evaluations_as_its_steps_have_branches() -> None:
    guided, plain, longer = (
        sampling_flops(tiny_baselines.module(sampler=ImageSampler(steps, guidance_scale=scale)), ["a star", "a ring"])
        for steps, scale in ((2, 2.0), (2, 1.0), (4, 1.0))
    )
    a_step = (longer - plain) / 2
    assert a_step > 0
    assert guided - plain == pytest.approx(2 * a_step, rel=1e-3)
