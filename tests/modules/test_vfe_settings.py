"""Test what LoRA, acceleration and noise settings of the UNet change, and what they must not change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from vlad_lightning.callbacks import InitFrom
from vlad_lightning.checkpoints.resume import load_checkpoint
from vlad_lightning.generation import ImageGenerator
from vlad_lightning.health import EMA
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Batch, Layout

UNET_LORA = Lora(rank=2, alpha=6, targets=("to_q", "to_k", "to_v", "to_out.0"))
PLAIN = LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0)
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")


def build(
    lora: Lora | None = None,
    acceleration: Acceleration = Acceleration(),
    schedule: Any = None,
    training: LossSettings = PLAIN,
    seed: int = 0,
) -> VFEModule:
    torch.manual_seed(seed)
    fusion = LatentFusion(tiny.LATENT, tiny.LATENT, tiny.WIDTH, tiny.LATENT + 4, time_width=16)
    network = VFE(fusion, tiny.unet(), lora=lora, acceleration=acceleration)
    image_generator = ImageGenerator(
        tiny.prompt_encoder(tiny.LORA), network, tiny.image_generator().autoencoder, schedule or tiny.schedule(), 32
    )
    return VFEModule(image_generator, tiny.image_encoder(), tiny.layout_generator(), training, tiny.FAST)


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=4).val_dataloader()))


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(float(outputs["loss"]))


def trained(module: VFEModule, batch: Batch, steps: int = 4, *callbacks: Callback) -> tuple[Any, list[float]]:
    losses = Losses()
    loader: DataLoader[Any] = DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]
    trainer = tiny.trainer(steps, callbacks=[losses, *callbacks])
    trainer.fit(module, loader)
    return trainer, losses.seen


COMPILED = [needs_compiler, pytest.mark.slow]


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("lora", "acceleration"),
    [
        (None, Acceleration(gradient_checkpointing=True)),
        (UNET_LORA, Acceleration(gradient_checkpointing=True)),
        (None, Acceleration(channels_last=True)),
        pytest.param(None, Acceleration(compile=True), marks=COMPILED),
        pytest.param(UNET_LORA, Acceleration(True, True, True), marks=COMPILED),
    ],
    ids=["checkpointing", "checkpointing, lora", "channels_last", "compile", "all, lora"],
)
def test_acceleration_changes_neither_losses_nor_parameter_names(
    acceleration: Acceleration, lora: Lora | None, batch: Batch
) -> None:
    plain, fast = build(lora), build(lora, acceleration)
    assert list(plain.state_dict()) == list(fast.state_dict())
    expected, found = (trained(module, batch)[1] for module in (plain, fast))
    assert expected[0] != expected[-1]
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=1e-5)
    fast.load_state_dict(plain.state_dict())


def test_settings_reach_the_unet() -> None:
    unet = build(acceleration=Acceleration(True, True, True)).image_generator.vfe.unet
    assert unet.is_gradient_checkpointing
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    blocks = [m for m in unet.modules() if type(m).__name__ == "BasicTransformerBlock"]
    assert blocks
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_lora_trains_the_adapters_the_fusion_and_the_composition(batch: Batch) -> None:
    module = build(UNET_LORA)
    before = {k: v.detach().clone() for k, v in module.named_parameters()}
    trained(module, batch)
    moved = {k for k, v in module.named_parameters() if not torch.equal(v, before[k])}
    in_unet = {k for k in moved if k.startswith("image_generator.vfe.unet.")}
    assert in_unet == {k for k in before if k.startswith("image_generator.vfe.unet.") and "lora_" in k}
    assert len(in_unet) > 8
    for part in ("vfe.fusion", "prompt_encoder.composition", "prompt_encoder.text_encoder.character_encoder"):
        assert any(k.startswith(f"image_generator.{part}.") for k in moved)


def test_lora_starts_at_the_unets_output() -> None:
    module, plain = build(UNET_LORA), build()
    x, states = torch.randn(2, tiny.LATENT + 4, 16, 16), torch.randn(2, 5, tiny.WIDTH)
    with torch.no_grad():
        ours, theirs = (m.image_generator.vfe.unet(x, 7, encoder_hidden_states=states).sample for m in (module, plain))
    assert torch.equal(ours, theirs)


def predicted(network: Any) -> Tensor:
    generators = torch.Generator().manual_seed(1)
    x = torch.randn(2, tiny.LATENT + 4, 16, 16, generator=generators)
    states = torch.randn(2, 5, tiny.WIDTH, generator=generators)
    with torch.no_grad():
        said: Tensor = network.eval()(x, 7, encoder_hidden_states=states).sample
    return said


@pytest.mark.parametrize("acceleration", [Acceleration(), Acceleration(channels_last=True)])
def test_alpha_is_kept_by_checkpoint_chaining_and_export(
    acceleration: Acceleration, batch: Batch, tmp_path: Path
) -> None:
    module = build(UNET_LORA, acceleration)
    trainer, _ = trained(module, batch, 4, EMA(0.5))
    expected, path = predicted(module.image_generator.vfe.unet), tmp_path / "x.ckpt"
    assert (expected - predicted(build().image_generator.vfe.unet)).abs().max() > 1e-3  # the adapters do something
    trainer.save_checkpoint(path)
    loaded = build(UNET_LORA, acceleration, seed=5)
    load_checkpoint(loaded, path)
    torch.testing.assert_close(predicted(loaded.image_generator.vfe.unet), expected)
    for part in (
        "image_generator.vfe.unet",
        "image_generator.vfe",
        "image_generator",
    ):  # folded into the weights of a next stage
        chained = build(seed=5)
        InitFrom(part, str(path)).setup(tiny.trainer(), chained, "fit")
        torch.testing.assert_close(predicted(chained.image_generator.vfe.unet), expected, rtol=1e-3, atol=1e-4)
    VLADPipeline.from_module(loaded).save_pretrained(tmp_path / "pipeline")
    unet = VLADPipeline.from_pretrained(tmp_path / "pipeline").unet
    torch.testing.assert_close(predicted(unet), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"the checkpoint's adapters have .*'image_generator.vfe.unet': 3.0.* has .*: 1.0"
    ):
        load_checkpoint(build(replace(UNET_LORA, alpha=2)), path)


def test_an_export_does_not_change_the_module() -> None:
    module = build(UNET_LORA, Acceleration(channels_last=True))
    before = list(module.state_dict())
    pipe = VLADPipeline.from_module(module)
    assert list(module.state_dict()) == before
    assert module.image_generator.vfe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(value.is_contiguous() for value in pipe.unet.parameters())
    assert not any(
        value.data_ptr() == other.data_ptr()
        for value in pipe.unet.parameters()
        for other in [module.image_generator.vfe.unet.conv_out.weight]
    )
    images = pipe("a 'HI'", Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.1]])), 2, output_type="pt").images
    assert isinstance(images, Tensor)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_every_prediction_trains_with_its_weight(prediction: str, gamma: float, batch: Batch) -> None:
    module = build(schedule=tiny.schedule(prediction, "scaled_linear"), training=replace(PLAIN, snr_gamma=gamma))
    _, losses = trained(module, batch, 3)
    assert all(torch.tensor(losses).isfinite())
    assert all(value.isfinite().all() for value in module.parameters())


def test_epsilon_without_a_signal_at_the_end_is_refused() -> None:
    schedule = tiny.schedule("v_prediction")
    schedule.register_to_config(prediction_type="epsilon")
    with pytest.raises(ValueError, match="a zero terminal SNR needs 'v_prediction' or 'sample'"):
        build(schedule=schedule)


def test_offset_noise_is_one_number_per_channel(batch: Batch) -> None:
    """The image generator's inputs with and without it differ by the same number at every pixel."""
    seen = []
    for offset in (0.0, 0.3):
        module = build(schedule=tiny.schedule("epsilon"), training=replace(PLAIN, offset_noise=offset))
        inputs: list[Tensor] = []
        module.image_generator.vfe.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
        loader: DataLoader[Any] = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
        tiny.trainer(limit_val_batches=1).validate(module, loader, verbose=False)
        seen.append(inputs[0])
    difference = seen[1] - seen[0]
    mean = difference.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(difference, mean.expand_as(difference), rtol=1e-4, atol=1e-5)
    assert mean.unique().numel() == mean.numel()
    assert 0.01 < mean.std() < 0.5
