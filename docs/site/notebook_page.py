"""A notebook as a page of Markdown, with the outputs that are stored in it; nothing is executed."""

from __future__ import annotations

from pathlib import Path

from nbconvert import MarkdownExporter


def notebook_page(notebook: Path, pictures: Path) -> str:
    """Return a notebook's cells and outputs as Markdown.

    Args:
        notebook: the ``.ipynb`` file, with its outputs.
        pictures: the folder to write the outputs' pictures into; the page links to it by its name.
    """
    names = {"outputs": {}, "output_files_dir": pictures.name, "unique_key": notebook.stem}
    text, resources = MarkdownExporter().from_filename(str(notebook), resources=names)
    pictures.mkdir(parents=True, exist_ok=True)
    for name, content in resources["outputs"].items():
        (pictures / Path(name).name).write_bytes(content)
    return text
