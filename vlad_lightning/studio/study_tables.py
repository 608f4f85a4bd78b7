"""The tables of a rating study: a page in Markdown, and the paper's Table III in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vlad_lightning.studio.study_figures import Figures
from vlad_lightning.studio.study_folder import Study
from vlad_lightning.studio.study_statistics import PRIOR_WINS
from vlad_lightning.types import MetricResult

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _by_strength(study: Study, found: Figures) -> list[int]:
    """Return the systems, the best ones last as in the paper's tables: by mean score, else by strength."""
    if found.scores is not None:
        worth = [sum(figure.value for figure in row) for row in found.scores.means]
    else:
        worth = [figure.value for figure in found.ranking.strengths] if found.ranking else [0.0] * len(study.systems)
    return sorted(range(len(worth)), key=lambda s: -math.inf if math.isnan(worth[s]) else worth[s])


def markdown(study: Study, found: Figures, provenance: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page.

    Args:
        study: the study.
        found: its figures.
        provenance: what the figures depend on.
    """
    order = _by_strength(study, found)
    parts = [f"# {_cell(study.title)}", _about(study, found, provenance)]
    if found.scores is not None:
        parts += ["## Mean scores (1 to 5)", _score_table(study, found, order)]
        parts += ["## Differences of the means", _difference_table(study, found, order)]
    if found.ranking is not None:
        parts += ["## Choices between two images", _choice_table(study, found, order)]
    parts += ["## Excluded raters", _excluded(found, provenance["limits"]), "## Still to state", _to_state()]
    return "\n\n".join(parts) + "\n"


def _about(study: Study, found: Figures, provenance: Mapping[str, Any]) -> str:
    people = found.people
    time = "" if people.median_seconds is None else f"; median time for an item {people.median_seconds:.1f} s"
    return (
        f"{len(study.systems)} systems, {len(study.rated)} rated and {len(study.compared)} compared prompts; "
        f"raters who answered: {people.answered} ({people.done} everything; {people.withdrawn} withdrew), excluded: "
        f"{len(people.excluded)}, counted: {people.counted}{time}.\n\n"
        f"Intervals: 95 % percentiles of {provenance['resamples']} two-way bootstrap resamples, of raters and prompts "
        f"(seed {provenance['seed']}). vlad-lightning {provenance['version']}, study "
        f"{provenance['study']['sha256'][:12]}, {provenance['written']}."
    )


def _score_table(study: Study, found: Figures, order: Sequence[int]) -> str:
    assert found.scores is not None
    rows = [[_cell(study.systems[s]), *map(shown, found.scores.means[s])] for s in order]
    rows.append(["Krippendorff's alpha (ordinal)", *("-" if a is None else f"{a:.2f}" for a in found.alphas)])
    return _table(["system", *(_cell(criterion.name) for criterion in study.criteria)], rows)


def _difference_table(study: Study, found: Figures, order: Sequence[int]) -> str:
    """Return each system's mean less that of each system before it."""
    assert found.scores is not None
    rows = []
    for place, better in enumerate(order):
        for worse in order[:place]:
            first, second = min(better, worse), max(better, worse)
            figures_of = found.scores.differences[first, second]
            cells = [shown(figure if better == first else _turned(figure), signed=True) for figure in figures_of]
            rows.append([f"{_cell(study.systems[better])} less {_cell(study.systems[worse])}", *cells])
    return _table(["difference", *(_cell(criterion.name) for criterion in study.criteria)], rows)


def _turned(figure: MetricResult) -> MetricResult:
    if figure.low is None or figure.high is None:
        return MetricResult(-figure.value, n=figure.n)
    return MetricResult(-figure.value, -figure.high, -figure.low, figure.n)


def _choice_table(study: Study, found: Figures, order: Sequence[int]) -> str:
    assert found.ranking is not None
    names = [_cell(study.systems[s]) for s in order]
    rows = [
        [
            name,
            shown(found.ranking.strengths[s], signed=True),
            shown(found.ranking.shares[s]),
            *("" if s == other else str(found.won[s][other]) for other in order),
        ]
        for name, s in zip(names, order, strict=True)
    ]
    table = _table(["system", "strength", "share won", *(f"won against {name}" for name in names)], rows)
    alpha = "not defined" if found.choice_alpha is None else f"{found.choice_alpha:.2f}"
    return (
        f"{table}\n\nStrengths are those of the Bradley-Terry model in logits, 0 on average, with {PRIOR_WINS} wins "
        "added to each side of each compared pair; a system that won all or none has no interval. Krippendorff's alpha "
        f"of the choices (nominal): {alpha}."
    )


def _excluded(found: Figures, limits: Mapping[str, float]) -> str:
    rules = (
        f"Excluded is who failed more than {limits['most_failed']:.0%} of the attention checks, gave one answer in at "
        f"least {limits['most_same']:.0%} of the scores or of the pairs, or took less than {limits['least_seconds']} s "
        "for the median item."
    )
    if not found.people.excluded:
        return f"{rules} Nobody is."
    rows = [[str(rater), _cell("; ".join(why))] for rater, why in found.people.excluded.items()]
    return f"{rules}\n\n{_table(['rater', 'why'], rows)}"


def _to_state() -> str:
    return (
        "What a paper should add (Otani et al. 2023, arXiv 2304.01816), and what is not known here: how raters were "
        "found and what qualified them, their pay, the instructions and questions word for word "
        "(`instructions.txt`, `study.json`), and the ethical approval."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    """Return a text that means nothing else in a Markdown table."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)


def shown(figure: MetricResult, signed: bool = False) -> str:
    """Return a figure with its interval, ``4.21 [4.05, 4.36]``; ``-`` if there is none."""
    if not math.isfinite(figure.value):
        return "-"
    form = "+.2f" if signed else ".2f"
    interval = "" if figure.low is None or figure.high is None else f" [{figure.low:{form}}, {figure.high:{form}}]"
    return f"{figure.value:{form}}{interval}"


def latex_table(study: Study, found: Figures) -> str:
    """Return the table in LaTeX: a row for each system, a column for each criterion, the best means in bold.

    Args:
        study: the study.
        found: its figures; without ratings the only column is the share of won comparisons.
    """
    if found.scores is not None:
        heads, rows = [criterion.name for criterion in study.criteria], found.scores.means
    else:
        heads, rows = ["Share won"], [[share] for share in found.ranking.shares] if found.ranking else []
    best = [max((row[c].value for row in rows if math.isfinite(row[c].value)), default=None) for c in range(len(heads))]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{Human evaluation: means of {found.people.counted} raters with 95\,\% intervals.}}",
        rf"\begin{{tabular}}{{l{'c' * len(heads)}}}",
        r"\hline",
        " & ".join(["Method", *map(_latex, heads)]) + r" \\",
        r"\hline",
    ]
    for s in _by_strength(study, found):
        cells = [_latex_figure(figure, figure.value == best[c]) for c, figure in enumerate(rows[s])]
        lines.append(" & ".join([_latex(study.systems[s]), *cells]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}", ""])


def _latex_figure(figure: MetricResult, best: bool) -> str:
    value, _, interval = shown(figure).partition(" ")
    value = rf"\textbf{{{value}}}" if best else value
    return rf"{value} {{\scriptsize {interval}}}" if interval else value


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
