"""Inpainting: words into an uploaded picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vlad_lightning.files import PICTURE_SUFFIXES
from vlad_lightning.pipeline.image_facts import named_file
from vlad_lightning.pipeline.image_request import ImageRequest
from vlad_lightning.studio.boxes import edited_layout, editor_value, region_mask
from vlad_lightning.studio.editor import Repainting, repainted
from vlad_lightning.studio.engine import Engine
from vlad_lightning.studio.generating import PROGRESS, no_queue, told
from vlad_lightning.studio.prompt_settings import Asked, Controls, chosen_seed
from vlad_lightning.studio.storage import Storage, address
from vlad_lightning.studio.uploads import uploaded_picture

_HELP = (
    "Upload a picture, then add words where they belong, or regions to generate anew. Without a region, the boxes of "
    "the words are generated, with a margin; without words, the prompt's are set into the regions."
)


def inpainting_tab(engine: Engine, storage: Storage, controls: Controls) -> Repainting:
    """Build the tab."""
    with gr.Tab("Inpainting", id="inpainting"):
        gr.Markdown(_HELP)
        upload = gr.UploadButton("Upload a picture", file_types=list(PICTURE_SUFFIXES), elem_id="inpainting_upload")
        value = editor_value(size=(engine.side, engine.side), regions=True)
        parts = Repainting.build("inpainting", "Inpaint", value, random=True)
        mask_file = gr.DownloadButton("Download the mask", size="sm", interactive=False, elem_id="inpainting_mask")
        given = gr.State(None)

    @told
    def take(path: str, value: dict[str, Any]) -> tuple[Any, ...]:
        picture = uploaded_picture(path)
        shown = editor_value(None, picture.size, address(storage.shown(picture)), True, value.get("boxes", ()))
        return shown, (picture, named_file(Path(path))), "Picture loaded."

    @told
    def read(given: Any, value: Any, seed: float | None, random: bool, settings: tuple[Any, ...]) -> ImageRequest:
        if given is None:
            raise ValueError("there is no picture to inpaint yet; upload one")
        asked, drawn, mask = Asked.read(engine, settings), edited_layout(value), region_mask(value)
        empty = not drawn.layout.words and not drawn.layout.objects
        layout = None if empty and mask is not None else drawn  # the prompt's words are set into the region
        return ImageRequest(
            asked.prompt, chosen_seed(seed, random), asked.sampler, asked.negative, layout, given[0], mask
        )

    def run(
        clicked: float | None,
        request: gr.Request,
        given: Any,
        value: dict[str, Any],
        seed: float | None,
        random: bool,
        *settings: Any,
        progress: gr.Progress = PROGRESS,
    ) -> Iterator[tuple[Any, ...]]:
        stopped = parts.stop.since(clicked, request)
        one = read(given, value, seed, random, settings)
        files, button = {"image": given[1]}, gr.DownloadButton(interactive=False)
        if one.mask is not None:
            path = storage.mask(one.mask)
            files["mask"] = named_file(path)
            button = gr.DownloadButton(value=path, interactive=True)
        for values in repainted(engine, storage, one, value, progress, stopped, files):
            yield *values, button

    upload.upload(take, [upload, parts.editor], [parts.editor, given, parts.status], **no_queue())
    parts.on_start(run, controls, [given], [mask_file])
    return parts
