"""``vlad-cli synth``: writes synthetic posters in MARIO's format."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlad_lightning.cli.arguments import Parser


def main(args: Sequence[str]) -> None:
    """Parse the command's arguments and write the posters.

    Args:
        args: the arguments after ``synth`` on the command line.

    Raises:
        ValueError: if an argument is unknown, missing or malformed, or a number is out of its range.
        FileNotFoundError: if the rich world's icons and fonts are not installed.
        SystemExit: with code 0 after ``--help``.
    """
    options = _parser().parse_args(args)
    from vlad_lightning.data.synthetic.synthetic import (
        write_posters,  # slow to import, so only after the arguments are checked
    )

    write_posters(
        options.out,
        samples=options.samples,
        size=options.size,
        seed=options.seed,
        heldout=options.split == "heldout",
        workers=options.workers,
        charseg=options.charseg == "true",
        scene=options.scene == "true",
        world=options.world,
    )


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli synth",
        description="Write synthetic posters in MARIO's format. The same arguments write the same files.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--samples", type=int, required=True, help="number of posters")
    parser.add_argument("--size", type=int, default=64, help="side of the square images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same posters")
    parser.add_argument(
        "--split",
        choices=("train", "heldout"),
        default="train",
        help="heldout draws only words that train never draws, and in the rich world also such combinations",
    )
    parser.add_argument(
        "--world",
        choices=("plain", "rich", "literal", "wordless"),
        default="plain",
        help="rich draws things too: cars, trees, cats ...; literal draws of these only what the caption tells; "
        "wordless is plain without words",
    )
    parser.add_argument("--workers", type=int, default=2, help="number of worker processes")
    parser.add_argument("--charseg", choices=("true", "false"), default="true", help="write charseg.npy too")
    parser.add_argument("--scene", choices=("true", "false"), default="true", help="write scene.json too")
    return parser
