"""Compare a step of stage 2 with a bare loop over the same UNet, as Markdown: ``python benchmarks/train_step.py``.

Each pair is one step of Lightning's trainer over the shipped module and one step of a loop as diffusers' own examples
write it, in one process and in the same precision, one after the other; a result is the quartiles of the pairs' ratios.
Both read prompts of one length.
On a CPU both use the attention of torch's plain products, and the process keeps its memory: if one loop's step returned
it to the system, the other's step would have to fetch it page by page. The UNet is Stable Diffusion 1.5's with half its
channels at latents of 32 x 32. Its latents are given, and the encoders are the mini scale's, so that nearly all of the
computation is the UNet's. On a GPU the script then sweeps the batch size with Stable Diffusion 2.1's UNet.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from vlad_lightning.generation import ImageGenerator
from vlad_lightning.health import EMA, StepGuard, WeightCensus
from vlad_lightning.models.image_encoder import ImageEncoder, build_vision_tower
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.text.ccm import CCM
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.optimization import Optimization
from vlad_lightning.types import Batch, Layout

PROMPT = 'a red circle on a blue background, with the text "HELLO" at the top'
_PIXELS = 64  # of the posters, whose latents are given
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


@dataclass(frozen=True)
class Size:
    """A UNet and its latents.

    Attributes:
        channels: channels of its four levels.
        heads: attention heads of each level.
        latent: side of the latent, h = w.
        text: width of the token states.
        linear: whether the projections around its attention are linear layers, not convolutions.
    """

    channels: tuple[int, ...]
    heads: tuple[int, ...]
    latent: int
    text: int = 128
    linear: bool = False


SIZES = {
    "half-sd15": Size((160, 320, 640, 640), (8, 8, 8, 8), 32),
    "sd15": Size((320, 640, 1280, 1280), (8, 8, 8, 8), 64, 768),
    "sd21": Size((320, 640, 1280, 1280), (5, 10, 20, 20), 64, 1024, linear=True),
    "tiny": Size((32, 32, 64, 64), (2, 2, 2, 2), 16),  # for a trial of the script
}
FAST = Acceleration(channels_last=True, compile=True)


class GivenLatents(ModelMixin, ConfigMixin):
    """An autoencoder whose latents are given, as for a cached data set, on the device."""

    @register_to_config
    def __init__(self, side: int) -> None:
        super().__init__()
        self.latent_channels = 4
        self.register_buffer("latents", torch.randn(4, side, side))

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode (B, 3, H, W) to (B, 4, h, w)."""
        return self.latents.expand(len(images), *self.latents.shape)


def build_unet(size: Size) -> UNet2DConditionModel:
    """Build the UNet that both loops train, from one seed."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=size.latent,
        block_out_channels=size.channels,
        cross_attention_dim=size.text,
        attention_head_dim=size.heads,
        norm_num_groups=32,
        use_linear_projection=size.linear,
    )


def build_image_generator(size: Size, acceleration: Acceleration, autoencoder: Any, pixels: int) -> ImageGenerator:
    """Build an image generator of the mini scale's encoder and this UNet, widened as in the shipped files."""
    encoder = TextEncoder(build_text_tower(size.text), CharacterEncoder(size.text))
    encoder.tokenizer = train_tokenizer([PROMPT] * 30)
    prompts = PromptEncoder(encoder, CCM(size.text, max_phrases=encoder.max_words + encoder.max_objects))
    vfe = VFE(LatentFusion(4, 4, size.text, 12), build_unet(size), acceleration=acceleration)
    return ImageGenerator(prompts, vfe, autoencoder, noise_schedule(), pixels)


def build_module(size: Size, acceleration: Acceleration, fused: bool) -> VFEModule:
    """Build stage 2 around this UNet."""
    image_generator = build_image_generator(size, acceleration, GivenLatents(size.latent), _PIXELS)
    images = ImageEncoder(build_vision_tower(_PIXELS, projection=size.text))
    return VFEModule(
        image_generator, images, optimization=Optimization(warmup_steps=0, schedule="constant", fused=fused)
    )


def noise_schedule() -> DDPMScheduler:
    """Build Stable Diffusion's schedule; its tables stay on the CPU, whatever the default device."""
    with torch.device("cpu"):
        return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


