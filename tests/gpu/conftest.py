from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    """Return a GPU; VLAD_TEST_DEVICE=cpu tries the same tests on a CPU if there is none."""
    name = os.environ.get("VLAD_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an accelerator")
    return torch.device(name)
