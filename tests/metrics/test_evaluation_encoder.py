from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch

from vlad_lightning.metrics.alignment_probe import AlignmentProbe
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.metrics.evaluation_encoder import EvaluationEncoder
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.modules import AlignmentModule
from vlad_lightning.modules.alignment_terms import AlignmentTerms


@pytest.mark.parametrize("terms", [AlignmentTerms(), AlignmentTerms(phrase_weight=1.0)])
def test_an_evaluation_encoder_scores_and_is_probed_like_its_training_run(
    posters: Path, tmp_path: Path, terms: AlignmentTerms
) -> None:
    module = tiny.alignment(terms=terms)
    trainer = tiny.trainer(2, limit_val_batches=3)
    data = tiny.data(posters)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "stage0.ckpt")
    logged = tiny.trainer(limit_val_batches=3).validate(module, datamodule=data, verbose=False)[0]
    evaluation_encoder = EvaluationEncoder(
        str(tmp_path / "stage0.ckpt"), tiny.prompt_encoder(tokenizer=False), tiny.image_encoder()
    )
    probe = AlignmentProbe(evaluation_encoder.score)
    assert isinstance(module, AlignmentModule)
    module.eval()
    for i, batch in enumerate(data.val_dataloader()):
        if i < 3:
            with torch.no_grad():
                expected = module.score(batch.images, batch.prompts)
            for autocast in (False, True):  # an evaluation encoder's precision is its own
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    torch.testing.assert_close(evaluation_encoder.score(batch.images, batch.prompts), expected)
            probe.update(batch.images, batch.prompts, batch.keys)
    results = probe.compute()
    assert len(results) >= 5
    assert {k.replace("val/", "alignment_"): v for k, v in logged.items() if "probe" in k} == pytest.approx(
        {name: result.value for name, result in results.items()}
    )


class Code:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("evaluation_encoder", ["alignment", "objects"])
def test_a_file_that_is_not_a_checkpoint_is_refused_and_no_code_runs(evaluation_encoder: str, tmp_path: Path) -> None:
    def build(checkpoint: str) -> object:
        if evaluation_encoder == "objects":
            return EvaluationDetector(checkpoint, ObjectDetector(width=8))
        return EvaluationEncoder(checkpoint, tiny.prompt_encoder(tokenizer=False), tiny.image_encoder())

    torch.save({"state_dict": {"detector.x": Code(tmp_path / "ran")}}, tmp_path / "code.ckpt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.ckpt")
    for name in ("code", "foreign"):
        with pytest.raises(ValueError, match=rf"{name}\.ckpt is no checkpoint of Lightning"):
            build(str(tmp_path / f"{name}.ckpt"))
    with pytest.raises(ValueError, match=r"file:///x\.ckpt is an address"):
        build("file:///x.ckpt")
    assert not (tmp_path / "ran").exists()
