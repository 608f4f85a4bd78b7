from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.vocabulary import dictionary, draw_word, is_held_out

WITHOUT = GRAMMAR_WORDS["plain"]


def test_the_dictionary_holds_about_a_thousand_lower_case_words_of_two_to_eight_letters():
    words = dictionary(False, WITHOUT) + dictionary(True, WITHOUT)
    assert len(words) == len(set(words)) >= 1000
    assert all(w.isascii() and w.isalpha() and w.islower() and 2 <= len(w) <= 8 for w in words)
    assert not WITHOUT & set(words)


def test_a_tenth_of_all_strings_is_held_out_whatever_their_case():
    strings = [f"{i:04d}" for i in range(4000)]
    assert 0.08 < np.mean([is_held_out(s) for s in strings]) < 0.12
    assert 0.07 < len(dictionary(True, WITHOUT)) / len(dictionary(True, WITHOUT) + dictionary(False, WITHOUT)) < 0.13
    assert all(is_held_out(w) == is_held_out(w.upper()) == is_held_out(w.title()) for w in dictionary(True, WITHOUT))


def test_the_split_is_the_same_in_another_process():
    words = dictionary(False, WITHOUT)[:40] + dictionary(True, WITHOUT)[:40]
    code = f"from vlad_lightning.data.synthetic.vocabulary import is_held_out; print([is_held_out(w) for w in {words}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == str([False] * 40 + [True] * 40)


@pytest.mark.parametrize("held_out", [False, True])
def test_drawn_words_are_of_the_split_and_never_grammar(held_out):
    rng = np.random.default_rng(0)
    words = [draw_word(rng, held_out, WITHOUT) for _ in range(2000)]
    assert all(is_held_out(w) == held_out for w in words)
    assert not WITHOUT & {w.casefold() for w in words}
    assert all(2 <= len(w) <= (6 if w.isdigit() else 8) for w in words)


def test_words_are_of_all_kinds_and_cases():
    rng = np.random.default_rng(1)
    words = [draw_word(rng, False, WITHOUT) for _ in range(2000)]
    known = [w.casefold() in dictionary(False, WITHOUT) for w in words]
    letters = [w.isalpha() and not k for w, k in zip(words, known, strict=True)]
    assert 0.5 < np.mean(known) < 0.7
    assert np.mean(letters) > 0.15
    assert np.mean([w.isdigit() for w in words]) > 0.1
    for case in (str.isupper, str.islower, str.istitle):
        assert np.mean([case(w) for w in words]) > 0.1