def build_batch(size: int) -> Batch:
    """Build a batch of ``size`` posters."""
    generator = torch.Generator().manual_seed(1)
    words, objects = torch.zeros(size, 4, 5), torch.zeros(size, 12, 5)
    return Batch(
        keys=("key",) * size,
        images=torch.rand(size, 3, _PIXELS, _PIXELS, generator=generator) * 2 - 1,
        prompts=(PROMPT,) * size,
        layouts=(Layout.empty(),) * size,
        glyphs=torch.randint(256, (size, 1, _PIXELS, _PIXELS), generator=generator).byte(),
        word_boxes=words,
        word_mask=words[..., 0] > 0,
        object_boxes=objects,
        object_mask=objects[..., 0] > 0,
        object_counts=torch.ones(size, 12, dtype=torch.int64),
        scene_known=objects[:, 0, 0] > 0,
    )


class BareLoop:
    """The training step of diffusers' text-to-image example: no Lightning, no fusion, nothing but the UNet to train.

    Args:
        size: the UNet and its latents.
        batch: images per step.
        device: where it runs.
        tokens: tokens of a prompt.
        bf16: whether it computes in bfloat16 by autocast, as ``bf16-mixed`` does.
    """

    def __init__(self, size: Size, batch: int, device: torch.device, tokens: int = 77, bf16: bool = False) -> None:
        self.bf16 = bf16
        self.unet = build_unet(size).to(device)
        tower: Any = build_text_tower(size.text)
        self.tower = tower.to(device).requires_grad_(False)
        self.schedule, self.device, self.batch = noise_schedule(), device, batch
        self.latents = torch.randn(batch, 4, size.latent, size.latent, device=device)
        self.ids = torch.ones(batch, tokens, dtype=torch.int64, device=device)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-4)

    def step(self) -> None:
        """Take one step."""
        noise = torch.randn_like(self.latents)
        steps = torch.randint(0, 1000, (self.batch,), device=self.device)
        noisy = self.schedule.add_noise(self.latents, noise, steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                states = self.tower(input_ids=self.ids).last_hidden_state
            predicted = self.unet(noisy, steps, encoder_hidden_states=states).sample
        self.optimizer.zero_grad(set_to_none=True)  # at the same point as in Lightning: equal memory
        F.mse_loss(predicted.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()


@dataclass
class Pairs(Callback):
    """Times Lightning's steps and, after each, a step of another loop.

    Attributes:
        device: the device whose work is waited for.
        other: the other step; None times only Lightning's.
        warmup: number of first pairs that do not count, because of compilation and allocation.
    """

    device: torch.device
    other: Callable[[], None] | None = None
    warmup: int = 2
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    _started: float = 0.0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def on_train_start(self, *_: Any) -> None:
        """Start the clock; what the trainer does between steps counts as well."""
        self._started = self._now()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the clock, run the other step, and start the clock again."""
        middle = self._now()
        self.ours.append(middle - self._started)
        if self.other is not None:
            self.other()
            self.theirs.append(self._now() - middle)
        self._started = self._now()

    def summary(self) -> tuple[float, float, list[float]]:
        """Return the median seconds of ours and of theirs, and the quartiles of the pairs' ratios, ours over theirs."""
        ours, theirs = self.ours[self.warmup :], self.theirs[self.warmup :]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        return statistics.median(ours), statistics.median(theirs), statistics.quantiles(ratios, n=4)


def run(
    module: VFEModule, batch: int, pairs: Pairs, steps: int, precision: Any, callbacks: Sequence[Callback] = ()
) -> None:
    """Train ``steps`` counted steps, with further callbacks."""
    loader: DataLoader[Any] = DataLoader([build_batch(batch)] * (steps + pairs.warmup), batch_size=None)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="gpu" if pairs.device.type == "cuda" else "cpu",
        devices=1,
        precision=precision,
        max_steps=steps + pairs.warmup,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, pairs],
    )
    trainer.fit(module, loader)


