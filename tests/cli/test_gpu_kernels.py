from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from vlad_lightning.cli.gpu_kernels import choose_kernels


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let there seem to be a GPU, and restore torch's setting of products."""
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    torch.set_float32_matmul_precision(before)


def chosen(**changes: Any) -> tuple[Any, str]:
    torch.set_float32_matmul_precision("highest")
    trainer = {"benchmark": None, "deterministic": None, "precision": "bf16-mixed"} | changes
    choose_kernels(trainer)
    return trainer["benchmark"], torch.get_float32_matmul_precision()


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true"])
def test_a_gpu_in_reduced_precision_gets_its_fast_kernels(precision: str) -> None:
    assert chosen(precision=precision) == (True, "high")


@pytest.mark.parametrize("precision", ["32-true", "32", 32, 64, "64-true", None])
def test_products_in_full_precision_stay_exact(precision: Any) -> None:
    assert chosen(precision=precision) == (True, "highest")


def test_what_is_given_is_kept_and_repeatable_runs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(benchmark=False)[0] is False
    assert chosen(deterministic=True) == (None, "highest")
    assert chosen(deterministic="warn") == (None, "highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen() == (None, "highest")
