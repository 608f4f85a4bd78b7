"""The documentation site: how its pages are written, and what the strict build makes of them."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import vlad_lightning

for name in ("zensical", "mkdocstrings", "nbconvert"):
    pytest.importorskip(name, reason="the documentation site needs `pip install '.[docs]'`")

from package_reader import DocstringError, read_package  # noqa: E402 (needs the packages above)
from pages import BrokenLinkError, SitePages  # noqa: E402

PACKAGE = Path(vlad_lightning.__file__).parent
ROOT = PACKAGE.parent


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what ``make docs`` writes: ``site_pages`` and ``site``."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "zensical.toml", folder)  # its folder is where the site is built
    for name in ("docs", "vlad_lightning"):
        (folder / name).symlink_to(ROOT / name)
    commands = (
        [sys.executable, "docs/site/pages.py", "--out", str(folder / "build" / "site_pages")],
        [sys.executable, "-m", "zensical", "build", "--strict"],
    )
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build"


@pytest.fixture(scope="session")
def pages(built: Path) -> dict[str, str]:
    """Return the site's HTML by the name of its file."""
    site = built / "site"
    return {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


LOADED = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio|object|embed)\b(?:[^>"']|"[^"]*"|'[^']*')*?
        \s(?:src|href|srcset|data)=["']?((?:https?:)?//[^"'\s>]+)
      | (?:@import\s+["']?|url\(["']?)((?:https?:)?//[^"'\s;)]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def loaded_from_elsewhere(text: str) -> list[str]:
    return ["".join(match) for match in LOADED.findall(text)]


def test_no_page_loads_anything_from_another_host(built: Path, pages: dict[str, str]) -> None:
    styles = [path.read_text(encoding="utf-8") for path in (built / "site").rglob("*.css")]
    assert len(pages) > 200
    assert len(styles) > 1
    assert {address for text in (*pages.values(), *styles) for address in loaded_from_elsewhere(text)} == set()


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a.example/b.js"></script>',
        "<img alt='a > b' loading=lazy src=//a.example/b.png>",
        '<link rel="stylesheet" href="https://a.example/b.css">',
        '@import "https://a.example/b.css";',
        "@font-face { src: url(https://a.example/b.woff2) }",
    ],
)
def test_a_load_from_another_host_is_found(text: str) -> None:
    assert len(loaded_from_elsewhere(text)) == 1
    assert loaded_from_elsewhere(text.replace("https:", "").replace("//a.example", "images")) == []


def test_every_link_within_the_site_leads_to_a_file(built: Path, pages: dict[str, str]) -> None:
    broken = set()
    for name, text in pages.items():
        folder = (built / "site" / name).parent
        for link in set(re.findall(r"<(?:a|img|link|script)\b[^>]*?\s(?:href|src)=\"([^\"#?]+)", text)):
            if not re.match(r"[a-z]+:", link) and not link.startswith("/") and not (folder / link).exists():
                broken.add((name, link))
    assert broken == set()


class Article(HTMLParser):
    """The text of a page's article, without the marks beside headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside, self.mark, self.parts = "<article" not in text, False, list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = self.inside or tag == "article"
        self.mark = tag == "a" and dict(attributes).get("class") == "headerlink"
        if tag == "li":
            self.handle_data(" * ")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "article"
        self.mark = self.mark and tag != "a"

    def handle_data(self, data: str) -> None:
        if self.inside and not self.mark:
            self.parts.append(data)


def words(html: str) -> list[str]:
    return "".join(Article(html).parts).split()


def test_each_page_says_what_a_code_host_shows(built: Path, pages: dict[str, str]) -> None:
    reader = MarkdownIt("commonmark").enable("table")
    compared = 0
    for path in (built / "site_pages").rglob("*.md"):
        name = path.relative_to(built / "site_pages")
        if name.parts[0] not in ("api", "files") and name.name not in (".nav.md", "tour.md"):
            source = path.read_text(encoding="utf-8")
            title = [] if source.startswith("# ") else words(pages[f"{name.with_suffix('.html')}"])[:4]
            assert words(pages[f"{name.with_suffix('.html')}"]) == title + words(reader.render(source)), name
            compared += 1
    assert compared > 40


def test_the_first_page_is_the_readme_and_links_to_the_moved_pages(pages: dict[str, str]) -> None:
    assert "Text-to-image diffusion that draws legible words" in pages["index.html"]
    for link in ("tour.html", "decisions/index.html", "contributing.html", "files/vlad_lightning/layout/nouns.py.html"):
        assert f'href="{link}"' in pages["index.html"]


def test_the_navigation_names_every_page_of_the_documentation() -> None:
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    named = set(re.findall(r"[\w/]+\.md", json.dumps(project["nav"])))
    there = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert named == there | {"index.md", "tour.md", "contributing.md", "changelog.md"}


def test_every_decision_is_in_the_index(pages: dict[str, str]) -> None:
    records = [path.stem for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name != "0000-template.md"]
    page = pages["decisions/index.html"]
    listed = page[page.index("<article") : page.index("</article>")]
    assert {name for name in records if f'href="{name}.html"' not in listed} == set()


def public_names(module: Path) -> set[str]:
    """Return the names of a module's public classes and functions that have a docstring, by Python's own parser."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    defined = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {node.name for node in defined if not node.name.startswith("_") and ast.get_docstring(node)}


def test_the_api_has_every_public_name_and_no_private_one(pages: dict[str, str]) -> None:
    missing = set()
    for module in PACKAGE.rglob("*.py"):
        path = module.relative_to(PACKAGE).with_suffix("")
        if module.name.startswith("__") or not (module.parent / "__init__.py").is_file():
            continue
        text = pages[f"api/{path.as_posix()}.html"]
        dotted = ".".join(("vlad_lightning", *path.parts))
        missing |= {f"{dotted}.{name}" for name in public_names(module) if f'id="{dotted}.{name}"' not in text}
    assert missing == set()
    ids = {name for text in pages.values() for name in re.findall(r'id="(vlad_lightning\.[\w.]+)"', text)}
    assert len(ids) > 1000
    assert {name for name in ids if re.search(r"\._(?!_)", name)} == set()


def test_the_tour_has_its_code_and_its_stored_pictures(built: Path, pages: dict[str, str]) -> None:
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", ()))
    assert len(re.findall(r'<img[^>]*src="tour_files/', pages["tour.html"])) == pictures > 0
    assert len(list((built / "site" / "tour_files").glob("*.png"))) == pictures
    assert (built / "site" / "tour.ipynb").read_bytes() == (ROOT / "docs" / "tour.ipynb").read_bytes()


def test_the_search_knows_pages_and_functions(built: Path) -> None:
    places = {item["location"] for item in json.loads((built / "site" / "search.json").read_text("utf-8"))["items"]}
    assert "layouts.html" in places
    assert "api/layout/overlaps.html#vlad_lightning.layout.overlaps.resolve_overlaps" in places


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text("# A\n")
    (tmp_path / "program.py").write_text("print(1)\n")
    return tmp_path


def page(repository: Path, name: str, text: str) -> str:
    """Return what becomes of the links of a page."""
    (repository / name).write_text(text)
    SitePages(repository, repository / "pages").write_page(name)
    (written,) = [path for path in (repository / "pages").rglob("*.md") if "files" not in path.parts]
    return written.read_text()


def test_links_follow_pages_that_have_another_place(repository: Path) -> None:
    text = "[a](docs/a.md#b) ![c](docs/a.md) [d](docs/decisions) [e](https://f.example/docs/a.md) [g](#h)"
    expected = "[a](a.md#b) ![c](a.md) [d](decisions/index.md) [e](https://f.example/docs/a.md) [g](#h)"
    assert page(repository, "README.md", text) == expected


def test_links_from_a_folder_lead_out_of_it(repository: Path) -> None:
    (repository / "README.md").write_text("")
    text = "[a](../a.md) [b](../../README.md) [c](../../program.py)"
    expected = "[a](../a.md) [b](../index.md) [c](../files/program.py.md)"
    assert page(repository, "docs/decisions/0001-b.md", text) == expected
    assert "print(1)" in (repository / "pages" / "files" / "program.py.md").read_text()


def test_code_that_looks_like_a_link_stays(repository: Path) -> None:
    text = "`a[0](docs/b)` and ``c`[0](docs/b)``\n\n```python\nd[0](docs/b)\n```\n"
    assert page(repository, "README.md", text) == text


def test_a_broken_link_is_refused_by_name(repository: Path) -> None:
    with pytest.raises(BrokenLinkError, match=re.escape("README.md links to docs/none.md#a: docs/none.md is neither")):
        page(repository, "README.md", "[a](docs/none.md#a)")


def package(folder: Path, code: str) -> Path:
    (folder / "vlad_lightning").mkdir()
    (folder / "vlad_lightning" / "__init__.py").write_text('"""The package."""\n')
    (folder / "vlad_lightning" / "shapes.py").write_text(code)
    return folder


SHAPES = '''"""Shapes."""

def _hidden() -> None:
    """Do nothing."""

def area(side: float) -> float:
    """Return an area, unlike :func:`_hidden`; a :class:`~vlad_lightning.shapes.Square` has one.

    >>> area(2.0)
    4.0

    Args:
        {argument}: a length.
    """
    return side * side

class Square:
    """A square: :meth:`{method}` draws it."""

    def draw(self) -> None:
        """Draw it."""
'''


def test_references_become_links_and_doctests_code(tmp_path: Path) -> None:
    read = read_package(package(tmp_path, SHAPES.format(argument="side", method="draw")))
    area = read["shapes.area"].docstring.value
    assert "unlike `_hidden`; a [`Square`][vlad_lightning.shapes.Square] has one" in area
    assert "```pycon\n>>> area(2.0)\n4.0\n```" in area
    assert read["shapes.Square"].docstring.value == "A square: [`draw`][vlad_lightning.shapes.Square.draw] draws it."


def test_docstrings_that_do_not_fit_their_code_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DocstringError) as caught:
        read_package(package(tmp_path, SHAPES.format(argument="sides", method="paint")))
    message = str(caught.value)
    assert "Parameter 'sides' does not appear in the function signature" in message
    assert "vlad_lightning.shapes.Square: the docstring refers to paint, which does not exist" in message
