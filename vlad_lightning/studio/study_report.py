"""The report of a rating study: all figures in JSON with what they depend on, a page and a table of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlad_lightning import __version__
from vlad_lightning.files import write_text
from vlad_lightning.limits import check_whole
from vlad_lightning.studio.study_answers import Answers
from vlad_lightning.studio.study_figures import Figures, figures
from vlad_lightning.studio.study_folder import ANSWERS, Study, read_study
from vlad_lightning.studio.study_screening import Limits
from vlad_lightning.studio.study_tables import latex_table, markdown
from vlad_lightning.types import MetricResult

REPORT, TABLE, RESULTS = "report.md", "table.tex", "results.json"

_MOST_RESAMPLES = 1_000_000
_MOST_SEED = 2**63 - 1


def write_report(folder: Path, out: Path, limits: Limits, resamples: int, seed: int) -> list[str]:
    """Write ``report.md``, ``table.tex`` and ``results.json``.

    Args:
        folder: the study's folder.
        out: the folder to write into.
        limits: the rules of exclusion.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples.

    Returns:
        Lines about the report.

    Raises:
        OSError: if a file cannot be read or written.
        ValueError: if an argument is out of its range, or the study has no answers that count.
    """
    check_whole("--resamples", resamples, 100, _MOST_RESAMPLES)
    check_whole("--seed", seed, 0, _MOST_SEED)
    study = read_study(folder)
    if not (folder / ANSWERS).is_file():
        raise ValueError(f"STUDY is {folder}, which has no answers yet; `vlad-cli study serve` collects them")
    store = Answers(folder, study)
    try:
        raters, answers = store.raters(), store.answers()
    finally:
        store.close()
    found = figures(study, raters, answers, limits, resamples, seed)
    settings = {"limits": asdict(limits), "resamples": resamples, "seed": seed}
    told = {"results": _results(study, found), "provenance": _provenance(study, len(answers), settings)}
    write_text(out / RESULTS, json.dumps(told, indent=1, allow_nan=False) + "\n")
    write_text(out / TABLE, latex_table(study, found))
    write_text(out / REPORT, markdown(study, found, told["provenance"]))
    people = found.people
    return [
        f"raters who answered: {people.answered} ({people.done} everything), excluded: {len(people.excluded)}",
        *(f"rater {rater} is excluded: {'; '.join(why)}" for rater, why in people.excluded.items()),
        f"the report: {out / REPORT}",
    ]


def _provenance(study: Study, answers: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the figures depend on, and nothing about single raters."""
    return {
        "version": __version__,
        "study": {
            "sha256": study.digest,
            "seed": study.seed,
            "version": study.version,
            "rated": len(study.rated),
            "compared": len(study.compared),
            "checks": len(study.checks),
        },
        "answers": answers,
        **settings,
        "packages": {name: version(name) for name in ("choix", "krippendorff", "numpy")},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _results(study: Study, found: Figures) -> dict[str, Any]:
    names = [criterion.name for criterion in study.criteria]
    told: dict[str, Any] = {"raters": asdict(found.people)}
    if found.scores is not None:
        told["means"] = {
            system: {name: _plain(figure) for name, figure in zip(names, row, strict=True)}
            for system, row in zip(study.systems, found.scores.means, strict=True)
        }
        told["differences"] = [
            {"first": study.systems[first], "second": study.systems[second], "criterion": name, **_plain(figure)}
            for (first, second), row in found.scores.differences.items()
            for name, figure in zip(names, row, strict=True)
        ]
        told["agreement"] = dict(zip(names, found.alphas, strict=True))
    if found.ranking is not None:
        told["bradley_terry"] = {
            system: _plain(figure) for system, figure in zip(study.systems, found.ranking.strengths, strict=True)
        }
        told["won_share"] = {
            system: _plain(figure) for system, figure in zip(study.systems, found.ranking.shares, strict=True)
        }
        told["wins"] = {
            winner: {loser: count for loser, count in zip(study.systems, row, strict=True) if loser != winner}
            for winner, row in zip(study.systems, found.won, strict=True)
        }
        told["choice_agreement"] = found.choice_alpha
    return told


def _plain(figure: MetricResult) -> dict[str, float | int | None]:
    """Return a figure for JSON, which has no NaN."""
    value = figure.value if math.isfinite(figure.value) else None
    return {"value": value, "low": figure.low, "high": figure.high, "n": figure.n}
