"""Tables of several systems in Markdown and LaTeX, in the form of the paper's Tables I and II."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlad_lightning.evaluation.comparison import PairResult, RankAgreement, ReaderAgreement
from vlad_lightning.evaluation.figures import is_lower_better
from vlad_lightning.evaluation.results_file import reader_name
from vlad_lightning.evaluation.scored_system import ScoredSystem
from vlad_lightning.types import MetricResult

_NONE = "--"
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}


@dataclass(frozen=True)
class Column:
    """A column of a table: the first of its figures that any system has.

    Attributes:
        title: what the paper calls it.
        figures: names of figures.
        digits: after the point.
    """

    title: str
    figures: tuple[str, ...]
    digits: int = 3


_DISTANCE = Column("FID", ("fid", "fid_pytorch_fid", "fd_efficientnet_lite0"), 2)
_CLIP = Column("CLIP score", ("clip_score_w1",))
_F = Column("OCR F", ("mario_f", "micro_f1", "word_accuracy"))
TABLE_1 = (
    _DISTANCE,
    _CLIP,
    Column("OCR accuracy", ("mario_accuracy", "sentence_accuracy")),
    Column("OCR precision", ("mario_precision", "micro_precision")),
    Column("OCR recall", ("mario_recall", "micro_recall")),
    _F,
)
"""The columns of the paper's Table I, for systems."""

TABLE_2 = (_DISTANCE, _CLIP, _F)
"""The columns of the paper's Table II, for ablations."""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        head: its titles.
        rows: its cells.
        best: the (row, column) of cells that are the best of their column.
        note: what a reader has to know, such as which figure stands for a column.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    note: str = ""

    def markdown(self) -> str:
        """Return it in Markdown, the best in bold."""
        lines = [f"| {' | '.join(self.head)} |", f"|{'---|' * len(self.head)}"]
        for r, row in enumerate(self.rows):
            cells = (f"**{cell}**" if (r, c) in self.best else cell.replace("|", r"\|") for c, cell in enumerate(row))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def latex(self) -> str:
        """Return it in LaTeX, with the rules of the package booktabs."""
        lines = [rf"\begin{{tabular}}{{l{'c' * (len(self.head) - 1)}}}", r"\toprule"]
        lines += [" & ".join(map(_escaped, self.head)) + r" \\", r"\midrule"]
        for r, row in enumerate(self.rows):
            cells = (
                rf"\textbf{{{_escaped(cell)}}}" if (r, c) in self.best else _escaped(cell) for c, cell in enumerate(row)
            )
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*([f"% {self.note}"] if self.note else []), *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def systems_table(systems: Sequence[ScoredSystem], reader: str, columns: Sequence[Column]) -> Table:
    """Return a table with a row for each system.

    Args:
        systems: the systems.
        reader: the reader of the OCR figures.
        columns: :data:`TABLE_1` or :data:`TABLE_2`.
    """
    chosen = [(column, _available(systems, reader, column)) for column in columns]
    values = [[_value(system, reader, name) for _, name in chosen] for system in systems]
    rows = tuple(
        (system.name, *(_NONE if v is None else f"{v:.{c.digits}f}" for v, (c, _) in zip(row, chosen, strict=True)))
        for system, row in zip(systems, values, strict=True)
    )
    other = [f"{column.title}: {name}" for column, name in chosen if name is not None]
    missing = [column.title for column, name in chosen if name is None]
    note = f"Reader: {reader_name(systems[0].content['readers'][reader], reader)}. " + "; ".join(other) + "."
    note += " Bold: the best value, whether or not its difference holds." if len(systems) > 1 else ""
    note += f" Not measured: {', '.join(missing)}." if missing else ""
    heads = tuple(_title(column, name) for column, name in chosen)
    return Table(("System", *heads), rows, _best(values, [name for _, name in chosen]), note)


