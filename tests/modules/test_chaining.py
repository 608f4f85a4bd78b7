"""Each stage starts from the checkpoints of the earlier ones, and does not need them afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule

from vlad_lightning.callbacks import InitFrom
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.health import EMA
from vlad_lightning.modules import VFEModule

State = dict[str, Any]


def part(state: State, name: str) -> State:
    return {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


class AtStart(Callback):
    """Records the weights at the start of training."""

    state: State

    def on_train_start(self, trainer: Any, pl_module: LightningModule) -> None:
        values = pl_module.state_dict().items()
        self.state = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in values}


@dataclass
class Chain:
    """The states of the three checkpoints, and the initial weights of the later two."""

    stage0: State
    stage1: State
    stage2: State
    start1: State
    start2: State
    last: Path


def fit(name: str, seed: int, root: Path, out: Path, *callbacks: Callback) -> State:
    module = tiny.stage(name, seed, **({"tokenizer": False} if name == "alignment" else {}))
    trainer = tiny.trainer(3, callbacks=list(callbacks))
    trainer.fit(module, datamodule=tiny.data(root))
    trainer.save_checkpoint(out)
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def chain(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    out = tmp_path_factory.mktemp("chain")
    stage0, stage1, last = out / "stage0.ckpt", out / "stage1.ckpt", out / "stage2.ckpt"
    at1, at2 = AtStart(), AtStart()
    first = fit("alignment", 0, posters, stage0)
    second = fit("tlg", 1, posters, stage1, InitFrom("generator.prompt_encoder", str(stage0), "prompt_encoder"), at1)
    third = fit(
        "vfe",
        2,
        posters,
        last,
        InitFrom("image_generator.prompt_encoder", str(stage0), "prompt_encoder"),
        InitFrom("image_encoder", str(stage0)),
        InitFrom("layout_generator", str(stage1), "generator"),
        at2,
    )
    stage0.unlink()
    stage1.unlink()
    return Chain(first["state_dict"], second["state_dict"], third["state_dict"], at1.state, at2.state, last)


def test_stage_1_starts_with_stage_0s_encoder(chain: Chain) -> None:
    assert same(part(chain.start1, "generator.prompt_encoder."), part(chain.stage0, "prompt_encoder."))


def test_stage_2_starts_with_both(chain: Chain) -> None:
    encoder = {
        key.replace(".base_layer.", "."): value
        for key, value in part(chain.start2, "image_generator.prompt_encoder.").items()
        if "lora_" not in key
    }
    assert same(encoder, part(chain.stage0, "prompt_encoder."))
    assert same(part(chain.start2, "image_encoder."), part(chain.stage0, "image_encoder."))
    assert same(part(chain.start2, "layout_generator."), part(chain.stage1, "generator."))


def test_frozen_parts_of_stage_2_do_not_change(chain: Chain) -> None:
    assert same(part(chain.stage2, "image_encoder."), part(chain.stage0, "image_encoder."))
    assert same(part(chain.stage2, "layout_generator."), part(chain.stage1, "generator."))
    assert not same(part(chain.stage2, "image_generator."), part(chain.start2, "image_generator."))


def test_the_last_checkpoint_is_tested_without_the_earlier_ones(chain: Chain, posters: Path) -> None:
    module = tiny.stage("vfe", seed=9, sampler=ImageSampler(steps=1))
    assert isinstance(module, VFEModule)
    module.image_generator.prompt_encoder.text_encoder.tokenizer = None  # the checkpoint contains it
    tiny.trainer(limit_test_batches=1).test(
        module, datamodule=tiny.data(posters), ckpt_path=chain.last, weights_only=True, verbose=False
    )
    assert same(module.state_dict(), chain.stage2)


class Averages(Callback):
    """Recomputes the exponential moving average from the weights after each step."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.mean: State = {}

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *_: Any) -> None:
        for key, value in pl_module.named_parameters():
            now = value.detach().double()
            self.mean[key] = now if key not in self.mean else self.decay * self.mean[key] + (1 - self.decay) * now


@pytest.mark.parametrize("name", ["tlg", "vfe"])
def test_checkpoint_holds_the_moving_average(name: str, posters: Path, tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "ema.ckpt")

    expected = Averages(0.7)
    module = tiny.stage(name)
    callbacks = [expected, EMA(0.7), Save()]
    tiny.trainer(5, callbacks=callbacks, max_epochs=5).fit(module, datamodule=tiny.data(posters))
    saved = torch.load(tmp_path / "ema.ckpt", weights_only=True)
    moved = 0
    for key, value in expected.mean.items():
        torch.testing.assert_close(saved["state_dict"][key].double(), value, atol=1e-5, rtol=1e-4)
        moved += not torch.equal(saved["state_dict"][key], saved["current_model_state"][key])
    assert moved > 10
    fresh = tiny.stage(name, seed=5)
    fresh.load_state_dict(saved["state_dict"])  # strict: the tokenizers are there too


def test_a_resume_overrides_the_initialisation(chain: Chain, posters: Path, tmp_path: Path) -> None:
    """A stopped run resumes from its weights, although InitFrom is in its configuration."""
    torch.save({"state_dict": chain.stage0}, tmp_path / "stage0.ckpt")
    start = AtStart()
    trainer = tiny.trainer(4, callbacks=[InitFrom("image_encoder", str(tmp_path / "stage0.ckpt")), start])
    changed = torch.load(chain.last, weights_only=True)
    key = "image_encoder.tower.visual_projection.weight"
    changed["state_dict"][key] = changed["state_dict"][key] + 1
    torch.save(changed, tmp_path / "stopped.ckpt")
    module = tiny.stage("vfe", seed=7)
    trainer.fit(module, datamodule=tiny.data(posters), ckpt_path=tmp_path / "stopped.ckpt", weights_only=True)
    assert torch.equal(start.state[key], changed["state_dict"][key])
