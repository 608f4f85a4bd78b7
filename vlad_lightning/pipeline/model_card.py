"""The model card (README.md) of a pipeline folder: model, data, training steps, results and file hashes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from vlad_lightning import __version__
from vlad_lightning.callbacks.init_from import provenance
from vlad_lightning.checkpoints.folder import digest
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.files import NOTE_BYTES, public_path, read_utf8, set_aside
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.pipeline.precision import megabytes, stored_formats
from vlad_lightning.pipeline.training_record import ICONS, TrainedStage, read_stages
from vlad_lightning.pretrained import SHIPPED_MODEL

_USE = """\
```console
vlad-cli generate "a poster that says 'HELLO'" --model {folder} --out out.png
```

```python
from vlad_lightning.pipeline import VLADPipeline

pipeline = VLADPipeline.from_pretrained("{folder}")
pipeline("a poster that says 'HELLO'").images[0].save("out.png")
```

Plain diffusers opens it too, where `vlad-lightning` is installed: `pipeline.py` only imports the class above.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{folder}", trust_remote_code=True)
```
"""


_IMAGES = "images"
_PROMPTS = (
    "a poster that says 'HELLO' at the top on a blue background",
    "a yellow poster with a red star and the words 'BIG SALE'",
    "a sign that says 'OPEN' and 'COME IN'",
)


@dataclass(frozen=True)
class Run:
    """The facts about a run that a model card shows.

    Attributes:
        name: the model's name.
        data: what it was trained on.
        checkpoint: name of the file that was exported.
        sha256: its hash.
        steps: optimizer steps it was trained for.
        sources: published weights that it or an earlier stage started from: hub ids, folders, and the name of the
            shipped model.
        results: results by name, each with ``value``, and if known ``low``, ``high``, ``n`` and ``data``, the data it
            was measured on.
        sampler: the settings it was tested with, which are the pipeline's defaults; None if unknown.
        layout_sampler: the same for layouts.
        seeds: the seeds of training and test by the names of their settings.
        stages: the trainings behind the checkpoint, the earliest first.
        notes: a section in Markdown by the exporting person; empty for none.
    """

    name: str
    data: str
    checkpoint: str
    sha256: str
    steps: int
    sources: tuple[str, ...] = ()
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sampler: ImageSampler | None = None
    layout_sampler: Sampler = Sampler()
    seeds: Mapping[str, int] = field(default_factory=dict)
    stages: tuple[TrainedStage, ...] = ()
    notes: str = ""

    @property
    def licensed_apart(self) -> bool:
        """Whether it started from weights with a licence of their own; those that ship have this package's."""
        return bool(set(self.sources) - {SHIPPED_MODEL})


def read_run(
    name: str,
    data: str,
    checkpoint: Path,
    saved: Mapping[str, Any],
    results: Path,
    sampler: ImageSampler | None = None,
    layout_sampler: Sampler = Sampler(),
    seeds: Mapping[str, int] = MappingProxyType({}),
    notes: str = "",
) -> Run:
    """Collect the facts about a run from its checkpoint and its results.

    Args:
        name: the model's name.
        data: where the training data were, if the checkpoint does not record it.
        checkpoint: the checkpoint's file.
        saved: its content.
        results: ``results.json`` of a test; ignored if it is missing or older than the checkpoint.
        sampler: the settings that ``test`` samples with; None if unknown.
        layout_sampler: the same for layouts.
        seeds: the seeds of training and test by the names of their settings.
        notes: a section in Markdown by the exporting person.
    """
    found: dict[str, Any] = {}
    if results.is_file() and results.stat().st_mtime >= checkpoint.stat().st_mtime:
        found = _read_results(results)
    sources = provenance(saved.get("callbacks", {}))
    stages = read_stages(checkpoint, saved)
    return Run(
        name=name,
        data=stages[-1].data or public_path(data),
        checkpoint=checkpoint.name,
        sha256=digest(checkpoint),
        steps=saved["global_step"],
        sources=sources,
        results=found,
        sampler=sampler,
        layout_sampler=layout_sampler,
        seeds=seeds,
        stages=stages,
        notes=notes,
    )


def _read_results(results: Path) -> dict[str, Any]:
    """Read the results of the first system; a damaged file is set aside and gives none."""
    try:
        content = json.loads(read_utf8(results, NOTE_BYTES))
        found: dict[str, Any] = dict(next(iter(content.values()), {}))
        if all(isinstance(result["value"], int | float) for result in found.values()):
            return found
        raise TypeError("a result has no value")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        set_aside(results, f"it holds no results ({type(error).__name__}: {error}); test again for the results")
        return {}


def write_card(folder: Path, run: Run, pictures: Sequence[Path] = ()) -> None:
    """Write ``README.md`` into a saved pipeline.

    Args:
        folder: the pipeline's folder.
        run: the facts about its run.
        pictures: image files to show; they are copied into ``images/`` of the folder.
    """
    weights = sorted(folder.rglob("*.safetensors"))
    parts = [_head(run), _gallery(folder, pictures), _use(run), _limits(folder), _training(run), _notes(run)]
    text = "\n".join([*filter(None, parts), _result_rows(run), _hashes(folder, weights, run), _licence(run)])
    card = ModelCard(f"---\n{_front_matter(run).to_yaml()}\n---\n\n{text}")
    (folder / "README.md").write_text(card.content, encoding="utf-8")


def _front_matter(run: Run) -> ModelCardData:
    # weights derived from published ones are under their licence, which only a person can look up and accept
    derived = run.licensed_apart
    found = [
        EvalResult(
            "text-to-image",
            _slug(_tested_on(f)),
            _tested_on(f),
            name,
            float(f["value"]),
            task_name="Visual text generation",
            dataset_config=_tested_on(f),  # the hub groups results by it
        )
        for name, f in run.results.items()
    ]
    return ModelCardData(
        license="other" if derived else "apache-2.0",
        license_name="as-the-base-models" if derived else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["vlad", "visual-text", "vlad-lightning"],
        base_model=[s for s in run.sources if re.fullmatch(r"[\w.-]+/[\w.-]+", s)] or None,  # hub ids, not folders
        model_name=run.name if found else None,
        eval_results=found or None,
    )


def _head(run: Run) -> str:
    return (
        f"# {run.name}\n\nText-to-image diffusion that draws legible words: VLAD "
        f"([arXiv 2501.00917](https://arxiv.org/abs/2501.00917)), trained with vlad-lightning {__version__}.\n"
    )


def _gallery(folder: Path, pictures: Sequence[Path]) -> str:
    shown_here = []
    for picture in pictures:
        (folder / _IMAGES).mkdir(exist_ok=True)
        shutil.copyfile(picture, folder / _IMAGES / picture.name)
        shown_here.append(f"![{picture.stem.replace('_', ' ')}]({_IMAGES}/{quote(picture.name)})\n")
    return "\n".join(shown_here)


def _limits(folder: Path) -> str:
    """Return what the system cannot do, as far as its settings and its training show it."""
    index = folder / "model_index.json"
    settings = json.loads(read_utf8(index, NOTE_BYTES)) if index.is_file() else {}
    side, words, objects = (settings.get(name, "?") for name in ("image_size", "max_words", "max_objects"))
    nouns = settings.get("nouns") or ()
    learned = f"It has learned to draw {len(nouns)} objects: {', '.join(nouns)}.\n\n" if nouns else ""
    return (
        "## Prompts and limits\n\n"
        "Words to draw are in quotes:\n\n"
        + "".join(f"- `{prompt}`\n" for prompt in _PROMPTS)
        + f"\nImages are {side} x {side} pixels. A prompt has at most {words} words to draw and {objects} other "
        "phrases. The model knows only the kinds of pictures, objects and words that its training data show; it is no "
        "general image generator. Letters come from a font: a script needs a font that has it (`--font`).\n\n"
        f"{learned}`vlad-cli generate` draws a random seed, prints it and stores it in the PNG; `--seed N` repeats an "
        "image.\n"
    )


def _licence(run: Run) -> str:
    if run.licensed_apart:
        return "## Licence\n\nThe licences of the weights that training started from apply to these weights.\n"
    return "## Licence\n\nApache-2.0, as vlad-lightning.\n"


def _use(run: Run) -> str:
    text = f"## Use\n\n{_USE.format(folder=run.name)}"
    if run.sampler is None:
        return text
    own = run.sampler
    settings = [
        f"`num_inference_steps={own.steps}`, `guidance_scale={own.guidance_scale}`, `layout_scale={own.layout_scale}`",
        *_changed("sampler", own, ("steps", "guidance_scale", "layout_scale")),
        *_changed("layout_sampler", run.layout_sampler),
    ]
    return f"{text}\nBy default, a call uses the settings of the tests: {', '.join(settings)}.\n"


def _changed(name: str, sampler: Sampler, shown: tuple[str, ...] = ()) -> list[str]:
    """Return the settings of a sampler that are not the defaults, without those already shown."""
    values = [(f.name, getattr(sampler, f.name)) for f in fields(sampler) if f.name not in shown]
    return [f"`{name}.{key}={value}`" for key, value in values if value != getattr(type(sampler)(), key)]


def _training(run: Run) -> str:
    lines = [f"- Data: `{run.data}`", f"- Optimizer steps of stage 2: {run.steps}"]
    if run.seeds:
        lines.append(f"- Seeds: {', '.join(f'`{name}={seed}`' for name, seed in run.seeds.items())}")
    if run.sources:
        names = ", ".join(f"`{public_path(source)}`" for source in run.sources)
        lines.append(f"- Started from: {names}" + "; their licences apply to these weights" * run.licensed_apart)
    shipped = ICONS if SHIPPED_MODEL in run.sources else ""
    if credits := sorted({shipped, *(stage.credits for stage in run.stages)} - {""}):
        lines.append(f"- Objects of the training data were drawn from {' and '.join(credits)}")
    return "## Training\n\n" + "\n".join(lines) + "\n" + _stage_rows(run.stages)


def _stage_rows(stages: Sequence[TrainedStage]) -> str:
    """Return a table of the trainings, or nothing if none of them is recorded."""
    if not any(stage.module for stage in stages):
        return ""
    rows = [f"| {' | '.join(_stage_row(stage))} |" for stage in stages]
    head = "| checkpoint of | trained | steps | batch | learning rates | seed | data |\n|---|---|---|---|---|---|---|\n"
    return f"\nThe trainings behind it, each below those it started from:\n\n{head}" + "\n".join(rows) + "\n"


def _stage_row(stage: TrainedStage) -> list[str]:
    if stage.steps is None:
        return [f"`{stage.name}`", "not recorded: its checkpoint is gone", "", "", "", "", ""]
    rates = ", ".join(f"`{name}={rate:g}`" for name, rate in (stage.rates or {}).items())
    counts = [f"{stage.steps:,}", str(stage.batch or ""), rates, "" if stage.seed is None else str(stage.seed)]
    return [f"`{stage.name}`", stage.module, *counts, f"`{stage.data}`" if stage.data else ""]


def _notes(run: Run) -> str:
    return f"## Notes\n\n{run.notes.strip()}\n" if run.notes.strip() else ""


def _result_rows(run: Run) -> str:
    if not run.results:
        return "## Results\n\nNot measured yet: `vlad-cli test`, then export again.\n"
    rows = [
        f"| {name} | {f['value']:.4f} | {_interval(f)} | {f.get('n', '')} | {_tested_on(f)} |"
        for name, f in run.results.items()
    ]
    head = "| result | value | 95 % interval | n | data |\n|---|---|---|---|---|\n"
    return f"## Results\n\n{head}" + "\n".join(rows) + "\n"


def _tested_on(result: Mapping[str, Any]) -> str:
    """Return the data that a result was measured on; it is not recorded for a data module without a root."""
    return public_path(result["data"]) if result.get("data") else "not recorded"


def _slug(text: str) -> str:
    """Return a data set's name as the hub writes types: lower case, with dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _interval(result: Mapping[str, Any]) -> str:
    low, high = result.get("low"), result.get("high")
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _hashes(folder: Path, weights: list[Path], run: Run) -> str:
    rows = [f"| `{path.relative_to(folder)}` | `{digest(path)}` |" for path in weights]
    rows.append(f"| `{run.checkpoint}`, the exported checkpoint | `{run.sha256}` |")
    stored = ", ".join(stored_formats(folder))
    size = f"The weights are stored as {stored}, {megabytes(folder):.1f} MB in all, and loaded as float32."
    return "\n".join(["## Files", "", size, "", "| file | SHA-256 |", "|---|---|", *rows, ""])
