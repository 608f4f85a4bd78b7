"""Images of all prompts of a suite, by any system: sharded, and gone on with where a run was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from vlad_lightning.data.progress import Shown
from vlad_lightning.evaluation.environment import environment
from vlad_lightning.evaluation.image_files import check_keys
from vlad_lightning.evaluation.image_seeds import SEED_RULE, image_seed
from vlad_lightning.evaluation.results_file import GENERATION
from vlad_lightning.evaluation.running_generator import RUNNING_RULE, RunningGenerator
from vlad_lightning.evaluation.shards import Shard
from vlad_lightning.evaluation.suite import Item, Suite, image_keys
from vlad_lightning.evaluation.systems import OpenSystem
from vlad_lightning.files import NOTE_BYTES, printable, read_utf8, save_picture, write_text
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.layout.picture_text import picture_facts, picture_text
from vlad_lightning.limits import MOST_IN_BATCH, check_whole
from vlad_lightning.types import Layout

IMAGES = "images"
"""The folder of the images."""

RUNNING_STATE = "running_generator.json"
"""The file of a running generator's state."""

_LARGEST_SEED = 2**63 - 1
_NAMED = 3  # refused prompts in a message
_OWN = ("made_with",)  # what may differ when a generation is continued


@dataclass(frozen=True)
class Generation:
    """How images are generated.

    Attributes:
        seed: from which the images' seeds follow (:func:`~vlad_lightning.evaluation.image_seeds.image_seed`).
        images_per_prompt: None is what the suite asks for.
        batch_size: prompts in a batch. Batches are the same in every run, since pixels may depend on them by rounding.
        shard: which batches this process does.
        blank_refused: write white images for prompts that the system refuses, instead of ending with an error.
        as_published: draw all noise from one running generator with ``seed``, a prompt at a time, and write JPEG of the
            suite's quality; only for a suite whose published script does so.

    Raises:
        ValueError: if a number is out of its range, or a running generator is to be shared by several processes.
    """

    seed: int = 0
    images_per_prompt: int | None = None
    batch_size: int = 8
    shard: Shard = field(default_factory=Shard)
    blank_refused: bool = False
    as_published: bool = False

    def __post_init__(self) -> None:
        check_whole("--seed", self.seed, 0, _LARGEST_SEED)
        check_whole("--batch_size", self.batch_size, 1, MOST_IN_BATCH)
        if self.images_per_prompt is not None:
            check_whole("--images_per_prompt", self.images_per_prompt, 1, 10_000)
        if self.as_published and self.shard.count > 1:
            raise ValueError(
                f"--as_published draws from one running generator, and each of {self.shard.count} tasks would have "
                "another state; run it in one task"
            )

    def check(self, suite: Suite) -> None:
        """Refuse a suite whose published script has no running generator.

        Raises:
            ValueError: naming the suite.
        """
        if self.as_published and suite.seeding != "running":
            raise ValueError(
                f"--as_published is given, and {suite.name} has no published script with a running generator"
            )


@dataclass(frozen=True)
class _Job:
    """An image to make; its seed is None if it is one of many from a running generator."""

    item: Item
    path: Path
    seed: int | None
    jpeg_quality: int | None = None


def generate_images(system: OpenSystem, suite: Suite, out: Path, how: Generation) -> tuple[int, int]:
    """Generate the images of a suite as ``images/KEY_NUMBER.png``, each with its prompt and seed in its text.

    A run that was stopped is continued by the next one with the same arguments: images that are there are not made
    again, and the others are the same as without the stop.

    Args:
        system: generates the images.
        suite: the prompts.
        out: the folder to write into, also for ``generation.json``.
        how: how they are generated.

    Returns:
        How many images this process has written, and how many of its part were there.

    Raises:
        ValueError: before anything is generated, if the folder holds another generation, or prompts cannot be drawn.
    """
    check_keys(suite)
    how.check(suite)
    refused = _refused(system, suite, how)
    _keep_record(out, _record(system, suite, how, refused))
    if how.shard.count == 1:
        _remove_unfinished(out / IMAGES)
    jobs = _jobs(suite, out / IMAGES, how)
    if how.as_published:
        return _generate_as_published(system, jobs, out, how, refused)
    blanks = [job for job in jobs if job.item.key in refused]
    drawn = [job for job in jobs if job.item.key not in refused]
    batches = [drawn[start : start + how.batch_size] for start in range(0, len(drawn), how.batch_size)]
    mine = batches[how.shard.index :: how.shard.count]
    there = sum(job.path.exists() for batch in mine for job in batch)
    with Shown("images", total := sum(map(len, mine))) as shown:
        for batch in mine:
            missing = [job for job in batch if not job.path.exists()]
            if missing:
                seeds = [job.seed for job in batch if job.seed is not None]
                generators = system.generators(seeds, [job.item.prompt for job in batch])
                _generate(system, batch, missing, generators)
            shown(len(batch))
    if how.shard.index == 0:
        _write_blanks(system, [job for job in blanks if not job.path.exists()], drawn)
    return total - there, there


