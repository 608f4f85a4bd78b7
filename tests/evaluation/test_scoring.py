from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from signs import WORDS, draw_sign, prompt_of, write_prompts

from vlad_lightning.evaluation.plain_suite import read_plain_suite
from vlad_lightning.evaluation.row_file import read_rows
from vlad_lightning.evaluation.scoring import Scoring, score
from vlad_lightning.evaluation.suite import Item, Suite
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.ocr import OCRMetrics
from vlad_lightning.metrics.ocr_engine import RapidOCREngine

ALONE = Scoring()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two images of each word; the second of the last one is wrong."""
    folder = tmp_path_factory.mktemp("scoring") / "system" / "images"
    for number, word in enumerate(WORDS):
        told = {"seed": str(number), "prompt": prompt_of(word), "Software": "vlad-lightning"}
        draw_sign(folder / f"{number}_0.png", word, told)
        draw_sign(folder / f"{number}_1.png", word if number < 2 else "WRONG", told)
    write_prompts(folder.parent / "prompts.txt")
    return folder


@pytest.fixture(scope="module")
def suite(images: Path) -> Suite:
    return read_plain_suite(images.parent / "prompts.txt")


@pytest.fixture(scope="module")
def scored(images: Path, suite: Suite) -> Path:
    score(images, suite, images.parent / "scored", ALONE)
    return images.parent / "scored"


def test_the_results_are_those_of_the_metric(images: Path, suite: Suite, scored: Path) -> None:
    metric = OCRMetrics(RapidOCREngine())
    for item in suite.items:
        for number in range(2):
            image = from_pil(Image.open(images / f"{item.key}_{number}.png").convert("RGB"))[None]
            metric.update(image.to(torch.float32), [item.words])
    content = json.loads((scored / "results.json").read_text())
    pooled = content["results"]["rapidocr"]["pooled"]
    expected = metric.compute()
    assert {name: pooled[name]["value"] for name in expected} == pytest.approx(
        {name: result.value for name, result in expected.items()}
    )
    assert pooled["word_accuracy"]["value"] == pytest.approx(5 / 6)
    assert pooled["word_accuracy"]["low"] == 0.5  # three times COFFEE
    assert content["results"]["rapidocr"]["subsets"] == {}


def test_the_results_say_what_they_are_of(images: Path, suite: Suite, scored: Path) -> None:
    content = json.loads((scored / "results.json").read_text())
    assert content["system"] == "system"
    assert content["suite"]["prompts_sha256"] == suite.sha256
    assert (content["suite"]["prompts"], content["suite"]["images_per_prompt"]) == (3, 2)
    assert content["seeds"] == {"known": 6, "of": 6}
    assert content["images"]["count"] == 6
    assert (scored / content["images"]["folder"] / "0_0.png").is_file()
    hashes = [value for name, value in content["readers"]["rapidocr"].items() if name != "engine"]
    assert any(len(value) == 64 for value in hashes)
    assert {"torch", "rapidocr", "vlad-lightning"} <= content["made_with"]["versions"].keys()
    assert "| word_accuracy | 0.8333 [0.500, 1.000] | 6 |" in (scored / "results.md").read_text()


def test_an_image_has_a_row_with_its_lines_and_boxes(scored: Path) -> None:
    rows = read_rows(scored / "rows" / "rapidocr.csv")
    assert [(row["key"], row["number"], row["seed"]) for row in rows][:2] == [("0", "0", "0"), ("0", "1", "0")]
    assert json.loads(rows[0]["lines"]) == ["HELLO"]
    (word,) = json.loads(rows[0]["words"])
    assert word[0] == "HELLO"
    assert len(word) == 10
    assert all(-0.1 < corner < 1.1 for corner in word[2:])
    assert (rows[0]["width"], rows[0]["height"], rows[0]["words_read"]) == ("192", "64", "1.0")


def test_a_run_that_was_stopped_reads_only_what_is_left(
    images: Path, suite: Suite, scored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(scored, out)
    path = out / "rows" / "rapidocr.csv"
    whole = path.read_bytes()
    lines = whole.decode().splitlines(keepends=True)
    marked = lines[2].replace(",192,64,", ",192,65,")  # it is kept, so it was not read again
    path.write_text("".join([lines[0], lines[4], marked, lines[1], lines[3][:30]]))
    score(images, suite, out, ALONE)
    assert path.read_text() == "".join([*lines[:2], marked, *lines[3:]])


def test_unreadable_images_are_counted_and_named(images: Path, suite: Suite, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    content = (folder / "1_0.png").read_bytes()
    (folder / "1_0.png").write_bytes(content[:150])
    found = score(folder, suite, tmp_path / "out", replace(ALONE, system="mine"))
    assert found["system"] == "mine"
    assert (found["images"]["unreadable"], found["images"]["unreadable_files"]) == (1, ["1_0.png"])
    assert found["results"]["rapidocr"]["pooled"]["sentence_accuracy"]["n"] == 5
    (row,) = [row for row in read_rows(tmp_path / "out" / "rows" / "rapidocr.csv") if row["problem"]]
    assert row["key"] == "1"
    assert str(tmp_path) not in row["problem"]
    assert "Unreadable: 1_0.png" in (tmp_path / "out" / "results.md").read_text()


def test_subsets_have_their_own_results(images: Path, suite: Suite, scored: Path, tmp_path: Path) -> None:
    items = [replace(item, subset=name) for item, name in zip(suite.items, ("a", "b", "b"), strict=True)]
    parts = replace(suite, items=tuple(items))
    found = score(images, parts, tmp_path / "out", ALONE)["results"]["rapidocr"]
    assert found["subsets"]["a"]["word_accuracy"]["value"] == 1
    assert found["subsets"]["b"]["word_accuracy"]["value"] == 0.75
    assert "## b (2 prompts)" in (tmp_path / "out" / "results.md").read_text()
    chosen = score(images, parts, tmp_path / "b", replace(ALONE, subsets=("b",)))
    assert chosen["suite"]["subsets"] == {"b": 2}
    with pytest.raises(ValueError, match="--subset c has no prompt in prompts; its subsets are a, b"):
        score(images, parts, tmp_path / "c", replace(ALONE, subsets=("c",)))


def test_what_does_not_fit_is_refused_before_anything_is_read(
    images: Path, suite: Suite, scored: Path, tmp_path: Path
) -> None:
    def refused(message: str, suite: Suite = suite, out: Path = tmp_path / "none", how: Scoring = ALONE) -> None:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            score(images, suite, out, how)

    named = replace(suite, name="named")
    refused(r"3 of 3 prompts do not have the images 0 to 0", named)
    refused(r"images 0 to 3.*--images_per_prompt is 4", suite, how=replace(ALONE, images_per_prompt=4))
    refused("reader is 'none'; allowed are", how=replace(ALONE, readers=("none",)))
    refused(
        "rows with another prompts",
        replace(suite, items=(*suite.items[:2], Item("2", prompt_of("COFFEE"), "x", ()))),
        scored,
    )
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="--workers is 0"):
        Scoring(workers=0)
    with pytest.raises(ValueError, match="name each reader once"):
        Scoring(readers=("rapidocr", "rapidocr"))


def test_seeds_that_a_suite_needs_are_looked_for(images: Path, suite: Suite, tmp_path: Path) -> None:
    needing = replace(suite, needs_seeds=True)
    shutil.copytree(images, tmp_path / "images")
    draw_sign(tmp_path / "images" / "0_1.png", "HELLO")
    with pytest.raises(ValueError, match=r"1 of 6 images do not say their seed, which prompts needs, such as 0_1\.png"):
        score(tmp_path / "images", needing, tmp_path / "out", ALONE)


def test_images_that_have_changed_since_are_refused(images: Path, suite: Suite, scored: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    shutil.copytree(scored, tmp_path / "out")
    draw_sign(tmp_path / "images" / "0_0.png", "OTHER")
    with pytest.raises(ValueError, match=r"0_0\.png has changed since it was scored; name another --out"):
        score(tmp_path / "images", suite, tmp_path / "out", ALONE)


def test_the_rows_are_plain_csv(scored: Path) -> None:
    with (scored / "rows" / "rapidocr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["wanted"]) for row in rows] == [1.0] * 6
