"""Stop buttons: each ends what its page asked for before it was pressed, whether that runs or waits.

gradio's own way (``cancels``) ends the task of an event and then reports an empty result. If the browser reads that
result before it has read the answer to its cancelling, it shows an error and stays busy: in 4 of 14 trials with steps
slowed to 0.1 s (two threads of an AMD EPYC core, busy, no GPU, 2026-11-29, gradio 6.31). Here the event ends by itself:
the generation reads the button at each step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import gradio as gr

CLICKED = "(clock, ...values) => [performance.now(), ...values]"
"""Script of an event: its first value becomes the time of the click, by the page's own clock."""

_SESSIONS = 1000  # the most that are remembered


class StopButton:
    """A button that ends the generations of a tab; build it where it stands on the page.

    Args:
        name: its id on the page.
    """

    def __init__(self, name: str) -> None:
        self.button = gr.Button("Stop", variant="stop", elem_id=name, scale=1, min_width=90)
        self.clock = gr.Number(visible=False)
        self._pressed: dict[str, float] = {}  # when, by session
        self._left: deque[str] = deque(maxlen=_SESSIONS)
        # not queued: the queue may be full
        self.button.click(
            self._press, self.clock, js=CLICKED, queue=False, show_progress="hidden", api_visibility="private"
        )

    def since(self, clicked: float | None, request: gr.Request) -> Callable[[], bool]:
        """Return a function that tells whether the button was pressed after a click, or the page was closed.

        Args:
            clicked: the value of :attr:`clock` in an event with the script :data:`CLICKED`.
            request: of that event.
        """
        session = _session(request)
        if session in self._left:
            self._left.remove(session)  # the connection was only lost for a while
        return lambda: session in self._left or self._pressed.get(session, -math.inf) >= (clicked or 0.0)

    def leave(self, request: gr.Request) -> None:
        """End the generations of a page that was closed."""
        self._pressed.pop(_session(request), None)
        self._left.append(_session(request))

    def _press(self, clicked: float | None, request: gr.Request) -> None:
        self._pressed[_session(request)] = clicked or 0.0
        while len(self._pressed) > _SESSIONS:
            self._pressed.pop(next(iter(self._pressed)))


def _session(request: gr.Request) -> str:
    return request.session_hash or ""


def leave_all(page: gr.Blocks, buttons: list[StopButton]) -> None:
    """End the generations of a page when it is closed."""

    def leave(request: gr.Request) -> None:
        for button in buttons:
            button.leave(request)

    leave_event: Any = page.unload
    leave_event(leave)
