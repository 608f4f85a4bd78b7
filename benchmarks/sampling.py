"""Measure what VLAD adds to its backbone's cost, what each setting for faster sampling gains, and the words read.

``python benchmarks/sampling.py [PIPELINE] [--data FOLDER]`` prints two Markdown tables. Runs are paired: every system
generates the same prompts in turn, and a ratio is the median over these rounds of the ratio within a round. Words are
read by rapidocr. On a machine with other work, ``--clock cpu`` counts this process's processor time, with one thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from train_step import SIZES, build_image_generator

from vlad_lightning.data.mario import read_texts
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.splits import in_hash_order
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation import ImageGenerator, LayoutGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.metrics.ocr import OCRMetrics
from vlad_lightning.metrics.ocr_engine import build_ocr_engine
from vlad_lightning.models.autoencoder import LinearAutoencoder
from vlad_lightning.models.painter.acceleration import Acceleration
from vlad_lightning.models.tlg import TLG
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.types import Conditioning, Layout

_MIN_CONFIDENCE = 0.3  # of an OCR line of the data, as the data module's default
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

T = TypeVar("T")


@dataclass
class Setting:
    """One row of the second table."""

    name: str
    sampler: ImageSampler
    words: OCRMetrics
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    options = parsed()
    clock = _CLOCKS[options.clock]
    if options.clock == "cpu":
        torch.set_num_threads(1)
    image_generator, layouts = untrained(options.untrained) if options.untrained else opened(options)
    batches = prompt_batches(options.data, options.rounds, options.batch, image_generator.prompt_encoder.max_words)
    base = ImageSampler(options.steps, guidance_scale=options.guidance_scale, layout_scale=options.layout_scale)
    settings = []
    if not options.untrained:
        engine = build_ocr_engine("rapidocr")
        settings = [Setting(name, sampler, OCRMetrics(engine)) for name, sampler in variants(base, image_generator)]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    precision = torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bf16)
    with torch.no_grad(), precision, Progress(*columns, console=Console(stderr=True)) as progress:
        costs = measure_costs(image_generator, layouts, batches, ImageSampler(options.steps), clock, progress)
        if settings:
            measure_settings(image_generator, layouts, batches, settings, clock, progress)
    print(machine(options))
    print_costs(costs, options)
    if settings:
        print_settings(settings, options)


def opened(options: argparse.Namespace) -> tuple[ImageGenerator, LayoutGenerator | None]:
    """Open the pipeline's generators."""
    pipe = VLADPipeline.from_pretrained(options.pipeline).to(options.device)
    return pipe.image_generator, pipe.layout_generator


