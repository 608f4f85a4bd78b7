from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from vlad_lightning.health import EMA

DECAY = 0.7
State = dict[str, Any]


class Line(LightningModule):
    """A trained and a frozen linear layer, over data that is a function of the index."""

    def __init__(self, seed: int = 0, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen, self.layer, self.head = nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3), nn.Linear(3, 3)
        if tied:
            self.head.weight = self.layer.weight
        self.validated: list[State] = []
        self.fail_in_validation = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.head(self.layer(self.frozen(batch[0])).tanh()).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validated.append(copied(self.state_dict()))
        if self.fail_in_validation and self.global_step > 2:
            raise RuntimeError("no validation today")

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.1)


def copied(state: State) -> State:
    return {k: v.clone() for k, v in state.items()}


def loader(size: int = 8) -> DataLoader[Any]:
    values = torch.randn(size, 3, generator=torch.Generator().manual_seed(4))
    return DataLoader(TensorDataset(values), batch_size=2)


class Watch(Callback):
    """Records the weights after each optimizer step, and their average by the definition, in float64."""

    def __init__(self) -> None:
        self.trained: State = {}
        self.mean: State = {}
        self.step = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        self.trained = copied(dict(pl_module.named_parameters()))
        for key, value in self.trained.items():
            now = value.detach().double()
            self.mean[key] = now if key not in self.mean else DECAY * self.mean[key] + (1 - DECAY) * now


def fit(module: LightningModule, steps: int, *callbacks: Callback, data: Any = None, **changes: Any) -> Trainer:
    resume = changes.pop("ckpt_path", None)
    trainer = tiny.trainer(steps, callbacks=list(callbacks), **changes)
    trainer.fit(module, data or loader(), loader(2), ckpt_path=resume, weights_only=True)
    return trainer


def saved(trainer: Trainer, path: Path) -> State:
    trainer.save_checkpoint(path)
    return dict(torch.load(path, weights_only=True))


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(v, second[k]) if isinstance(v, Tensor) else v == second[k] for k, v in first.items()
    )