def figures_table(systems: Sequence[ScoredSystem], reader: str, figures: Sequence[str]) -> Table:
    """Return a table with a row for each figure, and value and interval of each system."""
    rows = []
    for name in figures:
        found = [system.result(reader, name) for system in systems]
        rows.append((name, *(_NONE if f is None else _with_interval(f["value"], f["low"], f["high"]) for f in found)))
    return Table(("Figure", *(system.name for system in systems)), tuple(rows))


def subsets_table(systems: Sequence[ScoredSystem], reader: str, figure: str) -> Table:
    """Return a table of one figure with a row for each subset."""
    rows = []
    for subset, prompts in systems[0].content["suite"]["subsets"].items():
        found = [s.content["results"][reader]["subsets"].get(subset, {}).get(figure) for s in systems]
        cells = (_NONE if f is None else _with_interval(f["value"], f["low"], f["high"]) for f in found)
        rows.append((f"{subset} ({prompts})", *cells))
    return Table((figure, *(system.name for system in systems)), tuple(rows))


def differences_table(pairs: Sequence[PairResult]) -> Table:
    """Return a table of the differences between systems by one reader, those that hold in bold."""
    rows = tuple(
        (
            pair.figure,
            f"{pair.second} - {pair.first}",
            _with_interval(pair.difference.value, pair.difference.low, pair.difference.high, "+"),
            _p(pair.difference.p),
            _NONE if pair.corrected is None else _p(pair.corrected),
            "too few prompts" if pair.corrected is None else "yes" if pair.holds else "no",
        )
        for pair in pairs
    )
    bold = frozenset((row, 5) for row, pair in enumerate(pairs) if pair.holds)
    return Table(("Figure", "Systems", "Difference", "p", "p (Holm)", "Holds"), rows, bold)


def agreement_table(found: Sequence[ReaderAgreement]) -> Table:
    """Return a table of what readers agree on."""
    rows = tuple(
        (
            each.system,
            f"{each.first}, {each.second}",
            _result(each.words),
            _NONE if each.kappa is None else _result(each.kappa),
        )
        for each in found
    )
    return Table(("System", "Readers", "Same decision on a word", "Cohen's kappa"), rows)


def ranks_table(found: Sequence[RankAgreement]) -> Table:
    """Return a table of the orders of the systems by two readers."""
    rows = tuple(
        (f"{each.first}, {each.second}", " > ".join(each.orders[0]), " > ".join(each.orders[1]), _result(each.tau))
        for each in found
    )
    return Table(("Readers", "By the first", "By the second", "Kendall's tau"), rows)


def _available(systems: Sequence[ScoredSystem], reader: str, column: Column) -> str | None:
    return next((name for name in column.figures if any(system.result(reader, name) for system in systems)), None)


def _value(system: ScoredSystem, reader: str, name: str | None) -> float | None:
    found = None if name is None else system.result(reader, name)
    return None if found is None else float(found["value"])


def _title(column: Column, name: str | None) -> str:
    """Return a column's title; a distance that is no FID is never called one."""
    title = column.title if name is None or column is not _DISTANCE or name.startswith("fid") else name
    return f"{title} ({'lower' if column is _DISTANCE else 'higher'} is better)" if column is _DISTANCE else title


def _best(values: Sequence[Sequence[float | None]], names: Sequence[str | None]) -> frozenset[tuple[int, int]]:
    """Return the best cell of each column; the first column of the table is the systems' names."""
    best = set()
    for place, name in enumerate(names):
        known = [(row[place], r) for r, row in enumerate(values) if row[place] is not None]
        if name is not None and len(known) > 1:
            limit = (min if is_lower_better(name) else max)(value for value, _ in known if value is not None)
            best |= {(r, place + 1) for value, r in known if value == limit}
    return frozenset(best)


def _with_interval(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    shown = f"{value:{sign}.3f}"
    return shown if low is None or high is None else f"{shown} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _result(result: MetricResult) -> str:
    return _with_interval(result.value, result.low, result.high)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text).replace("<", "$<$").replace(">", "$>$")
