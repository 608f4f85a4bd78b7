from __future__ import annotations

import pytest
import tiny_system as tiny
import torch
from poisoned import Regression, loader

from vlad_lightning.callbacks import PartsTable


def test_the_table_has_no_flops_and_no_empty_parts(capsys: pytest.CaptureFixture[str]) -> None:
    module = Regression()
    module.empty = torch.nn.Identity()
    module.head.requires_grad_(False)
    tiny.trainer(1, callbacks=[PartsTable()], enable_model_summary=True).fit(module, loader())
    assert capsys.readouterr().out.splitlines() == [
        "  body  Linear      40",
        "  head  Linear       9",
        "49 parameters, 40 of them trained",
    ]
