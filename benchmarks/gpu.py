"""Test whether this GPU runs the project, and how fast: ``make gpu``, or ``python benchmarks/gpu.py``.

It runs the tests marked ``gpu``, then training steps of stage 2 at the size of Stable Diffusion 1.5 and 2.1 (512 px,
latents given, bf16-mixed, channels_last, fused AdamW; batches swept; eager and compiled), then sampling in 20 and 50
guided steps with the autoencoder. The tables go to ``runs/gpu.md``. Measurements for which no time is left are listed
as such. ``--device cpu --tiny`` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import torch
from train_step import PROMPT, SIZES, Size, build_image_generator, forget, matmul_peak, peak_memory, speed, step_flops

from vlad_lightning.diffusion.generators import numbered, sampling_generators
from vlad_lightning.files import write_text
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.models.autoencoder import KLAutoencoder, build_kl_autoencoder
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.types import Layout

_EAGER, _COMPILED = Acceleration(channels_last=True), Acceleration(channels_last=True, compile=True)
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        sizes: sizes of the image generator, see ``train_step.SIZES``.
        batches: growing batch sizes of a training step; the sweep ends when memory is full.
        steps: timed training steps, after three untimed ones.
        sampling: numbers of sampling steps.
        images: images generated at once.
        latent_channels: channels of the autoencoder's blocks.
    """

    sizes: tuple[str, ...] = ("sd15", "sd21")
    batches: tuple[int, ...] = (4, 16, 32, 64)
    steps: int = 5
    sampling: tuple[int, ...] = (20, 50)
    images: int = 4
    latent_channels: tuple[int, ...] = (128, 256, 512, 512)

    @property
    def scale(self) -> int:
        """Pixels per latent along a side."""
        return int(2 ** (len(self.latent_channels) - 1))


TINY = Plan(("tiny",), (1, 2), 1, (2, 3), 1, (32, 32))


