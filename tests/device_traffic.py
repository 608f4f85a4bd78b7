"""Find on a CPU the copies to a GPU and waits of a training step, by the origin of each tensor."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READERS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__contains__"}
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount"}  # kernels: a value or a size


class Traffic(TorchFunctionMode):
    """Follows the tensors on the device: the given ones, those made there, and all results of them.

    Args:
        given: modules, batches or tensors on the device.

    Attributes:
        found: a line for each copy to the device and each wait for it: the kind and the source line.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__()
        self.found: list[str] = []
        self._there: dict[int, Tensor] = {}  # by id; kept alive, so that no other tensor gets the same id
        self.follow(given)

    def follow(self, value: Any) -> None:
        """Count the tensors of a value among those on the device."""
        self._there |= {id(tensor): tensor for tensor in tensors_in(value)}

    def is_there(self, value: Any) -> bool:
        """Whether a value is a tensor on the device."""
        return isinstance(value, Tensor) and id(value) in self._there

    def note(self, what: str) -> None:
        """Record an event with the innermost line of the package, or else of a library."""
        frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
        ours = [frame for frame in frames if "/vlad_lightning/" in frame.filename]
        last = (ours or frames)[-1]
        self.found.append(f"{what} in {last.filename.rpartition('/')[2]}: {last.line}")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Inspect a call and make it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        there = any(map(self.is_there, tensors_in([args, kwargs])))
        placed = name == "to" or kwargs.get("device") is not None
        if name == "new_tensor" or (name == "tensor" and placed):
            self.note("copy and wait")
        elif name == "to" and not self.is_there(args[0]):
            self.note("copy" if kwargs.get("non_blocking") else "copy and wait")
        elif there and name in _READERS:
            self.note("wait")
        elif there and name == "__getitem__" and not all(map(self.is_there, tensors_in(args[1]))):
            self.note("copy and wait")
        with _Kernels(self if there and name not in _READERS else None):
            result = func(*args, **kwargs)
        if there or placed:
            self.follow(result)
        return result


class _Kernels(TorchDispatchMode):
    """Records the kernels inside a call whose result, or its size, the host needs."""

    def __init__(self, traffic: Traffic | None) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kernel = func.overloadpacket.__name__
        indices = tensors_in(args[1]) if kernel in ("index", "index_put", "index_put_") else ()
        if self.traffic is not None and (kernel in _WAITING or any(x.dtype == torch.bool for x in indices)):
            self.traffic.note("wait")
        return func(*args, **(kwargs or {}))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested modules, dataclasses, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name))
