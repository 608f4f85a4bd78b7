from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vlad_lightning.modules.optimization import Optimization


def test_frozen_parameters_are_left_out_and_vectors_are_not_decayed() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1).requires_grad_(False))
    groups = Optimization(weight_decay=0.1).configure(network.parameters(), 10)["optimizer"].param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]


def test_only_vectors_make_one_group() -> None:
    groups = Optimization().configure(nn.LayerNorm(3).parameters(), 10)["optimizer"].param_groups
    assert [g["weight_decay"] for g in groups] == [0.0]


def test_warm_up_then_cosine_down_to_zero_each_step() -> None:
    made = Optimization(lr=1.0, warmup_steps=4).configure([nn.Parameter(torch.ones(1))], 12)
    assert made["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(13):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0}, "lr is 0; it must be above 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1; it must be at least 0"),
        ({"schedule": "cosinus"}, "schedule is 'cosinus'; allowed are linear, cosine"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimization(**arguments)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "constant_with_warmup", "polynomial"])
def test_schedules_of_diffusers_are_known(schedule: str) -> None:
    assert Optimization(schedule=schedule).configure([nn.Parameter(torch.ones(1))], 10)
