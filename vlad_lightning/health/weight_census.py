"""A census of the trained weights: which moved since the start of the fit, and which never had a gradient."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from vlad_lightning.health.callback_lookup import get_callback
from vlad_lightning.health.ema import EMA
from vlad_lightning.models.fsdp import local, reshard

_ENTRIES = 256  # sampled entries per tensor
_SMALL = 1e-3  # a weight that starts at zero has moved by 1 when it is this large
_SAME_NORM = 1e-12  # relative tolerance: another device may sum in another order
_EARLY, _EVERY = 8, 50  # gradients are checked in the first 8 steps, then in each 50th


@dataclass(frozen=True)
class WeightSample:
    """A few entries of each of ``T`` tensors, always the same ones.

    Attributes:
        names: T names.
        counts: T numbers: how many entries were sampled from each tensor.
        values: (sum of counts,) float32 on the CPU: the entries.
        norms: (T,) float64 on the CPU: norms of the whole tensors, as an embedding may move in rows not sampled.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    values: Tensor
    norms: Tensor


@torch.no_grad()
def sample_weights(weights: Mapping[str, Tensor], entries: int = _ENTRIES) -> WeightSample:
    """Sample the same entries of each tensor under any strategy, drawn from a generator seeded by its name.

    Args:
        weights: the tensors by name; a sharded tensor is gathered for a moment, in which every process must take part.
        entries: the most entries per tensor.
    """
    values, norms = [torch.zeros(0)], [torch.zeros(0, dtype=torch.float64)]
    for name, weight in weights.items():
        whole = (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().flatten()
        norms.append(torch.linalg.vector_norm(whole, dtype=torch.float64)[None])
        if len(whole) > entries:
            generators = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            whole = whole[torch.randint(len(whole), (entries,), generator=generators).to(whole.device)]
        values.append(whole.float())
    device = values[-1].device
    return WeightSample(
        names=tuple(weights),
        counts=tuple(map(len, values[1:])),
        values=torch.cat([v.to(device) for v in values]).cpu(),
        norms=torch.cat([n.to(device) for n in norms]).cpu(),
    )


@dataclass(frozen=True)
class Census:
    """How far the weights moved, and which did not learn.

    Attributes:
        movement: how far each tensor moved: the root mean square of the differences over that of the first values.
        still: names of the tensors in which nothing moved.
        starved: names of the tensors whose gradient was zero or absent in every step checked; weight decay may have
            moved them.
    """

    movement: dict[str, float]
    still: tuple[str, ...]
    starved: tuple[str, ...]

    @property
    def stuck(self) -> tuple[str, ...]:
        """The names of all tensors that learned nothing, in the module's order."""
        return tuple(name for name in self.movement if name in {*self.still, *self.starved})

    def __str__(self) -> str:
        """Return how many tensors moved, and the one that moved least or the parts that did not learn."""
        count, stuck = len(self.movement), self.stuck
        moved = f"{count - len(stuck)} of {count} tensors moved"
        if not stuck:
            name = min(self.movement, key=self.movement.__getitem__, default="")
            return f"{moved}; least: {name} {self.movement[name]:.0e} (relative)" if name else moved
        findings = {"never moved": self.still, "never had a gradient": set(self.starved) - set(self.still)}
        parts = (f"; {what}: {', '.join(parts_of(names, self.movement))}" for what, names in findings.items() if names)
        return moved + "".join(parts)


def take_census(before: WeightSample, after: WeightSample, starved: Iterable[str] = ()) -> Census:
    """Compare two samples of the same tensors.

    Args:
        before: the sample at the start.
        after: the sample now.
        starved: names of the tensors that never had a gradient.

    Raises:
        ValueError: if the samples are not of the same tensors.
    """
    if (before.names, before.counts) != (after.names, after.counts):
        raise ValueError(f"after has {len(after.names)} tensors; it must have the {len(before.names)} of before")
    pairs = zip(before.values.split(before.counts), after.values.split(after.counts), strict=True)
    moved = [float(_rms(new - old) / (_rms(old) + _SMALL)) for old, new in pairs]
    same = ((before.norms - after.norms).abs() <= _SAME_NORM * before.norms).tolist()
    still = [name for name, far, kept in zip(before.names, moved, same, strict=True) if far == 0 and kept]
    without = set(starved)
    return Census(
        movement=dict(zip(before.names, moved, strict=True)),
        still=tuple(still),
        starved=tuple(name for name in before.names if name in without),
    )


def parts_of(names: Iterable[str], every: Iterable[str]) -> tuple[str, ...]:
    """Return the largest parts of a module whose tensors are all among ``names``.

    Args:
        names: dotted names of tensors.
        every: the names of all tensors, including these.

    Example:
        >>> parts_of(["a.b.weight", "a.b.bias", "c.bias"], ["a.b.weight", "a.b.bias", "a.d", "c.weight", "c.bias"])
        ('a.b', 'c.bias')
    """
    named = dict.fromkeys(names)
    mixed = {prefix for name in every if name not in named for prefix in _prefixes(name)}
    return tuple(dict.fromkeys(next(p for p in [*_prefixes(name), name] if p not in mixed) for name in named))


def _prefixes(name: str) -> list[str]:
    """Return the modules that contain a tensor, from the outermost to the innermost."""
    words = name.split(".")
    return [".".join(words[:i]) for i in range(1, len(words))]


def _rms(values: Tensor) -> Tensor:
    return values.square().mean().sqrt() if len(values) else values.sum()


class WeightCensus(Callback):
    """A callback that takes a :class:`Census` when training ends and warns about weights that learned nothing.

    :class:`FitSummary` reports it. It compares with the first start of the fit, across resumes: checkpoints keep that
    sample. Frozen weights do not count, and the weights are the trained ones, not their average by :class:`EMA`. If a
    strategy shards the weights, they are gathered one after the other, at the first start and at the end.

    Args:
        enabled: False takes no census.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.census: Census | None = None
        self._before: WeightSample | None = None
        self._starved: dict[str, None] = {}  # an ordered set

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit."""
        if stage == "fit":
            self.census, self._before, self._starved = None, None, {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample the weights, unless the sample came from a checkpoint."""
        if not self.enabled:
            return
        trained = _trained(trainer, pl_module)
        if self._before is None or self._before.names != tuple(trained):
            self._before, self._starved = sample_weights(trained), dict.fromkeys(trained)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Remove the tensors that have a gradient from the starved ones."""
        if self._starved and (trainer.global_step < _EARLY or trainer.global_step % _EVERY == 0):
            grads = {name: pl_module.get_parameter(name).grad for name in self._starved}
            found = {name: local(grad) for name, grad in grads.items() if grad is not None}
            if found:
                fed = torch.stack([grad.any() for grad in found.values()]).tolist()
                for name, has in zip(found, fed, strict=True):
                    if has:
                        del self._starved[name]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the census and warn about what learned nothing."""
        if self._before is None:
            return
        trained = _trained(trainer, pl_module)
        fed = torch.tensor([float(name not in self._starved) for name in trained], device=pl_module.device)
        fed = trainer.strategy.reduce(fed, reduce_op="sum")  # only some ranks' shards may have a gradient
        starved = [name for name, has in zip(trained, fed.tolist(), strict=True) if not has]
        self.census = take_census(self._before, sample_weights(trained), starved)
        if self.census.stuck and trainer.global_step > 1:  # the first step of a warm-up has a learning rate of zero
            rank_zero_warn(f"weights: {self.census}")

    def state_dict(self) -> dict[str, Any]:
        """Return the first sample, and the names of the tensors without a gradient so far."""
        if self._before is None:
            return {}
        return {"starved": list(self._starved), **_plain(self._before)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the first sample, to compare with the first start of the fit."""
        if state_dict and self.enabled:
            state = dict(state_dict)
            self._starved = dict.fromkeys(state.pop("starved"))
            self._before = WeightSample(
                tuple(state["names"]), tuple(state["counts"]), state["values"].cpu(), state["norms"].cpu()
            )


def _plain(sample: WeightSample) -> dict[str, Sequence[Any] | Tensor]:
    """Return a sample as plain values and tensors, since checkpoints are read without pickled code."""
    return {
        "names": list(sample.names),
        "counts": list(sample.counts),
        "values": sample.values,
        "norms": sample.norms,
    }


def _trained(trainer: Trainer, pl_module: LightningModule) -> dict[str, Tensor]:
    """Return the trained weights by name, even while the module holds their average."""
    reshard(pl_module)
    weights: dict[str, Tensor] = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
    average = get_callback(trainer, EMA)
    return weights if average is None else {name: average.trained(name, weight) for name, weight in weights.items()}