class SaveAt(Callback):
    """Saves a checkpoint in the middle of a fit."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "accumulated"), [("tlg", 1), ("tlg", 2), ("vfe", 1)])
def test_the_average_is_torchs_bit_for_bit(name: str, accumulated: int, posters: Path, tmp_path: Path) -> None:
    def run(kind: str, average: Callback) -> tuple[State, LightningModule]:
        path = tmp_path / f"{kind}.ckpt"
        module = tiny.stage(name)
        changes = {"limit_val_batches": 1, "val_check_interval": 2, "accumulate_grad_batches": accumulated}
        trainer = tiny.trainer(5, callbacks=[average, SaveAt(4, path)], **changes)
        trainer.fit(module, datamodule=tiny.data(posters, batch_size=4))
        return dict(torch.load(path, weights_only=True)), module

    theirs, their_module = run("theirs", WeightAveraging(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(0.7)))
    ours, module = run("ours", EMA(0.7))
    for part in ("current_model_state", "averaging_state"):
        assert same(ours[part], theirs[part])
    trained = {k for k, p in module.named_parameters() if p.requires_grad}
    for mine, other in ((ours["state_dict"], theirs["state_dict"]), (module.state_dict(), their_module.state_dict())):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            if key in trained:
                assert torch.equal(value, other[key])
            elif isinstance(
                value, Tensor
            ):  # Lightning averages frozen weights too, and 0.7 w + 0.3 w is only w up to rounding
                assert torch.equal(value, ours["current_model_state"][key])
                torch.testing.assert_close(value, other[key], rtol=1e-6, atol=1e-7)
    assert not same(ours["state_dict"], ours["current_model_state"])


def test_the_average_equals_its_definition() -> None:
    module, watch = Line(), Watch()
    fit(module, 7, EMA(DECAY), watch, max_epochs=3)
    for key, value in module.named_parameters():
        torch.testing.assert_close(value.detach().double(), watch.mean[key], rtol=1e-5, atol=1e-6)


def test_frozen_weights_are_kept_once_and_trained_ones_twice(tmp_path: Path) -> None:
    checkpoint = saved(fit(Line(), 3, EMA(DECAY)), tmp_path / "x.ckpt")
    averaged, trained = checkpoint["state_dict"], checkpoint["current_model_state"]
    shared = {k for k in averaged if averaged[k].data_ptr() == trained[k].data_ptr()}
    assert shared == {"frozen.weight", "frozen.bias"}
    assert not any(torch.equal(averaged[k], trained[k]) for k in averaged.keys() - shared)


def test_values_other_than_weights_are_not_copied(posters: Path) -> None:
    class Session:
        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            raise TypeError("a session cannot be copied")

    module = tiny.stage("vfe")
    module.session = Session()
    average = EMA()
    tiny.trainer(1, callbacks=[average]).fit(module, datamodule=tiny.data(posters))
    assert average.updates == 1


def test_a_second_fit_starts_a_new_average(tmp_path: Path) -> None:
    callback = EMA(DECAY)
    fit(Line(), 6, callback)
    again, fresh = Line(), Line()
    fit(again, 3, callback)
    fit(fresh, 3, EMA(DECAY))
    assert callback.updates == 3
    assert same(again.state_dict(), fresh.state_dict())


def test_validation_uses_the_average_and_training_does_not(tmp_path: Path) -> None:
    module, watch = Line(), Watch()
    checks = {"limit_val_batches": 1, "val_check_interval": 1, "max_epochs": 5}
    trainer = fit(module, 6, EMA(DECAY), watch, **checks)
    plain = Line()
    fit(plain, 6)
    assert all(torch.equal(v, watch.trained[k]) for k, v in plain.named_parameters())  # it trained as without EMA
    assert len(module.validated) == 6
    assert same(module.validated[-1], module.state_dict())  # the average of the last validation is kept
    final = saved(trainer, tmp_path / "x.ckpt")
    assert same(final["state_dict"], module.state_dict())
    assert all(torch.equal(final["current_model_state"][k], v) for k, v in plain.named_parameters())


def test_last_checkpoint_of_a_fit_holds_the_trained_weights_too(tmp_path: Path) -> None:
    """ModelCheckpoint writes it after the average was put into the module."""
    module, watch = Line(), Watch()
    last = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)
    fit(module, 5, EMA(DECAY), watch, last, enable_checkpointing=True, max_epochs=5)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert same(checkpoint["state_dict"], module.state_dict())
    assert all(torch.equal(checkpoint["current_model_state"][k], v) for k, v in watch.trained.items())


@pytest.mark.parametrize("ended", [False, True], ids=["in the middle", "after the end"])
def test_resumes_exactly(ended: bool, tmp_path: Path) -> None:
    one, stopped = loader(2), tmp_path / "stopped.ckpt"  # one batch per epoch: a plain DataLoader resumes at its start
    whole = saved(fit(Line(), 8, EMA(DECAY), data=one), tmp_path / "whole.ckpt")
    saver = [] if ended else [SaveAt(4, stopped)]
    first = fit(Line(), 4 if ended else 6, EMA(DECAY), *saver, data=one)
    if ended:
        first.save_checkpoint(stopped)
    resumed = saved(fit(Line(seed=9), 8, EMA(DECAY), data=one, ckpt_path=stopped), tmp_path / "resumed.ckpt")
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert same(resumed[part], whole[part])


def test_resumes_lightnings_checkpoints(tmp_path: Path) -> None:
    one, stopped = loader(2), tmp_path / "stopped.ckpt"
    whole = saved(fit(Line(), 8, EMA(DECAY), data=one), tmp_path / "whole.ckpt")
    fit(Line(), 6, EMAWeightAveraging(use_buffers=False, decay=DECAY), SaveAt(4, stopped), data=one)
    resumed = saved(fit(Line(seed=9), 8, EMA(DECAY), data=one, ckpt_path=stopped), tmp_path / "resumed.ckpt")
    for key in ("layer.weight", "layer.bias", "head.weight", "head.bias"):
        torch.testing.assert_close(resumed["state_dict"][key], whole["state_dict"][key], rtol=1e-6, atol=1e-7)
    assert same(resumed["current_model_state"], whole["current_model_state"])


def test_a_checkpoint_without_an_average_starts_one(tmp_path: Path) -> None:
    fit(Line(), 2).save_checkpoint(tmp_path / "plain.ckpt")
    module, watch = Line(seed=9), Watch()
    watch.step = 2
    fit(module, 3, EMA(DECAY), watch, ckpt_path=tmp_path / "plain.ckpt")
    assert all(torch.equal(v, watch.trained[k]) for k, v in module.named_parameters())  # its first update copies


def test_test_and_validate_use_the_average_of_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    averaged = saved(fit(Line(), 4, EMA(DECAY)), path)["state_dict"]
    for run in ("test", "validate"):
        module = Line(seed=9)
        trainer = tiny.trainer(callbacks=[EMA(DECAY)], limit_val_batches=1)
        getattr(trainer, run)(module, loader(2), ckpt_path=path, weights_only=True, verbose=False)
        assert same(module.validated[0], averaged)
        assert same(module.state_dict(), averaged)


def test_broken_validation_leaves_the_trained_weights(tmp_path: Path) -> None:
    module, watch = Line(), Watch()
    module.fail_in_validation = True
    rescue = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0, save_on_exception=True)
    checks = {"limit_val_batches": 1, "val_check_interval": 3, "enable_checkpointing": True}
    with pytest.raises(RuntimeError, match="no validation today"):
        fit(module, 4, EMA(DECAY), watch, rescue, **checks)
    assert all(torch.equal(v, watch.trained[k]) for k, v in module.named_parameters())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(torch.equal(checkpoint["current_model_state"][k], v) for k, v in watch.trained.items())
    torch.testing.assert_close(checkpoint["state_dict"]["layer.weight"].double(), watch.mean["layer.weight"])


class Kept(Callback):
    """Records the weights after each optimizer step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.weights.append(pl_module.get_parameter("layer.weight").detach().clone().double())


