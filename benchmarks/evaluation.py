"""Measure the OCR readers: images a second beside a plain loop, words read of true posters, and their agreement.

``python benchmarks/evaluation.py POSTERS`` prints Markdown tables; POSTERS is a folder of ``vlad-cli synth``. The
clock runs from the first results on, without the start of processes and engines. On a machine with other work, the
seconds of the processor say more. ``--words`` reads every poster once and prints what each reader finds and misses;
what was read is kept in ``--kept``, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory

import numpy as np
from markdown_table import table, table_rows
from PIL import Image

from vlad_lightning.data.ocr_lines import parse_ocr
from vlad_lightning.files import read_picture, read_text
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.agreement import agreement, words_found
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.ocr import edit_score, tokens
from vlad_lightning.metrics.readers import READERS, ReadImage, make_reader, read_files
from vlad_lightning.types import MetricResult

_MARIO_EVAL = 21_656
"""Images of MARIO-Eval: 5,414 prompts, four images each."""

_SEED = 0


@dataclass(frozen=True)
class Timing:
    """What reading some images took.

    Attributes:
        images: how many.
        clock: seconds from the first to the last.
        processor: seconds of the processor in user mode, of all processes.
        start: seconds of the processor before the first image.
    """

    images: int
    clock: float
    processor: float
    start: float


def main() -> None:
    """Measure and print."""
    options = parsed()
    posters = found_posters(options.posters)[: options.images]
    print(f"{os.cpu_count()} processors ({platform.machine()}), load {os.getloadavg()[0]:.1f}, {date.today()}\n")
    if options.words:
        lines = {name: read_once(name, posters, options.kept) for name in options.readers}
        print_words(lines, posters)
    else:
        print_speeds(options.readers, list(posters)[: options.timed], options.sides, options.workers)


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("posters", type=Path, help="folder of vlad-cli synth")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--images", type=int, default=500, help="the first so many posters (500)")
    parser.add_argument("--words", action="store_true", help="what is read, not how fast")
    parser.add_argument(
        "--kept", type=Path, default=Path("runs/readers"), help="folder of what was read (runs/readers)"
    )
    parser.add_argument("--timed", type=int, default=500, help="images for each speed (500)")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 512], help="sides of the images in pixels")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="numbers of processes")
    return parser.parse_args()


def found_posters(folder: Path) -> list[tuple[Path, list[str]]]:
    """Return the images of a folder of ``vlad-cli synth``, each with its words."""
    posters = []
    for image in sorted(folder.glob("*/*/image.jpg")):
        words, _ = parse_ocr(read_text(image.with_name("ocr.txt"))[0])
        posters.append((image, [word.text for word in words]))
    return posters


# what is read


def read_once(reader: str, posters: Sequence[tuple[Path, Sequence[str]]], kept: Path) -> list[list[str]]:
    """Return the lines of each poster; those that an earlier run has read are not read again."""
    kept.mkdir(parents=True, exist_ok=True)
    file = kept / f"{reader}.jsonl"
    known = dict(map(json.loads, file.read_text("utf-8").splitlines())) if file.exists() else {}
    missing = [image for image, _ in posters if image.parent.name not in known]
    with file.open("a", encoding="utf-8") as rows:
        for path, seen in read_files(missing, reader):
            assert isinstance(seen, ReadImage), path
            known[path.parent.name] = list(seen.lines)
            print(json.dumps([path.parent.name, seen.lines], ensure_ascii=False), file=rows, flush=True)
    return [known[image.parent.name] for image, _ in posters]


def print_words(lines: Mapping[str, Sequence[Sequence[str]]], posters: Sequence[tuple[Path, Sequence[str]]]) -> None:
    """Print the words that each reader finds, what it reads besides, agreement, and what it misreads."""
    wanted = [words for _, words in posters]
    found = {
        name: [words_found(read, words) for read, words in zip(pages, wanted, strict=True)]
        for name, pages in lines.items()
    }
    rng = np.random.default_rng(_SEED)
    table(("reader", "words read", "words", "tokens that are no wanted word, of all read"), ())
    for name, decisions in found.items():
        parts = np.array([sum(image) for image in decisions], np.float64)
        words = ratio_result(parts, np.array([len(image) for image in decisions], np.float64), rng)
        read = np.array([len(tokens(page)) for page in lines[name]], np.float64)
        noise = ratio_result(np.maximum(read - parts, 0), read, rng)
        table_rows([(name, shown(words), str(words.n), shown(noise))])
    if len(found) > 1:
        print_agreement(found)
    for name, pages in lines.items():
        print(f"\n{name}: " + "; ".join(misread(pages, wanted, found[name])))


def print_agreement(found: Mapping[str, Sequence[Sequence[bool]]]) -> None:
    """Print shares of equal decisions, kappa and alpha."""
    agreed = agreement(found, np.random.default_rng(_SEED))
    print()
    table(("readers", "words alike", "images alike", "kappa; alpha of all"), ())
    for (first, second), pair in agreed.pairs.items():
        table_rows([(f"{first}, {second}", shown(pair.words), shown(pair.images), shown(pair.kappa))])
    table_rows([("all", shown(agreed.words), shown(agreed.images), shown(agreed.alpha))])


def shown(result: MetricResult | None) -> str:
    """Format a result with its interval."""
    if result is None:
        return "not defined"
    ends = "" if result.low is None else f" ({result.low:.3f} to {result.high:.3f})"
    return f"{result.value:.3f}{ends}"


def misread(
    pages: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]], found: Sequence[Sequence[bool]], most: int = 10
) -> Iterable[str]:
    """Yield missed words with the most similar token that was read, from images spread over all."""
    missed = []
    for page, words, decisions in zip(pages, wanted, found, strict=True):
        for word in (word for word, hit in zip(words, decisions, strict=True) if not hit):
            near = max(tokens(page), key=lambda token: edit_score([token], [word.lower()]).similarity, default="")
            missed.append(f"{word} as {near or 'nothing'}")
    return missed[:: max(1, len(missed) // most)][:most]


# how fast


def print_speeds(
    readers: Sequence[str], posters: Sequence[tuple[Path, Sequence[str]]], sides: Sequence[int], workers: Sequence[int]
) -> None:
    """Print a table of speeds, with the time that MARIO-Eval's images would take."""
    head = ("reader", "side", "how", "images", "images/s", "s of the processor an image", "start", "MARIO-Eval, hours")
    table(head, ())
    for side in sides:
        with TemporaryDirectory() as folder:
            images = [enlarged(image, side, Path(folder)) for image, _ in posters]
            for reader in readers:
                table_rows([speed_row(reader, side, "plain loop", plain_loop(reader, images))])
                table_rows(
                    speed_row(reader, side, f"{count} processes", several(reader, images, count)) for count in workers
                )


