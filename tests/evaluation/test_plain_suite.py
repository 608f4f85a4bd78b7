from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlad_lightning.evaluation.plain_suite import PromptMeasure, read_plain_suite
from vlad_lightning.evaluation.suite import Seen


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a sign 'HELLO there'\n\n  no words \n", encoding="utf-8")
    suite = read_plain_suite(tmp_path / "a.txt")
    assert [(item.key, item.prompt, item.words) for item in suite.items] == [
        ("0", "a sign 'HELLO there'", ("HELLO", "there")),
        ("1", "no words", ()),
    ]


def test_json_lines_may_give_keys_words_and_subsets(tmp_path: Path) -> None:
    lines = [{"prompt": "a 'B'"}, {"prompt": "say hi", "key": "x/1", "words": ["hi"], "subset": "casual"}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    suite = read_plain_suite(tmp_path / "a.jsonl")
    assert [(i.key, i.words, i.subset) for i in suite.items] == [("0", ("B",), "all"), ("x/1", ("hi",), "casual")]
    assert suite.subsets() == ("all", "casual")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: it is no JSON"),
        ("[]", "line 1: it is .*must be a mapping with a prompt"),
        ('{"key": "a"}', "must be a mapping with a prompt"),
        ('{"prompt": 3}', "prompt is 3; it must be a text"),
        ('{"prompt": "a", "word": []}', "it has 'word'; allowed are key, prompt, subset, words"),
        ('{"prompt": "a", "words": "b"}', "words is 'b'; it must be a list of texts"),
        ('{"prompt": "a", "key": 3}', "key is 3; it must be a text"),
        ("", "it holds no prompt"),
    ],
)
def test_unusable_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_plain_suite(tmp_path / "a.jsonl")


def test_mario_looks_for_its_own_words_unless_words_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "don\'t say \'A B\'"}\n{"prompt": "don\'t say \'A B\'", "words": ["A"]}'
    )
    ours, given = read_plain_suite(tmp_path / "a.jsonl").items
    seen = Seen(Path("x.png"), (8, 8), ("A",))
    assert PromptMeasure().row(ours, seen)["mario_recall"] < 0.9
    assert PromptMeasure().row(given, seen)["mario_recall"] == pytest.approx(1)
