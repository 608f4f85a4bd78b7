from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vlad_lightning.callbacks import FromPretrained
from vlad_lightning.callbacks.init_from import InitFrom, provenance
from vlad_lightning.checkpoints.folder import digest
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.pipeline.model_card import read_run, write_card

PROMPTS = ['a red circle with the text "HELLO"', "a blue square"]
TOKENIZER = train_tokenizer(PROMPTS * 20, 300)


def text_encoder(seed: int, lora: Lora | None = None) -> TextEncoder:
    torch.manual_seed(seed)
    tower = build_text_tower(16, layers=1, heads=2, vocabulary=300, context=40)
    return TextEncoder(tower, CharacterEncoder(16), lora=lora).eval()


class Stage(LightningModule):
    """Parts with weights, trained at rate zero, so that their initial values can be read after a fit."""

    def __init__(self, parts: dict[str, nn.Module], lora_scale: float | None = None, rate: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.ModuleDict(parts)
        self.head = nn.Linear(2, 2)
        self.lora_scale, self.rate = lora_scale, rate

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return sum((w.sum() for w in self.parameters() if w.requires_grad), torch.zeros(()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.lora_scale is not None:
            checkpoint["lora_scale"] = self.lora_scale


def fit(
    stage: Stage, *callbacks: Callback, steps: int = 1, resume: Path | None = None, known: Path | None = None
) -> Trainer:
    """Fit; the checkpoint to resume is passed to Lightning, or set before the fit as in ``vlad-cli``."""
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.ckpt_path = known
    trainer.fit(stage, DataLoader(TensorDataset(torch.zeros(8))), ckpt_path=resume, weights_only=True)
    return trainer


def linear(value: float, width: int = 3) -> nn.Linear:
    made = nn.Linear(width, 2)
    nn.init.constant_(made.weight, value)
    nn.init.constant_(made.bias, value)
    return made


def saved(path: Path, stage: Stage) -> Path:
    """Make the checkpoint of a real, short fit."""
    fit(stage).save_checkpoint(path)
    return path


def logged_batch_size(stage: Stage, part: str) -> float:
    weight = stage.get_submodule(part).get_parameter("weight")
    assert (weight == weight.flatten()[0]).all()
    return weight.flatten()[0].item()


def test_only_the_named_part_starts_from_the_earlier_stage(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"a": linear(1.0), "b": linear(2.0)}))
    later = Stage({"a": linear(8.0), "b": linear(9.0)})
    fit(later, InitFrom("inner.a", str(checkpoint)))
    assert (logged_batch_size(later, "inner.a"), logged_batch_size(later, "inner.b")) == (1.0, 9.0)


def test_a_part_may_have_another_name_in_the_source_and_two_parts_may_be_loaded(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"a": linear(1.0), "ab": linear(2.0)}))
    later = Stage({"x": linear(8.0), "y": linear(9.0)})
    trainer = fit(
        later, *(InitFrom(f"inner.{p}", str(checkpoint), s) for p, s in [("x", "inner.ab"), ("y", "inner.a")])
    )
    assert (logged_batch_size(later, "inner.x"), logged_batch_size(later, "inner.y")) == (2.0, 1.0)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    kept = torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]
    assert {"InitFrom[inner.x]", "InitFrom[inner.y]"} <= set(kept)


def test_a_part_starts_from_the_mean_of_two_checkpoints(tmp_path: Path) -> None:
    first, second = (saved(tmp_path / f"{v}.ckpt", Stage({"a": linear(v), "b": linear(9.0)})) for v in (1.0, 3.0))
    later = Stage({"a": linear(8.0), "b": linear(7.0)})
    trainer = fit(later, InitFrom("inner.a", str(first), averaged_with=str(second), share=0.75))
    assert (logged_batch_size(later, "inner.a"), logged_batch_size(later, "inner.b")) == (2.5, 7.0)
    trainer.save_checkpoint(tmp_path / "later.ckpt")
    told = torch.load(tmp_path / "later.ckpt", weights_only=True)["callbacks"]["InitFrom[inner.a]"]
    assert (told["averaged_with"], told["share"]) == (str(second), 0.75)
    assert told["averaged_sha256"] == digest(second) != told["sha256"] == digest(first)
    with pytest.raises(FileNotFoundError, match=r"averaged_with='none\.ckpt' does not exist"):
        fit(later, InitFrom("inner.a", str(first), averaged_with="none.ckpt"))
    with pytest.raises(ValueError, match=r"share=1\.5: must lie in"):
        InitFrom("a", "x", averaged_with="y", share=1.5)
    with pytest.raises(ValueError, match=r"share is 0\.3; it has no effect: averaged_with is None"):
        InitFrom("a", "x", share=0.3)


