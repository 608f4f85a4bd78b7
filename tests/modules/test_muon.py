from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.modules.muon import MuonAdamW, is_matrix, orthogonalized
from vlad_lightning.modules.optimization import Optimization


def trained(model: nn.Module, optimizer: Any, steps: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_matrices_are_trained_as_by_torchs_muon(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = nn.Linear(shape[1], shape[0], bias=False)
    theirs = copy.deepcopy(ours)
    settings: Any = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}
    expected = torch.optim.Muon(theirs.parameters(), adjust_lr_fn="match_rms_adamw", **settings)
    found = trained(ours, MuonAdamW(ours.parameters(), **settings))
    torch.testing.assert_close(found, trained(theirs, expected), rtol=1e-3, atol=2e-4)  # bfloat16 inside


def test_what_is_no_matrix_is_trained_as_by_adamw() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(8, 40), nn.GroupNorm(2, 40), nn.Embedding(1000, 16))
    theirs = copy.deepcopy(ours)
    assert not any(is_matrix(parameter) for parameter in ours.parameters())
    settings: Any = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    expected = trained(theirs, torch.optim.AdamW(theirs.parameters(), **settings))
    torch.testing.assert_close(trained(ours, MuonAdamW(ours.parameters(), **settings)), expected)


def test_a_convolution_is_the_matrix_of_its_output_channels() -> None:
    torch.manual_seed(0)
    convolution, matrix = nn.Conv2d(16, 32, 3, bias=False), nn.Linear(16 * 9, 32, bias=False)
    matrix.weight.data = convolution.weight.detach().flatten(1).clone()
    grad = torch.randn(32, 16, 3, 3)
    convolution.weight.grad, matrix.weight.grad = grad, grad.flatten(1)
    for layer in (convolution, matrix):
        MuonAdamW(layer.parameters(), lr=0.1).step()
    assert torch.equal(convolution.weight.flatten(1), matrix.weight)


def test_singular_values_become_about_one() -> None:
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(1)) * torch.logspace(-1, 1, 50)
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert orthogonalized(torch.zeros(20, 50)).eq(0).all()


def test_a_fit_with_it_resumes_bit_for_bit(posters: Path, tmp_path: Path) -> None:
    def fit(steps: int, ckpt_path: Path | None = None) -> Any:
        settings = Optimization(lr=1e-3, warmup_steps=0, schedule="constant", optimizer=MuonAdamW)
        module, trainer = tiny.stage("alignment"), tiny.trainer(steps, callbacks=[ExactResume()])
        module.optimization = settings
        trainer.fit(module, datamodule=tiny.data(posters), ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    _, whole = fit(4)
    stopped, _ = fit(2)
    assert isinstance(stopped.optimizers[0], MuonAdamW)
    assert {frozenset(state) for state in stopped.optimizers[0].state.values()} == {
        frozenset({"momentum_buffer"}),
        frozenset({"exp_avg", "exp_avg_sq", "step"}),
    }
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed = fit(4, tmp_path / "stopped.ckpt")
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[name]) for name, value in whole.named_parameters())


def test_momentum_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"momentum=1\.5: must lie in"):
        MuonAdamW([nn.Parameter(torch.zeros(1))], momentum=1.5)


def test_sharded_weights_are_refused() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        sharded = nn.Parameter(distribute_tensor(torch.zeros(32, 32), mesh, [Shard(0)]))
        with pytest.raises(ValueError, match="MuonAdamW; it must be another one: it cannot train sharded weights"):
            MuonAdamW([sharded])
    finally:
        torch.distributed.destroy_process_group()
