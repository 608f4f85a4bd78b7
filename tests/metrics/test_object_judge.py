from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import tiny_system as tiny
import torch

from vlad_lightning.metrics.object_judge import ObjectJudge
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.modules.object_detection import ObjectDetectionModule


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "objects.ckpt"
    torch.save({"state_dict": ObjectDetectionModule(ObjectDetector(width=8)).state_dict()}, path)
    return path


def test_it_is_the_checkpoints_detector_frozen(checkpoint: Path) -> None:
    judge = ObjectJudge(str(checkpoint), ObjectDetector(width=8), threshold=0.0)
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(saved[f"detector.{key}"], value) for key, value in judge.detector.state_dict().items())
    assert not judge.training
    assert not any(value.requires_grad for value in judge.parameters())
    assert judge.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert judge.name == f"objects-{judge.sha256[:8]}"


def test_it_sees_the_same_under_autocast_and_keeps_the_threshold(checkpoint: Path) -> None:
    judge = ObjectJudge(str(checkpoint), ObjectDetector(width=8), threshold=0.0)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    plain = [*judge.detector.find(images, 0.0)]
    assert judge.find(images) == plain
    with torch.autocast("cpu", torch.bfloat16):
        assert judge.find(images) == plain
    assert all(len(found) > 0 for found in plain)
    strict = ObjectJudge(str(checkpoint), ObjectDetector(width=8), threshold=1.0)
    assert strict.find(images) == [(), ()]


def test_what_cannot_judge_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"checkpoint='nowhere\.ckpt' does not exist"):
        ObjectJudge("nowhere.ckpt", ObjectDetector(width=8))
    with pytest.raises(ValueError, match=r"objects\.ckpt does not fit the detector"):
        ObjectJudge(str(checkpoint), ObjectDetector(width=16))
    torch.save({"state_dict": tiny.stage("tlg").state_dict()}, tmp_path / "stage1.ckpt")
    with pytest.raises(ValueError, match=r"stage1\.ckpt does not fit the detector"):
        ObjectJudge(str(tmp_path / "stage1.ckpt"), ObjectDetector(width=8))
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        ObjectJudge(str(checkpoint), ObjectDetector(width=8), threshold=1.5)


def test_a_damaged_checkpoint_is_refused(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(b ^ 255 for b in content[middle : middle + 4096])
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        ObjectJudge(str(checkpoint), ObjectDetector(width=8))
