"""Batches are prepared in the loader's processes, without any effect on training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.modules.alignment_terms import AlignmentTerms
from vlad_lightning.types import COSTLY_FIELDS, Batch, FieldNotBuilt

CHANGES: dict[str, dict[str, Any]] = {
    "alignment": {"terms": AlignmentTerms(2, 1.0, 1.0), "tokenizer": False},
    "tlg": {},
    "vfe": {},
}
EVERY = pytest.mark.parametrize("name", CHANGES)
SETTINGS: dict[str, Any] = {"size": tiny.SIZE, "batch_size": 4, "max_objects": 8, "val_share": 0.2, "test_share": 0.2}


class Unprepared(MarioDataModule):
    """A data module that does not prepare its batches."""

    preparation = property(lambda self: None, lambda self, value: None)  # type: ignore[assignment]


class Whole(MarioDataModule):
    """A data module that builds every field."""

    def ask_for(self, *fields: str) -> None:
        super().ask_for(*COSTLY_FIELDS)


class Asking(Callback):
    """Reads the pictures too, and says so."""

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        trainer.datamodule.ask_for("images")  # type: ignore[attr-defined]


class Read(Callback):
    """Records the batches of a fit, with their steps."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, Batch]] = []

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.batches.append((trainer.global_step, batch))


def fit(name: str, data: MarioDataModule, steps: int, **settings: Any) -> tuple[LightningModule, Read]:
    module, read = tiny.stage(name, **CHANGES[name]), Read()
    ckpt_path = settings.pop("ckpt_path", None)
    trainer = tiny.trainer(steps, callbacks=[read], use_distributed_sampler=False, **settings)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return module, read


@EVERY
def test_weights_equal_those_of_a_fit_that_parses_in_its_steps(name: str, posters: Path) -> None:
    """Over two epochs of three steps with two batches each."""
    changes = {"accumulate_grad_batches": 2}
    first, prepared = fit(name, MarioDataModule(str(posters), **SETTINGS, num_workers=1), 5, **changes)
    second, plain = fit(name, Unprepared(str(posters), **SETTINGS), 5, **changes)
    assert all(batch.parsed is None and batch.negatives is None for _, batch in plain.batches)
    steps = [step for step, _ in prepared.batches]
    assert len(steps) == 10
    if name == "alignment":
        assert [batch.negatives.step for _, batch in prepared.batches if batch.negatives] == steps
    else:
        assert all(batch.parsed is not None for _, batch in prepared.batches)
    restored = dict(second.named_parameters())
    assert all(torch.equal(value, restored[key]) for key, value in first.named_parameters())


def test_a_resumed_fit_has_the_same_edits_in_its_steps(posters: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    _, whole = fit("alignment", MarioDataModule(str(posters), **SETTINGS), 9)
    fit("alignment", MarioDataModule(str(posters), **SETTINGS), 4, **settings)
    (saved,) = tmp_path.rglob("*.ckpt")
    _, resumed = fit("alignment", MarioDataModule(str(posters), **SETTINGS), 9, ckpt_path=saved)
    edits = {step: batch.negatives for step, batch in whole.batches}
    for step, batch in resumed.batches:
        assert batch.negatives is not None
        assert batch.negatives.step == step
    assert edits[4] is not None
    assert resumed.batches[0][0] == 4
    again = {batch.keys: batch.negatives.texts for _, batch in resumed.batches if batch.negatives}
    for _, batch in whole.batches[4:]:
        assert again[batch.keys] == batch.negatives.texts  # type: ignore[union-attr]


def test_edits_of_another_step_are_not_used(posters: Path) -> None:
    """A loader that is wrong about the step changes no weight."""

    class Late(MarioDataModule):
        def _step(self) -> int:
            return super()._step() + 3

        def _position(self) -> int:
            return 0

    first, _ = fit("alignment", Late(str(posters), **SETTINGS), 2)
    second, _ = fit("alignment", MarioDataModule(str(posters), **SETTINGS), 2)
    restored = dict(second.named_parameters())
    assert all(torch.equal(value, restored[key]) for key, value in first.named_parameters())


def test_validation_uses_parsed_prompts_too(posters: Path) -> None:
    parsed: list[bool] = []

    class Seen(Callback):
        def on_validation_batch_start(self, trainer: Any, module: Any, batch: Batch, *_: Any) -> None:
            parsed.append(batch.parsed is not None and batch.negatives is None)

    tiny.trainer(limit_val_batches=1, callbacks=[Seen()]).validate(tiny.alignment(), tiny.data(posters), verbose=False)
    assert parsed == [True]


def fields_of(batch: Batch) -> list[str]:
    return [name for name in COSTLY_FIELDS if not isinstance(getattr(batch, name), FieldNotBuilt)]


@pytest.mark.parametrize(("name", "built"), [("alignment", ["images"]), ("tlg", [])])
def test_only_what_a_stage_reads_is_built_without_any_effect_on_it(name: str, built: list[str], posters: Path) -> None:
    scores: list[dict[str, Any]] = []
    weights = []
    for data, expected in ((MarioDataModule, built), (Whole, [*COSTLY_FIELDS])):
        module, read = fit(name, data(str(posters), **SETTINGS), 2)
        assert [fields_of(batch) for _, batch in read.batches] == [expected] * 2
        weights.append(dict(module.named_parameters()))
        scores += tiny.trainer(limit_val_batches=1).validate(module, data(str(posters), **SETTINGS), verbose=False)
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert scores[0] == scores[1]


def test_a_callback_can_ask_for_a_field_that_the_stage_does_not_read(posters: Path) -> None:
    read = Read()
    data = MarioDataModule(str(posters), **SETTINGS)
    tiny.trainer(1, callbacks=[read, Asking()]).fit(tiny.tlg(), data)
    tiny.trainer(1, callbacks=[read]).fit(tiny.tlg(), data)  # what one fit asked for does not count in the next
    assert [fields_of(batch) for _, batch in read.batches] == [["images"], []]
    with pytest.raises(ValueError, match="'glyphs' was not built for this batch"):
        read.batches[0][1].glyphs.float()
    with pytest.raises(ValueError, match="fields has layouts; allowed: images, glyphs"):
        data.ask_for("images", "layouts")
