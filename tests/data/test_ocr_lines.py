from __future__ import annotations

import itertools

import numpy as np
import pytest

from vlad_lightning.data.ocr_lines import FRAME, OcrWord, format_word, parse_ocr, reading_quad

BOX = "100,50,300,50,300,100,100,100"


def test_a_line_gives_text_corners_and_confidence():
    (word,), problems = parse_ocr(f"HeLLo, {BOX} 0.8754")
    assert (word.text, word.confidence, problems) == ("HeLLo,", 0.8754, [])
    assert word.quad.dtype == np.float32
    np.testing.assert_allclose(word.quad * FRAME, [[100, 50], [300, 50], [300, 100], [100, 100]])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f" {BOX} 0.9", "empty text"),
        (f"{BOX} 0.9", "empty text"),
        ("HELLO", "malformed line"),
        ("HELLO 0.9", "malformed line"),
        (f"HELLO {BOX}", "malformed line"),
        (f"HELLO {BOX} high", "malformed line"),
        ("HELLO 1,2,x,4,5,6,7,8 0.9", "malformed line"),
        ("HELLO 1,2,,4,5,6,7,8 0.9", "malformed line"),
        ("HELLO 100,50,300,50,300,100 0.9", "malformed quad"),
        ("HELLO 100,50,300,50,300,100,100,100,7,8 0.9", "malformed quad"),
        ("HELLO nan,50,300,50,300,100,100,100 0.9", "malformed quad"),
        ("HELLO inf,50,300,50,300,100,100,100 0.9", "malformed quad"),
        ("HELLO -1e7,50,1e7,50,1e7,100,-1e7,100 0.9", "quad far outside the frame"),
        ("HELLO 0,0,1e308,0,1e308,1e308,0,1e308 0.9", "quad far outside the frame"),
        ("HELLO 0,0,6000,0,6000,100,0,100 0.9", "quad far outside the frame"),
        (f"{'A' * 1_000_000} {BOX} 0.9", "text too long"),
        ("HELLO 10,10,10,10,10,10,10,10 0.9", "degenerate quad"),
        ("HELLO 10,10,200,10,200,10,10,10 0.9", "degenerate quad"),
        ("HELLO 10,10,100,100,200,200,300,300 0.9", "degenerate quad"),
        ("HELLO 10,10,200,10,200,10.9,10,10.9 0.9", "degenerate quad"),  # a line less than a pixel thick
        (f"{'A' * 257} {BOX} 0.9", "text too long"),
        ("HELLO 600,50,700,50,700,90,600,90 0.9", "quad outside the frame"),
        ("HELLO 10,-90,90,-90,90,-20,10,-20 0.9", "quad outside the frame"),
        (f"HELLO {BOX} 0.49", "low confidence"),
        *(
            (f"HELLO {BOX} {wrong}", "malformed confidence")
            for wrong in ("nan", "inf", "-inf", "-0.9", "1.1", "95", "1e999")
        ),
    ],
)
def test_a_bad_line_is_left_out_with_its_reason_and_spoils_no_other(line, problem):
    words, problems = parse_ocr(f"GOOD {BOX} 0.9\n{line}\nFINE 100,150,300,150,300,200,100,200 0.5\n", 0.5)
    assert [w.text for w in words] == ["GOOD", "FINE"]
    assert problems == [problem]


def test_a_confidence_slightly_above_one_is_one():
    assert [word.confidence for word in parse_ocr(f"HELLO {BOX} 1.0000002\n")[0]] == [1.0]


def test_text_may_hold_spaces_commas_and_numbers():
    (word,), _ = parse_ocr(f"SALE  50,5 % off {BOX} 0.9")
    assert word.text == "SALE 50,5 % off"


def test_the_longest_possible_text_is_used():
    (word,), problems = parse_ocr(f"{'A' * 256} {BOX} 0.9")
    assert (len(word.text), problems) == (256, [])


def test_blank_lines_and_an_empty_file_are_accepted():
    assert parse_ocr("") == ([], [])
    assert parse_ocr("\n  \n\r\n") == ([], [])


def test_corners_may_lie_outside_the_frame():
    (word,), problems = parse_ocr("EDGE -7,400,530,400,530,520,-7,520 0.115")
    assert problems == []
    np.testing.assert_allclose(word.quad * FRAME, [[-7, 400], [530, 400], [530, 520], [-7, 520]], rtol=1e-6)


def rotated(width: float, height: float, degrees: float) -> np.ndarray:
    """Return the corners of a word, from the corner at which it starts, clockwise on screen."""
    x, y = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]).T * [[width / 2], [height / 2]]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.stack([cos * x - sin * y + 256, sin * x + cos * y + 200], axis=1)


@pytest.mark.parametrize("degrees", [-40, -8, 0, 8, 40])
@pytest.mark.parametrize(("width", "height"), [(200, 50), (40, 60)])
def test_corners_in_any_order_are_sorted_from_the_start_of_the_word(width, height, degrees):
    quad = rotated(width, height, degrees)
    for order in itertools.permutations(range(4)):  # every start, both directions, and the crossed ones
        np.testing.assert_allclose(reading_quad(quad[list(order)]), quad)


def test_a_line_that_starts_at_the_leftmost_corner_reads_from_the_top_left():
    (word,), _ = parse_ocr("FALLS 50,150,70,100,270,180,250,230 0.9")  # its lower left corner is the leftmost
    np.testing.assert_allclose(word.quad[0] * FRAME, [70, 100])
    np.testing.assert_allclose(word.quad[1] * FRAME, [270, 180])


@pytest.mark.parametrize("degrees", [-8, 0, 8])
def test_a_written_line_starts_at_the_leftmost_corner_and_reads_back(degrees):
    quad = rotated(220, 60, degrees)
    line = format_word(OcrWord("HELLO", quad / FRAME))
    numbers = np.array(line.split()[1].split(","), dtype=int).reshape(4, 2)
    assert numbers[0, 0] == numbers[:, 0].min()
    edges = np.roll(numbers, -1, axis=0) - numbers
    assert (np.cross(np.c_[edges, np.zeros(4)], np.c_[np.roll(edges, -1, axis=0), np.zeros(4)])[:, 2] > 0).all()
    (word,), _ = parse_ocr(line)
    np.testing.assert_allclose(word.quad * FRAME, quad, atol=0.51)


def test_words_come_in_reading_order_whatever_the_order_of_the_lines():
    lines = [
        "two 200,105,280,100,282,140,202,145 0.9",
        "four 150,200,250,200,250,240,150,240 0.9",
        "one 20,110,180,100,182,140,22,150 0.9",
        "three 300,95,400,90,402,130,302,135 0.9",
    ]
    for order in itertools.permutations(lines):
        assert [w.text for w in parse_ocr("\n".join(order))[0]] == ["one", "two", "three", "four"]


@pytest.mark.parametrize(("lower", "order"), [(19, ["left", "right"]), (21, ["right", "left"])])
def test_a_word_more_than_half_its_height_lower_starts_a_new_line(lower, order):
    right, left = "right 200,100,300,100,300,140,200,140 0.9", f"20,{100 + lower},120,{100 + lower},120,{140 + lower}"
    words, _ = parse_ocr(f"{right}\nleft {left},20,{140 + lower} 0.9")
    assert [word.text for word in words] == order
