from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import vlad_lightning
from vlad_lightning.files import configs_folder

ROOT = Path(vlad_lightning.__file__).parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *(ROOT / "docs").rglob("*.md")]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings on the usual code hosts."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not link.startswith("http") and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[a](page.md#one-heading) [b](#another) [c](none.md) [d](https://none.example)")
    assert broken_links(page) == ["#another", "none.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_in_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    configs = [configs_folder().parent / name for name in re.findall(r"--config (configs/[\w/]+\.yaml)", text)]
    scripts = [ROOT / name for name in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)", text)]
    assert [path for path in (*configs, *scripts) if not path.is_file()] == []


def test_revisions_to_download_are_those_that_the_configurations_pin() -> None:
    files = [path.read_text(encoding="utf-8") for path in configs_folder().rglob("*.yaml")]
    pinned = set(re.findall(r"revision: ([0-9a-f]{40})", "\n".join(files)))
    named = {commit for page in PAGES for commit in re.findall(r"--revision ([0-9a-f]{40})", page.read_text("utf-8"))}
    assert named == pinned


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == vlad_lightning.__version__
    assert "2501.00917" in citation["references"][0]["url"]


def test_the_tour_shows_what_its_cells_printed_and_drew() -> None:
    text = (ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    printed = "\n".join("".join(part["source"]) for part in cells) + str([o.get("text") for o in outputs])
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|usr|work)/", printed) == []
    assert len(text) < 300_000


@pytest.mark.slow
def test_the_result_of_the_architecture_can_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(ROOT / "docs" / "architecture.py", tmp_path)
    for name in ("poster.png", "phrase_map.png"):
        shutil.copy(ROOT / "docs" / "images" / name, tmp_path / "images")
    subprocess.run([sys.executable, "architecture.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "images" / "architecture.png").read_bytes()[:4] == b"\x89PNG"