def speed_row(reader: str, side: int, how: str, timing: Timing) -> tuple[str, ...]:
    """Return a row of the table of speeds."""
    speed = timing.images / timing.clock
    return (
        reader,
        str(side),
        how,
        str(timing.images),
        f"{speed:.2f}",
        f"{timing.processor / timing.images:.3f}",
        f"{timing.start:.1f}",
        f"{_MARIO_EVAL / speed / 3600:.2f}",
    )


def enlarged(image: Path, side: int, folder: Path) -> Path:
    """Return a copy of an image with another side, as PNG; the image itself if it has that side."""
    picture = read_picture(image)
    if picture.size == (side, side):
        return image
    path = folder / f"{image.parent.name}.png"
    picture.resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def plain_loop(reader: str, images: Sequence[Path]) -> Timing:
    """Read one image after the other in this process."""
    start = used()
    engine = make_reader(reader)
    engine.read(from_pil(read_picture(images[0]))[None])  # engines prepare themselves at the first image
    began, before = time.perf_counter(), used()
    for image in images:
        engine.read_lines(from_pil(read_picture(image))[None])
    return Timing(len(images), time.perf_counter() - began, used() - before, before - start)


def several(reader: str, images: Sequence[Path], workers: int) -> Timing:
    """Read in several processes; all but ``start`` counts from the first results on, as many as there are processes."""
    before = used()
    found = read_files(images, reader, workers=workers)
    for _ in range(workers):
        next(found)
    began, first = time.perf_counter(), used()
    count, last = 0, first
    for _ in found:
        count, last = count + 1, used()  # of processes that still run: how they end does not count
    return Timing(count, time.perf_counter() - began, last - first, first - before)


def used() -> float:
    """Return the seconds of the processor in user mode, of this process and of those that it has started."""
    own = sum(getrusage(who).ru_utime for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return own + sum(user_seconds(child.pid) for child in multiprocessing.active_children())


def user_seconds(process: int | None) -> float:
    """Return the seconds of the processor in user mode of a process that runs."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
