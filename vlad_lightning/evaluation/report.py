"""A report on scored systems: tables in Markdown and LaTeX, and one page with pictures that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vlad_lightning.data.progress import Shown
from vlad_lightning.evaluation.comparison import (
    ALPHA,
    PairResult,
    RankAgreement,
    ReaderAgreement,
    compare_systems,
    main_figure,
    rank_agreements,
    reader_agreements,
    shared_figures,
    shared_readers,
)
from vlad_lightning.evaluation.figures import is_lower_better
from vlad_lightning.evaluation.gallery import KINDS, Thumbnail, thumbnails
from vlad_lightning.evaluation.plots import figures_plot, subsets_plot
from vlad_lightning.evaluation.results_file import reader_name
from vlad_lightning.evaluation.scored_system import ScoredSystem, read_systems
from vlad_lightning.evaluation.tables import (
    TABLE_1,
    TABLE_2,
    Table,
    agreement_table,
    differences_table,
    figures_table,
    ranks_table,
    subsets_table,
    systems_table,
)
from vlad_lightning.files import write_text
from vlad_lightning.limits import check_whole

PAGE = "report.html"
"""The page."""

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Reporting:
    """How a report is made.

    Attributes:
        figure: the figure that systems are ranked and images sorted by; None is MARIO-Eval's F, or the first there is.
        thumbnails: images of each kind for each system; 0 shows none.
        seed: seed of intervals and tests.
        resamples: of each paired test.

    Raises:
        ValueError: if a number is out of its range.
    """

    figure: str | None = None
    thumbnails: int = 24
    seed: int = 0
    resamples: int = 5000

    def __post_init__(self) -> None:
        check_whole("--thumbnails", self.thumbnails, 0, 1000)


@dataclass(frozen=True)
class Section:
    """What a reader says of the systems.

    Attributes:
        reader: its name.
        about: the engine, its version and models.
        tables: tables with their titles.
        plots: plots as SVG.
    """

    reader: str
    about: str
    tables: tuple[tuple[str, Table], ...]
    plots: tuple[str, ...]


def write_report(folders: Sequence[Path], out: Path, how: Reporting) -> str:
    """Write ``report.md``, ``report.tex`` and ``report.html`` on scored folders.

    Args:
        folders: folders of ``vlad-cli evaluate score``; differences are those of later ones to earlier ones.
        out: the folder to write into.
        how: how the report is made.

    Returns:
        The Markdown.

    Raises:
        FileNotFoundError, ValueError: if a folder was not scored, or they do not have the same prompts.
    """
    systems = read_systems(folders)
    figure = main_figure(systems, how.figure)
    pairs = compare_systems(systems, how.seed, how.resamples)
    sections = [_section(systems, reader, figure, pairs) for reader in shared_readers(systems)]
    agreements = reader_agreements(systems, how.seed) if len(sections) > 1 else []
    ranks = rank_agreements(systems, figure, how.seed)
    together = _together(agreements, ranks)
    text = _markdown(systems, sections, together, pairs, ranks)
    write_text(out / "report.md", text)
    write_text(out / "report.tex", _latex(systems, sections))
    pictures = _pictures(systems, figure, how.thumbnails)
    write_text(out / PAGE, _page(systems, figure, sections, together, pairs, ranks, pictures))
    return text


def _section(systems: Sequence[ScoredSystem], reader: str, figure: str, pairs: Sequence[PairResult]) -> Section:
    figures = shared_figures(systems, reader)
    tables = [
        ("Systems, as in the paper's Table I", systems_table(systems, reader, TABLE_1)),
        ("All figures", figures_table(systems, reader, figures)),
    ]
    plots = [figures_plot(systems, reader, figures)]
    if mine := [pair for pair in pairs if pair.reader == reader]:
        tables.append(("Differences on the same prompts", differences_table(mine)))
    if len(systems[0].content["suite"]["subsets"]) > 1:
        tables.append(("By subset", subsets_table(systems, reader, figure)))
        plots.append(subsets_plot(systems, reader, figure))
    about = reader_name(systems[0].content["readers"][reader], reader)
    return Section(reader, about, tuple(tables), tuple(plots))


def _together(agreements: Sequence[ReaderAgreement], ranks: Sequence[RankAgreement]) -> list[tuple[str, Table]]:
    tables = [("Which words the readers find", agreement_table(agreements))] if agreements else []
    return [*tables, ("The order of the systems", ranks_table(ranks))] if ranks else tables


def _statements(pairs: Sequence[PairResult], ranks: Sequence[RankAgreement]) -> list[str]:
    """Return the report's conclusions, a sentence each."""
    said = []
    for reader in dict.fromkeys(pair.reader for pair in pairs):
        mine = [pair for pair in pairs if pair.reader == reader and pair.corrected is not None]
        if not mine:
            said.append(f"By {reader}, there are too few prompts for any difference to hold.")
            continue
        holding = [pair for pair in mine if pair.holds]
        named = ", ".join(f"{p.figure} ({_better(p)} is better)" for p in holding)
        said.append(
            f"By {reader}, {len(holding)} of {len(mine)} differences hold at {ALPHA:g} after Holm's correction"
            + (f": {named}." if named else ".")
        )
    for rank in ranks:
        same = rank.orders[0] == rank.orders[1]
        said.append(
            f"{rank.first} and {rank.second} put the systems in {'the same order' if same else 'another order'}."
        )
    return said


