from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from signs import WORDS, draw_sign, write_prompts

from vlad_lightning.evaluation.comparison import compare_systems, main_figure, rank_agreements, reader_agreements
from vlad_lightning.evaluation.figures import Figure, is_lower_better
from vlad_lightning.evaluation.figures_file import read_figures, write_figures
from vlad_lightning.evaluation.plain_suite import read_plain_suite
from vlad_lightning.evaluation.report import Reporting, write_report
from vlad_lightning.evaluation.scored_system import ScoredSystem, read_systems
from vlad_lightning.evaluation.scoring import Scoring, score
from vlad_lightning.evaluation.tables import TABLE_1, differences_table, systems_table
from vlad_lightning.metrics.paired import holm, paired_difference

TEXT = '<b>"quoted" & bold</b>'


class Addresses(HTMLParser):
    """All addresses that a page loads or links to, and all text outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Score two systems, of which the second misspells, by one reader whose rows stand for another one's, too."""
    root = tmp_path_factory.mktemp("report")
    prompts = write_prompts(root / "p.txt")
    (root / "p.jsonl").write_text(
        "".join(
            json.dumps({"prompt": line, "key": f"k/{i}", "subset": f"part {min(i, 1)}"}) + "\n"
            for i, line in enumerate(prompts.read_text().splitlines())
        )
    )
    suite = read_plain_suite(root / "p.jsonl")
    for system, words in ((TEXT, WORDS), ("worse", ("HELLO", "OBEN", "TEA"))):
        name = "better" if system == TEXT else system
        for number, word in enumerate(words):
            draw_sign(root / name / "images" / "k" / f"{number}.png", word)
        score(root / name / "images", suite, root / name, Scoring(system=system))
        for kind in ("rows", "figures"):
            (root / name / kind / "other.csv").write_bytes((root / name / kind / "rapidocr.csv").read_bytes())
        content = json.loads((root / name / "results.json").read_text())
        content["readers"]["other"] = {"engine": "another", "version": "2.0", "a.onnx": "0" * 64}
        content["results"]["other"] = content["results"]["rapidocr"]
        (root / name / "results.json").write_text(json.dumps(content))
    return [root / "better", root / "worse"]


@pytest.fixture(scope="module")
def page(folders: list[Path]) -> str:
    write_report(folders, folders[0].parent / "report", Reporting(resamples=200))
    return (folders[0].parent / "report" / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_no_other_file(page: str) -> None:
    addresses = Addresses()
    addresses.feed(page)
    assert addresses.found
    assert [address for address in addresses.found if not address.startswith(("data:image/webp;base64,", "#"))] == []
    assert re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", page) == []
    assert "default-src 'none'" in page


def test_names_and_prompts_are_shown_as_text(page: str) -> None:
    assert TEXT not in page
    assert "&lt;b&gt;" in page
    assert "a sign that says &#39;HELLO&#39;" in page


def test_images_are_shown_once_with_the_readers_boxes(page: str) -> None:
    images = re.findall(
        r'<figure data-system="([^"]*)" data-subset="([^"]*)" data-kind="(\w+)".*?data-key="(.*?)"', page
    )
    assert len(images) == len(set(images)) == 6
    assert {kind for _, _, kind, _ in images} == {"best", "worst"}  # of one or two images in a subset
    assert len(re.findall(r"<polygon points=\"[\d. ,-]+\"><title>HELLO</title>", page)) == 2


def test_the_markdown_and_the_latex_have_the_papers_columns(folders: list[Path], page: str) -> None:
    text = (folders[0].parent / "report" / "report.md").read_text()
    assert "| System | FID (lower is better) | CLIP score | OCR accuracy | OCR precision | OCR recall | OCR F |" in text
    assert "| worse | -- | -- | 0.333 | 0.333 | 0.333 | 0.333 |" in text
    assert "Not measured: FID, CLIP score." in text
    assert "Reader: another 2.0 (a.onnx)." in text
    assert "rapidocr and other put the systems in the same order." in text
    latex = (folders[0].parent / "report" / "report.tex").read_text()
    assert r"worse & -- & -- & 0.333 & 0.333 & 0.333 & 0.333 \\" in latex
    assert r"\textbf{1.000}" in latex
    assert latex.count(r"\begin{tabular}") == 4


def test_differences_are_paired_by_prompt_and_corrected(folders: list[Path]) -> None:
    systems = read_systems(folders)
    found = {pair.figure: pair for pair in compare_systems(systems, resamples=500) if pair.reader == "rapidocr"}
    by_prompt = [{"a": (1, 1), "b": (1, 1), "c": (1, 1)}, {"a": (1, 1), "b": (0, 1), "c": (0, 1)}]
    expected = paired_difference(by_prompt[0], by_prompt[1], np.random.default_rng(0), 500)
    assert found["word_accuracy"].difference == expected
    assert found["mario_f"].difference.value == pytest.approx(-2 / 3, abs=1e-6)
    assert {pair.corrected for pair in found.values()} == {None}  # of three prompts, none can hold


def test_figures_of_too_few_prompts_are_no_part_of_the_correction(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    systems = []
    for name, bonus in (("a", 0.0), ("b", 0.3)):
        rows = [{"key": f"{i:02}", "subset": "x", "number": "0"} for i in range(20)]
        figures = {
            "clear": Figure((drawn.random(20) * 0.1 + bonus, np.ones(20))),
            "noise": Figure((drawn.random(20), np.ones(20))),
            "few": Figure((np.full(20, bonus), np.repeat([1.0, 0.0], (4, 16)))),
        }
        figures["few"].columns[0][4:] = 0
        write_figures(tmp_path / name / "figures" / "r.csv", rows, figures)
        systems.append(ScoredSystem(tmp_path / name, name, {"results": {"r": {}}}))
    found = {pair.figure: pair for pair in compare_systems(systems, resamples=999)}
    assert (found["few"].corrected, found["few"].holds, found["few"].difference.n) == (None, False, 4)
    rest = [found["clear"], found["noise"]]
    assert [pair.corrected for pair in rest] == holm([pair.difference.p for pair in rest])
    assert (found["clear"].difference.p, found["clear"].corrected) == (0.001, 0.002)
    assert found["clear"].holds
    assert not found["noise"].holds
    assert [row[5] for row in differences_table([*found.values()]).rows] == ["yes", "no", "too few prompts"]


def test_the_same_rows_agree_wholly(folders: list[Path]) -> None:
    systems = read_systems(folders)
    better, worse = reader_agreements(systems)
    assert better.words.value == worse.words.value == 1
    assert better.kappa is None  # all words are found
    assert worse.kappa is not None
    assert worse.kappa.value == 1
    (ranks,) = rank_agreements(systems, "word_accuracy", resamples=100)
    assert ranks.orders == ((systems[0].name, "worse"),) * 2
    assert (ranks.tau.value, ranks.tau.low, ranks.tau.high) == (1, 1, 1)


def test_what_cannot_be_compared_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a folder is given twice"):
        read_systems([folders[0], folders[0]])
    content = json.loads((folders[0] / "results.json").read_text())
    content["suite"]["prompts_sha256"] = "another"
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="scored on different prompts"):
        read_systems([folders[0], tmp_path])
    with pytest.raises(ValueError, match="--figure is 'none'; allowed are word_accuracy"):
        main_figure(read_systems(folders), "none")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="was not written by `vlad-cli evaluate score`"):
        read_systems([tmp_path])