def test_the_new_checkpoint_records_its_source_and_does_not_need_it(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"a": linear(1.0)}))
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    fit(Stage({"a": linear(8.0)}), InitFrom("inner.a", str(checkpoint))).save_checkpoint(tmp_path / "two.ckpt")
    checkpoint.unlink()
    new = torch.load(tmp_path / "two.ckpt", weights_only=True)
    assert new["callbacks"]["InitFrom[inner.a]"] == {
        "checkpoint": str(checkpoint),
        "source": "inner.a",
        "sha256": digest,
        "sources": [],
    }
    assert torch.equal(new["state_dict"]["inner.a.weight"], linear(1.0).weight)


def test_a_resume_overrides_the_initial_weights(tmp_path: Path) -> None:
    first, other = (saved(tmp_path / f"{v}.ckpt", Stage({"a": linear(v)})) for v in (1.0, 5.0))
    begun = Stage({"a": linear(8.0)}, rate=0.5)
    fit(begun, InitFrom("inner.a", str(first))).save_checkpoint(tmp_path / "begun.ckpt")
    assert logged_batch_size(begun, "inner.a") == 0.5  # one step of rate 0.5 down from 1
    resumed = Stage({"a": linear(8.0)}, rate=0.5)
    trainer = fit(resumed, InitFrom("inner.a", str(other)), steps=2, resume=tmp_path / "begun.ckpt")
    assert trainer.global_step == 2
    assert logged_batch_size(resumed, "inner.a") == 0.0


@pytest.fixture
def descended(tmp_path: Path) -> Path:
    """Make the checkpoint of a third stage; only its tower was published, and loaded in the first stage."""
    published = tmp_path / "published"
    torch.manual_seed(0)
    build_text_tower(16, layers=1, heads=2, vocabulary=300, context=40).save_pretrained(published)
    paths = [tmp_path / f"{stage}.ckpt" for stage in range(3)]

    def stage() -> Stage:
        return Stage({"tower": text_encoder(3).tower, "rest": linear(1.0)})

    fit(stage(), FromPretrained("inner.tower", str(published))).save_checkpoint(paths[0])
    for before, after in pairwise(paths):
        parts = [InitFrom(f"inner.{part}", str(before)) for part in ("tower", "rest")]
        fit(stage(), *parts).save_checkpoint(after)
    return paths[-1]


def test_the_last_stage_records_the_published_weights_of_the_first(tmp_path: Path, descended: Path) -> None:
    states = torch.load(descended, weights_only=True)["callbacks"]
    assert states["InitFrom[inner.tower]"]["sources"] == [str(tmp_path / "published")]
    assert states["InitFrom[inner.rest]"]["sources"] == []
    assert provenance(states) == (str(tmp_path / "published"),)
    assert provenance(states, "inner.rest") == ()
    run = read_run("posters", "data/train", descended, torch.load(descended, weights_only=True), tmp_path / "none")
    (tmp_path / "card").mkdir()
    write_card(tmp_path / "card", run)
    card = ModelCard.load(tmp_path / "card" / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "as-the-base-models")


