from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlad_lightning.evaluation.suites import read_suite
from vlad_lightning.evaluation.suites.geneval import geneval_correct, relative_positions, requested
from vlad_lightning.layout.object_requests import RequestedObject
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.objects import object_row


def found(shape: str, colour: str = "red", x: float = 0.5, y: float = 0.5, side: float = 0.1) -> FoundObject:
    return FoundObject(shape, colour, x, y, side, side)


def ask(shape: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": shape, "count": count, **more}


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.2, 0.5, {"left of"}),
        (0.8, 0.52, {"right of"}),
        (0.5, 0.1, {"above"}),
        (0.5, 0.9, {"below"}),
        (0.2, 0.2, {"left of", "above"}),
        (0.48, 0.5, set()),  # closer than a tenth of both sides
        (0.5, 0.5, set()),
    ],
)
def test_positions_by_genevals_rule(x: float, y: float, expected: set[str]) -> None:
    assert relative_positions(found("cat", x=x, y=y, side=0.2), found("car", side=0.2)) == expected


def test_positions_worked_out_by_hand() -> None:
    # offset (-0.3, 0.2); a tenth of both widths is 0.04, of both heights 0.02: (-0.26, 0.18) over 0.3606
    first, second = FoundObject("cat", "red", 0.2, 0.7, 0.3, 0.1), FoundObject("car", "red", 0.5, 0.5, 0.1, 0.1)
    assert relative_positions(first, second) == {"left of"}  # -0.721 and 0.499


@pytest.mark.parametrize(
    ("entry", "objects", "correct"),
    [
        ({"include": [ask("cat")]}, [found("cat"), found("car")], True),
        ({"include": [ask("cat")]}, [found("car")], False),
        ({"include": [ask("cat", 2)]}, [found("cat")], False),
        ({"include": [ask("cat", 2)], "exclude": [ask("cat", 3)]}, [found("cat")] * 2, True),
        ({"include": [ask("cat", 2)], "exclude": [ask("cat", 3)]}, [found("cat")] * 3, False),
        ({"include": [ask("cat", color="red"), ask("car", color="blue")]}, [found("cat"), found("car", "blue")], True),
        ({"include": [ask("cat", color="red"), ask("car", color="blue")]}, [found("cat", "blue"), found("car")], False),
        (
            {"include": [ask("cat"), ask("car", position=["left of", 0])]},
            [found("cat", x=0.8), found("car", x=0.2)],
            True,
        ),
        (
            {"include": [ask("cat"), ask("car", position=["left of", 0])]},
            [found("cat", x=0.2), found("car", x=0.8)],
            False,
        ),
        ({"include": [ask("cat"), ask("car", position=["left of", 0])]}, [found("car", x=0.2)], False),
    ],
)
def test_images_by_genevals_rule(entry: dict[str, Any], objects: list[FoundObject], correct: bool) -> None:
    assert geneval_correct(entry, objects) is correct


def test_flaw_only_the_most_confident_object_of_a_class_has_its_colour_looked_at() -> None:
    entry = {"include": [ask("cat", color="red")], "exclude": []}
    both = [found("cat", "blue"), found("cat", "red")]
    assert geneval_correct(entry, both) is False
    assert geneval_correct(entry, both[::-1]) is True
    assert [object_row(requested(entry), objects)["all_right"] for objects in (both, both[::-1])] == [1, 1]


def test_flaw_objects_that_nobody_asked_for_cost_nothing() -> None:
    entry = {"include": [ask("cat")], "exclude": []}
    objects = [found("cat"), *[found("car", "green")] * 5]
    assert geneval_correct(entry, objects) is True
    assert len(objects) - object_row(requested(entry), objects)["present"] == 5


def test_requests_are_objects_one_by_one() -> None:
    entry = {"include": [ask("cat", 2, color="red"), ask("car"), ask("key", position=["above", 1])]}
    cat = RequestedObject("cat", "red")
    assert requested(entry) == (cat, cat, RequestedObject("car"), RequestedObject("key", None, None, ("above", 2)))


def written(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_a_list_is_read_and_the_score_is_the_mean_over_tags(tmp_path: Path) -> None:
    import numpy as np

    entry = {"tag": "single_object", "include": [ask("cat")], "prompt": "a cat"}
    counting = {"tag": "counting", "include": [ask("key", 3)], "exclude": [ask("key", 4)], "prompt": "three keys"}
    suite = read_suite("geneval-mini", written(tmp_path / "p.jsonl", entry, entry, entry, counting))
    assert [item.key for item in suite.items] == ["00000", "00001", "00002", "00003"]
    assert suite.subsets() == ("single_object", "counting")
    assert suite.items[3].facts == {"include": [ask("key", 3)], "exclude": [ask("key", 4)]}
    (measure,) = suite.measures
    table = dict.fromkeys(measure.columns, np.zeros(4)) | {
        "correct": np.array([1.0, 1, 0, 0]),
        "tag_weight": np.array([1 / 3, 1 / 3, 1 / 3, 1]),
    }
    score = measure.shares(table)["geneval_score"]
    assert score.part.sum() / score.whole.sum() == pytest.approx((2 / 3 + 0) / 2)
    correct = measure.shares(table)["geneval_correct"]
    assert correct.part.sum() / correct.whole.sum() == 0.5


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ([], "include is empty"),
        ([ask("giraffe")], "class is 'giraffe'; the shipped detector knows circle, "),
        ([ask("cat", 0)], "count is 0; it must be at least 1"),
        ([ask("cat", color="mauve")], "color is 'mauve'; allowed are red, "),
        ([ask("cat", position=["left of", 0])], r"position is \['left of', 0\]; it must be"),
        ([ask("cat"), ask("car", position=["near", 0])], r"position is \['near', 0\]"),
        ([ask("cat"), ask("car", position=[["near"], 0])], r"position is \[\['near'\], 0\]"),
        ([{"class": "cat"}], "line 1, include has no 'count'; it has class"),
        (["cat"], "include is 'cat'; it must be an object"),
    ],
)
def test_entries_of_another_form_are_refused(tmp_path: Path, include: list[Any], message: str) -> None:
    path = written(tmp_path / "p.jsonl", {"tag": "t", "include": include, "prompt": "x"})
    with pytest.raises(ValueError, match=message):
        read_suite("geneval-mini", path)
