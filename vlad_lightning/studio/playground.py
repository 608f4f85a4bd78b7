"""The playground: images for a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import gradio as gr

from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.pipeline.image_request import ImageRequest
from vlad_lightning.studio.engine import LARGEST_SEED, Drawn, Engine
from vlad_lightning.studio.generating import MODEL, PROGRESS, as_message, finished, generate
from vlad_lightning.studio.prompt_settings import Asked, Controls, build_seed, chosen_seed
from vlad_lightning.studio.storage import Storage

_MOST_IMAGES = 8


@dataclass(frozen=True)
class Shown:
    """An image in the gallery.

    Attributes:
        path: its file.
        seed: its seed.
        layout: its layout.
    """

    path: Path
    seed: int
    layout: LayoutFile


@dataclass(frozen=True)
class Playground:
    """The parts of the playground that the layout editor is connected to.

    Attributes:
        gallery: the images.
        shown: what is in the gallery, a tuple of :class:`Shown`.
        finished: the event that follows the generation.
        edit: the button that opens the layout editor.
    """

    gallery: gr.Gallery
    shown: gr.State
    finished: Any
    edit: gr.Button


def playground_tab(engine: Engine, storage: Storage, controls: Controls) -> Playground:
    """Build the tab."""
    with gr.Tab("Playground", id="playground"):
        with gr.Row():
            start = gr.Button("Generate", variant="primary", elem_id="generate", scale=3)
            stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1, min_width=90)
        status = gr.Markdown(elem_classes="status", elem_id="playground_status")
        gallery = gr.Gallery(
            label="Images",
            elem_id="drawn",
            columns=2,
            height="auto",
            object_fit="contain",
            format="png",
            interactive=False,
            buttons=["download", "fullscreen"],
        )
        edit = gr.Button("Edit the layout", elem_id="edit", interactive=False)
        with gr.Row():
            count = gr.Slider(1, _MOST_IMAGES, 1, step=1, label="Number of images", elem_id="count")
        with gr.Row():
            seed, random = build_seed("playground", random=True)
        shown = gr.State(())  # in the tab: between tabs, it would count as one

    def run(
        count: float, seed: float | None, random: bool, *settings: Any, progress: gr.Progress = PROGRESS
    ) -> Iterator[tuple[Any, ...]]:
        try:
            asked = Asked.read(engine, settings)
            first = chosen_seed(seed, random)
        except ValueError as error:
            raise as_message(error) from error
        yield [], (), first, asked.notice, gr.Button(interactive=False)
        started, done = monotonic(), list[Shown]()
        for index in range(max(1, min(int(count), _MOST_IMAGES))):
            request = ImageRequest(asked.prompt, min(first + index, LARGEST_SEED), asked.sampler, asked.negative)
            for entry in generate(engine, request, progress, number=f", image {index + 1} of {int(count)}"):
                if isinstance(entry, Drawn):
                    done.append(Shown(storage.image(entry), request.seed, entry.layout))
                    status = finished(entry, started, asked.notice, first)
                    yield _images(done), tuple(done), first, status, gr.Button(interactive=True)
                elif entry.image is not None:
                    yield [*_images(done), entry.image], tuple(done), first, asked.notice, gr.skip()

    running = gr.on(
        [start.click, controls.prompt.submit],
        run,
        [count, seed, random, *controls.inputs],
        [gallery, shown, seed, status, edit],
        concurrency_id=MODEL,
        concurrency_limit=1,
        show_progress="full",
        show_progress_on=status,
        api_visibility="private",
    )
    stop.click(None, cancels=[running], api_visibility="private")
    return Playground(gallery, shown, running, edit)


def _images(shown: Sequence[Shown]) -> list[Any]:
    return [(str(one.path), f"seed {one.seed}") for one in shown]
