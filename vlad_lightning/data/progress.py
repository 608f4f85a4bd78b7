"""How far a long command is: a bar in a terminal, elsewhere a line every half a minute."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 30.0  # seconds between two lines where there is no terminal


class Shown:
    """A context that shows how many of a number of things are done, on stderr.

    Args:
        what: what is counted, such as ``pictures``.
        total: how many there are.
        console: where it is shown.
        now: a clock in seconds.

    Example:
        >>> with Shown("pictures", total=3) as shown:
        ...     shown(2)
    """

    def __init__(
        self, what: str, total: int, console: Console | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._total = total
        self._console = console or Console(stderr=True)
        self._now = now
        self._done = 0
        self._began = self._last = now()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, more: int) -> None:
        """Count ``more`` things as done."""
        self._done += more
        self._bar.update(self._task, completed=self._done)
        now = self._now()
        if self._console.is_terminal or now - self._last < _EVERY:
            return
        self._last = now
        left = (now - self._began) / self._done * (self._total - self._done) if self._done else 0.0
        self._console.print(
            f"{self._done} of {self._total} {self._what}, about {_duration(left)} left", soft_wrap=True, highlight=False
        )


def _duration(seconds: float) -> str:
    """Return a time in the unit that suits it: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
