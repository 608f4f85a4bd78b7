"""Test stage 2 on one GPU: precisions, kernels, memory formats, adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from card import batch_of, fit, stage_2

from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.painter.vfe import LORA_TARGETS
from vlad_lightning.types import Batch

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return batch_of(posters)


def test_bf16_trains_like_float32(batch: Batch, device: torch.device) -> None:
    module = stage_2()
    _, exact = fit(stage_2(), batch, device, precision="32-true")
    _, losses = fit(module, batch, device, precision="bf16-mixed")
    assert losses == pytest.approx(exact, rel=0.05)
    assert losses != exact
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}


def test_fp16_trains_with_its_scaler(batch: Batch, device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("Lightning trains in bfloat16 there")
    module = stage_2(fused=True)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    trainer, losses = fit(module, batch, device, 8, precision="16-mixed", gradient_clip_val=1.0)
    scaler = trainer.precision_plugin.scaler  # type: ignore[attr-defined]
    assert scaler is not None
    assert scaler.get_scale() > 0
    assert all(torch.tensor(losses).isfinite())
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert any(not torch.equal(w.cpu(), before[name].cpu()) for name, w in module.named_parameters())


@pytest.mark.parametrize(
    "acceleration",
    [
        Acceleration(gradient_checkpointing=True),
        Acceleration(channels_last=True),
        Acceleration(compile=True),
        Acceleration(True, True, True),
    ],
    ids=["checkpointing", "channels_last", "regional compile", "all"],
)
def test_acceleration_changes_no_loss(acceleration: Acceleration, batch: Batch, device: torch.device) -> None:
    plain, fast = stage_2(), stage_2(acceleration)
    expected, found = (fit(module, batch, device, precision="32-true")[1] for module in (plain, fast))
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=1e-3)  # TF32 in convolutions
    assert list(plain.state_dict()) == list(fast.state_dict())
    if acceleration.channels_last:
        assert fast.image_generator.vfe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_columns_of_a_widened_image_generator_train_beside_frozen_ones(
    precision: str, batch: Batch, device: torch.device
) -> None:
    module = stage_2(Acceleration(channels_last=True), Lora(2, 4, LORA_TARGETS), widened=True)
    layer = module.image_generator.vfe.unet.conv_in
    published = layer.weight.detach().clone()
    fit(module, batch, device, precision=precision)
    assert torch.equal(layer.weight.cpu(), published.cpu())
    assert layer.further.detach().abs().sum(dim=(0, 2, 3)).gt(0).all()


def test_fused_adamw_steps_like_plain_adamw(batch: Batch, device: torch.device) -> None:
    expected, found = (
        fit(stage_2(fused=fused), batch, device, precision="32-true", gradient_clip_val=1.0)[1]
        for fused in (False, True)
    )
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=1e-3)
