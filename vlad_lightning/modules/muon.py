"""Muon for the matrices and convolutions of a network, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

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
    or has 1,000 rows or more as a vocabulary's embedding has, is trained by AdamW. An update has 0.2 times the root of
    the matrix's larger side as its length per row (arXiv 2502.16982), so the learning rates of AdamW fit.

    ``optimization.optimizer: {class_path: vlad_lightning.modules.muon.MuonAdamW}`` uses it.

    Args:
        params: parameters, or groups of them.
        lr: learning rate of all.
        weight_decay: decoupled weight decay of all.
        momentum: of Muon, in [0, 1]; Nesterov's.
        betas: of AdamW.
        eps: of AdamW.

    Raises:
        ValueError: if ``momentum`` is out of its range.
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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: computes the loss and the gradients again; None uses those that are there.

        Raises:
            ValueError: for sharded parameters, whose matrices no process has as a whole.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if isinstance(parameter, DTensor):
                    raise ValueError(
                        "optimizer is MuonAdamW; it must be another for sharded weights: it needs whole ones"
                    )
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = self._muon if is_matrix(parameter) else self._adam
                parameter.add_(update(parameter, group), alpha=-group["lr"])
        return loss

    def _muon(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        state, grad = self.state[parameter], _gradient(parameter)
        momentum = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
        momentum.lerp_(grad, 1 - group["momentum"])
        matrix = grad.lerp(momentum, group["momentum"]).flatten(1)
        return orthogonalized(matrix).mul_(_RMS * math.sqrt(max(matrix.shape))).view_as(parameter)

    def _adam(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        state, grad = self.state[parameter], _gradient(parameter)
        mean = state.setdefault("exp_avg", torch.zeros_like(parameter))
        square = state.setdefault("exp_avg_sq", torch.zeros_like(parameter))
        state["step"] = steps = state.get("step", 0) + 1
        first, second = group["betas"]
        mean.lerp_(grad, 1 - first)
        square.lerp_(grad.square(), 1 - second)
        return (mean / (1 - first**steps)) / ((square / (1 - second**steps)).sqrt() + group["eps"])


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
