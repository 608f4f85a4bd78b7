"""The ground of posters of which nothing says what it is: white, or another where something cannot be seen on white."""

from __future__ import annotations

from collections.abc import Sequence

from vlad_lightning.layout.colours import MIN_CONTRAST, PALETTE, RGB, contrast, is_far

USUAL = ("white", "black")
"""The grounds of the literal world's posters where their captions tell none, the most usual first."""

GROUNDS = tuple(dict.fromkeys((*USUAL, "gray", *PALETTE)))
"""All grounds, by their names in :data:`~vlad_lightning.layout.colours.PALETTE`, in the order of trial."""


def usual_ground(letters: Sequence[RGB], objects: Sequence[RGB], grounds: Sequence[str] = GROUNDS) -> str | None:
    """Return the first ground on which letters in these colours can be read and objects in these colours can be seen.

    Args:
        letters: sRGB bytes of the words whose colour is told.
        objects: likewise of the objects.
        grounds: names of the palette's colours that are tried.

    Returns:
        One of ``grounds``; None if there is none.

    Example:
        >>> usual_ground([], []), usual_ground([PALETTE["yellow"]], []), usual_ground([PALETTE["white"]], [(0, 0, 0)])
        ('white', 'black', 'gray')
    """
    for name in grounds:
        ground = PALETTE[name]
        readable = all(contrast(rgb, ground) >= MIN_CONTRAST for rgb in letters)
        if readable and all(is_far(rgb, [ground]) for rgb in objects):
            return name
    return None
