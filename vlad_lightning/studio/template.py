"""Templates: the words of an uploaded picture, in their places."""

from __future__ import annotations

from typing import Any

import gradio as gr

from vlad_lightning.files import PICTURE_SUFFIXES
from vlad_lightning.studio.boxes import editor_value
from vlad_lightning.studio.editor import Repainting
from vlad_lightning.studio.engine import Engine
from vlad_lightning.studio.generating import MODEL, no_queue, told
from vlad_lightning.studio.prompt_settings import Controls
from vlad_lightning.studio.storage import Storage, address
from vlad_lightning.studio.uploads import uploaded_picture


def template_tab(engine: Engine, storage: Storage, controls: Controls) -> Repainting | None:
    """Build the tab; None for a model that follows no layouts, of which it says so in one line."""
    with gr.Tab("Template", id="template"):
        if not engine.follows_layouts:
            gr.Markdown("This model follows no layouts, so it follows no template.")
            return None
        gr.Markdown("Upload a picture of text: its lines are read, and drawn in the same places. Edit them first.")
        upload = gr.UploadButton("Upload a picture", file_types=list(PICTURE_SUFFIXES), elem_id="template_upload")
        parts = Repainting.build("template", "Draw", editor_value(size=(engine.side, engine.side)), random=True)

    @told
    def take(path: str) -> tuple[Any, ...]:
        picture = uploaded_picture(path)
        layout = engine.pipe.read_layout(picture)
        shown = editor_value(layout, picture.size, address(storage.shown(picture)))
        return shown, f"{len(layout)} lines were read."

    upload.upload(
        take,
        upload,
        [parts.editor, parts.status],
        **no_queue(concurrency_id=MODEL, concurrency_limit=1, show_progress="full", show_progress_on=parts.status),
    )
    parts.draw_layout(engine, storage, controls)
    return parts
