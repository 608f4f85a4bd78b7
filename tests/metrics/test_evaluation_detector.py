from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import tiny_system as tiny
import torch

from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.modules.object_detection import ObjectDetectionModule


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "objects.ckpt"
    torch.save({"state_dict": ObjectDetectionModule(ObjectDetector(width=8)).state_dict()}, path)
    return path


def test_the_detector_is_the_checkpoints_and_frozen(checkpoint: Path) -> None:
    evaluation_encoder = EvaluationDetector(str(checkpoint), ObjectDetector(width=8), threshold=0.0)
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(
        torch.equal(saved[f"detector.{key}"], value) for key, value in evaluation_encoder.detector.state_dict().items()
    )
    assert not evaluation_encoder.training
    assert not any(value.requires_grad for value in evaluation_encoder.parameters())
    assert evaluation_encoder.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert evaluation_encoder.name == f"objects-{evaluation_encoder.sha256[:8]}"


def test_results_are_equal_under_autocast_and_the_threshold_is_kept(checkpoint: Path) -> None:
    evaluation_encoder = EvaluationDetector(str(checkpoint), ObjectDetector(width=8), threshold=0.0)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    plain = [*evaluation_encoder.detector.detect(images, 0.0)]
    assert evaluation_encoder.detect(images) == plain
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluation_encoder.detect(images) == plain
    assert all(len(found) > 0 for found in plain)
    strict = EvaluationDetector(str(checkpoint), ObjectDetector(width=8), threshold=1.0)
    assert strict.detect(images) == [(), ()]


def test_unusable_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"checkpoint='nowhere\.ckpt' does not exist"):
        EvaluationDetector("nowhere.ckpt", ObjectDetector(width=8))
    with pytest.raises(ValueError, match=r"objects\.ckpt does not fit the detector"):
        EvaluationDetector(str(checkpoint), ObjectDetector(width=16))
    torch.save({"state_dict": tiny.stage("tlg").state_dict()}, tmp_path / "stage1.ckpt")
    with pytest.raises(ValueError, match=r"stage1\.ckpt does not fit the detector"):
        EvaluationDetector(str(tmp_path / "stage1.ckpt"), ObjectDetector(width=8))
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        EvaluationDetector(str(checkpoint), ObjectDetector(width=8), threshold=1.5)


def test_a_damaged_checkpoint_is_refused(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(b ^ 255 for b in content[middle : middle + 4096])
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        EvaluationDetector(str(checkpoint), ObjectDetector(width=8))
