"""The studio's page: what to generate on the left, and a tab for each way to do it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import gradio as gr

from vlad_lightning import __version__
from vlad_lightning.studio.editor import connect, layout_tab
from vlad_lightning.studio.engine import Engine
from vlad_lightning.studio.inpainting import inpainting_tab
from vlad_lightning.studio.playground import playground_tab
from vlad_lightning.studio.prompt_settings import Controls, build_settings
from vlad_lightning.studio.stopping import leave_all
from vlad_lightning.studio.storage import Storage
from vlad_lightning.studio.template import template_tab

CSS = files("vlad_lightning.studio").joinpath("page.css").read_text(encoding="utf-8")
HEAD = '<meta name="color-scheme" content="light dark">'

_WAITING = 20  # requests; further ones are refused


def theme() -> gr.themes.Base:
    """Return gradio's theme with the fonts of the reader's machine: its own would come from another host."""
    sans = ("ui-sans-serif", "system-ui", "sans-serif")
    mono = ("ui-monospace", "Consolas", "monospace")
    return gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=sans, font_mono=mono)


def build_page(engine: Engine, folder: Path) -> gr.Blocks:
    """Build the page.

    Args:
        engine: the model that generates.
        folder: gradio's temporary folder, in which the images are stored.
    """
    storage = Storage(folder / "images")
    with gr.Blocks(title="VLAD studio", analytics_enabled=False, delete_cache=(600, 86_400)) as page:
        gr.HTML(_header(engine), elem_id="header", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                controls: Controls = build_settings(engine)
            with gr.Column(scale=3, min_width=300), gr.Tabs() as tabs:
                playground = playground_tab(engine, storage, controls)
                layouts = layout_tab(engine, storage, controls)
                others = [layouts, inpainting_tab(engine, storage, controls), template_tab(engine, storage, controls)]
        if layouts is not None:
            connect(engine, playground, layouts, tabs)
        leave_all(page, [playground.stop, *(parts.stop for parts in others if parts is not None)])
    page.queue(max_size=_WAITING, default_concurrency_limit=1, api_open=False)
    return page


def _header(engine: Engine) -> str:
    name = engine.name.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f"<h1>VLAD studio</h1><p>Model <b>{name}</b>, {engine.side} x {engine.side} pixels, on "
        f"{engine.pipe.device.type}. Put the words to draw in quotes. Version {__version__}.</p>"
    )
