from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlad_lightning.health import EMA, FitSummary, WeightCensus
from vlad_lightning.health.weight_census import parts_of, sample_weights, take_census


def test_samples_are_equal_for_equal_names_and_cover_all_tensors() -> None:
    weights = {"a": torch.randn(40, 50), "b": torch.tensor(3.0), "c": torch.arange(5.0), "none": torch.zeros(0)}
    first, second = sample_weights(weights), sample_weights(weights)
    assert first.counts == (256, 1, 5, 0)
    assert torch.equal(first.values, second.values)
    assert first.values[256:].tolist() == [3, 0, 1, 2, 3, 4]
    assert first.norms[0] == pytest.approx(float(weights["a"].norm()))
    assert sample_weights({}).names == ()


def test_movement_is_relative_and_unmoved_weights_are_named() -> None:
    before = {"far": torch.tensor([3.0, -4.0]), "zero": torch.zeros(2), "kept": torch.ones(3)}
    after = {"far": torch.tensor([3.3, -4.4]), "zero": torch.full((2,), 1e-3), "kept": torch.ones(3)}
    census = take_census(sample_weights(before), sample_weights(after))
    assert census.movement == {
        "far": pytest.approx(0.1, rel=1e-3),
        "zero": pytest.approx(1.0),  # in thousandths if the initial value is zero
        "kept": 0,
    }
    assert census.stuck == ("kept",)
    assert str(census) == "2 of 3 tensors moved; never moved: kept"


def test_an_embedding_that_moves_in_one_row_has_moved() -> None:
    before = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0))
    missed = 0
    for row in range(0, 5000, 250):
        after = before.clone()
        after[row] += 1e-3
        census = take_census(sample_weights({"e": before}), sample_weights({"e": after}))
        missed += census.movement["e"] == 0  # not among the sampled entries
        assert not census.stuck
    assert missed > 0


def test_weight_decay_alone_is_not_learning() -> None:
    before, after = {"a.w": torch.ones(3), "b": torch.ones(1)}, {"a.w": torch.full((3,), 0.9), "b": torch.zeros(1)}
    census = take_census(sample_weights(before), sample_weights(after), starved=["a.w"])
    assert census.stuck == ("a.w",)
    assert str(census) == "1 of 2 tensors moved; never had a gradient: a"


def test_the_least_moved_weight_is_reported_if_all_moved() -> None:
    before, after = {"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.full((2,), 2.0), "b": torch.full((2,), 1.003)}
    census = take_census(sample_weights(before), sample_weights(after))
    assert str(census) == "2 of 2 tensors moved; least: b 3e-03 (relative)"


def test_parts_are_as_large_as_they_can_be() -> None:
    every = ["ccm.to.weight", "ccm.to.bias", "ccm.norm.weight", "unet.a", "unet.b", "gate"]
    assert parts_of(every[:3], every) == ("ccm",)
    assert parts_of([*every[:2], "gate"], every) == ("ccm.to", "gate")
    assert parts_of(["unet.b"], every) == ("unet.b",)
    assert parts_of([], every) == ()


def test_samples_of_other_tensors_are_refused() -> None:
    one, two = sample_weights({"a": torch.ones(1)}), sample_weights({"a": torch.ones(1), "b": torch.ones(1)})
    with pytest.raises(ValueError, match="after has 2 tensors; it must have the 1 of before"):
        take_census(one, two)


class Gated(LightningModule):
    """Three branches: behind a frozen scalar of zero, unused, and frozen."""

    def __init__(self, lr: float = 0.1, decay: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.main, self.branch, self.unused = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.lr, self.decay = lr, decay

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.frozen(self.main(batch)) + 0.0 * self.branch(batch) - 1).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], self.lr, weight_decay=self.decay)


def data() -> DataLoader[Any]:
    return DataLoader(torch.randn(6, 2), batch_size=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_callback_names_weights_that_learned_nothing(
    decay: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    census = WeightCensus()
    trainer = tiny.trainer(4, callbacks=[FitSummary(), census], default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match="weights: 2 of 6 tensors moved"):
        trainer.fit(Gated(decay=decay), data())
    assert census.census is not None
    assert census.census.stuck == ("branch.weight", "branch.bias", "unused.weight", "unused.bias")
    said = json.loads((tmp_path / "summary.json").read_text())["weights"]
    if decay:  # the branch's zero gradients let weight decay move it
        assert said == "2 of 6 tensors moved; never moved: unused; never had a gradient: branch"
    else:
        assert said == "2 of 6 tensors moved; never moved: branch, unused"
    assert f"weights {said}" in capsys.readouterr().out


class Plain(Gated):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        del self.branch, self.unused

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.main(batch).square().mean()


def test_there_is_no_warning_if_all_moved() -> None:
    census = WeightCensus()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "weights: ")
        tiny.trainer(3, callbacks=[census]).fit(Plain(), data())
    assert str(census.census).startswith("2 of 2 tensors moved; least: main.")


def test_a_disabled_census_takes_no_samples() -> None:
    census = WeightCensus(enabled=False)
    tiny.trainer(3, callbacks=[census]).fit(Plain(lr=0.0), data())
    assert (census.census, census.state_dict()) == (None, {})


def test_a_fit_in_which_nothing_moves_gives_a_warning() -> None:
    with pytest.warns(UserWarning, match="weights: 0 of 2 tensors moved; never moved: main"):
        tiny.trainer(2, callbacks=[WeightCensus()]).fit(Plain(lr=0.0), data())


@pytest.mark.parametrize("first", [True, False])
def test_the_census_compares_trained_weights_and_not_their_average(first: bool) -> None:
    """An average of decay 0.999 has hardly changed; in either order of the callbacks."""

    def moved(*others: Callback) -> dict[str, float]:
        census = WeightCensus()
        callbacks = [census, *others] if first else [*others, census]
        torch.manual_seed(1)
        tiny.trainer(20, callbacks=callbacks).fit(Plain(), data())
        assert census.census is not None
        return census.census.movement

    assert moved(EMA(0.999)) == moved()


def test_a_resumed_fit_compares_with_the_first_weights(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    whole, resumed = WeightCensus(), WeightCensus()
    batches = DataLoader(torch.randn(3, 2), batch_size=3)  # type: ignore[arg-type]
    tiny.trainer(4, callbacks=[whole, saver], enable_checkpointing=True).fit(Plain(), batches)
    before = str(tmp_path / "step=2.ckpt")
    tiny.trainer(4, callbacks=[resumed]).fit(Plain(), batches, ckpt_path=before, weights_only=True)
    assert whole.census is not None
    assert resumed.census == whole.census