def compare(size: Size, batch: int, steps: int, device: torch.device) -> list[str]:
    """Return rows of the table: our module with and without its speed settings, against the bare loop as it is."""
    rows = []
    for name, acceleration, fused, precision, callbacks in (
        ("float32, nothing on", Acceleration(), False, "32-true", ()),
        ("bf16-mixed, nothing on", Acceleration(), False, "bf16-mixed", ()),
        ("bf16-mixed, guard and EMA", Acceleration(), False, "bf16-mixed", (StepGuard(), EMA(), WeightCensus())),
        ("bf16-mixed, channels_last, compile, fused AdamW", FAST, True, "bf16-mixed", ()),
    ):
        module = build_module(size, acceleration, fused)
        tokens = module.image_generator.prompt_encoder([PROMPT]).tokens.shape[1]
        bare = BareLoop(size, batch, device, tokens, bf16=precision == "bf16-mixed")
        pairs = Pairs(device, bare.step)
        run(module, batch, pairs, steps, precision, callbacks)
        ours, theirs, (low, middle, high) = pairs.summary()
        rows.append(f"| {name} | {batch / ours:.3f} | {batch / theirs:.3f} | {middle:.3f} | {low:.3f} to {high:.3f} |")
    return rows


def sweep(size: Size, batches: list[int], steps: int, device: torch.device) -> Iterator[str]:
    """Yield rows of images per second and the share of the matmul peak, for growing batches with all settings on.

    It ends at the first batch that does not fit in the device's memory.
    """
    peak = matmul_peak(device)
    yield f"\nPeak of a bf16 matrix product measured here: {peak / 1e12:.1f} TFLOP/s.\n"
    yield "| batch | images a second | memory, GiB | share of the peak |"
    yield "|---|---|---|---|"
    flops = step_flops(size, device)
    for batch in batches:
        forget(device)
        try:
            rate, memory = speed(size, batch, steps, device)
        except torch.OutOfMemoryError:
            yield f"| {batch} | does not fit | - | - |"
            return
        yield f"| {batch} | {rate:.2f} | {memory:.1f} | {100 * rate * flops / peak:.1f} % |"


def speed(
    size: Size, batch: int, steps: int, device: torch.device, acceleration: Acceleration = FAST
) -> tuple[float, float]:
    """Return images per second and peak memory in GiB of one batch size; the module is freed on return."""
    pairs = Pairs(device, warmup=3)
    with device:  # random weights are drawn on the device, which is fast on a GPU
        module = build_module(size, acceleration, fused=True)
    run(module, batch, pairs, steps, "bf16-mixed")
    return batch / statistics.median(pairs.ours[pairs.warmup :]), peak_memory(device)


def forget(device: torch.device) -> None:
    """Reset what a batch size leaves behind: memory, its peak, and compiled kernels.

    At a second shape the compiler would make the sizes dynamic, and its slower kernels would be timed from then on.
    """
    torch._dynamo.reset()
    gc.collect()  # a trainer and its module refer to each other
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def step_flops(size: Size, device: torch.device) -> float:
    """Count the floating-point operations of the UNet's forward and backward pass for one image."""
    with device:
        bare = BareLoop(size, 1, device)
    with FlopCounterMode(display=False) as counter:
        bare.step()
    return float(counter.get_total_flops())


def matmul_peak(device: torch.device) -> float:
    """Measure the operations per second of the best of five large bf16 products."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    clock, best = Pairs(device), float("inf")
    for _ in range(6):  # the first one loads the kernel
        started = clock._now()
        a @ b
        best = min(best, clock._now() - started)
    return 2 * side**3 / best


def peak_memory(device: torch.device) -> float:
    """Return the peak in GiB: of the device since its last reset; on a CPU, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="half-sd15")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=7, help="pairs that count, after two that do not")
    parser.add_argument(
        "--sweep", type=int, nargs="*", help="batches of the sweep; default: 1 to 64 on a GPU, none else"
    )
    parser.add_argument("--sweep-size", choices=SIZES, default="sd21")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        if not _KEEP_MEMORY.keys() <= os.environ.keys():  # glibc reads these variables when a process starts
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _KEEP_MEMORY)
        torch.backends.cuda.enable_flash_sdp(False)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    print(
        f"{options.size}, batch {options.batch}; {name}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, {date.today()}\n"
    )
    print("| our module | images a second | bare loop in the same precision | time against it | quartiles |")
    print("|---|---|---|---|---|")
    print("\n".join(compare(SIZES[options.size], options.batch, options.steps, device)))
    print(f"\nPeak memory of the {'device' if device.type == 'cuda' else 'process'}: {peak_memory(device):.1f} GiB.")
    batches = options.sweep if options.sweep is not None else [1, 2, 4, 8, 16, 32, 64] if device.type == "cuda" else []
    if batches:
        size = SIZES[options.sweep_size]
        for row in sweep(size, batches, options.steps, device):
            print(row, flush=True)


if __name__ == "__main__":
    main()
