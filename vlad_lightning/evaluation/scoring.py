"""Scoring of a folder of finished images, of any system: every image is read and measured, and the rows are kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlad_lightning.evaluation.environment import environment
from vlad_lightning.evaluation.figures import figures_of, results_of
from vlad_lightning.evaluation.figures_file import FIGURES, write_figures
from vlad_lightning.evaluation.image_files import ImageFile, find_images, seed_of_image
from vlad_lightning.evaluation.image_rows import ImageReading, SeededImage, sha256_of
from vlad_lightning.evaluation.plain_suite import PLAIN
from vlad_lightning.evaluation.results_file import GENERATION, RESULTS, ROWS, markdown
from vlad_lightning.evaluation.row_file import IMAGE_COLUMNS, Row, measure_columns, open_rows
from vlad_lightning.evaluation.scored_system import PROMPTS, write_prompts
from vlad_lightning.evaluation.suite import Suite
from vlad_lightning.files import NOTE_BYTES, printable, read_utf8, write_text
from vlad_lightning.limits import check_whole
from vlad_lightning.metrics.readers import make_reader

_RESAMPLES = 2000
_NAMED = 20  # unreadable images in results.json

Together = Callable[[Sequence[ImageFile]], Mapping[str, Any]]
"""Computes further results of all images, such as FID, by name."""


@dataclass(frozen=True)
class Scoring:
    """How a folder is scored.

    Attributes:
        readers: names of the readers, see :data:`~vlad_lightning.metrics.readers.READERS`.
        models: folder of the readers' models, for those that need one.
        workers: number of processes.
        images_per_prompt: how many images each prompt must have; None is what the suite asks for, or, for the user's
            own prompts, as many as there are.
        subsets: the parts of the suite that are scored; empty for all.
        system: the name in the tables; None is that of the model in ``generation.json``, or the folder's.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a number is out of its range, or a reader is named twice.
    """

    readers: tuple[str, ...] = ("rapidocr",)
    models: Path | None = None
    workers: int = 1
    images_per_prompt: int | None = None
    subsets: tuple[str, ...] = ()
    system: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("--workers", self.workers, 1, 1024)
        if self.images_per_prompt is not None:
            check_whole("--images_per_prompt", self.images_per_prompt, 1, 10_000)
        if not self.readers or len(set(self.readers)) < len(self.readers):
            raise ValueError(f"--reader is {', '.join(self.readers)}; name each reader once")


def score(folder: Path, suite: Suite, out: Path, how: Scoring, distances: Together | None = None) -> dict[str, Any]:
    """Score the images of a folder, and write rows, ``results.json`` and ``results.md``.

    A run that was killed is continued by the next one with the same arguments: images that have a row are not read
    again.

    Args:
        folder: the images, named by their prompts' keys (:func:`~vlad_lightning.evaluation.image_files.find_images`).
        suite: the prompts and what is measured.
        out: the folder to write into.
        how: how they are scored.
        distances: computes further results of all images.

    Returns:
        The content of ``results.json``.

    Raises:
        FileNotFoundError, ValueError: before any image is read, if images and prompts do not match, a seed is missing
            that the suite needs, or an argument cannot be used; and if no image of a subset can be read.
    """
    images = _chosen(find_images(folder, suite, _needed(suite, how)), how.subsets, suite)
    readers = {name: _provenance(name, how.models) for name in how.readers}
    seeded = _with_seeds(images, suite)
    kept = {
        name: _rows(ImageReading(folder, suite, name, how.models, how.workers), seeded, out, readers[name])
        for name in how.readers
    }
    content = {
        "system": how.system or _system(folder),
        "suite": _about(suite, images),
        "images": _about_images(folder, out, images, kept),
        "seeds": {"known": sum(image.seed is not None for image in seeded), "of": len(seeded)},
        "generation": _generation(folder),
        "readers": readers,
        "statistics": {"interval": "95 % percentile bootstrap over prompts", "resamples": _RESAMPLES, "seed": how.seed},
        "results": {name: _results(suite, rows, how.seed) for name, rows in kept.items()},
        "distances": {} if distances is None else dict(distances(images)),
        "made_with": environment(),
    }
    chosen = {image.item.key: image.item for image in images}
    write_prompts(out / PROMPTS, [*chosen.values()])
    for name, rows in kept.items():
        read = [row for row in rows if not row["problem"]]
        write_figures(out / FIGURES / f"{name}.csv", read, figures_of(suite.measures, read))
    write_text(out / RESULTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "results.md", markdown(content))
    return content


def _provenance(reader: str, models: Path | None) -> dict[str, str]:
    try:
        return dict(make_reader(reader, models).provenance)
    except ModuleNotFoundError as error:
        raise ValueError(f"--reader {reader} is not installed: {error}") from error


def _needed(suite: Suite, how: Scoring) -> int | None:
    if how.images_per_prompt is not None:
        return how.images_per_prompt
    return None if suite.name == PLAIN else suite.images_per_prompt


def _chosen(images: Sequence[ImageFile], subsets: Sequence[str], suite: Suite) -> list[ImageFile]:
    if empty := [subset for subset in subsets if subset not in suite.subsets()]:
        raise ValueError(
            f"--subset {empty[0]} has no prompt in {suite.name}; its subsets are {', '.join(suite.subsets())}"
        )
    return [image for image in images if not subsets or image.item.subset in subsets]


def _with_seeds(images: Sequence[ImageFile], suite: Suite) -> list[SeededImage]:
    found = [SeededImage(image, seed_of_image(image)) for image in images]
    missing = [printable(image.file.path.name) for image in found if image.seed is None]
    if missing and suite.needs_seeds:
        raise ValueError(
            f"{len(missing)} of {len(images)} images do not say their seed, which {suite.name} needs, such as "
            f"{missing[0]}; a PNG says it in the text `seed`, as `vlad-cli evaluate generate` writes it"
        )
    return found


def _rows(reading: ImageReading, images: Sequence[SeededImage], out: Path, provenance: Mapping[str, str]) -> list[Row]:
    """Return the rows of one reader, in the order of the images; those that are missing are made."""
    suite, order = reading.suite, {image.name: place for place, image in enumerate(images)}
    made_of = {"suite": suite.name, "prompts": suite.sha256, "reader": dict(provenance)}
    columns = [*IMAGE_COLUMNS, *measure_columns(suite.measures)]
    with open_rows(out / ROWS / f"{reading.reader}.csv", columns, made_of) as rows:
        known = {(row["key"], row["number"]): row["sha256"] for row in rows.rows}
        if other := [name for name in known if name not in order]:
            raise ValueError(f"{rows.path} has images that are not scored now, such as {other[0]}; name another --out")
        for image in images:
            if known.get(image.name, digest := sha256_of(image.file.path)) != digest:
                raise ValueError(f"{printable(image.file.path)} has changed since it was scored; name another --out")
        reading.read([image for image in images if image.name not in known], rows, out / "jpeg")
        rows.sort(order)
        return rows.rows


def _results(suite: Suite, rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Return the results of one reader, over all images and by subset."""
    read = [row for row in rows if not row["problem"]]
    subsets = list(dict.fromkeys(row["subset"] for row in rows))
    if empty := [name for name in subsets if not any(row["subset"] == name for row in read)]:
        raise ValueError(f"no image of the subset {empty[0]} can be read; {rows[0]['problem']}")
    parts = {name: [row for row in read if row["subset"] == name] for name in subsets} if len(subsets) > 1 else {}
    return {"pooled": _computed(suite, read, seed), "subsets": {n: _computed(suite, p, seed) for n, p in parts.items()}}


