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
from vlad_lightning.studio.generating import MODEL, PROGRESS, finished, generate, told
from vlad_lightning.studio.prompt_settings import Asked, Controls, build_seed, chosen_seed
from vlad_lightning.studio.stopping import CLICKED, StopButton
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
        stop: the button that ends the generation.
    """

    gallery: gr.Gallery
    shown: gr.State
    finished: Any
    edit: gr.Button
    stop: StopButton


def playground_tab(engine: Engine, storage: Storage, controls: Controls) -> Playground:
    """Build the tab."""
    with gr.Tab("Playground", id="playground"):
        with gr.Row():
            start = gr.Button("Generate", variant="primary", elem_id="generate", scale=3)
            stop = StopButton("stop")
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
            width, height = (
                gr.Number(engine.side, label=name, precision=0, minimum=1, min_width=120, elem_id=f"drawn_{name}")
                for name in ("Width", "Height")
            )
        with gr.Row():
            seed, random = build_seed("playground", random=True)
        shown = gr.State(())  # in the tab: between tabs, it would count as one

    def run(
        clicked: float | None,
        request: gr.Request,
        count: float,
        width: float | None,
        height: float | None,
        seed: float | None,
        random: bool,
        *settings: Any,
        progress: gr.Progress = PROGRESS,
    ) -> Iterator[tuple[Any, ...]]:
        stopped = stop.since(clicked, request)
        requests, notice = _read(engine, count, (width, height), seed, random, settings)
        first = requests[0].seed
        yield [], (), first, notice, gr.Button(interactive=False)
        started, done = monotonic(), list[Shown]()
        for index, one in enumerate(requests):
            for entry in generate(engine, one, progress, stopped, number=f", image {index + 1} of {len(requests)}"):
                if isinstance(entry, Drawn):
                    done.append(Shown(storage.image(entry), one.seed, entry.layout))
                    status = finished(entry, started, notice, first)
                    yield _images(done), tuple(done), first, status, gr.Button(interactive=True)
                elif entry.image is not None:
                    yield [*_images(done), entry.image], tuple(done), first, notice, gr.skip()
            if len(done) <= index:
                status = f"Stopped: {len(done)} of {len(requests)} finished."
                yield _images(done), tuple(done), first, status, gr.Button(interactive=bool(done))
                return

    running = gr.on(
        [start.click, controls.prompt.submit],
        run,
        [stop.clock, count, width, height, seed, random, *controls.inputs],
        [gallery, shown, seed, status, edit],
        concurrency_id=MODEL,
        concurrency_limit=1,
        show_progress="full",
        show_progress_on=status,
        js=CLICKED,
        api_visibility="private",
    )
    return Playground(gallery, shown, running, edit, stop)


@told
def _read(
    engine: Engine,
    count: float,
    size: tuple[float | None, float | None],
    seed: float | None,
    random: bool,
    settings: tuple[Any, ...],
) -> tuple[list[ImageRequest], str]:
    """Return what to generate, and what the user may have overlooked."""
    asked, first = Asked.read(engine, settings), chosen_seed(seed, random)
    seeds = [min(first + index, LARGEST_SEED) for index in range(max(1, min(int(count), _MOST_IMAGES)))]
    requests = [ImageRequest(asked.prompt, one, asked.sampler, asked.negative) for one in seeds]
    return [engine.sized(request, *size) for request in requests], asked.notice(engine)


def _images(shown: Sequence[Shown]) -> list[Any]:
    return [(str(one.path), f"seed {one.seed}") for one in shown]
