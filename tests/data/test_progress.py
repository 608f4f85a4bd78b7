from __future__ import annotations

import io

from rich.console import Console

from vlad_lightning.data.progress import Shown


def told(steps: list[tuple[float, int]], total: int, terminal: bool = False) -> str:
    """Return what is shown where ``steps`` tells how much later how much more is done."""
    clock = [0.0]
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    with Shown("pictures", total, console, lambda: clock[0]) as shown:
        for later, more in steps:
            clock[0] += later
            shown(more)
    return text.getvalue()


def test_without_a_terminal_a_line_comes_every_half_a_minute() -> None:
    assert told([(20, 1), (20, 1), (20, 1), (20, 1)], 40).splitlines() == [
        "2 of 40 pictures, about 13 min left",
        "4 of 40 pictures, about 12 min left",
    ]
    assert told([(5, 1)], 1) == ""
    assert told([(3600, 10)], 40).strip() == "10 of 40 pictures, about 3.0 h left"
    assert told([(40, 20)], 40).strip() == "20 of 40 pictures, about 40 s left"


def test_in_a_terminal_there_is_a_bar() -> None:
    shown = told([(40, 1), (40, 1)], 2, terminal=True)
    assert "2/2" in shown
    assert "left" not in shown
