from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlad_lightning.evaluation.suites import SUITES, read_suite

OWN = ("innovator-eval", "innovator-eval-mini")


def test_an_unknown_suite_is_refused_in_one_line_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="suite is 'mario'; allowed are ") as caught:
        read_suite("mario")
    assert all(name in str(caught.value) for name in SUITES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SUITES)
def test_each_suite_reads_its_own_prompts_or_says_what_it_needs(name: str, tmp_path: Path) -> None:
    if name in OWN:
        suite = read_suite(name)
        assert (suite.name, read_suite(name).sha256) == (name, suite.sha256)
        columns = [column for measure in suite.measures for column in measure.columns]
        assert len(columns) == len(set(columns))
        return
    with pytest.raises(ValueError, match=f"^prompts is None; the suite '{name}' needs"):
        read_suite(name)
    with pytest.raises(FileNotFoundError, match=f"which does not exist; the suite '{name}' needs"):
        read_suite(name, tmp_path / "nowhere")


def test_the_page_of_the_suites_names_each() -> None:
    page = (Path(__file__).parents[3] / "docs" / "suites.md").read_text(encoding="utf-8")
    assert [name for name in SUITES if f"`{name}`" not in page] == []


def test_the_names_alone_cost_no_import_of_torch() -> None:
    code = "import sys, vlad_lightning.evaluation.suites as s; print(len(s.SUITES), 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(len(SUITES)), "False"]