def untrained(size: str) -> tuple[ImageGenerator, LayoutGenerator]:
    """Build the UNet of the step's benchmark as an image generator, and a layout generator of the mini scale."""
    torch.manual_seed(0)
    pixels = 2 * SIZES[size].latent
    image_generator = build_image_generator(SIZES[size], Acceleration(), LinearAutoencoder(2), pixels)
    prompts = image_generator.prompt_encoder
    tlg = TLG(prompts.width, prompts.max_words, max_objects=prompts.text_encoder.max_objects)
    schedule = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    return image_generator.eval().requires_grad_(False), LayoutGenerator(prompts, tlg, schedule).eval()


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Cost and quality of sampling with a pipeline folder.")
    parser.add_argument("pipeline", type=Path, nargs="?", default=Path("runs/demo/pipeline"))
    parser.add_argument(
        "--untrained", choices=SIZES, help="in the place of a pipeline: the UNet of train_step.py; the first table only"
    )
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data/test"), help="captions, in MARIO's format")
    parser.add_argument("--rounds", type=int, default=12, help="batches of prompts (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="prompts a batch (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="of the first row (default: %(default)s)")
    parser.add_argument("--guidance_scale", type=float, default=3.0, help="of the second table (default: %(default)s)")
    parser.add_argument("--layout_scale", type=float, default=3.0, help="likewise (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16, for all systems")
    parser.add_argument("--clock", choices=tuple(_CLOCKS), default="wall", help="(default: %(default)s)")
    return parser.parse_args()


def prompt_batches(data: Path, rounds: int, size: int, max_words: int) -> list[list[str]]:
    """Yield captions with words to draw, ``size`` per round."""
    source = MarioFolder(str(data), min_confidence=_MIN_CONFIDENCE)
    source.setup()
    numbers = in_hash_order(source.positions(0))
    captions = (read_texts(source.folders[i], _MIN_CONFIDENCE).prompt for i in numbers)
    found: list[str] = []
    for caption in captions:
        if 0 < len(drawn_words(caption)) <= max_words:
            found.append(caption)
        if len(found) == rounds * size:
            return [found[i : i + size] for i in range(0, len(found), size)]
    raise SystemExit(f"{data} has {len(found)} captions to draw; --rounds {rounds} --batch {size} need {rounds * size}")


def variants(base: ImageSampler, image_generator: ImageGenerator) -> list[tuple[str, ImageSampler]]:
    """List the first row and the settings compared with it, as far as the network allows."""
    half, quarter = max(base.steps // 2, 1), max(base.steps // 4, 1)
    fast = replace(base, solver="dpmsolver++")
    rows = [
        (f"ddim, {base.steps} steps", base),
        (f"fuse_qkv, {base.steps} steps", replace(base, fuse_qkv=True)),
        (f"ddim, {half} steps", replace(base, steps=half)),
        (f"dpmsolver++, {half} steps", replace(fast, steps=half)),
        (f"ddim, {quarter} steps", replace(base, steps=quarter)),
        (f"dpmsolver++, {quarter} steps", replace(fast, steps=quarter)),
        (f"cache_interval 2, {base.steps} steps", replace(base, cache_interval=2)),
        (f"cache_interval 3, {base.steps} steps", replace(base, cache_interval=3)),
        (f"dpmsolver++, cache_interval 2, {half} steps", replace(fast, steps=half, cache_interval=2)),
    ]
    return [
        (name, sampler) for name, sampler in rows if sampler.cache_interval == 1 or image_generator.vfe.unet is not None
    ]


def measure_costs(
    image_generator: ImageGenerator,
    layouts: LayoutGenerator | None,
    batches: Sequence[list[str]],
    sampler: ImageSampler,
    clock: Callable[[], float],
    progress: Progress,
) -> dict[str, list[float]]:
    """Measure the seconds of each round by system, without guidance."""
    systems: dict[str, Callable[[list[str], list[torch.Generator]], object]] = {
        "backbone alone": lambda prompts, generators: backbone_alone(image_generator, prompts, sampler, generators),
        "VLAD": lambda prompts, generators: image_generator.generate(
            prompts, place(layouts, prompts, generators), sampler, generators
        ),
        "VLAD, layouts given": lambda prompts, generators: image_generator.generate(
            prompts, given[tuple(prompts)], sampler, generators
        ),
    }
    given = {tuple(prompts): place(layouts, prompts, generators_of(i, prompts)) for i, prompts in enumerate(batches)}
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for generate in systems.values():  # untimed: costs that occur only once
        generate(batches[0], generators_of(0, batches[0]))
    for i, prompts in enumerate(progress.track(batches, description="cost of VLAD")):
        for name in rotated(tuple(systems), i):
            seconds[name].append(timed(partial(systems[name], prompts, generators_of(i, prompts)), clock)[0])
    return seconds


def measure_settings(
    image_generator: ImageGenerator,
    layouts: LayoutGenerator | None,
    batches: Sequence[list[str]],
    settings: list[Setting],
    clock: Callable[[], float],
    progress: Progress,
) -> None:
    """Generate every round's layouts with every setting, which keeps its times and the words read."""
    for setting in settings:
        image_generator.generate(
            batches[0],
            place(layouts, batches[0], generators_of(0, batches[0])),
            replace(setting.sampler, steps=1),
            generators_of(0, batches[0]),
        )
    for i, prompts in enumerate(progress.track(batches, description="settings")):
        placed = place(layouts, prompts, generators_of(i, prompts))
        for setting in rotated(settings, i):
            seconds, generated = timed(
                partial(image_generator.generate, prompts, placed, setting.sampler, generators_of(i, prompts)), clock
            )
            setting.seconds.append(seconds)
            setting.words.update(generated.images.cpu(), [drawn_words(prompt) for prompt in prompts])


def backbone_alone(
    image_generator: ImageGenerator, prompts: list[str], sampler: ImageSampler, generators: list[torch.Generator]
) -> Tensor:
    """Build the same network on the text tower's states alone: no phrases, layouts, fusion or guidance."""
    encoder = image_generator.prompt_encoder.text_encoder
    assert encoder.tokenizer is not None
    length = encoder.tower.config.max_position_embeddings
    coded = encoder.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    said = encoder.tower(input_ids=coded["input_ids"].to(encoder.tower.device))
    states, mask = said.last_hidden_state, torch.ones_like(coded["input_ids"], dtype=torch.bool)
    told = Conditioning(said.text_embeds, states, mask, states, mask, states, mask)
    blank = image_generator.autoencoder.encode_images(
        states.new_zeros(1, 3, image_generator.image_size, image_generator.image_size)
    )
    noise = randn_tensor((len(prompts), *blank.shape[1:]), generator=generators).to(blank)
    backbone = image_generator.vfe.backbone
    spare = (0, 0, 0, 0, 0, backbone.in_channels - blank.shape[1])
    latents = sampler.draw(lambda x, t: backbone(F.pad(x, spare), t, told), noise, image_generator.schedule, generators)
    return image_generator.autoencoder.decode_latents(latents)


def place(layouts: LayoutGenerator | None, prompts: list[str], generators: list[torch.Generator]) -> tuple[Layout, ...]:
    """Generate layouts; empty ones for a system without hierarchical guidance."""
    if layouts is None:
        return tuple(Layout.empty() for _ in prompts)
    return layouts.sample(prompts, Sampler(), generators)


def generators_of(index: int, prompts: Sequence[str]) -> list[torch.Generator]:
    """Make generators that give every system of a round the same noise."""
    return sampling_generators(0, [("benchmark", index, row) for row in range(len(prompts))])


def timed(generate: Callable[[], T], clock: Callable[[], float]) -> tuple[float, T]:
    """Return the seconds of one call, and its result."""
    wait()
    started = clock()
    result = generate()
    wait()
    return clock() - started, result


def wait() -> None:
    """Wait until a GPU has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rotated(items: Sequence[T], start: int) -> list[T]:
    """Rotate the items, so that no system always runs first."""
    start %= len(items)
    return [*items[start:], *items[:start]]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the median of paired ratios, and the quartiles."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return f"{median(ratios):.2f} ({low:.2f} to {high:.2f})"


def machine(options: argparse.Namespace) -> str:
    """Name the machine and the date."""
    if options.device == "cpu":
        threads = f"{torch.get_num_threads()} thread(s), {options.clock} time"
        name = f"{os.cpu_count()} cores, {platform.machine()}, no GPU used, {threads}"
    else:
        name = torch.cuda.get_device_name(options.device)
    precision = "bf16 autocast" if options.bf16 else "float32"
    return f"{name}, {precision}, torch {torch.__version__}, {date.today()}\n"


def print_costs(costs: dict[str, list[float]], options: argparse.Namespace) -> None:
    """Print the first table."""
    print(f"Without guidance, {options.steps} steps, {options.rounds} rounds of {options.batch} prompts:\n")
    print("| system | ms per image, median | ratio to the backbone alone (quartiles) |\n|---|---|---|")
    for name, seconds in costs.items():
        print(f"| {name} | {1000 * median(seconds) / options.batch:.1f} | {ratio(seconds, costs['backbone alone'])} |")


def print_settings(settings: list[Setting], options: argparse.Namespace) -> None:
    """Print the second table."""
    print(
        f"\nGuidance {options.guidance_scale}, generated layouts, {options.rounds} rounds of {options.batch} prompts:\n"
    )
    print("| setting | ms per image, median | times as fast (quartiles) | word accuracy (95 %) |\n|---|---|---|---|")
    for setting in settings:
        speed = f"{1000 * median(setting.seconds) / options.batch:.1f}"
        read = setting.words.compute()["word_accuracy"]
        accuracy = f"{read.value:.3f} ({read.low:.3f} to {read.high:.3f})"
        print(f"| {setting.name} | {speed} | {ratio(settings[0].seconds, setting.seconds)} | {accuracy} |")
    print(f"\nRead by {settings[0].words.engine.name}.")


if __name__ == "__main__":
    main()
