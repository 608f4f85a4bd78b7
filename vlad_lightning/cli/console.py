"""Suppression of library messages that appear on every run and that nobody can act on."""

from __future__ import annotations

import logging
import warnings

_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).* is deprecated",  # lightning's own use of torch
    r"Precision .* is not supported by the model summary",  # it shows the size of float32
    r"Be aware that when using `ckpt_path`, callbacks used to create",  # a test has others; ConfigLock guards a fit
    r"Found \d+ module\(s\) in eval mode at the start of training",  # the frozen modules, which must be in eval mode
)
_ADVERTISED = ("litlogger", "litmodels")
_INFOS = ("Trainer already configured with model summary callbacks",)  # by cli/fit, in every command


def silence() -> None:
    """Suppress the warnings listed here and advertisements; everything else is printed as before."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not any(name in str(record.msg) for name in (*_ADVERTISED, *_INFOS))
