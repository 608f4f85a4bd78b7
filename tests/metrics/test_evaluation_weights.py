from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from safetensors.torch import load_file

from vlad_lightning.checkpoints.folder import digest
from vlad_lightning.cli.export import export
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.evaluation_encoder import EvaluationEncoder
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.modules.alignment_terms import AlignmentTerms
from vlad_lightning.modules.object_detection import ObjectDetectionModule
from vlad_lightning.pretrained import shipped

TEXTS = ["a red circle and 'HELLO'", "a green square"]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Write the checkpoints of a stage 0 with adapters, and of a detector."""
    torch.manual_seed(0)
    stage0 = tiny.AlignmentModule(
        tiny.prompt_encoder(tiny.LORA), tiny.image_encoder(), tiny.FAST, terms=AlignmentTerms(phrase_weight=1.0)
    )
    for name, value in stage0.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    saved = {"state_dict": stage0.state_dict(), "global_step": 3}
    stage0.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "stage0.ckpt")
    torch.save({"state_dict": ObjectDetectionModule(ObjectDetector(width=8)).state_dict()}, tmp_path / "objects.ckpt")
    return {"encoder": tmp_path / "stage0.ckpt", "detector": tmp_path / "objects.ckpt"}


def write(runs: dict[str, Path], folder: Path, dtype: str = "float32") -> None:
    given = [part for name, path in runs.items() for part in (f"--{name}", str(path))]
    export(["--evaluation", str(folder), *given, "--dtype", dtype])


def encoder(checkpoint: Path | str) -> EvaluationEncoder:
    return EvaluationEncoder(str(checkpoint), tiny.prompt_encoder(tokenizer=False), tiny.image_encoder())


def detector(checkpoint: Path | str) -> EvaluationDetector:
    return EvaluationDetector(str(checkpoint), ObjectDetector(width=8), threshold=0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 0.01)])
def test_an_exported_folder_measures_like_the_checkpoints(
    runs: dict[str, Path], tmp_path: Path, dtype: str, tolerance: float
) -> None:
    folder = tmp_path / "evaluation"
    write(runs, folder, dtype)
    images = torch.rand(2, 3, tiny.SIZE, tiny.SIZE) * 2 - 1
    mine, original = encoder(folder), encoder(runs["encoder"])
    assert (mine.local, original.local) == (True, True)
    expected = original.score(images, TEXTS)
    torch.testing.assert_close(mine.score(images, TEXTS), expected, atol=tolerance, rtol=tolerance)
    maps, own = (d.detector(images) for d in (detector(folder), detector(runs["detector"])))
    torch.testing.assert_close(maps.shape, own.shape, atol=10 * tolerance, rtol=tolerance)
    models = [mine, detector(folder)]
    found = {v.dtype for model in models for v in (*model.parameters(), *model.buffers()) if v.is_floating_point()}
    assert found == {torch.float32}
    stored = {v.dtype for file in folder.rglob("*.safetensors") for v in load_file(file).values()}
    assert stored - {torch.int64} == {getattr(torch, dtype)}


def test_hashes_and_names_are_those_of_the_folders_and_the_readme_has_the_checkpoints(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation"
    write(runs, folder)
    for model, part in ((encoder(folder), "encoder"), (detector(folder), "detector")):
        assert model.sha256 == digest(folder / part)
        assert model.name.endswith(model.sha256[:8])
        assert digest(runs[part]) in (folder / "README.md").read_text()
    write(runs, folder, "bfloat16")  # an earlier export is replaced
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "detector", "encoder"]


def test_the_shipped_models_open_by_their_name(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="'vlad-mini-evaluation' is the name of weights that ship"):
        detector("vlad-mini-evaluation")
    write(runs, tmp_path / "vlad-mini-evaluation")
    assert encoder("vlad-mini-evaluation").sha256 == digest(tmp_path / "vlad-mini-evaluation" / "encoder")
    assert detector("vlad-mini-evaluation").sha256 == digest(tmp_path / "vlad-mini-evaluation" / "detector")


def test_unusable_folders_and_checkpoints_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    with pytest.raises(ValueError, match=r"objects\.ckpt has no weights of a prompt_encoder"):
        write(runs | {"encoder": runs["detector"]}, folder)
    assert not folder.exists()
    write(runs, folder)
    with pytest.raises(ValueError, match="detector does not fit the detector of this configuration"):
        EvaluationDetector(str(folder), ObjectDetector(width=16))
    config = folder / "detector" / "config.json"
    config.write_text(json.dumps({"local_score": False}))
    with pytest.raises(ValueError, match="detector cannot be used: 'texts'"):
        detector(folder)
    weights = folder / "encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"encoder/model\.safetensors cannot be read"):
        encoder(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evaluation", "x", "--encoder", "a.ckpt"], "--detector is missing; with --evaluation, export needs"),
        (["--folder", "x"], "--checkpoint is missing; without --evaluation, export needs --checkpoint"),
        (["--folder", "x", "--checkpoint", "a", "--encoder", "b"], "--encoder has no effect without --evaluation"),
        (["--evaluation", "x", "--encoder", "a", "--detector", "b", "--out", "c"], "--out has no effect with"),
        (["--evaluation", "x", "--encoder", "a", "--detector", "b", "--folder", "c"], "--folder has no effect with"),
        (["--lora-folder", "x", "--checkpoint", "a", "--card_pictures", "b"], "--card_pictures belongs to --folder"),
        (["--lora-folder", "x", "--checkpoint", "a", "--card_notes", "b"], "--card_notes belongs to --folder"),
    ],
)
def test_contradicting_arguments_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export(arguments)


def test_notes_that_cannot_be_read_are_refused_before_the_model_is_built(tmp_path: Path) -> None:
    checkpoint, notes = tmp_path / "last.ckpt", tmp_path / "notes.md"
    checkpoint.touch()
    arguments = ["--checkpoint", str(checkpoint), "--folder", str(tmp_path / "new"), "--card_notes", str(notes)]
    with pytest.raises(ValueError, match=r"--card_notes .*notes\.md cannot be read as text in UTF-8: .*No such file"):
        export(arguments)
    notes.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"--card_notes .*notes\.md cannot be read as text in UTF-8: .*codec"):
        export(arguments)