def _generate_as_published(
    system: OpenSystem, jobs: Sequence[_Job], out: Path, how: Generation, refused: Mapping[str, str]
) -> tuple[int, int]:
    """Generate the images of one prompt after the other from one generator; refused prompts draw nothing from it."""
    drawn = [job for job in jobs if job.item.key not in refused]
    prompts = [list(group) for _, group in groupby(drawn, key=lambda job: job.item.key)]
    running = RunningGenerator(out / RUNNING_STATE, how.seed)
    there = sum(map(len, prompts[: running.done]))
    if lost := [job.path for batch in prompts[: running.done] for job in batch if not job.path.exists()]:
        raise ValueError(f"{printable(lost[0])} is gone, and a running generator cannot make it again; remove {out}")
    with Shown("images", len(drawn)) as shown:
        shown(there)
        for batch in prompts[running.done :]:
            _generate(system, batch, batch, [running.generator] * len(batch))
            running.keep()
            shown(len(batch))
    _write_blanks(system, [job for job in jobs if job.item.key in refused and not job.path.exists()], drawn)
    return len(drawn) - there, there


def _remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed run was writing; nobody else writes to this folder."""
    for path in (*folder.rglob(".*.png"), *folder.rglob(".*.jpg")):
        path.unlink()


def _jobs(suite: Suite, folder: Path, how: Generation) -> list[_Job]:
    count = how.images_per_prompt or suite.images_per_prompt
    if how.as_published:
        return [
            _Job(item, folder / f"{name}.jpg", None, suite.jpeg_quality)
            for item in suite.items
            for name in image_keys(item, count)
        ]
    return [
        _Job(item, folder / f"{name}.png", image_seed(how.seed, item.key, number))
        for item in suite.items
        for number, name in enumerate(image_keys(item, count))
    ]


def _refused(system: OpenSystem, suite: Suite, how: Generation) -> dict[str, str]:
    """Return why the system cannot draw a prompt, by its key."""
    refused = {}
    for item in suite.items:
        try:
            system.check(item.prompt)
        except ValueError as error:
            refused[item.key] = " ".join(str(error).split())
    if refused and not how.blank_refused:
        named = "; ".join(f"{key}: {why}" for key, why in list(refused.items())[:_NAMED])
        raise ValueError(
            f"{system.name} refuses {len(refused)} of {len(suite.items)} prompts ({named}); --blank_refused writes "
            "white images for them"
        )
    return refused


def _record(system: OpenSystem, suite: Suite, how: Generation, refused: Mapping[str, str]) -> dict[str, Any]:
    count = how.images_per_prompt or suite.images_per_prompt
    return {
        "system": system.name,
        "weights_sha256": system.weights_sha256,
        "suite": suite.name,
        "prompts_sha256": suite.sha256,
        "images_per_prompt": count,
        "seed": how.seed,
        "seed_rule": RUNNING_RULE if how.as_published else SEED_RULE,
        "seeding": "running" if how.as_published else "each",
        "suite_seeding": suite.seeding,
        "batch_size": count if how.as_published else how.batch_size,
        "settings": dict(system.shown),
        "device": system.device,
        "refused": dict(refused),
        "made_with": environment(),
    }


def _keep_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write ``generation.json``, or compare it with the one that is there."""
    path = out / GENERATION
    now = json.loads(json.dumps(record))
    if not path.exists():
        write_text(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n")
        return
    try:
        before = json.loads(read_utf8(path, NOTE_BYTES))
        changed = [name for name in {**before, **now} if name not in _OWN and before.get(name) != now.get(name)]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{printable(path)} cannot be read: {error}; remove it with its images") from error
    if changed:
        name = changed[0]
        raise ValueError(
            f"{printable(out)} holds images with another {' and '.join(changed)} ({name} was {before.get(name)!r}, and "
            f"is {now.get(name)!r}); name another --out"
        )


def _generate(
    system: OpenSystem, batch: Sequence[_Job], missing: Sequence[_Job], generators: Sequence[torch.Generator]
) -> None:
    """Generate a whole batch, and write the images that are missing."""
    prompts = [job.item.prompt for job in batch]
    with torch.no_grad():
        made = system.system.generate(prompts, None, system.sampling, generators)
    images = VaeImageProcessor().postprocess(made.images.float().cpu(), "pil")  # rounds as the pipelines do
    for job, image, layout in zip(batch, images, made.layouts, strict=True):
        if job in missing:
            _save(system, job, image, layout)


def _save(system: OpenSystem, job: _Job, image: Image.Image, layout: Layout | None, **more: object) -> None:
    if job.seed is None:
        save_picture(image.convert("RGB"), job.path, {}, job.jpeg_quality)
        return
    told = picture_facts(
        job.item.prompt,
        job.seed,
        system.shown,
        image.size,
        system.name,
        system.weights_sha256,
        system.device,
    )
    if layout is not None and len(layout):
        told |= {"layout": LayoutFile(layout, *image.size).to_json(), "layout_origin": "generated"}
    save_picture(image, job.path, picture_text(told | more))


def _write_blanks(system: OpenSystem, blanks: Sequence[_Job], drawn: Sequence[_Job]) -> None:
    """Write white images of the size of the others."""
    if not blanks:
        return
    size = (512, 512)
    if there := next((job.path for job in drawn if job.path.exists()), None):
        with Image.open(there) as image:
            size = image.size
    for job in blanks:
        _save(system, job, Image.new("RGB", size, "white"), None, refused="the system cannot draw this prompt")
