"""The command ``vlad-cli doctor``: its options; torch is imported after they have been read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlad_lightning.cli.arguments import Parser


def main(args: Sequence[str]) -> int:
    """Run ``vlad-cli doctor`` alone, or on every task by ``srun vlad-cli doctor`` or torchrun.

    Args:
        args: the arguments after ``doctor``.

    Returns:
        0 if nothing failed, else 1; the same in every process.

    Raises:
        FileNotFoundError: if a configuration does not exist.
        ValueError: if a configuration or the launcher's variables are malformed.
    """
    options = _parser().parse_args(args)
    from vlad_lightning.cli.doctor.examination import examine

    return examine(options)


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli doctor",
        description="Check ranks, network, clocks, disks, versions and weights before a run on many devices.",
    )
    parser.add_argument(
        "--config", action="append", default=[], help="configuration file, as for fit: check its data and weights, too"
    )
    parser.add_argument("--out", help="folder of the run, on a file system that all nodes share; default: the config's")
    parser.add_argument("--data.root", dest="data_root", help="folder of the data, instead of the config's")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for the other processes")
    parser.add_argument("--json", type=Path, help="also write the checks into this file")
    return parser
