"""Boxes that lie on each other, moved apart: words keep their reading order, objects give way to words.

Two boxes overlap where their upright bounding boxes do. Everything here is arithmetic on a handful of numbers, so it
runs on Python floats; what is not moved comes back bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from vlad_lightning.layout.masks import fills_frame

ALLOWED = 0.01  # of the smaller bounding box: less than this is no overlap
_GAP = 1e-3  # of the frame, between two boxes that were pushed apart
_ROUNDING = 1e-5  # of the frame: how far outside still counts as inside, for boxes come in float32
_SWEEPS, _SHRINKS, _SHRINK = 24, 5, 0.88  # pushes over all pairs; how often words are made smaller, and how much
_ROUNDS = 3  # rounding to float32 can undo what holds by a hair
_OBJECT_SCALES = (1.0, 0.85, 0.7, 0.55, 0.4)
_SHRINKING_COSTS = 0.5  # an object at half its size is as far from what was wanted as one a quarter of the frame away


@dataclass(frozen=True)
class Resolved:
    """A layout without overlaps.

    Attributes:
        boxes: (N, 5) float32, the words', as in :class:`~vlad_lightning.types.Layout`.
        objects: (K, 5) float32, likewise.
        moved: how many of the N + K boxes were moved or made smaller.
    """

    boxes: Tensor
    objects: Tensor
    moved: int


def resolve_overlaps(boxes: Tensor, groups: Sequence[int], objects: Tensor | None = None) -> Resolved:
    """Move words and objects apart, as little as that takes.

    Afterwards no two words share more than :data:`ALLOWED` of the smaller one, each lies in the frame, and the words of
    a group stand in reading order: each right of the ones before it in its line, or below them. Words that are in each
    other's way are pushed apart along the axis in which they overlap least; where that finds no place, their groups'
    words are made smaller, and at worst all words are set as lines, group under group. Objects then move to the nearest
    free place, smaller if need be; one for which there is none, even at 0.4 times its size, stays where it is. One that
    fills the frame is the ground: it stays, and nothing makes way for it.

    The same input gives the same output; a layout that is in order already comes back bit for bit.

    Args:
        boxes: (N, 5) float32, the words to draw in the order of the prompt.
        groups: of each word, the quoted span it stands in (``Decomposition.groups``).
        objects: (K, 5) float32; the first have the right of way. None means there are none.

    Raises:
        ValueError: where ``groups`` has not one entry a word.
    """
    if len(groups) != len(boxes):
        raise ValueError(f"groups has {len(groups)} entries; {len(boxes)} words need one each")
    objects = boxes.new_zeros(0, 5) if objects is None else objects
    apart = boxes
    for _ in range(_ROUNDS):
        words = [_Rect(box, group) for box, group in zip(apart.tolist(), groups, strict=True)]
        _resolve_words(words)
        if not any(word.moved for word in words):
            break
        apart = _as_boxes(words, boxes)
    taken, things = list(words), [_Rect(box) for box in objects.tolist()]
    for thing, ground in zip(things, fills_frame(objects).tolist(), strict=True):
        if not ground:
            _make_way(thing, taken)
            taken.append(thing)
    free = _as_boxes(things, objects)
    moved = int((apart != boxes).any(dim=1).sum() + (free != objects).any(dim=1).sum())
    return Resolved(apart, free, moved)


def overlap_share(first: Tensor, second: Tensor) -> float:
    """The share of the smaller of two upright bounding boxes that the other covers, in [0, 1].

    Args:
        first: (5,) float, as a row of ``Layout.boxes``.
        second: (5,) float.
    """
    return _shared(_Rect(first.tolist()), _Rect(second.tolist()))


class _Rect:
    """A box that can be moved and made smaller, seen as its upright bounding box."""

    def __init__(self, box: Sequence[float], group: int = -1) -> None:
        x, y, width, height, angle = box
        self._given = (x, y)
        self.x, self.y, self.size, self.angle, self.group = x, y, (width, height), angle, group
        self.scale = 1.0
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        self._half = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2

    @property
    def across(self) -> float:
        """Half the bounding box's width."""
        return self._half[0] * self.scale

    @property
    def down(self) -> float:
        """Half the bounding box's height."""
        return self._half[1] * self.scale

    @property
    def moved(self) -> bool:
        return self.scale != 1 or (self.x, self.y) != self._given

    def box(self) -> list[float]:
        return [self.x, self.y, self.size[0] * self.scale, self.size[1] * self.scale, self.angle]

    def in_frame(self) -> bool:
        beyond = max(self.across - self.x, self.x + self.across - 1, self.down - self.y, self.y + self.down - 1)
        return beyond <= _ROUNDING

    def enter_frame(self) -> None:
        """Come inside by the shortest way, smaller if it is larger than the frame."""
        if self.in_frame():
            return
        self.scale *= min(1.0, 0.5 / max(self.across, self.down, 1e-9))
        self.x = min(max(self.x, self.across), 1 - self.across)
        self.y = min(max(self.y, self.down), 1 - self.down)


