"""In every stage, every trained weight changes within a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import LightningModule

from vlad_lightning.health import WeightCensus
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.settings import LossSettings


def flow(**changes: Any) -> LightningModule:
    """Build stage 2 with the transformer trained by flow matching."""
    return VFEModule(
        tiny.flow_image_generator(), tiny.image_encoder(), tiny.layout_generator(), optimization=tiny.FAST, **changes
    )


def mapping(**changes: Any) -> LightningModule:
    """Build stage 2 without an image encoder, whose phrase map and prompt encoder alone are trained."""
    image_generator = tiny.image_generator(tiny.LORA, map_channels=tiny.LATENT)
    training = LossSettings(diffusion_weight=0.0, map_weight=1.0)
    return VFEModule(image_generator, None, training=training, optimization=tiny.FAST, **changes)


SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "alignment": ("alignment", {}),
    "tlg": ("tlg", {}),
    "tlg with its text tower": ("tlg", {"freeze_text_tower": False}),
    "vfe": ("vfe", {}),
    "vfe without adapters": ("vfe", {"lora": None}),
    "vfe without hierarchical guidance": ("vfe", {"hierarchical": False}),
    "vfe that inpaints": ("vfe", {"inpaints": True}),
    "vfe with a skip connection": ("vfe", {"skips": True}),
    "vfe with a transformer": ("flow", {}),
    "vfe that maps phrases without an image encoder": ("mapping", {}),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_trained_tensor_moves(name: str, posters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for build in (flow, mapping):
        monkeypatch.setitem(tiny.STAGES, build.__name__, build)
    stage, changes = SYSTEMS[name]
    module, counter = tiny.stage(stage, **changes), WeightCensus()
    tiny.trainer(8, callbacks=[counter]).fit(module, datamodule=tiny.data(posters))
    census = counter.census
    assert census is not None
    assert len(census.movement) == sum(p.requires_grad for p in module.parameters())
    assert not census.stuck, str(census)
