"""In every stage, every trained weight changes within a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import LightningModule

from vlad_lightning.health import WeightCensus
from vlad_lightning.modules import VFEModule


def flow(**changes: Any) -> LightningModule:
    """Build stage 2 with the transformer trained by flow matching."""
    return VFEModule(
        tiny.flow_image_generator(), tiny.image_encoder(), tiny.layout_generator(), optimization=tiny.FAST, **changes
    )


SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "alignment": ("alignment", {}),
    "tlg": ("tlg", {}),
    "tlg with its text tower": ("tlg", {"freeze_text_tower": False}),
    "vfe": ("vfe", {}),
    "vfe without adapters": ("vfe", {"lora": None}),
    "vfe without hierarchical guidance": ("vfe", {"hierarchical": False}),
    "vfe that inpaints": ("vfe", {"inpaints": True}),
    "vfe with a transformer": ("flow", {}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_trained_tensor_moves(name: str, posters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny.STAGES, "flow", flow)
    stage, changes = SYSTEMS[name]
    module, counter = tiny.stage(stage, **changes), WeightCensus()
    tiny.trainer(8, callbacks=[counter]).fit(module, datamodule=tiny.data(posters))
    census = counter.census
    assert census is not None
    assert len(census.movement) == sum(p.requires_grad for p in module.parameters())
    assert not census.stuck, str(census)