@dataclass(frozen=True)
class Clock:
    """Time limit of the measurements.

    Attributes:
        minutes: the limit in total.
        started: start on the monotonic clock.
    """

    minutes: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left."""
        return 60 * self.minutes - (time.monotonic() - self.started)


@dataclass
class Report:
    """The tables, filled as they are measured.

    Attributes:
        tests: (name, outcome) of each test.
        training: images per second, GiB and the share of the peak, by image generator, batch and mode; or the reason
            why there are none.
        sampling: seconds per image and GiB, by image generator and steps; or the reason why there are none.
        peak: operations per second of a bf16 matrix product.
        failed: whether anything failed.
    """

    tests: list[tuple[str, str]] = field(default_factory=list)
    training: dict[tuple[str, int, str], tuple[float, float, float] | str] = field(default_factory=dict)
    sampling: dict[tuple[str, int], tuple[float, float] | str] = field(default_factory=dict)
    peak: float = 0.0
    failed: bool = False

    def markdown(self, place: str) -> str:
        """Return the report, headed by a line with the machine and the date."""
        lines = [place, "", f"Peak of a bf16 matrix product measured here: {self.peak / 1e12:.1f} TFLOP/s.", ""]
        lines += ["| test | outcome |", "|---|---|", *(f"| {name} | {outcome} |" for name, outcome in self.tests), ""]
        lines += ["| training: image generator | batch | mode | images a second | share of the peak | memory, GiB |"]
        lines += ["|---|---|---|---|---|---|"]
        for (name, batch, mode), found in self.training.items():
            told = f"{found} | - | -"
            if not isinstance(found, str):
                told = f"{found[0]:.2f} | {100 * found[2]:.1f} % | {found[1]:.1f}"
            lines.append(f"| {name} | {batch} | {mode} | {told} |")
        lines += ["", "| sampling: image generator | steps | seconds per image | memory, GiB |", "|---|---|---|---|"]
        for (name, steps), drawn in self.sampling.items():
            told = f"{drawn} | -" if isinstance(drawn, str) else f"{drawn[0]:.2f} | {drawn[1]:.1f}"
            lines.append(f"| {name} | {steps} | {told} |")
        return "\n".join(lines) + "\n"


def run_tests(device: torch.device, seconds: float) -> list[tuple[str, str]]:
    """Run the tests marked ``gpu`` in a new process; return the (name, outcome) of each."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.xml")
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests", "-q", "-p", "no:cacheprovider"]
        where = os.environ | {"VLAD_TEST_DEVICE": device.type}
        try:
            ended = subprocess.run(
                [*command, f"--junitxml={results}"], cwd=_ROOT, env=where, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return [("the tests", f"FAILED: they were stopped after {seconds:.0f} s")]
        if not results.is_file():
            return [("the tests", f"FAILED: pytest ended with code {ended.returncode}")]
        return [(case.get("name", "?"), _outcome(case)) for case in ET.parse(results).iter("testcase")]


def _outcome(case: ET.Element) -> str:
    for kind, said in (("failure", "FAILED"), ("error", "FAILED"), ("skipped", "skipped")):
        found = case.find(kind)
        if found is not None:
            why = (found.get("message") or "").splitlines() or [""]
            return f"{said}: {why[0][:100]}".replace("|", "/")
    return f"passed, {float(case.get('time', 0)):.1f} s"


class Bench:
    """Measures a plan into a report, as long as there is time.

    Args:
        plan: what is measured.
        device: the device to measure.
        clock: how long it may take.
    """

    def __init__(self, plan: Plan, device: torch.device, clock: Clock) -> None:
        self.plan, self.device, self.clock = plan, device, clock
        self.report = Report()

    def fill(self) -> Report:
        """Measure everything; the quickest parts come first, so that a slow card leaves out only the compiled steps."""
        self.report.peak = matmul_peak(self.device)
        flops = {name: step_flops(SIZES[name], self.device) for name in self.plan.sizes}
        for name in self.plan.sizes:
            self._train(name, flops[name], "eager", _EAGER, needed=15)
        for name in self.plan.sizes:
            self._sample(name)
        for name in self.plan.sizes:
            self._train(name, flops[name], "compiled", _COMPILED, needed=45)
        return self.report

    def _train(self, name: str, flops: float, mode: str, acceleration: Acceleration, needed: float) -> None:
        for batch in self.plan.batches:
            say(f"training {name}, batch {batch}, {mode}; {self.clock.left:.0f} s left")
            measure = partial(speed, SIZES[name], batch, self.plan.steps, self.device, acceleration)
            found = self._tried(measure, needed)
            if isinstance(found, tuple):
                self.report.training[name, batch, mode] = (*found, found[0] * flops / self.report.peak)
            else:
                self.report.training[name, batch, mode] = found
            if found == _FULL:
                return

    def _sample(self, name: str) -> None:
        say(f"sampling {name}; {self.clock.left:.0f} s left")
        for steps in self.plan.sampling:
            self.report.sampling[name, steps] = self._tried(partial(self._generated, SIZES[name], steps), 15)

    def _generated(self, size: Size, steps: int) -> tuple[float, float]:
        """Return seconds per image (with text encoding and decoding) of guided steps with a given layout, and GiB."""
        pixels = size.latent * self.plan.scale
        with self.device:
            image_generator = build_image_generator(size, _EAGER, self._autoencoder(pixels), pixels).eval()
        layouts = (Layout(("HELLO",), torch.tensor([[0.5, 0.2, 0.6, 0.2, 0.0]])),) * self.plan.images
        guided = ImageSampler(steps, guidance_scale=7.5, layout_scale=2.0)
        seconds, prompts = [], (PROMPT,) * self.plan.images
        for sampler in (ImageSampler(1, guidance_scale=7.5, layout_scale=2.0), guided):  # the first loads the kernels
            started = time.perf_counter()
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
                generated = image_generator.generate(
                    prompts, layouts, sampler, sampling_generators(0, numbered(prompts))
                )
            generated.images.cpu()  # waits for the GPU
            seconds.append(time.perf_counter() - started)
        if not generated.images.isfinite().all():
            raise RuntimeError("the images are not finite")
        return seconds[-1] / self.plan.images, peak_memory(self.device)

    def _autoencoder(self, pixels: int) -> KLAutoencoder:
        return build_kl_autoencoder(self.plan.latent_channels, sample_size=pixels)

    def _tried(self, measure: Callable[[], tuple[float, float]], needed: float) -> tuple[float, float] | str:
        """Return the measurement, or a text: no time left, not enough memory, or the error."""
        if self.clock.left < needed:
            return "no time left"
        forget(self.device)
        try:
            return measure()
        except torch.OutOfMemoryError:
            return _FULL
        except RuntimeError as error:  # of a kernel or the compiler: measure the other rows all the same
            self.report.failed = True
            return f"FAILED: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}".replace("|", "/")


_FULL = "does not fit"


def say(what: str) -> None:
    """Report progress on standard error."""
    print(what, file=sys.stderr, flush=True)


def place(device: torch.device) -> str:
    """Name the card, the versions and the date."""
    name = f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU used"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        name = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}, {date.today()}."


def main(arguments: list[str] | None = None) -> int:
    """Test, measure and write; return 1 if there is no GPU or anything failed."""
    parser = argparse.ArgumentParser(description="Whether this GPU runs the project, and how fast.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="networks of a few thousand weights, to try the script")
    parser.add_argument("--minutes", type=float, default=7.5, help="for everything (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.md"), help="the tables (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        say("no GPU: torch.cuda.is_available() is False here; `--device cpu --tiny` tries the script without one")
        return 1
    clock, device = Clock(options.minutes), torch.device(options.device)
    tests = run_tests(device, clock.left / 2)
    report = Bench(TINY if options.tiny else Plan(), device, clock).fill()
    report.tests = tests
    write_text(options.out, report.markdown(place(device)))
    print(options.out.read_text(encoding="utf-8"))
    say(f"written to {options.out} after {clock.minutes - clock.left / 60:.1f} minutes")
    return int(report.failed or any(outcome.startswith("FAILED") for _, outcome in tests))


if __name__ == "__main__":
    sys.exit(main())
