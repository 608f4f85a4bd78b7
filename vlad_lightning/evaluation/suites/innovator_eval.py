"""INNOVATOR-Eval: the name is the paper's (arXiv 2501.00917), the definition this project's, docs/innovator_eval.md."""

from __future__ import annotations

from pathlib import Path

from vlad_lightning.evaluation.suite import Suite
from vlad_lightning.evaluation.suites.innovator_measures import ExactMeasure, TextLayoutMeasure
from vlad_lightning.evaluation.suites.mini_measures import ColourMeasure, ObjectMeasure
from vlad_lightning.evaluation.suites.prompt_drafts import packaged_items
from vlad_lightning.evaluation.suites.word_measure import WordMeasure

_DEFINITION = (
    "INNOVATOR-Eval as this project defines it (docs/innovator_eval.md): the paper, arXiv 2501.00917, names a "
    "benchmark INNOVATOR-Eval and describes none."
)


def read_innovator_eval(prompts: Path | None) -> Suite:
    """Return INNOVATOR-Eval, whose prompts are part of this package.

    Raises:
        ValueError: if other prompts are given.
    """
    refuse_prompts("innovator-eval", prompts)
    measures = (WordMeasure(), ExactMeasure(), TextLayoutMeasure())
    return Suite("innovator-eval", packaged_items("innovator_eval.jsonl"), measures, definition=_DEFINITION)


def read_innovator_eval_mini(prompts: Path | None) -> Suite:
    """Return INNOVATOR-Eval mini: prompts of the synthetic domain, in which objects and colours are checked as well.

    Raises:
        ValueError: if other prompts are given.
    """
    refuse_prompts("innovator-eval-mini", prompts)
    measures = (WordMeasure(), ExactMeasure(), TextLayoutMeasure(), ObjectMeasure(), ColourMeasure())
    return Suite("innovator-eval-mini", packaged_items("innovator_eval_mini.jsonl"), measures, definition=_DEFINITION)


def refuse_prompts(suite: str, prompts: Path | None) -> None:
    """Refuse prompts for a suite that has its own.

    Raises:
        ValueError: naming the suite and what was given.
    """
    if prompts is not None:
        raise ValueError(f"prompts is {str(prompts)!r}; the suite {suite!r} has its own, so leave it out")
