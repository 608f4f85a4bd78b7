"""Settings that both a module and its data module have: a difference is refused before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import LightningModule

from vlad_lightning.data.scene_data import SceneDataModule
from vlad_lightning.generation import LayoutGenerator
from vlad_lightning.models.image_encoder import ImageEncoder, build_vision_tower
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.models.tlg import TLG
from vlad_lightning.modules import TLGModule
from vlad_lightning.modules.alignment_terms import AlignmentTerms
from vlad_lightning.modules.object_detection import ObjectDetectionModule

LOCAL = {"terms": AlignmentTerms(region_weight=1.0)}


@pytest.mark.parametrize(
    ("stage", "changes", "data", "message"),
    [
        (
            "vfe",
            {},
            {"size": 64},
            r"data\.size is 64 and model\.image_generator\.image_size is 32; they must be the same",
        ),
        (
            "vfe",
            {},
            {"max_words": 6},
            r"data\.max_words is 6 and model\.image_generator\.\S+\.max_words is 4; they must",
        ),
        (
            "vfe",
            {},
            {"max_objects": 12},
            r"data\.max_objects is 12 and model\.image_generator\.\S+\.max_objects is 8; they must",
        ),
        ("tlg", {}, {"max_words": 6}, r"data\.max_words is 6 and model\.generator\.tlg\.max_words is 4; they must"),
        (
            "tlg",
            {},
            {"max_objects": 3},
            r"data\.max_objects is 3 and model\.generator\.tlg\.max_objects is 8; they must",
        ),
        ("alignment", {}, {"size": 16}, r"data\.size is 16 and model\.image_encoder\.tower\.image_size is 32; images"),
        ("alignment", LOCAL, {"max_words": 6}, r"data\.max_words is 6 and model\.prompt_encoder\.\S+\.max_words is 4"),
        ("alignment", LOCAL, {"max_objects": 3}, r"data\.max_objects is 3 and model\.prompt_encoder\.\S+ is 8"),
    ],
)
def test_data_with_other_settings_are_refused(posters: Path, stage: str, changes: Any, data: Any, message: str) -> None:
    module = tiny.stage(stage, **changes)
    with pytest.raises(ValueError, match=message):
        tiny.trainer().fit(module, datamodule=_data(posters, **data))


def test_a_test_is_refused_like_a_fit(posters: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.size is 64 and model\.image_generator\.image_size is 32"):
        tiny.trainer().test(tiny.stage("vfe"), datamodule=_data(posters, size=64))


def _data(root: Path, **changes: Any) -> Any:
    settings = {"size": tiny.SIZE, "max_objects": 8} | changes
    return tiny.MarioDataModule(str(root), batch_size=8, val_share=0.2, test_share=0.2, **settings)


def test_vision_tower_of_stage_2_is_not_given_enlarged_images(posters: Path) -> None:
    tower = build_vision_tower(64, patch_size=8, width=tiny.WIDTH, layers=1, heads=2, projection=tiny.WIDTH)
    module = tiny.stage("vfe")
    module.image_encoder = ImageEncoder(tower)
    with pytest.raises(ValueError, match=r"data\.size is 32 and model\.image_encoder\.tower\.image_size is 64"):
        tiny.trainer().fit(module, datamodule=tiny.data(posters))


def test_detector_is_not_given_enlarged_posters(posters: Path) -> None:
    data = SceneDataModule(str(posters), size=32, batch_size=8, val_share=0.2, test_share=0.2)
    module = ObjectDetectionModule(ObjectDetector(size=64, width=8))
    with pytest.raises(ValueError, match=r"data\.size is 32 and model\.detector\.size is 64"):
        tiny.trainer().fit(module, datamodule=data)


@pytest.mark.parametrize("stage", ["alignment", "tlg", "vfe"])
def test_settings_that_a_stage_does_not_use_may_differ(posters: Path, stage: str) -> None:
    """Objects without a phrase map and without their layouts; pixels of the layouts; boxes without a term for them."""
    words_only = TLG(tiny.WIDTH, max_words=4, width=tiny.WIDTH, layers=1, heads=2, max_objects=0)
    modules: dict[str, LightningModule] = {
        "alignment": tiny.stage("alignment"),
        "tlg": TLGModule(LayoutGenerator(tiny.prompt_encoder(), words_only, tiny.schedule()), tiny.FAST),
        "vfe": tiny.stage("vfe", hierarchical=False),
    }
    changes = {"tlg": {"size": 16}, "alignment": {"size": 64, "max_words": 6}}.get(stage, {})
    tiny.trainer().fit(modules[stage], datamodule=_data(posters, max_objects=3, **changes))


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        ("tlg", "generator.prompt_encoder"),
        ("vfe", "image_generator.prompt_encoder"),
        ("vfe", "layout_generator.prompt_encoder"),
    ],
)
def test_a_stage_without_a_tokenizer_is_refused(posters: Path, stage: str, part: str) -> None:
    module = tiny.stage(stage)
    module.get_submodule(part).text_encoder.tokenizer = None
    with pytest.raises(ValueError, match=rf"model\.{part}\.text_encoder has no tokenizer"):
        tiny.trainer().fit(module, datamodule=tiny.data(posters))


def test_the_alignment_stage_needs_a_tokenizer_to_validate(posters: Path) -> None:
    module = tiny.stage("alignment", tokenizer=False)
    with pytest.raises(ValueError, match=r"model\.prompt_encoder\.text_encoder has no tokenizer"):
        tiny.trainer(limit_val_batches=1).validate(module, datamodule=tiny.data(posters))
