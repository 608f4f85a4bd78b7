"""``vlad-cli cache``: loads the networks as a fit does, stores their outputs, and refuses what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from prepared_sets import write_mario

from vlad_lightning.cli.fit import build
from vlad_lightning.cli.launcher import main
from vlad_lightning.data.latent_cache import stored_note
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.files import configs_folder
from vlad_lightning.models.text.encoder import train_tokenizer
from vlad_lightning.modules import AlignmentModule
from vlad_lightning.modules.latents import fingerprint

MINI = configs_folder() / "mini"
STAGE2 = ["--config", str(MINI / "stage2_vfe.yaml")]


def test_the_image_encoder_is_that_of_stage_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        write_mario(tmp_path / "mario", number)
    root, out = tmp_path / "set", tmp_path / "run"
    prepare(Preparation("x", folder_portions(tmp_path / "mario"), root))
    first = build(["--config", str(MINI / "stage0_align.yaml"), "--seed_everything", "7"], run=False)
    assert isinstance(first.model, AlignmentModule)
    first.model.prompt_encoder.text_encoder.tokenizer = train_tokenizer(["a big SALE"] * 9, 300)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=0)
    trainer.strategy.connect(first.model)
    trainer.save_checkpoint(out / "stage0" / "last.ckpt")
    words = ["cache", *STAGE2, "--data.root", str(root), "--out", str(out)]
    capsys.readouterr()
    assert main([*words, "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "12 samples were computed, 50,432 bytes each; 0 cannot be read" in told
    assert f"--data.root {root} --data.latents true" in told
    note = stored_note(root)
    assert note is not None
    assert note.finished
    assert note.key["image_encoder"] == fingerprint(first.model.image_encoder)
    assert note.key["autoencoder"]["class"] == "SpaceToDepth"
    assert note.shapes == {"images": [12, 32, 32], "glyphs": [12, 32, 32], "letters": [32, 32], "embeddings": [128]}
    with torch.no_grad():
        next(first.model.image_encoder.parameters()).add_(1)
    trainer.save_checkpoint(out / "stage0" / "last.ckpt")
    assert main(words) == 2
    assert "latents was made with image_encoder.weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", str(MINI / "stage0_align.yaml")], "the config builds AlignmentModule; only stage 2, VFEModule,"),
        ([*STAGE2, "--config", str(MINI / "stage2_inpaint.yaml")], "model.masking trains inpainting"),
        ([*STAGE2, "--checkpoint", "no.ckpt"], "--checkpoint no.ckpt does not exist"),
        ([*STAGE2, "--range", "2/2"], "'2/2' is not i/n with i from 0 to n - 1"),
    ],
)
def test_what_cannot_be_cached_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *words]) == 2
    assert message in capsys.readouterr().err
