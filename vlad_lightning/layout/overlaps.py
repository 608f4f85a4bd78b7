"""Overlapping boxes moved apart: words keep their reading order, and objects give way to words.

Two boxes overlap if their upright bounding boxes do. Everything here is arithmetic on a handful of numbers, so it runs
on Python floats; boxes that are not moved are returned bit for bit.
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
_CLEARANCE = 0.025  # of the frame, around an object that has the room: letters that it touches are hard to read
_FURTHEST = 0.1  # of the frame: how far an object moves for its clearance
_ROUNDING = 1e-5  # of the frame: how far outside still counts as inside, because boxes are float32
_SWEEPS, _SHRINKS, _SHRINK = 24, 5, 0.88  # passes over all pairs; how often words are shrunk, and by how much
_ROUNDS = 3  # repeated, because rounding to float32 can undo a narrow fit
_OBJECT_SCALES = (1.0, 0.85, 0.7, 0.55, 0.4)
_SHRINKING_COSTS = 0.5  # an object at half its size costs as much as one moved by a quarter of the frame


@dataclass(frozen=True)
class Resolved:
    """A layout without overlaps.

    Attributes:
        boxes: (N, 5) float32, the words' boxes, as in :class:`~vlad_lightning.types.Layout`.
        objects: (K, 5) float32, the objects' boxes, likewise.
        moved: how many of the N + K boxes were moved or shrunk.
    """

    boxes: Tensor
    objects: Tensor
    moved: int


def resolve_overlaps(boxes: Tensor, groups: Sequence[int], objects: Tensor | None = None) -> Resolved:
    """Move words and objects apart, as little as possible.

    Afterwards no two words overlap by more than :data:`ALLOWED` of the smaller one, each lies in the frame, and the
    words of a group are in reading order: each is right of the words before it in its line, or below them. Conflicting
    words are pushed apart along the axis in which they overlap least; if that fails, the words of their groups are
    shrunk, and as a last resort all words are set as lines, group under group. Objects then move to the nearest free
    position, shrunk if necessary, and then a little further to be clear of what they touch, if there is room; an object
    without a free position, even at 0.4 times its size, stays where it is. An object that fills the frame is a
    background: it stays, and nothing makes way for it.

    The same input gives the same output; a layout that is already in order is returned bit for bit.

    Args:
        boxes: (N, 5) float32, the words to draw in the order of the prompt.
        groups: for each word, the index of its quoted span (``Decomposition.groups``).
        objects: (K, 5) float32; earlier ones have priority. None means no objects.

    Raises:
        ValueError: if ``groups`` does not have one entry per word.
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
    taken, object_rects = list(words), [_Rect(box) for box in objects.tolist()]
    for rect, ground in zip(object_rects, fills_frame(objects).tolist(), strict=True):
        if not ground:
            _make_way(rect, taken)
            taken.append(rect)
    free = _as_boxes(object_rects, objects)
    moved = int((apart != boxes).any(dim=1).sum() + (free != objects).any(dim=1).sum())
    return Resolved(apart, free, moved)


def overlap_share(first: Tensor, second: Tensor) -> float:
    """Return the share of the smaller of two upright bounding boxes that the other covers, in [0, 1].

    Args:
        first: (5,) float, as a row of ``Layout.boxes``.
        second: (5,) float.
    """
    return _shared(_Rect(first.tolist()), _Rect(second.tolist()))


class _Rect:
    """A box that can be moved and shrunk, treated as its upright bounding box."""

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
        """Move inside the frame by the shortest way, shrunk if larger than the frame."""
        if self.in_frame():
            return
        self.scale *= min(1.0, 0.5 / max(self.across, self.down, 1e-9))
        self.x = min(max(self.x, self.across), 1 - self.across)
        self.y = min(max(self.y, self.down), 1 - self.down)


def _as_boxes(rects: Sequence[_Rect], like: Tensor) -> Tensor:
    """Return the boxes (N, 5), or ``like`` itself if none was moved."""
    return like.new_tensor([rect.box() for rect in rects]) if any(rect.moved for rect in rects) else like


def _shared(first: _Rect, second: _Rect) -> float:
    wide = min(first.x + first.across, second.x + second.across) - max(first.x - first.across, second.x - second.across)
    high = min(first.y + first.down, second.y + second.down) - max(first.y - first.down, second.y - second.down)
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / max(4 * min(first.across * first.down, second.across * second.down), 1e-12)


def _line(first: _Rect, second: _Rect) -> float:
    """Return how far apart vertically two words of one line may be: half of the larger one's height."""
    return max(first.down, second.down)


