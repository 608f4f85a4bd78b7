"""Compute of the systems of a pipeline of comparisons: `python benchmarks/compute.py [configs/table1_mini.yaml]`.

For each stage that trains: parameters, and operations of a step counted on one batch of synthetic posters. For each
system, which a `test` stage stands for: the operations of all the stages that it needs, its share of VLAD's, the steps
of its last stage that would make them equal, and the operations of an image.

With `--out FILE` the counts are also written as JSON, for `benchmarks/tables.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_table import table

from vlad_lightning.baselines.compute import Parameters, equal_steps, parameters, sampling_flops, training_flops
from vlad_lightning.cli import fit as cli
from vlad_lightning.cli.stages import Stage, read_pipeline
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.files import write_text
from vlad_lightning.models.text.encoder import TextEncoder, train_tokenizer
from vlad_lightning.modules.system_module import SystemModule

REFERENCE = "test_vlad"
_PROMPTS = 1  # as long as most: each costs as many operations


@dataclass(frozen=True)
class Counted:
    """The counts of a stage.

    Attributes:
        steps: optimizer steps.
        step: operations of a step.
        parameters: of its networks.
        image: operations of an image; None for a stage that generates none.
    """

    steps: int
    step: float
    parameters: Parameters
    image: float | None

    @property
    def total(self) -> float:
        """Operations of the whole stage."""
        return self.steps * self.step


def main(args: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", nargs="?", default="table1_mini.yaml")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(args)
    stages = read_pipeline(options.pipeline).stages
    counted: dict[str, Counted] = {}

    def rows() -> Iterator[tuple[str, ...]]:
        for stage in stages:
            if stage.command == "fit":
                c = counted[stage.name] = count(stage)
                trained, whole = c.parameters.trained, c.parameters.whole
                yield (
                    stage.name,
                    f"{c.steps:,}",
                    f"{trained:,}",
                    f"{whole:,}",
                    f"{c.step / 1e9:.1f}",
                    f"{c.total / 1e12:.1f}",
                )

    table(
        ("stage", "steps", "trained parameters", "parameters", "GFLOP a step", "TFLOP"),
        rows(),
    )
    systems = summed(stages, counted)
    print()
    table(
        ("system", "stages", "TFLOP of training", "of VLAD's", "steps of the last stage for VLAD's", "GFLOP an image"),
        [
            (
                name.removeprefix("test_"),
                ", ".join(s["stages"]),
                f"{s['training'] / 1e12:.1f}",
                f"{s['share']:.3f}",
                "-" if s["steps"] is None else f"{s['steps']:,}",
                "-" if s["image"] is None else f"{s['image'] / 1e9:.2f}",
            )
            for name, s in systems.items()
        ],
    )
    if options.out is not None:
        write_text(options.out, json.dumps({k.removeprefix("test_"): s for k, s in systems.items()}, indent=1) + "\n")


def ancestors(stages: Sequence[Stage], name: str) -> list[str]:
    """Return the names of the stages that train something the stage ``name`` needs, in the pipeline's order."""
    makers = {path: stage for stage in stages for path in stage.outputs if stage.command == "fit"}
    needed: set[str] = set()
    left = [next(stage for stage in stages if stage.name == name)]
    while left:
        found = {makers[path].name: makers[path] for path in left.pop().inputs if path in makers}
        left += [stage for known, stage in found.items() if known not in needed]
        needed |= found.keys()
    return [stage.name for stage in stages if stage.name in needed]


def summed(stages: Sequence[Stage], counted: Mapping[str, Counted]) -> dict[str, dict[str, Any]]:
    """Return the sums of each system: what :func:`main` prints and writes."""
    chains = {stage.name: ancestors(stages, stage.name) for stage in stages if stage.command == "test"}
    totals = {name: sum(counted[stage].total for stage in chain) for name, chain in chains.items()}
    budget = totals[REFERENCE]
    found = {}
    for name, chain in chains.items():
        last = counted[chain[-1]]
        spent = totals[name] - last.total
        found[name] = {
            "stages": chain,
            "training": totals[name],
            "share": totals[name] / budget,
            "steps": equal_steps(budget, spent, last.step) if spent < budget else None,
            "image": last.image,
            "trained": sum(counted[stage].parameters.trained for stage in chain),
            "parameters": last.parameters.whole,
        }
    return found


def count(stage: Stage) -> Counted:
    """Build a stage's module and count its operations; no checkpoint is read, so the weights are random."""
    args = [part for path in stage.config for part in ("--config", str(path))]
    built = cli.build([*args, *stage.args], run=False)
    module, data = built.model, built.datamodule
    assert isinstance(data, MarioDataModule)
    posters = type(data)(  # of the same kind: a system may read more of a sample than VLAD does
        source=SyntheticSource(40, data.size),
        size=data.size,
        batch_size=data.batch_size,
        max_words=data.max_words,
        max_objects=data.max_objects,
        val_share=0.1,
        test_share=0.1,
    )
    captions = posters.captions()
    tokenizer = train_tokenizer(captions, 1024)
    for part in module.modules():
        if isinstance(part, TextEncoder) and part.tokenizer is None:
            part.tokenizer = tokenizer
    step = training_flops(module, posters)
    image = sampling_flops(module, captions[:_PROMPTS]) if isinstance(module, SystemModule) else None
    return Counted(built.trainer.max_steps, step, parameters(module), image)


if __name__ == "__main__":
    main()