@pytest.mark.parametrize("how", ["resume", "known"])
def test_a_resumed_fit_still_records_its_sources(tmp_path: Path, descended: Path, how: str) -> None:
    before = torch.load(descended, weights_only=True)["callbacks"]
    other = tmp_path / "other.ckpt"
    if how == "resume":  # callbacks learn of the resume late: InitFrom reads its source first
        fit(Stage({"tower": text_encoder(8).tower, "rest": linear(2.0)})).save_checkpoint(other)
    starts = [InitFrom(f"inner.{part}", str(other)) for part in ("tower", "rest")]
    stage = Stage({"tower": text_encoder(3).tower, "rest": linear(1.0)})
    fit(stage, *starts, steps=2, **{how: descended}).save_checkpoint(tmp_path / "resumed.ckpt")
    after = torch.load(tmp_path / "resumed.ckpt", weights_only=True)["callbacks"]
    for key in ("InitFrom[inner.tower]", "InitFrom[inner.rest]"):
        assert len(after[key]["sha256"]) == 64
        assert after[key] == before[key]


def test_only_a_fit_loads_initial_weights(tmp_path: Path) -> None:
    stage = Stage({"a": linear(8.0)})
    callback = InitFrom("inner.a", str(tmp_path / "missing.ckpt"))
    for name in ("validate", "test", "predict"):
        callback.setup(Trainer(accelerator="cpu", logger=False), stage, name)
    assert logged_batch_size(stage, "inner.a") == 8.0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing.ckpt' does not exist"):
        fit(Stage({"a": linear(8.0)}), InitFrom("inner.a", str(tmp_path / "missing.ckpt")))


def test_a_part_missing_in_the_checkpoint_is_named_with_the_available_ones(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"a": linear(1.0)}))
    with pytest.raises(ValueError, match=r"one.ckpt has no part 'inner.vfe'"):
        fit(Stage({"a": linear(8.0)}), InitFrom("inner.a", str(checkpoint), "inner.vfe"))


def test_a_part_of_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"a": linear(1.0, width=4)}))
    with pytest.raises(
        ValueError, match=r"(?s)'inner.a' does not fit 'inner.a' of this config.*size mismatch for weight"
    ):
        fit(Stage({"a": linear(8.0)}), InitFrom("inner.a", str(checkpoint)))


def test_a_part_with_more_or_fewer_weights_is_refused(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"a": nn.Sequential(linear(1.0), linear(1.0))}))
    with pytest.raises(ValueError, match=r"(?s)does not fit.*Unexpected key.*1.weight"):
        fit(Stage({"a": nn.Sequential(linear(8.0))}), InitFrom("inner.a", str(checkpoint)))
    with pytest.raises(ValueError, match=r"(?s)does not fit.*Missing key.*2.weight"):
        fit(Stage({"a": nn.Sequential(*[linear(8.0)] * 3)}), InitFrom("inner.a", str(checkpoint)))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": {"inner.a.weight": Trap()}}, tmp_path / "trap.ckpt")
    with pytest.raises(ValueError, match=r"trap\.ckpt is no checkpoint of Lightning: Weights only load failed"):
        fit(Stage({"a": linear(8.0)}), InitFrom("inner.a", str(tmp_path / "trap.ckpt")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.ckpt", "file:///x.ckpt"])
def test_an_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=f"{address} is an address"):
        fit(Stage({"a": linear(8.0)}), InitFrom("inner.a", address))


@pytest.mark.parametrize("again", [None, Lora(rank=1, alpha=1)], ids=["plain", "adapters"])
def test_adapters_fold_into_the_next_stage_and_the_tokenizer_is_copied(tmp_path: Path, again: Lora | None) -> None:
    earlier = text_encoder(0, Lora(rank=2, alpha=6))
    earlier.tokenizer = TOKENIZER
    with torch.no_grad():
        for name, weight in earlier.tower.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    checkpoint = saved(tmp_path / "one.ckpt", Stage({"text": earlier}, lora_scale=earlier.lora_scale))
    later = text_encoder(3, again)
    fit(Stage({"text": later}), InitFrom("inner.text", str(checkpoint)))
    assert later.tokenizer is not None
    for name in ("tokens", "pooled", "phrases"):
        before, after = (getattr(of.eval()(PROMPTS), name) for of in (earlier, later))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