def _in_order(first: _Rect, second: _Rect) -> bool:
    """Return whether a group's later word is read later: right of the earlier one in its line, or below the line."""
    below = second.y - first.y
    if abs(below) <= _line(first, second):
        return second.x >= first.x
    return below > 0


def _wrong(words: Sequence[_Rect]) -> Iterator[tuple[_Rect, _Rect]]:
    """Yield the pairs that overlap, or are in the wrong order."""
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
    """Exchange the positions of the words of each group that is out of order."""
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
    """Push all conflicting pairs apart, repeatedly; return whether no conflict is left."""
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
    """Move both by half the missing distance, along the axis where it is less; a group's later word moves forward."""
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
    """Set the words as lines in reading order, groups in their order from top to bottom, as large as fits."""
    groups = sorted(_groups(words), key=lambda group: sum(word.y for word in group) / len(group))
    for _ in range(100):
        lines = [line for group in groups for line in _wrapped(group)]
        heights = [2 * max(word.down for word in line) + _GAP for line in lines]
        if sum(heights) <= 1:
            break
        for word in words:
            word.scale *= 0.95
    end = 1.0
    bottoms = []  # each line as near as possible to where its words were, from the lowest up, and then down again
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
    """Break a group's words into lines no wider than the frame."""
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
    """Set words side by side around the middle of their previous positions."""
    width = sum(2 * word.across + _GAP for word in line)
    middle = sum(word.x for word in line) / len(line)
    x = min(max(middle - width / 2, 0.0), max(1 - width, 0.0))
    for word in line:
        word.x, word.y = x + word.across + _GAP / 2, y
        x += 2 * word.across + _GAP
        word.enter_frame()


def _make_way(rect: _Rect, taken: Sequence[_Rect]) -> None:
    """Move an object to the nearest free position, shrunk if that is nearer; then clear of its neighbours, if it can.

    It stays where there is no such position. It is not shrunk to be clear: done again, that would shrink it further.
    """
    rect.enter_frame()
    obstacles = torch.tensor([(o.x, o.y, o.across, o.down) for o in taken], dtype=torch.float64).view(-1, 4)
    if any(_shared(rect, other) > ALLOWED for other in taken):
        nearest = (math.inf, rect.x, rect.y, 1.0)
        for scale in _OBJECT_SCALES:
            cost = _SHRINKING_COSTS * (1 - scale)
            if cost < nearest[0] and (found := _nearest_free(rect, scale, obstacles, _GAP)):
                distance, x, y = found
                nearest = min(nearest, (distance + cost, x, y, scale))
        if nearest[0] < math.inf:
            rect.x, rect.y = nearest[1:3]
            rect.scale *= nearest[3]
    if any(_is_near(rect, other) for other in taken):
        found = _nearest_free(rect, 1.0, obstacles, _CLEARANCE)
        if found and found[0] <= _FURTHEST:
            rect.x, rect.y = found[1:]


def _is_near(first: _Rect, second: _Rect) -> bool:
    """Return whether two boxes are nearer to each other than the clearance."""
    wide, high = first.across + second.across + _CLEARANCE, first.down + second.down + _CLEARANCE
    return abs(second.x - first.x) < wide - _ROUNDING and abs(second.y - first.y) < high - _ROUNDING


def _nearest_free(rect: _Rect, scale: float, obstacles: Tensor, gap: float) -> tuple[float, float, float] | None:
    """Return distance and centre of the nearest free position for an object of ``scale`` times its size, or None.

    Each coordinate of such a position is the object's own or touches an obstacle, so there are finitely many to try.

    Args:
        rect: the object.
        scale: factor of its size, in (0, 1].
        obstacles: (M, 4) float64: centres and half sizes.
        gap: the least distance to them, a fraction of the frame.
    """
    half = torch.tensor([rect.across, rect.down], dtype=torch.float64) * scale
    centre = torch.tensor([rect.x, rect.y], dtype=torch.float64)
    reach = obstacles[:, 2:] + half  # (M, 2)
    tried = torch.cat([centre[None], obstacles[:, :2] - reach - gap, obstacles[:, :2] + reach + gap])  # (1 + 2M, 2)
    candidates = torch.cartesian_prod(*tried.unbind(1))  # (T, 2)
    candidates = candidates[((candidates >= half - _ROUNDING / 2) & (candidates <= 1 - half + _ROUNDING / 2)).all(1)]
    free = ((candidates[:, None] - obstacles[:, :2]).abs() >= reach + gap - _ROUNDING / 2).any(2).all(1)
    candidates = candidates[free]
    if not len(candidates):
        return None
    distances = (candidates - centre).norm(dim=1)
    best = int(distances.argmin())
    return float(distances[best]), *candidates[best].tolist()
