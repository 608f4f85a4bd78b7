"""Put runs of one pipeline with several seeds together: `python benchmarks/seeds.py RUN RUN RUN --out RUN_OF_ALL`.

For each system that was tested, `RUN_OF_ALL/SYSTEM` gets a `results.json` with the mean of each figure over the seeds
and the figures themselves (`seeds`), and a `per_image.json` in which each image adds the mean of what it adds in the
runs, so that images are resampled and swapped with all their seeds together. `benchmarks/tables.py --out RUN_OF_ALL`
and `benchmarks/ablations.py RUN_OF_ALL/SYSTEM RUN_OF_ALL/SYSTEM` read it as they read one run; pictures and counts of
operations are those of the first run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from vlad_lightning.files import write_text


def main(args: Sequence[str] | None = None) -> None:
    """Write the folder of all runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs that differ in their seeds")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(args)
    runs: list[Path] = options.runs
    for run in runs:
        if not run.is_dir():
            parser.error(f"{str(run)!r} is no folder; each must be the folder of a run")
    if options.out.resolve() in {run.resolve() for run in runs}:
        parser.error(f"--out is {str(options.out)!r}, which is one of the runs; it must be another folder")
    tested = {path.parent.name for run in runs for path in run.glob("*/results.json")}
    if not tested:
        parser.error(f"nothing was tested in {', '.join(map(str, runs))}; a run must hold SYSTEM/results.json")
    for system in sorted(tested):
        folders = [run / system for run in runs if (run / system / "results.json").exists()]
        pool(folders, options.out / system)
        print(f"{options.out / system}: {len(folders)} of {len(runs)} runs")
    if (counts := runs[0] / "compute.json").exists():
        shutil.copy2(counts, options.out / counts.name)


def pool(folders: Sequence[Path], out: Path) -> None:
    """Put the tests of one system together.

    Args:
        folders: of the tests, one for each seed.
        out: folder to write.
    """
    out.mkdir(parents=True, exist_ok=True)
    names, results = zip(*(_only(folder / "results.json") for folder in folders), strict=True)
    write_text(out / "results.json", json.dumps({names[0]: mean_results(results)}, indent=2) + "\n")
    if all((folder / "per_image.json").exists() for folder in folders):
        images = [_only(folder / "per_image.json")[1] for folder in folders]
        write_text(out / "per_image.json", json.dumps({names[0]: mean_rows(images)}) + "\n")
    if (pictures := folders[0] / "images").is_dir():
        shutil.copytree(pictures, out / "images", dirs_exist_ok=True)


def mean_results(results: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the mean over seeds of each figure that all of them have; its interval over images is left out.

    Args:
        results: of each seed, by the figure's name.

    Returns:
        By name, ``value`` (the mean), ``seeds`` (the figure of each seed, in order), ``n`` (of all seeds together),
        ``low`` and ``high`` (None) and ``details`` of the first seed.
    """
    shared = [name for name in results[0] if all(name in other for other in results)]
    return {
        name: dict(results[0][name])
        | {
            "value": fmean(of[name]["value"] for of in results),
            "seeds": [of[name]["value"] for of in results],
            "n": sum(of[name]["n"] for of in results),
            "low": None,
            "high": None,
        }
        for name in shared
    }


def mean_rows(images: Sequence[Mapping[str, Mapping[str, Sequence[float]]]]) -> dict[str, dict[str, list[float]]]:
    """Return the mean of what each image adds to each figure, for figures and images that all seeds have.

    Args:
        images: of each seed, by the figure's name the rows of the images by their keys.
    """
    return {
        name: {
            key: [fmean(parts) for parts in zip(*(of[name][key] for of in images), strict=True)]
            for key in images[0][name]
            if all(key in of[name] for of in images)
        }
        for name in images[0]
        if all(name in of for of in images)
    }


def _only(path: Path) -> tuple[str, Any]:
    """Return the name and the content of a file of one system."""
    return next(iter(json.loads(path.read_text(encoding="utf-8")).items()))


if __name__ == "__main__":
    main()
