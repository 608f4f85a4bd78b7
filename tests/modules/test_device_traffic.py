"""No stage waits for its GPU inside a training step, except for the reasons listed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from device_traffic import Traffic
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.scene_data import SceneDataModule
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.alignment_terms import AlignmentTerms
from vlad_lightning.modules.object_detection import ObjectDetectionModule
from vlad_lightning.types import Batch

# The remaining copies and waits, by file:
STRATA = "copy in generators.py"  # a permutation of the whole batch, drawn on the host so that every device draws it
REGIONS = "copy in masking.py"  # the words' boxes, which stay on the host with the layouts
MOST_BOXES = "wait in phrase_map.py"  # the number of drawn phrases; drawing all would round differently


class Watch(Callback):
    """Records the copies and waits of the second training step; the first may copy constants to the device."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step: Callable[..., Tensor] = pl_module.training_step
        traffic = Traffic(pl_module)

        def watched(batch: Any, batch_idx: int) -> Tensor:
            traffic.follow(
                replace(batch, layouts=()) if isinstance(batch, Batch) else batch
            )  # layouts stay on the host
            traffic.found.clear()
            with traffic:
                loss = step(batch, batch_idx)
            self.found = list(traffic.found)
            return loss

        pl_module.training_step = watched  # type: ignore[method-assign]


def flow() -> VFEModule:
    return VFEModule(tiny.flow_image_generator(), tiny.image_encoder(), tiny.layout_generator(), optimization=tiny.FAST)


STAGES: dict[str, tuple[Callable[[], LightningModule], list[str]]] = {
    "alignment": (tiny.alignment, []),
    "alignment with terms": (lambda: tiny.alignment(terms=AlignmentTerms(2, 1.0, 1.0)), []),
    "tlg": (tiny.tlg, [STRATA]),
    "vfe": (tiny.vfe, [STRATA, MOST_BOXES]),
    "vfe that inpaints": (lambda: tiny.vfe(inpaints=True), [STRATA, REGIONS, MOST_BOXES]),
    "vfe with its text tower": (lambda: tiny.vfe(lora=None, freeze_text_tower=False), [STRATA, MOST_BOXES]),
    "vfe with a transformer": (flow, [STRATA]),
    "object detection": (lambda: ObjectDetectionModule(ObjectDetector(tiny.SIZE, 8), tiny.FAST), []),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_training_step_waits_only_for_listed_reasons(name: str, posters: Path) -> None:
    build, allowed = STAGES[name]
    kind = SceneDataModule if name == "object detection" else MarioDataModule
    data = kind(str(posters), size=tiny.SIZE, batch_size=8, max_objects=8, val_share=0.2, test_share=0.2)
    watch = Watch()
    tiny.trainer(2, callbacks=[watch]).fit(build(), datamodule=data)
    assert sorted(line.partition(":")[0] for line in watch.found) == sorted(allowed), watch.found
