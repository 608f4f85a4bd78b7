from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from vlad_lightning.data.scene_file import (
    BROKEN,
    NAME,
    ObjectFacts,
    SceneFacts,
    WordFacts,
    WordStyle,
    read_scene,
    write_scene,
)

QUAD = ((0.1, 0.2), (0.5, 0.2), (0.5, 0.3), (0.1, 0.3))
WORD = WordFacts("SALE", QUAD, "top", "red", "DejaVuSans.ttf", 0)
THING = ObjectFacts("star", "red", (0.6, 0.6, 0.8, 0.75), "bottom right", "a red star")
SILENT = ObjectFacts("ring", "blue", (0.1, 0.6, 0.3, 0.8), "bottom left", None)
FACTS = SceneFacts("pink", "gradient", "a pink gradient background", (WORD,), (THING, SILENT))


def test_a_written_scene_reads_back(tmp_path):
    write_scene(tmp_path, FACTS)
    assert read_scene(tmp_path) == (FACTS, None)


def test_a_style_and_an_accent_are_read_back_and_left_out_where_there_are_none(tmp_path):
    word = replace(WORD, style=WordStyle("hand", "title", "big"))
    told = replace(FACTS, words=(word,), accent="green")
    write_scene(tmp_path, told)
    assert read_scene(tmp_path) == (told, None)
    write_scene(tmp_path, FACTS)
    assert not {"style", "accent"} & set(re.findall(r"\w+", (tmp_path / NAME).read_text()))


def test_the_file_holds_rounded_fractions_under_plain_names(tmp_path):
    third = ObjectFacts("star", "red", (1 / 3, 0.6, 0.8, 0.75), "right", None)
    write_scene(tmp_path, SceneFacts("pink", "solid", None, (), (third,)))
    told = json.loads((tmp_path / "scene.json").read_text())
    assert told == {
        "background": {"colour": "pink", "kind": "solid", "phrase": None},
        "words": [],
        "objects": [
            {"name": "star", "colour": "red", "box": [0.33333, 0.6, 0.8, 0.75], "region": "right", "phrase": None}
        ],
    }


def test_a_file_without_the_backgrounds_phrase_leaves_it_unknown(tmp_path):
    write_scene(tmp_path, FACTS)
    told = json.loads((tmp_path / "scene.json").read_text())
    del told["background"]["phrase"]
    (tmp_path / "scene.json").write_text(json.dumps(told))
    assert read_scene(tmp_path) == (replace(FACTS, phrase=None), None)


def test_a_missing_file_is_accepted(tmp_path):
    assert read_scene(tmp_path) == (None, None)


def changed(change):
    def mend(told):
        change(told)
        return json.dumps(told)

    return mend


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: "",
        lambda told: "[]",
        lambda told: "null",
        lambda told: "{broken",
        lambda told: "[" * 100_000,
        lambda told: json.dumps(told)[:-30],
        lambda told: " " * 2_000_000 + json.dumps(told),
        changed(lambda told: told.pop("objects")),
        changed(lambda told: told.update(objects={})),
        changed(lambda told: told.update(background="pink")),
        changed(lambda told: told["background"].update(colour=3)),
        changed(lambda told: told["background"].update(phrase=["pink"])),
        changed(lambda told: told["objects"].append("star")),
        changed(lambda told: told["objects"][0].pop("phrase")),
        changed(lambda told: told["objects"][0].update(phrase="  ")),
        changed(lambda told: told["objects"][0].update(region="upper left")),
        changed(lambda told: told["objects"][0].update(region=["top"])),
        changed(lambda told: told["objects"][0].update(box=[0.6, 0.6, 0.8])),
        changed(lambda told: told["objects"][0].update(box=[0.8, 0.6, 0.6, 0.75])),
        changed(lambda told: told["objects"][0].update(box=[0.6, 0.6, 0.8, math.nan])),
        changed(lambda told: told["objects"][0].update(box=[0.6, 0.6, 0.8, 10**400])),
        changed(lambda told: told["objects"][0].update(box=[60, 60, 80, 75])),
        changed(lambda told: told["objects"][0].update(box=["0.6", "0.6", "0.8", "0.7"])),
        changed(lambda told: told["objects"][0].update(box=[0.6, [0.6], 0.8, 0.75])),
        changed(lambda told: told["words"][0].update(group=-1)),
        changed(lambda told: told["words"][0].update(group=True)),
        changed(lambda told: told["words"][0].update(text="")),
        changed(lambda told: told["words"][0].update(quad=[[0, 0]] * 3)),
    ],
)
def test_a_damaged_file_is_left_out_with_a_reason(tmp_path, damage):
    write_scene(tmp_path, FACTS)
    path = tmp_path / "scene.json"
    path.write_text(damage(json.loads(path.read_text())))
    assert read_scene(tmp_path) == (None, BROKEN)


def test_binary_files_and_folders_are_left_out(tmp_path):
    (tmp_path / "scene.json").write_bytes(b"\xff\xfe\x00{")
    assert read_scene(tmp_path) == (None, BROKEN)
    (tmp_path / "scene.json").unlink()
    (tmp_path / "scene.json").mkdir()
    assert read_scene(tmp_path) == (None, BROKEN)
