from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from vlad_lightning.cli.console import silence

LOGGER = logging.getLogger("lightning.pytorch.utilities.rank_zero")


@pytest.fixture
def _silenced() -> Iterator[None]:
    before = list(LOGGER.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        silence()
        yield
    LOGGER.filters[:] = before


@pytest.mark.usefixtures("_silenced")
def test_advertisements_are_hidden_and_information_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER.name):
        rank_zero_info("Tip: try installing [litlogger](https://example.org)")
        rank_zero_info("GPU available: False, used: False")
    assert caplog.messages == ["GPU available: False, used: False"]


@pytest.mark.usefixtures("_silenced")
def test_irrelevant_warnings_are_hidden_and_others_are_shown() -> None:
    with warnings.catch_warnings(record=True) as caught:
        rank_zero_warn("Found 3 module(s) in eval mode at the start of training. This may lead to unexpected behavior")
        rank_zero_warn("Precision bf16-mixed is not supported by the model summary. Estimated model size ...")
        rank_zero_warn("The dataloader is a bottleneck")
    assert [str(warning.message) for warning in caught] == ["The dataloader is a bottleneck"]
