"""``vlad-cli evaluate``: images of any system for the prompts of a suite, scored and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.cli.arguments import Parser

if TYPE_CHECKING:
    from vlad_lightning.evaluation.suite import Suite

_STEPS = {
    "score": "read and measure a folder of finished images, of any model",
}
_HELP = "\n".join(
    (
        "usage: vlad-cli evaluate STEP [OPTIONS]\n",
        *(f"  {name:<9} {what}" for name, what in _STEPS.items()),
        "\n`vlad-cli evaluate STEP --help` shows a step's options",
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
    steps: dict[str, Callable[[Sequence[str]], None]] = {"score": _score}
    if not args or args[0] in ("-h", "--help"):
        print(_HELP)
        raise SystemExit(0)
    if args[0] not in steps:
        raise ValueError(f"there is no step {args[0]!r}; allowed are {', '.join(steps)}; see vlad-cli evaluate --help")
    steps[args[0]](args[1:])


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
    parser.add_argument("--bootstrap_seed", type=int, default=0, help="seed of the intervals (default: %(default)s)")


def _suite(options: argparse.Namespace) -> Suite:
    if options.suite is None and options.prompts is None:
        raise ValueError("--suite NAME or --prompts FILE is needed: which prompts the images are for")
    if options.suite is None:
        from vlad_lightning.evaluation.plain_suite import read_plain_suite

        return read_plain_suite(options.prompts)
    from vlad_lightning.evaluation.suites import read_suite

    return read_suite(options.suite, options.prompts)


def _scored(options: argparse.Namespace, suite: Suite, images: Path) -> None:
    # slow to import, so only after the arguments are checked
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
    found = score(images, suite, options.out, how)
    print(markdown(found))
    print(f"wrote {options.out / 'results.json'}")
