from __future__ import annotations

import pytest

from vlad_lightning.layout.nouns import ALL_NOUNS, FURTHER_THINGS, NOUNS, SHAPES, THINGS, alike, plural_of, read_noun


def test_there_are_many_things_and_no_noun_occurs_twice() -> None:
    assert len(THINGS) >= 60
    assert len(FURTHER_THINGS) >= 100
    forms = [form for noun in ALL_NOUNS for form in {noun, plural_of(noun)}]
    assert len(set(forms)) == len(forms)
    assert all(form.isalpha() and form.islower() for form in forms)


@pytest.mark.parametrize("noun", ALL_NOUNS)
def test_each_noun_is_read_in_both_numbers(noun: str) -> None:
    one, several = (read_noun(form, ALL_NOUNS) for form in (noun, plural_of(noun)))
    assert one is not None
    assert several is not None
    assert one[0] == several[0] == noun
    assert (one[1], several[1]) == ((None, None) if plural_of(noun) == noun else (False, True))


def test_only_the_given_nouns_are_read() -> None:
    assert read_noun("cats", SHAPES) is None
    assert read_noun("unicorns", ("unicorn",)) == ("unicorn", True)


def test_shapes_are_alike_and_things_are() -> None:
    assert set(alike("star", NOUNS)) == set(SHAPES) - {"star"}
    assert set(alike("cat", NOUNS)) == set(THINGS) - {"cat"}