def _computed(suite: Suite, rows: Sequence[Row], seed: int) -> dict[str, Any]:
    results = results_of(figures_of(suite.measures, rows), [row["key"] for row in rows], seed, _RESAMPLES)
    return {name: {k: v for k, v in asdict(result).items() if k != "details"} for name, result in results.items()}


def _about(suite: Suite, images: Sequence[ImageFile]) -> dict[str, Any]:
    keys = {image.item.key: image.item.subset for image in images}
    counts = {name: list(keys.values()).count(name) for name in dict.fromkeys(keys.values())}
    return {
        "name": suite.name,
        "prompts_sha256": suite.sha256,
        "definition": suite.definition,
        "prompts": len(keys),
        "subsets": counts,
        "images_per_prompt": len(images) // len(keys),
        "jpeg_quality": suite.jpeg_quality,
        "notes": list(suite.notes),
    }


def _about_images(
    folder: Path, out: Path, images: Sequence[ImageFile], kept: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    damaged = sorted({row["file"] for rows in kept.values() for row in rows if row["problem"]})
    everything = "".join(f"{row['file']} {row['sha256']}\n" for row in next(iter(kept.values())))
    return {
        "folder": Path(os.path.relpath(folder, out)).as_posix(),
        "count": len(images),
        "sha256": hashlib.sha256(everything.encode()).hexdigest(),
        "unreadable": len(damaged),
        "unreadable_files": damaged[:_NAMED],
    }


def _generation(folder: Path) -> Any:
    """Return what ``vlad-cli evaluate generate`` wrote of these images; None for others."""
    for path in (folder / GENERATION, folder.parent / GENERATION):
        if path.is_file():
            try:
                return json.loads(read_utf8(path, NOTE_BYTES))
            except ValueError as error:
                raise ValueError(f"{path} cannot be read: {error}") from error
    return None


def _system(folder: Path) -> str:
    made = _generation(folder)
    named = made.get("system") if isinstance(made, dict) else None
    resolved = folder.resolve()
    return str(named or (resolved.parent.name if resolved.name == "images" else resolved.name))
