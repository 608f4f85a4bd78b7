"""Generation as the page's events run it: progress, messages, and errors as one line."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from time import monotonic
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from PIL import Image

from vlad_lightning.pipeline.image_request import ImageRequest
from vlad_lightning.studio.engine import Drawn, Engine, Preview

MODEL = "model"
"""The concurrency group of everything that uses the model: one at a time, the others wait in its queue."""

PROGRESS = gr.Progress()
"""The default of an event's argument; gradio passes one of the event's own in its place."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def told(event: Callable[_P, _R]) -> Callable[_P, _R]:
    """Show a ValueError of an event as a message on the page instead of a traceback on the terminal."""

    @wraps(event)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return event(*args, **kwargs)
        except ValueError as error:
            raise as_message(error) from error

    return run


def as_message(error: ValueError) -> gr.Error:
    """Return an error as a message on the page."""
    return gr.Error(str(error).replace("&", "&amp;").replace("<", "&lt;"), print_exception=False)


def generate(
    engine: Engine,
    request: ImageRequest,
    progress: gr.Progress,
    stop: Callable[[], bool],
    files: Mapping[str, str] | None = None,
    number: str = "",
) -> Iterator[Preview | Drawn]:
    """Generate one image as :meth:`Engine.draw` does, with a progress bar.

    Args:
        engine: the model.
        request: what to generate.
        progress: the page's progress bar.
        stop: see there.
        files: see there.
        number: which of several images it is, for the progress bar.

    Raises:
        gr.Error: if the request cannot be generated.
    """
    try:
        with contextlib.closing(engine.draw(request, files, stop)) as entries:  # type: ignore[type-var]
            for entry in entries:
                if isinstance(entry, Preview):
                    progress((entry.step, entry.steps), desc=f"seed {request.seed}{number}", unit="steps")
                yield entry
    except ValueError as error:
        raise as_message(error) from error


def finished(drawn: Drawn, started: float, notice: str = "", first: int | None = None) -> str:
    """Return the line below images: how they were made, and what the user may have overlooked.

    Args:
        drawn: the last image.
        started: when the first one was started, by ``monotonic``.
        notice: what the user may have overlooked.
        first: the seed of the first image; None if there is one image.
    """
    last = drawn.request.seed
    seeds = f"Seed **{last}**" if first in (None, last) else f"Seeds **{first}** to **{last}**"
    line = f"{seeds}, {drawn.request.sampler.steps} steps, {monotonic() - started:.1f} s."
    return f"{line} {notice}".strip()


def as_data(image: Image.Image) -> str:
    """Return a small picture as an address that contains it."""
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def no_queue(**more: Any) -> dict[str, Any]:
    """Return the settings of an event that needs no model."""
    return {"api_visibility": "private", "show_progress": "hidden", **more}
