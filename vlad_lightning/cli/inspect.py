"""``vlad-cli inspect``: what is in a data set, with plots and a sheet of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.cli.arguments import Parser

if TYPE_CHECKING:
    from vlad_lightning.data.source import SampleSource


def main(args: Sequence[str]) -> None:
    """Parse the command's arguments, read some samples, write the page and print the counts.

    Args:
        args: the arguments after ``inspect`` on the command line.

    Raises:
        ValueError, FileNotFoundError: if an argument or the data set cannot be used.
        SystemExit: with code 0 after ``--help``.
    """
    options = _parser().parse_args(args)
    # slow to import, so only after the arguments are checked
    from vlad_lightning.data.inspection import inspect_samples
    from vlad_lightning.data.prepared_source import PreparedSource, is_prepared
    from vlad_lightning.data.set_page import write_page
    from vlad_lightning.limits import check_whole

    check_whole("most", options.most, 1, 10_000_000)
    check_whole("pictures", options.pictures, 0, 1000)
    folder = options.dir
    source = PreparedSource(folder) if is_prepared(folder) else _folder(folder)
    source.setup()
    inspection, samples = inspect_samples(source, options.most, options.pictures)
    write_page(options.out, folder, inspection.lines(), inspection, samples)
    print("\n".join(inspection.lines()))
    print(f"with plots and pictures: {options.out}")


def _folder(folder: str) -> SampleSource:
    from vlad_lightning.data.mario_folder import MarioFolder  # imports Lightning

    return MarioFolder(folder, max_bad_share=1.0)


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli inspect",
        description="Show what is in a data set: words a picture, confidences, lengths, scripts and sizes, with plots, "
        "and a sheet of pictures with the boxes of their words.",
    )
    parser.add_argument("dir", metavar="DIR", help="a prepared set or its URL, or a folder in MARIO's format")
    parser.add_argument("--out", type=Path, default=Path("inspect.html"), help="the page; default: %(default)s")
    parser.add_argument(
        "--most", type=int, default=2000, help="read at most so many samples, evenly spread; default: %(default)s"
    )
    parser.add_argument("--pictures", type=int, default=48, help="number of pictures shown; default: %(default)s")
    return parser