def _as_boxes(rects: Sequence[_Rect], like: Tensor) -> Tensor:
    """(N, 5): the boxes, and the very same tensor where none was moved."""
    return like.new_tensor([rect.box() for rect in rects]) if any(rect.moved for rect in rects) else like


def _shared(first: _Rect, second: _Rect) -> float:
    wide = min(first.x + first.across, second.x + second.across) - max(first.x - first.across, second.x - second.across)
    high = min(first.y + first.down, second.y + second.down) - max(first.y - first.down, second.y - second.down)
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / max(4 * min(first.across * first.down, second.across * second.down), 1e-12)


def _line(first: _Rect, second: _Rect) -> float:
    """How far apart in height two words of one line may stand: half of the larger one's height."""
    return max(first.down, second.down)


def _in_order(first: _Rect, second: _Rect) -> bool:
    """Whether a group's later word is read later: right of the earlier one in its line, or below the line."""
    below = second.y - first.y
    if abs(below) <= _line(first, second):
        return second.x >= first.x
    return below > 0


def _wrong(words: Sequence[_Rect]) -> Iterator[tuple[_Rect, _Rect]]:
    """The pairs that overlap, or are in the wrong order."""
    for first, second in combinations(words, 2):
        disordered = first.group == second.group and not _in_order(first, second)
        if disordered or _shared(first, second) > ALLOWED:
            yield first, second


def _resolve_words(words: Sequence[_Rect]) -> None:
    for word in words:
        word.enter_frame()
    if next(_wrong(words), None) is None:
        return
    _swap_into_order(words)
    for attempt in range(_SHRINKS + 1):
        if _pushed_apart(words):
            return
        if attempt < _SHRINKS:
            crowded = {word.group for pair in _wrong(words) for word in pair}
            for word in words:
                word.scale *= _SHRINK if word.group in crowded else 1
    _set_as_lines(words)


def _swap_into_order(words: Sequence[_Rect]) -> None:
    """Let the words of a group that is out of order exchange their places."""
    for members in _groups(words):
        if all(_in_order(first, second) for first, second in combinations(members, 2)):
            continue
        left = sorted(members, key=lambda word: (word.y, word.x))
        candidates: list[tuple[float, float]] = []
        while left:
            line = [word for word in left if abs(word.y - left[0].y) <= _line(word, left[0])]
            left = [word for word in left if word not in line]
            candidates += sorted((word.x, word.y) for word in line)
        for word, (x, y) in zip(members, candidates, strict=True):
            word.x, word.y = x, y
            word.enter_frame()


def _groups(words: Iterable[_Rect]) -> list[list[_Rect]]:
    found: dict[int, list[_Rect]] = {}
    for word in words:
        found.setdefault(word.group, []).append(word)
    return list(found.values())


def _pushed_apart(words: Sequence[_Rect]) -> bool:
    """Push all pairs that are wrong, over and over; whether that came to an end."""
    for _ in range(_SWEEPS):
        calm = True
        for first, second in _wrong(words):
            calm = False
            _push(first, second)
        if calm:
            return True
        for word in words:
            word.enter_frame()
    return next(_wrong(words), None) is None


def _push(first: _Rect, second: _Rect) -> None:
    """Move both by half of what they lack, along the axis in which that is less; in a group the later one goes on."""
    wide, high = first.across + second.across + _GAP, first.down + second.down + _GAP
    if first.group == second.group:
        lift = first.y - second.y - _line(first, second)  # above 0: too high to be read after a word on its left
        right, lift = max(0.0, wide - (second.x - first.x)), lift + _GAP if lift > 0 else 0.0
        below = max(0.0, high - (second.y - first.y))
        step = (right, lift) if right + lift < below else (0.0, below)
    else:
        right, below = wide - abs(second.x - first.x), high - abs(second.y - first.y)
        right, below = math.copysign(right, second.x - first.x), math.copysign(below, second.y - first.y)
        step = (right, 0.0) if abs(right) < abs(below) else (0.0, below)
    first.x, first.y = first.x - step[0] / 2, first.y - step[1] / 2
    second.x, second.y = second.x + step[0] / 2, second.y + step[1] / 2