def _better(pair: PairResult) -> str:
    return pair.second if (pair.difference.value > 0) != is_lower_better(pair.figure) else pair.first


def _headline(systems: Sequence[ScoredSystem]) -> str:
    suite, images = systems[0].content["suite"], [system.content["images"] for system in systems]
    damaged = sum(entry["unreadable"] for entry in images)
    text = (
        f"{len(systems)} {'system' if len(systems) == 1 else 'systems'}, {suite['prompts']} prompts "
        f"(suite {suite['name']}), {suite['images_per_prompt']} images each"
    )
    return f"{text}, {damaged} images unreadable" if damaged else text


def _markdown(
    systems: Sequence[ScoredSystem],
    sections: Sequence[Section],
    together: Sequence[tuple[str, Table]],
    pairs: Sequence[PairResult],
    ranks: Sequence[RankAgreement],
) -> str:
    parts = [
        f"# {' / '.join(system.name for system in systems)}\n",
        f"{_headline(systems)}.\n",
        f"{_method(systems)}\n",
    ]
    parts += [f"- {sentence}" for sentence in _statements(pairs, ranks)]
    for section in sections:
        parts += [f"\n## Reader {section.reader}\n", f"{section.about}\n"]
        parts += [f"### {title}\n\n{table.markdown()}" for title, table in section.tables]
    if together:
        parts += ["\n## Readers together\n", *(f"### {title}\n\n{table.markdown()}" for title, table in together)]
    return "\n".join(parts)


def _method(systems: Sequence[ScoredSystem]) -> str:
    definition = systems[0].content["suite"].get("definition", "").rstrip(".")
    return (
        f"Suite: {definition or systems[0].content['suite']['name']}. Intervals: 95 %, bootstrap over prompts. "
        "Differences: paired by prompt, p by swapping the systems' results of a prompt at random, corrected by Holm's "
        "method over the tests of a reader."
    )


def _latex(systems: Sequence[ScoredSystem], sections: Sequence[Section]) -> str:
    parts = ["% needs \\usepackage{booktabs}"]
    for section in sections:
        parts += [f"% Table I, reader {section.reader}", systems_table(systems, section.reader, TABLE_1).latex()]
        parts += [f"% Table II, reader {section.reader}", systems_table(systems, section.reader, TABLE_2).latex()]
    return "\n".join(parts)


def _pictures(systems: Sequence[ScoredSystem], figure: str, each: int) -> list[Thumbnail]:
    if not each:
        return []
    with Shown("systems with pictures", len(systems)) as shown:
        pictures = []
        for system in systems:
            pictures += thumbnails(system, shared_readers(systems)[0], figure, each)
            shown(1)
    return pictures


def _page(
    systems: Sequence[ScoredSystem],
    figure: str,
    sections: Sequence[Section],
    together: Sequence[tuple[str, Table]],
    pairs: Sequence[PairResult],
    ranks: Sequence[RankAgreement],
    pictures: Sequence[Thumbnail],
) -> str:
    folder = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template(_TEMPLATE)
    return template.render(
        names=[system.name for system in systems],
        headline=_headline(systems),
        method=_method(systems),
        notes=systems[0].content["suite"].get("notes", []),
        statements=_statements(pairs, ranks),
        sections=sections,
        together=together,
        figure=figure,
        kinds=KINDS,
        subsets=list(systems[0].content["suite"]["subsets"]),
        pictures=pictures,
        provenance=[(system.name, json.dumps(_provenance(system), indent=1, ensure_ascii=False)) for system in systems],
    )


def _provenance(system: ScoredSystem) -> dict[str, Any]:
    return {name: value for name, value in system.content.items() if name not in ("results", "system")}
