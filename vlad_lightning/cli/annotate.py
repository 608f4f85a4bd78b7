"""``vlad-cli annotate``: writes one's own pictures in MARIO's format, with the words that OCR reads on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlad_lightning.cli.arguments import Parser


def main(args: Sequence[str]) -> None:
    """Parse the command's arguments, write the samples and print the report.

    Args:
        args: the arguments after ``annotate`` on the command line.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: if an argument cannot be used.
        SystemExit: with code 0 after ``--help``.
    """
    options = _parser().parse_args(args)
    # slow to import, so only after the arguments are checked
    from vlad_lightning.data.annotation import AnnotationSettings
    from vlad_lightning.data.annotation_page import PAGE
    from vlad_lightning.data.annotation_run import annotate
    from vlad_lightning.metrics.word_reader import WordReader

    report = annotate(
        options.dir,
        options.out,
        AnnotationSettings(
            options.caption, options.add_words, options.max_side, options.min_side, options.charseg == "true"
        ),
        WordReader(),
        options.workers,
        options.text_column,
        options.image_column,
    )
    print("\n".join(report.lines()))
    print(f"the report with some pictures: {options.out / PAGE}")
    if report.samples:
        print(f"train on them: vlad-cli fit --config configs/mini/stage0_align.yaml --data.root {options.out}")


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli annotate",
        description="Write your own pictures in MARIO's format, for training: OCR reads the words on them, and words "
        "of a caption that are on its picture get quotes. After a stop, the same command goes on.",
    )
    parser.add_argument(
        "dir",
        metavar="DIR",
        type=Path,
        help="folder of a.jpg with a.txt or a.caption, with metadata.jsonl, or of parquet files; or one parquet file",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--caption", help="caption of pictures without one, which are left out otherwise")
    parser.add_argument(
        "--add_words", action="store_true", help="append words that are read and that the caption lacks, in quotes"
    )
    parser.add_argument(
        "--max_side", type=int, default=1024, help="shrink to this longest side in pixels; default: %(default)s"
    )
    parser.add_argument("--min_side", type=int, default=64, help="leave out smaller pictures; default: %(default)s")
    parser.add_argument(
        "--charseg",
        choices=("true", "false"),
        default="false",
        help="write charseg.npy too, the character that each pixel shows, for TextDiffuser; default: %(default)s",
    )
    parser.add_argument("--text_column", help="captions in metadata.jsonl and parquet; default: text, caption, prompt")
    parser.add_argument("--image_column", help="pictures in parquet; default: image, or the only column of bytes")
    parser.add_argument("--workers", type=int, default=1, help="number of worker processes; default: %(default)s")
    return parser