def _set_as_lines(words: Sequence[_Rect]) -> None:
    """Set the words as lines in reading order, groups from the top to the bottom as they stand, as large as fits."""
    groups = sorted(_groups(words), key=lambda group: sum(word.y for word in group) / len(group))
    for _ in range(100):
        lines = [line for group in groups for line in _wrapped(group)]
        heights = [2 * max(word.down for word in line) + _GAP for line in lines]
        if sum(heights) <= 1:
            break
        for word in words:
            word.scale *= 0.95
    end = 1.0
    bottoms = []  # each line as near as possible to where its words stood, from the lowest up, and then down again
    for line, height in zip(reversed(lines), reversed(heights), strict=True):
        end = min(end, sum(word.y for word in line) / len(line) + height / 2)
        bottoms.append(end)
        end -= height
    start = 0.0
    for line, height, bottom in zip(lines, heights, reversed(bottoms), strict=True):
        start = max(start, bottom - height)
        _set_line(line, start + height / 2)
        start += height


def _wrapped(group: Sequence[_Rect]) -> list[list[_Rect]]:
    """A group's words in lines no wider than the frame."""
    lines: list[list[_Rect]] = []
    room = 0.0
    for word in group:
        needed = 2 * word.across + _GAP
        if needed > room:
            lines.append([])
            room = 1.0
        lines[-1].append(word)
        room -= needed
    return lines


def _set_line(line: Sequence[_Rect], y: float) -> None:
    """Set words side by side around the middle of where they stood."""
    width = sum(2 * word.across + _GAP for word in line)
    middle = sum(word.x for word in line) / len(line)
    x = min(max(middle - width / 2, 0.0), max(1 - width, 0.0))
    for word in line:
        word.x, word.y = x + word.across + _GAP / 2, y
        x += 2 * word.across + _GAP
        word.enter_frame()


def _make_way(thing: _Rect, taken: Sequence[_Rect]) -> None:
    """Move an object to the nearest place where it lies on nothing, smaller if that is nearer; or leave it."""
    thing.enter_frame()
    if all(_shared(thing, other) <= ALLOWED for other in taken):
        return
    obstacles = torch.tensor([(o.x, o.y, o.across, o.down) for o in taken], dtype=torch.float64)
    nearest = (math.inf, thing.x, thing.y, 1.0)
    for scale in _OBJECT_SCALES:
        cost = _SHRINKING_COSTS * (1 - scale)
        if cost < nearest[0] and (found := _nearest_free(thing, scale, obstacles)):
            distance, x, y = found
            nearest = min(nearest, (distance + cost, x, y, scale))
    if nearest[0] < math.inf:
        thing.x, thing.y = nearest[1:3]
        thing.scale *= nearest[3]


def _nearest_free(thing: _Rect, scale: float, obstacles: Tensor) -> tuple[float, float, float] | None:
    """Distance and centre of the nearest free place for an object of ``scale`` times its size, or None.

    Each coordinate of such a place is the object's own or touches an obstacle: there are finitely many to try.

    Args:
        thing: the object.
        scale: in (0, 1].
        obstacles: (M, 4) float64: centres and half sizes.
    """
    half = torch.tensor([thing.across, thing.down], dtype=torch.float64) * scale
    centre = torch.tensor([thing.x, thing.y], dtype=torch.float64)
    reach = obstacles[:, 2:] + half  # (M, 2)
    tried = torch.cat([centre[None], obstacles[:, :2] - reach - _GAP, obstacles[:, :2] + reach + _GAP])  # (1 + 2M, 2)
    candidates = torch.cartesian_prod(*tried.unbind(1))  # (T, 2)
    candidates = candidates[((candidates >= half - _ROUNDING / 2) & (candidates <= 1 - half + _ROUNDING / 2)).all(1)]
    free = ((candidates[:, None] - obstacles[:, :2]).abs() >= reach + _GAP / 2).any(2).all(1)
    candidates = candidates[free]
    if not len(candidates):
        return None
    distances = (candidates - centre).norm(dim=1)
    best = int(distances.argmin())
    return float(distances[best]), *candidates[best].tolist()
