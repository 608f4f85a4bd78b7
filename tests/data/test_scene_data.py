from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vlad_lightning.data.scene_data import SceneBatch, SceneDataModule
from vlad_lightning.layout.scene_objects import COLOURS, KINDS


def module(root: Path) -> SceneDataModule:
    data = SceneDataModule(str(root), size=64, batch_size=8, val_share=0.2, test_share=0.2)
    data.setup()
    return data


@pytest.fixture
def copy(posters: Path, tmp_path: Path) -> Path:
    shutil.copytree(posters, tmp_path / "posters")
    return tmp_path / "posters"


def scenes(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the objects of each poster from its file."""
    files = root.glob("*/*/scene.json")
    return {f"{f.parts[-3]}_{f.parts[-2]}": json.loads(f.read_text())["objects"] for f in files}


def test_every_object_of_a_poster_is_in_its_batch(posters: Path) -> None:
    truth = scenes(posters)
    data = module(posters)
    seen = set()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert isinstance(batch, SceneBatch)
            for key, rows in zip(batch.keys, batch.things, strict=True):
                seen.add(key)
                assert int(rows[:, 0].sum()) == len(truth[key])
                for row, thing in zip(rows.tolist(), truth[key], strict=False):
                    left, top, right, bottom = thing["box"]
                    assert (KINDS[int(row[1])], COLOURS[int(row[2])]) == (thing["name"], thing["colour"])
                    assert row[3:] == pytest.approx(
                        [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                    )
    assert len(seen) >= 36  # the samples that do not fill a training batch are left out


def test_posters_without_a_usable_scene_are_left_out(copy: Path) -> None:
    files = sorted(copy.glob("*/*/scene.json"))
    for file in files[:20]:
        file.unlink()
    changed = json.loads(files[30].read_text()) | {
        "objects": [{"name": "star", "colour": "violet", "box": [0, 0, 1, 1], "region": "center", "phrase": None}]
    }
    files[30].write_text(json.dumps(changed))  # a colour unknown to the detector
    data = module(copy)
    posters = [p for s in data._sets.values() for p in (s[i] for i in range(len(s)))]
    keys = {poster.key for poster in posters}  # type: ignore[attr-defined]
    assert len(posters) == 20
    assert len(keys) == 19
    assert data.broken == (f"{files[30].parts[-3]}_{files[30].parts[-2]}",)


def test_objects_of_other_names_have_no_shape(copy: Path) -> None:
    for file in copy.glob("*/*/scene.json"):
        content = json.loads(file.read_text())
        content["objects"] = [thing | {"name": "giraffe"} for thing in content["objects"]]
        file.write_text(json.dumps(content))
    batch = next(iter(module(copy).val_dataloader()))
    kinds = batch.things[..., 1][batch.things[..., 0] == 1]
    assert len(kinds)
    assert (kinds == KINDS.index(None)).all()


def test_a_folder_without_scenes_is_refused(copy: Path) -> None:
    for file in copy.glob("*/*/scene.json"):
        file.unlink()
    with pytest.raises(ValueError, match=r"where no sample has a scene\.json"):
        module(copy)


def test_a_batch_moves_and_counts() -> None:
    batch = SceneBatch(("a",), torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 7))
    assert batch.to("meta").things.device.type == batch.to("meta").images.device.type == "meta"
    assert (len(batch), batch.counted) == (1, 1)
    assert SceneBatch(batch.keys, batch.images, batch.things, spare=True).counted == 0