def test_figures_survive_their_file(tmp_path: Path) -> None:
    rows = [{"key": "a", "subset": "x", "number": "0"}, {"key": "b", "subset": "y", "number": "0"}]
    figures = {
        "share": Figure((np.array([1 / 3, 1.0]), np.array([1.0, 2.0]))),
        "v1.5_f": Figure(tuple(np.array([float(i), 2.0]) for i in range(4))),
        "median": Figure((np.array([1.0, 2.0]),), other=np.median),
    }
    write_figures(tmp_path / "a.csv", rows, figures)
    found = read_figures(tmp_path / "a.csv")
    assert list(found.figures) == ["share", "v1.5_f"]
    assert found.figures["share"].value() == pytest.approx(figures["share"].value())
    assert found.figures["v1.5_f"].value() == pytest.approx(figures["v1.5_f"].value())
    assert found.by_prompt("share")["b"] == [1.0, 2.0]
    assert found.of_subset("y").keys == ("b",)
    (tmp_path / "b.csv").write_text("key,prompt\n")
    with pytest.raises(ValueError, match="does not hold the figures"):
        read_figures(tmp_path / "b.csv")


def test_a_stand_in_is_never_called_fid(folders: list[Path]) -> None:
    system = read_systems(folders)[1]
    distances = {"fd_efficientnet_lite0": {"value": 12.5, "low": None, "high": None}}
    measured = ScoredSystem(system.folder, system.name, {**system.content, "distances": distances})
    table = systems_table([measured], "rapidocr", TABLE_1)
    assert table.head[1] == "fd_efficientnet_lite0 (lower is better)"
    assert table.rows[0][1] == "12.50"
    assert "fd_efficientnet_lite0 stands in for FID and is none" in table.note
    assert "FID: " not in table.note
    assert is_lower_better("fd_efficientnet_lite0")
    assert is_lower_better("cer")
    assert is_lower_better("object_extra")
    assert is_lower_better("text_overlap")
    assert not is_lower_better("word_accuracy")


def test_a_clear_difference_holds_among_hundreds_of_tests(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    systems = []
    for name, bonus in (("a", 0.0), ("b", 0.3)):
        rows = [{"key": f"{i:02}", "subset": "x", "number": "0"} for i in range(20)]
        figures = {f"noise {n}": Figure((drawn.random(20), np.ones(20))) for n in range(150)}
        figures["clear"] = Figure((drawn.random(20) * 0.1 + bonus, np.ones(20)))
        write_figures(tmp_path / name / "figures" / "r.csv", rows, figures)
        systems.append(ScoredSystem(tmp_path / name, name, {"results": {"r": {}}}))
    found = {pair.figure: pair for pair in compare_systems(systems, resamples=200)}
    assert found.pop("clear").holds  # 200 swaps alone give no p-value below 151 / 201 after the correction
    assert sum(pair.holds for pair in found.values()) == 0