def test_a_warm_up_shortens_the_average_of_a_short_fit() -> None:
    """After n updates the decay is (1 + n) / (10 + n), up to the given decay: here from n = 4 on, 5 / 14."""
    module, kept = Line(), Kept()
    fit(module, 8, EMA(0.35, warmup=True), kept, max_epochs=3)
    mean = kept.weights[0]
    for n, weight in enumerate(kept.weights[1:], start=1):
        decay = min(0.35, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * weight
    torch.testing.assert_close(module.layer.weight.detach().double(), mean, rtol=1e-5, atol=1e-6)


def test_the_trained_value_is_logged_while_the_average_is_in_the_module() -> None:
    average, told = EMA(DECAY), []

    class Ask(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            weight = pl_module.get_parameter("layer.weight")
            told.append(average.trained("layer.weight", weight) is weight)

    module, watch = Line(), Watch()
    fit(module, 5, average, watch, Ask())
    assert told == [True] * 5
    assert torch.equal(average.trained("layer.weight", module.layer.weight), watch.trained["layer.weight"])
    assert not torch.equal(module.layer.weight, watch.trained["layer.weight"])


def test_tied_weights_have_one_average(tmp_path: Path) -> None:
    checkpoint = saved(fit(Line(tied=True), 3, EMA(DECAY)), tmp_path / "x.ckpt")
    for part in ("state_dict", "current_model_state"):
        assert torch.equal(checkpoint[part]["layer.weight"], checkpoint[part]["head.weight"])
    assert not torch.equal(checkpoint["state_dict"]["head.weight"], checkpoint["current_model_state"]["head.weight"])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"decay is {decay}; it must lie in \[0, 1\)"):
        EMA(decay)
