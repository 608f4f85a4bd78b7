"""Writes the pages of the documentation site: ``python docs/site/pages.py``; ``make docs`` then builds the site.

The pages are those of the repository, so that no text exists twice: README.md is the first page, docs/ the others. What
a code host shows by itself is made here: an index of the decisions, the notebook as a page, and a page for each source
file that a page links to. Links are rewritten where their target has another place in the site.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

from api_pages import write_api
from notebook_page import notebook_page
from package_reader import DocstringError

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "build" / "site_pages"  # the `docs_dir` of zensical.toml
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/decisions": "decisions/index.md",
    "docs/tour.ipynb": "tour.md",
}
SHOWN = {".csv", ".ipynb", ".jpg", ".json", ".png"}  # files of docs/ that pages show or offer
LANGUAGES = {".py": "python", ".cff": "yaml", ".toml": "toml", ".yaml": "yaml"}
DECISIONS = """# Decisions

Choices that the paper leaves open, and choices of the code, each with its reasons and its measurement.

"""
DOWNLOAD = '\n<a href="tour.ipynb" download>This page as a notebook</a>\n'
# Code is left as it is: a fenced block, or a span between backticks.
_CODE_OR_LINK = re.compile(
    r"^ *```.*?^ *```|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)|\]\((?P<target>[^)\s]+)\)", re.MULTILINE | re.DOTALL
)


class BrokenLinkError(ValueError):
    """A page links to a file that does not exist, or to a folder that has no page."""


def place(name: str) -> str:
    """Return where a file of the repository stands in the site, both relative to their roots."""
    if name.startswith("docs/"):
        return MOVED.get(name, name.removeprefix("docs/"))
    return MOVED.get(name, f"files/{name}.md")


class SitePages:
    """The folder of pages, as it is filled.

    Args:
        root: the repository.
        pages: the folder to fill; an earlier one is deleted.
    """

    def __init__(self, root: Path, pages: Path) -> None:
        self.root, self.pages = root, pages
        shutil.rmtree(pages, ignore_errors=True)

    def write(self) -> None:
        """Write all pages.

        Raises:
            BrokenLinkError: a page links to something that is not there.
            DocstringError: a docstring does not fit its code.
        """
        for path in sorted((self.root / "docs").rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.suffix == ".md":
                self.write_page(name)
            elif path.suffix in SHOWN:
                self._copy(name, name.removeprefix("docs/"))
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
            self.write_page(name)
        for name in ("site.css", "iframe-worker.js"):
            self._copy(f"docs/site/{name}", name)
        tour = notebook_page(self.root / "docs" / "tour.ipynb", self.pages / "tour_files")
        self.write_page("docs/tour.ipynb", tour + DOWNLOAD)
        self.write_decisions()
        write_api(self.root, self.pages / "api")

    def write_page(self, name: str, text: str | None = None) -> None:
        """Write the page of a Markdown file, or of a text instead of the file's own.

        Args:
            name: the file, relative to the repository.
            text: Markdown, with links relative to the file.

        Raises:
            BrokenLinkError: a link leads nowhere.
        """
        if text is None:
            text = (self.root / name).read_text(encoding="utf-8")

        def rewritten(match: re.Match[str]) -> str:
            return f"]({self._link(name, match['target'])})" if match["target"] else match[0]

        self._put(place(name), _CODE_OR_LINK.sub(rewritten, text))

    def write_decisions(self) -> None:
        """Write the index of the decision records, with the title of each, and their navigation."""
        records = ""
        for path in sorted((self.root / "docs" / "decisions").glob("[0-9]*.md")):
            if path.name != "0000-template.md":
                title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
                records += f"- [{title}]({path.name})\n"
        self._put("decisions/index.md", DECISIONS + records)
        self._put("decisions/.nav.md", "- [Decisions](index.md)\n" + records)

    def _link(self, name: str, target: str) -> str:
        """Return what a link in the file ``name`` has to be in the site."""
        path, mark, anchor = target.partition("#")
        if not path or ":" in path:  # within the page, or an address
            return target
        linked = os.path.normpath(PurePosixPath(name).parent / path)
        if not (self.pages / place(linked)).is_file():  # unlike a picture that the notebook drew
            self._require(name, target, linked)
        return os.path.relpath(place(linked), PurePosixPath(place(name)).parent) + mark + anchor

    def _require(self, name: str, target: str, linked: str) -> None:
        """Check that the repository has a file that is linked to, and write its page if it is source."""
        if linked not in MOVED and not (self.root / linked).is_file():
            raise BrokenLinkError(f"{name} links to {target}: {linked} is neither a file nor the folder docs/decisions")
        if place(linked).startswith("files/"):
            language = LANGUAGES.get(PurePosixPath(linked).suffix, "text")
            source = (self.root / linked).read_text(encoding="utf-8").rstrip("\n")
            self._put(place(linked), f"# {linked}\n\n~~~~~~ {{.{language}}}\n{source}\n~~~~~~\n")

    def _copy(self, name: str, to: str) -> None:
        """Copy a file of the repository."""
        target = self.pages / to
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / name, target)

    def _put(self, place: str, text: str) -> None:
        """Write a page."""
        target = self.pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def main() -> None:
    """Write the pages of this repository."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=PAGES, help="folder of the pages, which is replaced")
    try:
        SitePages(ROOT, parser.parse_args().out).write()
    except (BrokenLinkError, DocstringError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
