from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from vlad_lightning.data.synthetic.icons import CODES, TURNS, icon_mask, icon_sides
from vlad_lightning.layout.nouns import FURTHER_THINGS, THINGS

EVERY = (*THINGS, *FURTHER_THINGS)


def test_each_thing_has_one_icon_of_its_own():
    assert set(CODES) == set(EVERY)
    assert len(set(CODES.values())) == len(CODES)


@pytest.mark.parametrize("noun", EVERY)
def test_the_ink_fills_its_box_and_is_neither_empty_nor_a_block(noun):
    across, down = icon_sides(noun, 0)
    assert max(across, down) == 1
    assert min(across, down) > 0.4
    mask = np.asarray(icon_mask(noun, 0, round(24 * across), round(24 * down))) / 255
    assert 0.15 < mask.mean() < 0.95
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert edge.max() > 0.2


def test_no_two_icons_are_alike_at_24_pixels():
    masks = {noun: np.asarray(icon_mask(noun, 0, 24, 24), dtype=float) / 255 for noun in EVERY}
    for (one, first), (other, second) in itertools.combinations(masks.items(), 2):
        assert np.abs(first - second).mean() > 0.08, (one, other)


def test_a_turn_is_clockwise():
    upright, turned = (np.asarray(icon_mask("broom", turn, 60, 60)) > 127 for turn in (0, max(TURNS)))
    assert not np.array_equal(upright, turned)
    rows, columns = np.nonzero(np.asarray(icon_mask("envelope", max(TURNS), 100, 100)) > 127)
    assert columns[rows < 8].mean() < 45  # the upper edge falls to the right


def test_a_missing_package_is_named_in_one_line():
    code = (
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'fontawesomefree' else find(name, *rest)\n"
        "from vlad_lightning.data.synthetic.icons import icon_sides\n"
        "icon_sides('cat', 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("FileNotFoundError: fontawesomefree is not installed")
