"""Every OCR measure on ten thousand random cases, against a second implementation that shares no code with it."""

from __future__ import annotations

import difflib
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from vlad_lightning.evaluation.suite import Item, Seen
from vlad_lightning.evaluation.suites.anytext_bench import anytext_ned, best_pairs
from vlad_lightning.evaluation.suites.cvtg import cvtg_scores
from vlad_lightning.evaluation.suites.longtext_bench import LongTextMeasure
from vlad_lightning.evaluation.suites.mario_eval import MarioMeasure
from vlad_lightning.evaluation.suites.word_measure import WordMeasure

CASES = 10_000
LETTERS = "abA b'!"


@cache
def distance(a: str, b: str) -> int:
    """Compute the distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


def shared(first: list[str], second: list[str]) -> int:
    """Count the entries that both have, crossing out what is counted."""
    left = list(second)
    count = 0
    for entry in first:
        if entry in left:
            left.remove(entry)
            count += 1
    return count


def keywords(prompt: str) -> list[str]:
    """Take every second piece between apostrophes, if it is closed."""
    pieces = prompt.strip().lower().split("'")
    closed = pieces[1::2] if len(pieces) % 2 else pieces[1:-1:2]
    return [word for piece in closed for word in piece.split()]


def best_sum(read: list[str], wanted: list[str], value: dict[tuple[str, str], float]) -> float:
    """Return the highest summed value of one-to-one pairs, by trying all of them."""
    short, long = sorted((wanted, read), key=len)
    pairs = [zip(short, some, strict=True) for some in permutations(long, len(short))]
    return max(sum(value[a, b] for a, b in pair) for pair in pairs)


def drawn(rng: np.random.Generator, most: int, longest: int) -> list[str]:
    """Return up to ``most`` random strings of up to ``longest`` characters."""
    texts = []
    for _ in range(int(rng.integers(0, most + 1))):
        picks = rng.integers(len(LETTERS), size=int(rng.integers(0, longest + 1)))
        texts.append("".join(LETTERS[i] for i in picks))
    return texts


@pytest.fixture(scope="module")
def cases() -> list[tuple[list[str], list[str]]]:
    """Return lines read and texts wanted."""
    rng = np.random.default_rng(14)
    return [(drawn(rng, 3, 4), drawn(rng, 2, 4)) for _ in range(CASES)]


def looked_at(lines: list[str]) -> Seen:
    return Seen(Path("none.png"), (8, 8), tuple(lines))


def test_mario(cases: list[tuple[list[str], list[str]]]) -> None:
    measure = MarioMeasure()
    for lines, texts in cases:
        prompt = " '".join(["x", *texts]) + "'"
        read, wanted = [line.strip().lower() for line in lines], keywords(prompt)
        row = measure.row(Item("0", prompt, "x", ()), looked_at(lines))
        both = shared(read, wanted)
        assert row["mario_precision"] == both / (len(read) + 1e-8)
        assert row["mario_recall"] == both / (len(wanted) + 1e-8)
        assert row["mario_accuracy"] == ("".join(sorted(read)) == "".join(sorted(wanted)))


def test_words(cases: list[tuple[list[str], list[str]]]) -> None:
    measure = WordMeasure()
    for lines, texts in cases:
        words = [word for text in texts for word in text.split()][:3]
        wanted, read = [word.lower() for word in words], [word.lower() for line in lines for word in line.split()]
        row = measure.row(Item("0", "x", "x", tuple(words)), looked_at(lines))
        assert (row["wanted"], row["wanted_characters"]) == (len(wanted), len("".join(wanted)))
        assert (row["tokens"], row["token_matches"]) == (len(read), shared(read, wanted))
        assert row["token_matches"] <= row["words_read"] <= row["wanted"]
        spelt = {"".join(some) for count in (2, 3) for some in permutations(wanted, count)}
        whole = [(line.lower().replace(" ", ""), len(line.split())) for line in lines]
        if len(read) > 5 or any(text in spelt or (text in wanted and count > 1) for text, count in whole):
            continue  # readings restore words that were split or joined: tests/metrics/test_ocr.py has these
        assert row["words_read"] == shared(read, wanted)
        assert row["all_read"] == (sorted(read) == sorted(wanted))
        if read and wanted:
            value = {
                (a, b): 1 - distance(a, b) / max(len(a), len(b)) for a in (*read, *wanted) for b in (*read, *wanted)
            }
            assert row["similarity"] == pytest.approx(best_sum(read, wanted, value))


def test_cvtg(cases: list[tuple[list[str], list[str]]]) -> None:
    for lines, texts in cases:
        wanted, read = [text.lower() for text in texts], " ".join(lines).lower().split()
        similarity = 0.0
        for word in wanted:
            if read:
                ratios = [(difflib.SequenceMatcher(None, other, word).ratio(), other) for other in read]
                closest = max(ratios)[1]
                similarity += 1 - distance(closest, word) / max(len(closest), len(word))
        found, summed = cvtg_scores(lines, wanted)
        assert found == len([word for word in wanted if word in set(read)])
        assert summed == pytest.approx(similarity, abs=1e-9)


def test_anytext(cases: list[tuple[list[str], list[str]]]) -> None:
    for lines, texts in cases:
        value = {
            (a, b): 1 - distance(a, b) / (max(len(a), len(b)) + 1e-5)
            for a in (*lines, *texts)
            for b in (*lines, *texts)
        }
        for line, text in zip(lines, texts, strict=False):
            assert anytext_ned(line, text) == pytest.approx(value[line, text], abs=1e-12)
        pairs = best_pairs(lines, texts)
        assert len(pairs) == len(texts)
        if lines and texts and len(lines) >= len(texts):
            assert sum(value[a, b] for a, b in zip(pairs, texts, strict=True)) == pytest.approx(
                best_sum(lines, texts, value)
            )


def test_longtext(cases: list[tuple[list[str], list[str]]]) -> None:
    measure = LongTextMeasure()
    for number, (lines, texts) in enumerate(cases):
        by_character = bool(number % 2)
        read, wanted = (
            [kept for word in " ".join(side).lower().split() if (kept := word.replace("'", "").replace("!", ""))]
            for side in (lines, texts)
        )
        if by_character:
            read, wanted = list("".join(read)), list("".join(wanted))
        item = Item("0", "x", "x", (), {"texts": texts, "by_character": by_character})
        row = measure.row(item, looked_at(lines))
        assert (row["units_read"], row["units_wanted"]) == (len(read), len(wanted))
        assert row["units_matched"] == shared(read, wanted)
