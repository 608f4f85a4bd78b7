"""Muon for the matrices and convolutions of a network, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from vlad_lightning.limits import check_share

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_SMALLEST_NORM = 1e-7
_RMS = 0.2  # of AdamW's updates, about
_LEAST_SIDE, _MOST_ROWS = 16, 1000


class MuonAdamW(Optimizer):
    """Muon (Jordan et al., 2024): momentum whose singular values are made about 1, so that every direction learns.

    ``torch.optim.Muon`` takes matrices only, and an image generator is mostly convolutions. Here a convolution is the
    matrix of its output channels by all its other dimensions. What is no matrix in either sense, has a side below 16,
    or has 1,000 rows or more as a vocabulary's embedding has, is trained by AdamW. The entries of an update have
    a root mean square of about 0.2, as AdamW's have (arXiv 2502.16982), so the learning rates of AdamW fit.

    ``optimization.optimizer: {class_path: vlad_lightning.modules.muon.MuonAdamW}`` uses it.

    Args:
        params: parameters, or groups of them.
        lr: learning rate of all.
        weight_decay: decoupled weight decay of all.
        momentum: of Muon, in [0, 1]; Nesterov's.
        betas: of AdamW.
        eps: of AdamW.

    Raises:
        ValueError: if ``momentum`` is out of its range, or for sharded parameters, whose matrices no process has as a
            whole.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        check_share("momentum", momentum)
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(params, defaults)
        if any(isinstance(parameter, DTensor) for group in self.param_groups for parameter in group["params"]):
            raise ValueError("optimizer is MuonAdamW; it must be another one: it cannot train sharded weights")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: computes the loss and the gradients again; None uses those that are there.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            learned = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in filter(is_matrix, learned):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(self._muon(parameter, group["momentum"]), alpha=-group["lr"])
            self._adamw([parameter for parameter in learned if not is_matrix(parameter)], group)
        return loss

    def _muon(self, parameter: nn.Parameter, share: float) -> Tensor:
        state, grad = self.state[parameter], _gradient(parameter)
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"]
        momentum.lerp_(grad, 1 - share)
        matrix = grad.lerp(momentum, share).flatten(1)
        return orthogonalized(matrix).mul_(_RMS * math.sqrt(max(matrix.shape))).view_as(parameter)

    def _adamw(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        adamw(
            [*parameters],
            [_gradient(parameter) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            max_exp_avg_sqs=[],
            state_steps=[state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def is_matrix(parameter: Tensor) -> bool:
    """Return whether Muon trains a parameter: a matrix or a convolution that is neither narrow nor an embedding."""
    if parameter.ndim < 2:
        return False
    rows = parameter.shape[0]
    return rows < _MOST_ROWS and min(rows, parameter[0].numel()) >= _LEAST_SIDE


def orthogonalized(matrix: Tensor) -> Tensor:
    """Move the singular values of a matrix (M, N) to about 1, by five Newton-Schulz iterations in bfloat16."""
    a, b, c = _COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).bfloat16()
    x = x / x.norm().clamp(min=_SMALLEST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
