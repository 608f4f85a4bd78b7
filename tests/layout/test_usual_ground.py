"""The ground of posters of which nothing says what it is."""

from __future__ import annotations

import pytest

from vlad_lightning.layout.colours import PALETTE, RGB
from vlad_lightning.layout.usual_ground import usual_ground


@pytest.mark.parametrize(
    ("letters", "objects", "expected"),
    [
        ((), (), "white"),
        (("red",), ("pink", "blue"), "white"),
        (("yellow",), (), "black"),  # too light to be read on white
        ((), ("white",), "black"),
        ((), ("white", "black"), "gray"),
        (("blue",), ("white",), "yellow"),  # blue letters can be read neither on black nor on gray
        (("red", "white"), ("yellow", "blue", "black"), None),
        (("white",), ("red",), "black"),
    ],
)
def test_it_is_one_on_which_everything_that_is_told_can_be_seen(
    letters: tuple[str, ...], objects: tuple[str, ...], expected: str | None
) -> None:
    def colours(names: tuple[str, ...]) -> list[RGB]:
        return [PALETTE[name] for name in names]

    assert usual_ground(colours(letters), colours(objects)) == expected
