"""Cost of the callbacks of docs/health.md per step: ``python benchmarks/health.py [--parameters 5e6]``.

It uses gradients of that many parameters in matrices of a million, on the accelerator if there is one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vlad_lightning.health.loss_spikes import LossWindow
from vlad_lightning.health.step_guard import vitals_of
from vlad_lightning.health.watchdog import Watch


def milliseconds(action: Callable[[], object], repeats: int = 50) -> float:
    """Return the shortest time of an action, with the device's work: other work on the machine only adds time."""
    times, on_gpu = [], torch.cuda.is_available()
    for _ in range(repeats + 3):
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[3:]) * 1e3


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parameters", type=float, default=5e6, help="how many weights have gradients")
    count = int(parser.parse_args().parameters)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generators = torch.Generator().manual_seed(0)
    sizes = [min(10**6, count - start) for start in range(0, count, 10**6)]
    weights = [torch.nn.Parameter(torch.randn(size, generator=generators).to(device)) for size in sizes]
    for weight in weights:
        weight.grad = weight.detach() * 1e-4
    loss, grads = torch.tensor(1.0, device=device), [w.grad for w in weights if w.grad is not None]
    window = LossWindow()
    for value in torch.rand(window.rule.window, generator=generators).tolist():
        window.add(value)
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(Path(folder), rank=0, grace=0)
        rows = {
            "the guard's loss and norm, with reading them": milliseconds(lambda: vitals_of(loss, grads)),
            "the spike window of 128 losses": milliseconds(lambda: window.add(0.5)),
            "updating the watchdog": milliseconds(lambda: watch.feed(60, "in a batch")),
            "clipping by this norm": milliseconds(
                lambda: torch.nn.utils.clip_grads_with_norm_(weights, 1.0, torch.tensor(1.0, device=device))
            ),
        }
    print(f"| {count:,} parameters, {device}, {torch.get_num_threads()} threads | ms |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.3f} |")


if __name__ == "__main__":
    main()
