"""The prompts that people type, on which the whole system is measured; nothing is tuned on them."""

# ruff: noqa: RUF001 (quotes that look alike are what people type)

from pathlib import Path

import pytest

from vlad_lightning.layout.prompt_parser import PromptDecomposer, drawn_words

PROMPTS = Path(__file__).parents[1].joinpath("human_prompts.txt").read_text(encoding="utf-8").splitlines()
MAX_WORDS = 6


def test_there_are_a_hundred_different_prompts():
    assert len(PROMPTS) == len({prompt.casefold() for prompt in PROMPTS}) == 100


@pytest.mark.parametrize("prompt", PROMPTS)
def test_each_parses_into_at_most_six_words_and_other_chunks(prompt):
    parts = PromptDecomposer()(prompt)
    assert len(parts.words) <= MAX_WORDS
    assert all(1 <= len(word.text) <= 9 for word in parts.words)
    assert parts.words or parts.objects
    assert parts.words or not any(mark in prompt for mark in '"“‘')  # quoted text is found


def test_they_are_of_many_kinds():
    words = [drawn_words(prompt) for prompt in PROMPTS]
    assert 6 <= sum(not found for found in words) <= 10
    assert sum(len(found) > 1 for found in words) >= 40
    text = "\n".join(PROMPTS)
    assert all(mark in text for mark in "'\"“‘!&")
    shapes = ("circle", "square", "triangle", "star", "diamond", "ring", "heart")
    assert all(shape in text for shape in shapes)
    assert sum("background" not in prompt for prompt in PROMPTS) >= 40
