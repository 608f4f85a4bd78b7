"""The layout editor: its component in the browser, and the tab that repaints a picture from its boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from time import monotonic
from typing import Any

import gradio as gr

from vlad_lightning.pipeline.image_request import ImageRequest
from vlad_lightning.studio.boxes import edited_layout, editor_value
from vlad_lightning.studio.engine import Drawn, Engine
from vlad_lightning.studio.generating import MODEL, PROGRESS, as_data, finished, generate, no_queue, told
from vlad_lightning.studio.playground import Playground, Shown
from vlad_lightning.studio.prompt_settings import Asked, Controls, build_seed, chosen_seed
from vlad_lightning.studio.stopping import CLICKED, StopButton
from vlad_lightning.studio.storage import Storage, address
from vlad_lightning.studio.uploads import uploaded_layout

_SAVE = """(text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "layout.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


def editor_component(name: str, value: Mapping[str, Any]) -> gr.HTML:
    """Build an editor.

    Args:
        name: its id on the page.
        value: see :func:`~vlad_lightning.studio.boxes.editor_value`.
    """
    texts = {kind: _text(f"editor.{kind}") for kind in ("html", "css", "js")}
    return gr.HTML(
        dict(value),
        html_template=texts["html"],
        css_template=texts["css"],
        js_on_load=texts["js"],
        apply_default_css=False,
        elem_id=name,
    )


def _text(name: str) -> str:
    return files("vlad_lightning.studio").joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Repainting:
    """The components below an editor.

    Attributes:
        editor: the editor.
        start: the button that generates.
        status: the line below it.
        download: the button that downloads the image.
        seed: the seed.
        random: whether each image gets a new seed.
        stop: the button that ends the generation.
    """

    editor: gr.HTML
    start: gr.Button
    status: gr.Markdown
    download: gr.DownloadButton
    seed: gr.Number
    random: gr.Checkbox
    stop: StopButton

    @classmethod
    def build(cls, name: str, label: str, value: Mapping[str, Any], random: bool) -> Repainting:
        """Build an editor and what is below it.

        Args:
            name: beginning of the components' ids.
            label: text of the button that generates.
            value: the editor's value.
            random: whether each image gets a new seed, unless the user says otherwise.
        """
        editor = editor_component(name, value)
        with gr.Row():
            start = gr.Button(label, variant="primary", elem_id=f"{name}_start", scale=3)
            stop = StopButton(f"{name}_stop")
            download = gr.DownloadButton(
                "Download", elem_id=f"{name}_download", interactive=False, scale=1, min_width=110
            )
        status = gr.Markdown(elem_classes="status", elem_id=f"{name}_status")
        with gr.Row():
            seed, again = build_seed(name, random)
        return cls(editor, start, status, download, seed, again, stop)

    @property
    def outputs(self) -> list[Any]:
        """The components that :func:`repainted` yields values for."""
        return [self.editor, self.seed, self.download, self.status]

    def draw_layout(self, engine: Engine, storage: Storage, controls: Controls) -> None:
        """Let the button generate an image from the layout in the editor."""

        def run(
            clicked: float | None,
            request: gr.Request,
            value: dict[str, Any],
            seed: float | None,
            random: bool,
            *settings: Any,
            progress: gr.Progress = PROGRESS,
        ) -> Iterator[tuple[Any, ...]]:
            stopped = self.stop.since(clicked, request)
            asked, layout, chosen = _read(engine, value, seed, random, settings)
            one = ImageRequest(asked.prompt, chosen, asked.sampler, asked.negative, layout)
            one = engine.framed(one, layout)
            yield from repainted(engine, storage, one, value, progress, stopped)

        self.on_start(run, controls)

    def on_start(
        self,
        run: Callable[..., Iterator[tuple[Any, ...]]],
        controls: Controls,
        given: Sequence[Any] = (),
        outputs: Sequence[Any] = (),
    ) -> None:
        """Let the button call a generator.

        Args:
            run: takes the time of the click, the event's request, and the values of ``given``, of the editor, the seed,
                whether the seed is random, and of the settings; yields values for :attr:`outputs` and the further ones.
            controls: the settings.
            given: further components whose values it takes.
            outputs: further components that it yields values for.
        """
        self.start.click(
            run,
            [self.stop.clock, *given, self.editor, self.seed, self.random, *controls.inputs],
            [*self.outputs, *outputs],
            concurrency_id=MODEL,
            concurrency_limit=1,
            show_progress_on=self.status,
            js=CLICKED,
            api_visibility="private",
        )


def repainted(
    engine: Engine,
    storage: Storage,
    request: ImageRequest,
    value: Mapping[str, Any],
    progress: gr.Progress,
    stop: Callable[[], bool],
    files: Mapping[str, str] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Generate an image and show it behind an editor's boxes, which stay as they are in the browser.

    Args:
        engine: the model.
        storage: where the image is stored.
        request: what to generate.
        value: the editor's value.
        progress: the page's progress bar.
        stop: see :meth:`Engine.draw`; the picture from before is shown again.
        files: see there.
    """
    started = monotonic()
    for entry in generate(engine, request, progress, stop, files):
        if isinstance(entry, Drawn):
            path = storage.image(entry)
            button = gr.DownloadButton(value=path, interactive=True)
            yield _behind(value, address(path)), request.seed, button, finished(entry, started)
            return
        if entry.image is not None:
            yield _behind(value, as_data(entry.image)), request.seed, gr.skip(), ""
    yield _behind(value, value.get("picture")), request.seed, gr.skip(), "Stopped."


def _behind(value: Mapping[str, Any], picture: str | None) -> dict[str, Any]:
    return {**value, "picture": picture, "keep_boxes": True}


def layout_tab(engine: Engine, storage: Storage, controls: Controls) -> Repainting | None:
    """Build the tab; None for a model that follows no layouts, of which it says so."""
    with gr.Tab("Layout", id="layout"):
        if not engine.follows_layouts:
            gr.Markdown("This model follows no layouts: it was trained without hierarchical guidance.")
            return None
        value = editor_value(size=(engine.side, engine.side))
        parts = Repainting.build("layout", "Repaint", value, random=False)
        with gr.Row():
            load = gr.UploadButton("Load layout", file_types=[".json"], size="sm", elem_id="layout_load")
            save = gr.Button("Save layout", size="sm", elem_id="layout_save")
        text = gr.Textbox(visible=False)

    @told
    def load_layout(path: str, value: dict[str, Any], prompt: str) -> tuple[dict[str, Any], str, str]:
        layout = uploaded_layout(path)
        shown = editor_value(layout.layout, (engine.side, engine.side), value.get("picture"))
        return shown, layout.prompt or prompt, "Layout loaded; press Repaint to draw it."

    @told
    def save_layout(value: dict[str, Any], prompt: str) -> str:
        layout = edited_layout(value, prompt.strip() or None)
        return storage.layout(layout).read_text(encoding="utf-8")

    parts.draw_layout(engine, storage, controls)
    load.upload(
        load_layout,
        [load, parts.editor, controls.prompt],
        [parts.editor, controls.prompt, parts.status],
        **no_queue(),
    )
    save.click(save_layout, [parts.editor, controls.prompt], text, **no_queue()).success(
        None, text, js=_SAVE, api_visibility="private"
    )
    return parts


@told
def _read(engine: Engine, value: object, seed: float | None, random: bool, settings: tuple[Any, ...]) -> Any:
    return Asked.read(engine, settings), edited_layout(value), chosen_seed(seed, random)


def connect(engine: Engine, playground: Playground, parts: Repainting, tabs: gr.Tabs) -> None:
    """Show the playground's image in the layout editor: the newest one, and whichever is chosen in the gallery."""

    def show(shown: tuple[Shown, ...], index: int) -> tuple[Any, ...]:
        one = shown[min(index, len(shown) - 1)]
        value = editor_value(one.layout.layout, (one.layout.width, one.layout.height), address(one.path))
        return value, one.seed, gr.DownloadButton(value=one.path, interactive=True), f"Seed **{one.seed}**."

    def show_newest(shown: tuple[Shown, ...]) -> tuple[Any, ...]:
        return show(shown, len(shown)) if shown else (gr.skip(),) * len(parts.outputs)

    def show_chosen(shown: tuple[Shown, ...], chosen: gr.SelectData) -> tuple[Any, ...]:
        return show(shown, int(chosen.index)) if shown else (gr.skip(),) * len(parts.outputs)

    playground.finished.success(show_newest, playground.shown, parts.outputs, **no_queue())
    playground.gallery.select(show_chosen, playground.shown, parts.outputs, **no_queue())
    playground.edit.click(lambda: gr.Tabs(selected="layout"), None, tabs, **no_queue())
