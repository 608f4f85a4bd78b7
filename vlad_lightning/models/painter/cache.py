"""DeepCache (arXiv 2312.00858): a UNet's deep features change little from step to step, so a few steps share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel


class _Reused:
    """A block's ``forward``, run at every ``interval``-th call; the other calls return the output that it kept."""

    def __init__(self, forward: Callable[..., Any], interval: int) -> None:
        self.forward = forward
        self.interval = interval
        self.forget()

    def forget(self) -> None:
        self.calls = 0
        self.kept: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.calls % self.interval == 0:
            self.kept = self.forward(*args, **kwargs)
        self.calls += 1
        return self.kept


@contextmanager
def reuse_deep_features(unet: UNet2DConditionModel, interval: int) -> Iterator[Callable[[], None]]:
    """Run all but the outermost blocks of a UNet only at every ``interval``-th call within the context.

    The first down block, the last up block and the convolutions around them run at every call. All calls within a
    context must belong to one sampling run. Before a batch of another shape or with other conditions, call the function
    that the context gives: it forgets the features, and the next call counts as the first.

    Args:
        unet: restored at the end.
        interval: 1 reuses nothing.
    """
    if interval == 1:
        yield lambda: None
        return
    middle = [unet.mid_block] if unet.mid_block is not None else []
    deep = [*unet.down_blocks[1:], *middle, *unet.up_blocks[:-1]]
    before = [vars(block).get("forward") for block in deep]  # other hooks may be there, too
    reused = [_Reused(block.forward, interval) for block in deep]
    for block, forward in zip(deep, reused, strict=True):
        vars(block)["forward"] = forward

    def forget() -> None:
        for forward in reused:
            forward.forget()

    try:
        yield forget
    finally:
        for block, forward in zip(deep, before, strict=True):
            del vars(block)["forward"]
            if forward is not None:
                vars(block)["forward"] = forward
