from __future__ import annotations

import json
from pathlib import Path

import pytest
from suite_images import figures, seen

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.mario_eval import SUBSETS, MarioMeasure
from vlad_lightning.evaluation.suites.word_measure import WordMeasure

GOLDEN = json.loads((Path(__file__).parents[2] / "metrics" / "ocr_metric_vectors.json").read_text())


def folder(root: Path, library: str = "OpenLibraryEval500", file: str | None = None) -> Path:
    """Write a folder of the published form, with two prompts of our own in each subset."""
    for subset in SUBSETS:
        name = library if subset == "OpenLibraryEval500" else subset
        (root / name).mkdir(parents=True)
        lines = f"a sign with 'HELLO {subset}'\n\ndon't forget the poster 'Sale'\n"
        (root / name / f"{(file or name) if name == library else name}.txt").write_text(lines)
        (root / name / f"{name}_wo_quote.txt").write_text("a sign with hello\n")
    return root


@pytest.mark.parametrize(
    ("library", "file"),
    [("OpenLibraryEval500", None), ("OpenLibrary500", None), ("OpenLibrary500", "OpenLibraryEval500")],
)
def test_the_six_subsets_are_read_in_each_spelling(tmp_path: Path, library: str, file: str | None) -> None:
    suite = read_suite("mario-eval", folder(tmp_path / "MARIOEval", library, file))
    assert suite.subsets() == tuple(SUBSETS)
    assert suite.items[0] == Item(
        "LAIONEval4000/0", "a sign with 'HELLO LAIONEval4000'", "LAIONEval4000", ("HELLO", "LAIONEval4000")
    )
    assert suite.items[1].key == "LAIONEval4000/2"  # numbered by the line, as published images are
    assert suite.items[1].words == ("Sale",)
    assert (suite.images_per_prompt, suite.jpeg_quality, suite.seeding) == (4, 75, "running")
    assert any("12 prompts were found" in note for note in suite.notes)
    assert any("6 prompts MARIO-Eval's keywords differ" in note for note in suite.notes)


def test_the_sound_edition_differs_in_images_and_not_in_prompts(tmp_path: Path) -> None:
    root = folder(tmp_path)
    published, sound = read_suite("mario-eval", root), read_suite("mario-eval-sound", root)
    assert published.sha256 == sound.sha256
    assert (sound.jpeg_quality, sound.seeding, sound.images_per_prompt) == (None, "each", 4)


def test_published_figures_of_the_golden_vectors() -> None:
    cases = GOLDEN["per_image_p_r_acc"]
    for case in cases:
        prompt = "'" + " ".join(case["gt"]) + "'" if case["gt"] else "no words"
        row = MarioMeasure().row(Item("x/0", prompt, "x", ()), seen(*case["pred"]))
        assert row == {"mario_precision": case["p"], "mario_recall": case["r"], "mario_accuracy": case["acc"]}


def test_f_is_that_of_the_means_over_all_images() -> None:
    one, two = Item("x/0", "'ab'", "x", ("ab",)), Item("x/1", "'cd ef'", "x", ("cd", "ef"))
    found = figures(MarioMeasure(), [(one, seen("ab", "z")), (two, seen("cd"))])
    assert found["mario_precision"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["mario_recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["mario_f"] == pytest.approx(0.75)  # the mean of F is 2 / 3
    assert found["mario_accuracy"] == 0


@pytest.mark.parametrize(
    ("prompt", "lines", "published", "sound"),
    [
        ("don't paint the word 'HELLO' red", ("HELLO",), 0, 1),  # an apostrophe is a quote
        ("a sign 'hello world'", ("hello world",), 0, 1),  # a line is one entry
        ("a sign 'ab c'", ("a", "bc"), 1, 0),  # letters are sorted without word boundaries
        ("a sign 'caf\u00e9'", ("cafe\u0301",), 0, 1),  # code points, not letters
        ("a sign 'hello'", ("", "hello"), 1, 1),
    ],
)
def test_flaws_of_the_published_accuracy_stand_beside_the_sound_one(
    prompt: str, lines: tuple[str, ...], published: int, sound: int
) -> None:
    from vlad_lightning.layout.prompt_parser import drawn_words

    pairs = [(Item("x/0", prompt, "x", drawn_words(prompt)), seen(*lines))]
    assert figures(MarioMeasure(), pairs)["mario_accuracy"] == published
    assert figures(WordMeasure(), pairs)["sentence_accuracy"] == sound


def test_a_blank_line_costs_precision_as_published() -> None:
    pairs = [(Item("x/0", "'hello'", "x", ("hello",)), seen("", "hello"))]
    assert figures(MarioMeasure(), pairs)["mario_precision"] == pytest.approx(0.5)
    assert figures(WordMeasure(), pairs)["micro_precision"] == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^prompts is None; the suite 'mario-eval' needs the folder MARIOEval"):
        read_suite("mario-eval")
    with pytest.raises(FileNotFoundError, match=r"nowhere', which does not exist; the suite 'mario-eval-sound'"):
        read_suite("mario-eval-sound", tmp_path / "nowhere")
    root = folder(tmp_path / "M")
    (root / "TMDBEval500" / "TMDBEval500.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"TMDBEval500\.txt is empty; a subset needs at least one prompt"):
        read_suite("mario-eval", root)
    (root / "TMDBEval500" / "TMDBEval500.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks TMDBEval500/TMDBEval500\.txt; all six subsets"):
        read_suite("mario-eval", root)
