"""``vlad-cli evaluate``: images of any system for the prompts of a suite, scored and compared."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.cli.arguments import Parser

if TYPE_CHECKING:
    from vlad_lightning.evaluation.suite import Suite
    from vlad_lightning.evaluation.systems import OpenSystem, SystemSettings

_STEPS = {
    "generate": "make images for the prompts of a suite, with any system: ours, or one that diffusers loads",
    "score": "read and measure a folder of finished images, of any model",
    "report": "compare scored systems: which differences hold; tables, and a page with pictures",
}
_HELP = "\n".join(
    (
        "usage: vlad-cli evaluate STEP [OPTIONS]\n",
        *(f"  {name:<9} {what}" for name, what in _STEPS.items()),
        "\nWith --model and without a step, all three: vlad-cli evaluate --model vlad-mini --suite NAME --out DIR\n"
        "`vlad-cli evaluate STEP --help` shows a step's options",
    )
)


def main(args: Sequence[str]) -> None:
    """Run a step of the evaluation.

    Args:
        args: the arguments after ``evaluate`` on the command line.

    Raises:
        FileNotFoundError, ValueError: if an argument or a file cannot be used.
        SystemExit: with code 0 after ``--help``.
    """
    steps: dict[str, Callable[[Sequence[str]], None]] = {"generate": _generate, "score": _score, "report": _report}
    if not args or args[0] in ("-h", "--help"):
        print(_HELP)
        raise SystemExit(0)
    if args[0] not in steps and any(word.partition("=")[0] == "--model" for word in args):
        _all(args)
        return
    if args[0] not in steps:
        raise ValueError(f"there is no step {args[0]!r}; allowed are {', '.join(steps)}; see vlad-cli evaluate --help")
    steps[args[0]](args[1:])


def _generate(args: Sequence[str]) -> None:
    parser = Parser("vlad-cli evaluate generate", description="Make images for prompts, each with a seed of its own.")
    _add_suite(parser)
    _add_generation(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for images/ and generation.json")
    parser.add_argument("--images_per_prompt", type=int, help="images for each prompt (default: the suite's)")
    options = parser.parse_args(args)
    _generated(options, _suite(options))


def _all(args: Sequence[str]) -> None:
    """Generate, score and report."""
    parser = Parser("vlad-cli evaluate", description="Make images for the prompts of a suite, and score them.")
    _add_suite(parser)
    _add_generation(parser)
    _add_scoring(parser)
    options = parser.parse_args(args)
    suite = _suite(options)
    if _generated(options, suite) > 1:
        raise ValueError("several tasks make images here; score them afterwards: vlad-cli evaluate score")
    _scored(options, suite, options.out / "images")
    _reported([options.out], options.out / "report", options.bootstrap_seed)


def _report(args: Sequence[str]) -> None:
    parser = Parser("vlad-cli evaluate report", description="Compare systems that were scored on the same prompts.")
    parser.add_argument(
        "dirs", metavar="DIR", type=Path, nargs="+", help="folders of `evaluate score`, the first first"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for report.html, report.md, report.tex")
    parser.add_argument("--figure", help="the figure that images are sorted and systems ranked by")
    parser.add_argument("--thumbnails", type=int, default=24, help="images of each kind that are shown for each system")
    parser.add_argument("--bootstrap_seed", type=int, default=0, help="seed of intervals and tests (default: 0)")
    options = parser.parse_args(args)
    _reported(options.dirs, options.out, options.bootstrap_seed, options.figure, options.thumbnails)


def _score(args: Sequence[str]) -> None:
    parser = Parser("vlad-cli evaluate score", description="Read and measure finished images, of any model.")
    parser.add_argument("--images", type=Path, required=True, help="folder of KEY.png, or KEY_0.png, KEY_1.png, ...")
    _add_suite(parser)
    _add_scoring(parser)
    options = parser.parse_args(args)
    _scored(options, _suite(options), options.images)


def _add_suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", help="name of a suite; without it, --prompts is a list of your own")
    parser.add_argument(
        "--prompts",
        type=Path,
        help="prompts: a text file with one a line (keys 0, 1, ...), or JSON Lines with prompt, key, words, subset; "
        "with --suite: the file or folder of its prompts",
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, results.json and results.md")
    parser.add_argument("--reader", action="append", help="OCR reader, may be given several times (default: rapidocr)")
    parser.add_argument("--reader_models", type=Path, help="folder of the readers' models, for those that need one")
    parser.add_argument("--workers", type=int, default=1, help="number of processes (default: %(default)s)")
    parser.add_argument("--images_per_prompt", type=int, help="refuse other numbers of images (default: the suite's)")
    parser.add_argument(
        "--subset", action="append", help="score this part of the suite only; may be given several times"
    )
    parser.add_argument("--system", help="name in the tables (default: the model's, or the folder's)")
    parser.add_argument("--reference", type=Path, help="folder of true images, for distances such as FID")
    parser.add_argument(
        "--inception", type=Path, help="file of FID's Inception network (without it, EfficientNet-Lite0 is a stand-in)"
    )
    parser.add_argument("--clip", type=Path, help="folder of a CLIP of transformers, for the CLIP score")
    parser.add_argument("--bootstrap_seed", type=int, default=0, help="seed of the intervals (default: %(default)s)")


def _add_generation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        help="vlad-mini, a pipeline folder, a folder that diffusers loads, or a checkpoint of stage 2 or a baseline",
    )
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        help="with a checkpoint: its configuration, may be given several times (default: config.yaml beside it)",
    )
    parser.add_argument("--seed", type=int, default=0, help="from which each image's seed follows (default: 0)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the pipeline's)")
    parser.add_argument("--guidance_scale", type=float, help="guidance scale of the text (default: the pipeline's)")
    parser.add_argument("--layout_scale", type=float, help="guidance scale of the layout (default: the pipeline's)")
    parser.add_argument("--controlnet", help="folder of a ControlNet for Canny edges over --model, a Stable Diffusion")
    parser.add_argument("--layouts", help="with --controlnet: the system that places the words, such as vlad-mini")
    parser.add_argument("--device", help="cpu, cuda, ... (default: this task's GPU if there is one)")
    parser.add_argument("--dtype", default="float32", help="float32, float16 or bfloat16 (default: float32)")
    parser.add_argument("--batch_size", type=int, default=8, help="images made together (default: 8)")
    parser.add_argument("--shard", help="I/N: every N-th batch from the I-th (default: the SLURM task's, or all)")
    parser.add_argument(
        "--blank_refused", action="store_true", help="count prompts that the model cannot draw as white images"
    )
    parser.add_argument(
        "--as_published",
        action="store_true",
        help="mario-eval: all noise from one running generator, and JPEG, as its published script has it; in one task",
    )


def _suite(options: argparse.Namespace) -> Suite:
    if options.suite is None and options.prompts is None:
        raise ValueError("--suite NAME or --prompts FILE is needed: which prompts the images are for")
    if options.suite is None:
        from vlad_lightning.evaluation.plain_suite import read_plain_suite

        return read_plain_suite(options.prompts)
    from vlad_lightning.evaluation.suites import read_suite

    return read_suite(options.suite, options.prompts)


def _generated(options: argparse.Namespace, suite: Suite) -> int:
    """Generate the images of this process, and return how many processes share the work."""
    from vlad_lightning.evaluation.shards import find_shard

    shard = find_shard(options.shard)
    from vlad_lightning.evaluation.image_generation import Generation, generate_images
    from vlad_lightning.evaluation.systems import SystemSettings

    how = Generation(
        options.seed,
        options.images_per_prompt,
        options.batch_size,
        shard,
        options.blank_refused,
        options.as_published,
    )
    how.check(suite)
    settings = SystemSettings(
        options.steps,
        options.guidance_scale,
        options.layout_scale,
        options.device,
        options.dtype,
        options.controlnet,
        options.layouts,
    )
    if suite.seeding == "running" and not how.as_published:
        print(
            f"notice: {suite.name} draws its noise from one running generator; here each image has a seed of its own "
            "(--as_published is to the letter)"
        )
    made, there = generate_images(_opened(options, settings), suite, options.out, how)
    part = f" (shard {shard.index} of {shard.count})" if shard.count > 1 else ""
    print(f"wrote {made} images to {options.out / 'images'}{part}; {there} were there")
    return shard.count


def _opened(options: argparse.Namespace, settings: SystemSettings) -> OpenSystem:
    """Open the system: a checkpoint is loaded into the module that its configuration builds."""
    from vlad_lightning.evaluation.systems import open_module, open_system

    model = Path(options.model)
    if model.suffix != ".ckpt":
        if options.config:
            raise ValueError(f"--config is {options.config[0]}; it belongs to a checkpoint, and --model is {model}")
        return open_system(options.model, settings)
    if not model.exists():
        raise FileNotFoundError(f"--model {model} does not exist")
    configs = options.config or [model.parent / "config.yaml"]
    for config in configs:
        if not config.is_file():
            raise FileNotFoundError(f"{config} does not exist; name the checkpoint's configuration by --config FILE")
    from vlad_lightning.checkpoints.resume import load_checkpoint
    from vlad_lightning.cli.fit import build
    from vlad_lightning.modules.system_module import SystemModule

    module = build([word for config in configs for word in ("--config", str(config))], run=False, trainer=False).model
    if not isinstance(module, SystemModule):
        raise ValueError(
            f"the configuration builds {type(module).__name__}; allowed are systems that generate images: VFEModule "
            "and the baselines"
        )
    load_checkpoint(module, model)
    return open_module(module, options.model, settings)


def _reported(dirs: Sequence[Path], out: Path, seed: int, figure: str | None = None, thumbnails: int = 24) -> None:
    from vlad_lightning.evaluation.report import Reporting, write_report

    written = write_report(dirs, out, Reporting(seed=seed, figure=figure, thumbnails=thumbnails))
    print(written)
    print(f"wrote {out / 'report.html'}, report.md and report.tex")


def _scored(options: argparse.Namespace, suite: Suite, images: Path) -> None:
    # slow to import, so only after the arguments are checked
    from vlad_lightning.evaluation.distances import Distances
    from vlad_lightning.evaluation.results_file import markdown
    from vlad_lightning.evaluation.scoring import Scoring, score

    how = Scoring(
        tuple(options.reader or ("rapidocr",)),
        options.reader_models,
        options.workers,
        options.images_per_prompt,
        tuple(options.subset or ()),
        options.system,
        options.bootstrap_seed,
    )
    given = (options.reference, options.inception, options.clip)
    distances = Distances(*given, getattr(options, "device", None) or "cpu", how.seed) if any(given) else None
    if distances is not None:
        for message in distances.warnings(len(suite.items)):
            print(f"warning: {message}", file=sys.stderr)
    found = score(images, suite, options.out, how, distances)
    if found["seeds"]["known"] < found["seeds"]["of"]:
        print(f"notice: {found['seeds']['of'] - found['seeds']['known']} images do not say their seed")
    print(markdown(found))
    print(f"wrote {options.out / 'results.json'}")
