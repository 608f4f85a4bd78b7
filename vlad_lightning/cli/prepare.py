"""``vlad-cli prepare``: writes a data set for training, from published metadata and pictures or from any folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.cli.arguments import Parser

if TYPE_CHECKING:
    from vlad_lightning.data.prepare_run import Preparation, PrepareReport

_REPORT = "report.html"
_LOOKED_AT, _SHOWN = 2000, 24  # samples whose words are plotted, and that are shown


def main(args: Sequence[str]) -> None:
    """Parse the command's arguments, write the data set and print the report.

    Args:
        args: the arguments after ``prepare`` on the command line.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: if an argument cannot be used.
        SystemExit: with code 0 after ``--help``.
    """
    options = _parser().parse_args(args)
    # slow to import, so only after the arguments are checked
    from vlad_lightning.data.prepare_run import missing, prepare

    work = _work(options)
    report = prepare(work, options.workers, options.range)
    if report is None:
        print(f"this part is done; {missing(work)} of {len(work.portions)} portions are left to the other parts")
        return
    _write_report(work, report)
    print("\n".join(report.lines()))
    print(f"the report with pictures: {options.out / _REPORT}")
    print(f"train on them: vlad-cli fit --config configs/stage0_align.yaml --data.root {options.out}")


def _work(options: argparse.Namespace) -> Preparation:
    from vlad_lightning.data.prepare_run import Preparation, claim
    from vlad_lightning.data.prepared_sample import PrepareSettings
    from vlad_lightning.data.remote_path import check_writable

    check_writable("out", options.out)
    _check(options)
    settings = PrepareSettings(
        options.size, options.min_side, options.min_confidence, options.keep_quotes, options.caption
    )
    source = next(path for path in (options.metadata, options.folder, options.pictures) if path is not None)
    _check_place(options.out, source)
    name = str(source.resolve()) if options.images is None else f"{source.resolve()} and {options.images.resolve()}"
    if options.pictures is not None:
        from vlad_lightning.data.annotation_run import find_portions
        from vlad_lightning.data.prepare_inputs import picture_portions
        from vlad_lightning.metrics.word_reader import WordReader

        portions = picture_portions(find_portions(source, None, None))
        return Preparation(name, portions, options.out, settings, WordReader(), options.max_bad)
    from vlad_lightning.data.downloaded_pictures import DownloadedPictures
    from vlad_lightning.data.prepare_inputs import folder_portions

    pictures = None
    if options.images is not None:
        claim(options.out, name)
        pictures = DownloadedPictures(options.images.resolve(), options.out / "images", options.match)
        part, parts = options.range
        pictures.build(part * len(pictures.archives()) // parts)
    return Preparation(name, folder_portions(source.resolve(), pictures), options.out, settings, None, options.max_bad)


def _check(options: argparse.Namespace) -> None:
    given = [name for name in ("metadata", "folder", "pictures") if getattr(options, name) is not None]
    if len(given) != 1:
        raise ValueError(f"{', '.join(given) or 'nothing'} is given; give one of --metadata, --folder and --pictures")
    if (options.images is None) == (options.metadata is not None):
        raise ValueError("--images says where the pictures of --metadata are; give both, or neither")
    for name in (*given, *(["images"] if options.images is not None else [])):
        if not getattr(options, name).exists():
            raise FileNotFoundError(f"{name} is {str(getattr(options, name))!r}, which does not exist")


def _check_place(out: Path, source: Path) -> None:
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"out is {str(out)!r}, which is in {str(source)!r}; name a folder elsewhere")


def _write_report(work: Preparation, report: PrepareReport) -> None:
    from vlad_lightning.data.inspection import inspect_samples
    from vlad_lightning.data.prepared_source import PreparedSource
    from vlad_lightning.data.set_page import write_page

    source = PreparedSource(str(work.out))
    source.setup()
    inspection, samples = inspect_samples(source, _LOOKED_AT, _SHOWN)
    dropped = {reason: (count, report.examples[reason]) for reason, count in report.dropped.items()}
    lines = [*report.lines()[:3], *(f"{count} times: {change}" for change, count in report.mended.items())]
    write_page(work.out / _REPORT, str(work.out), lines, inspection, samples, dropped)


def part_of(text: str) -> tuple[int, int]:
    """Parse ``i/n``, a part of the work and the number of parts.

    Raises:
        argparse.ArgumentTypeError: for another text.
    """
    part, slash, parts = text.partition("/")
    if not slash or not part.isdecimal() or not parts.isdecimal() or not int(part) < int(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n with i from 0 to n - 1, such as 0/16")
    return int(part), int(parts)


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli prepare",
        description="Write a data set for training: checked, mended, shrunk, without copies, in files for millions of "
        "samples. After a stop, at any moment, the same command goes on. Needs pip install 'vlad-lightning[data]'.",
    )
    parser.add_argument("--metadata", type=Path, help="folder of MARIO's metadata, whose pictures are in --images")
    parser.add_argument(
        "--images", type=Path, help="downloaded pictures: tars, parquet files or a folder, as img2dataset writes them"
    )
    parser.add_argument(
        "--match",
        choices=("url", "key"),
        default="url",
        help="find a picture by the url in info.json, or by the sample's name; default: %(default)s",
    )
    parser.add_argument("--folder", type=Path, help="folder in MARIO's format with its pictures, as annotate writes it")
    parser.add_argument("--pictures", type=Path, help="your own pictures, as for annotate; OCR reads their words")
    parser.add_argument("--out", type=Path, required=True, help="local folder to write into")
    parser.add_argument(
        "--size", type=int, default=512, help="shrink to this shorter side in pixels; default: %(default)s"
    )
    parser.add_argument("--min_side", type=int, default=64, help="leave out smaller pictures; default: %(default)s")
    parser.add_argument(
        "--min_confidence", type=float, default=0.3, help="leave out words below this; default: %(default)s"
    )
    parser.add_argument("--keep_quotes", action="store_true", help="quotes in captions mark words to draw")
    parser.add_argument("--caption", help="caption of pictures without one, which are left out otherwise")
    parser.add_argument(
        "--max_bad", type=float, default=0.5, help="refuse a larger share of unusable samples; default: %(default)s"
    )
    parser.add_argument(
        "--range", type=part_of, default=(0, 1), help="i/n: do part i of n, from 0 on, as a task of a SLURM array"
    )
    parser.add_argument("--workers", type=int, default=1, help="number of worker processes; default: %(default)s")
    return parser
