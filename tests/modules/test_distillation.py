from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from vlad_lightning.callbacks import FromPipeline
from vlad_lightning.checkpoints.resume import load_checkpoint
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.masking import Masking
from vlad_lightning.modules import DistillationModule
from vlad_lightning.modules.diffusion_loss import DiffusionLoss
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.pipeline import VLADPipeline

GUIDANCE = ImageSampler(guidance_scale=3.0, layout_scale=2.0, guidance_rescale=0.5)


def built(guidance: ImageSampler = GUIDANCE, **changes: Any) -> DistillationModule:
    seed_everything(0)
    student = tiny.image_generator()
    torch.nn.init.normal_(student.vfe.fusion.weight, std=0.5)  # so that text and layout matter
    return DistillationModule(
        student, guidance, tiny.layout_generator(), optimization=tiny.FAST, **({"text_probe": 0} | changes)
    )


def fitted(module: DistillationModule, posters: Path, steps: int = 3, **settings: Any) -> Any:
    trainer = tiny.trainer(steps, **settings)
    trainer.fit(module, datamodule=tiny.data(posters))
    return trainer


def test_the_target_is_the_guided_prediction(posters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = built()
    seen: list[tuple[Tensor, ...]] = []
    taught = module._taught

    def told(*given: Any) -> Tensor:
        target = taught(*given)
        uncond = module.image_generator.uncond(len(given[0]))
        x, steps, z, cond, drawn, patterned = given
        assert 0 < drawn.float().mean() < 1
        guided = module.image_generator.guided(cond, uncond, z, GUIDANCE, drawn=drawn, told=patterned)
        expected = guided(x, steps)  # teacher and student are equal
        own = module.image_generator.vfe(x, steps, z, cond).float()
        seen.append((target, expected, own))
        return target

    monkeypatch.setattr(module, "_taught", told)
    trainer = fitted(module, posters, steps=1)
    target, expected, own = seen[0]
    torch.testing.assert_close(target, expected)
    assert not target.requires_grad
    assert (target - own).abs().max() > 1e-3  # guidance does something here
    assert trainer.callback_metrics["train/loss"] == trainer.callback_metrics["train/loss_diffusion"] > 0


def test_only_fusion_and_network_move_and_the_teacher_is_the_start(posters: Path, tmp_path: Path) -> None:
    module = built()
    before = {name: value.clone() for name, value in module.image_generator.state_dict().items() if _is_tensor(value)}
    trainer = fitted(module, posters)
    after = module.image_generator.state_dict()
    moved = {
        name.split(".")[0] + "." + name.split(".")[1] for name in before if not torch.equal(before[name], after[name])
    }
    assert moved == {"vfe.fusion", "vfe.unet"}
    teacher = module.teacher.state_dict()
    assert not any("phrase_map" in name for name in teacher)
    assert all(torch.equal(value, before[f"vfe.{name}"]) for name, value in teacher.items())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = built()
    tiny.trainer(5).fit(resumed, datamodule=tiny.data(posters), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    again = resumed.teacher.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in teacher.items())


def test_a_student_knows_the_objects_of_its_teacher_and_not_those_that_its_data_show(tmp_path: Path) -> None:
    VLADPipeline.from_module(built(), nouns=("circle",)).save_pretrained(tmp_path / "teacher")
    source = SyntheticSource(samples=40, size=2 * tiny.SIZE)
    data = MarioDataModule(None, source=source, size=tiny.SIZE, batch_size=8, max_objects=8)
    module, known = built(), FromPipeline(str(tmp_path / "teacher"))
    trainer = tiny.trainer(1, callbacks=[known])
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    tested = built()
    load_checkpoint(tested, tmp_path / "student.ckpt")
    for student in (module, tested):
        assert student.layout_generator is not None
        assert student.layout_generator.nouns == ("circle",)
    tiny.trainer(limit_val_batches=1).validate(
        tested, datamodule=data, ckpt_path=tmp_path / "student.ckpt", verbose=False, weights_only=True
    )
    assert tested.layout_generator.nouns == ("circle",)


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_student_learns_what_guidance_adds(posters: Path) -> None:
    module = built(training=LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0))
    validated = {"limit_val_batches": 1, "check_val_every_n_epoch": None, "val_check_interval": 1}
    first = fitted(module, posters, 1, **validated).callback_metrics["val/loss_diffusion"]
    module = built(training=LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0))
    validated["val_check_interval"] = 120
    last = fitted(module, posters, 120, **validated).callback_metrics["val/loss_diffusion"]
    assert last < 0.7 * first


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def refused() -> Iterator[tuple[dict[str, Any], str]]:
    plain = LossSettings(caption_dropout=0, layout_dropout=0)
    yield {"guidance": ImageSampler()}, "guidance has both scales at 1"
    yield {"guidance": replace(GUIDANCE, guidance_interval=(0.2, 1.0))}, r"guidance_interval is \(0\.2, 1\.0\)"
    yield {"training": LossSettings()}, r"training\.caption_dropout is 0\.1; it must be 0"
    yield {"training": replace(plain, map_weight=1.0)}, r"training\.map_weight is 1\.0|training\.map_weight"
    yield {"masking": Masking()}, "masking is Masking"


@pytest.mark.parametrize(("changes", "message"), list(refused()))
def test_what_does_not_suit_a_distillation_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**changes)


def test_a_loss_without_a_teacher_is_that_of_the_data() -> None:
    module = tiny.vfe()
    assert module.diffusion_loss == DiffusionLoss(module.image_generator, module.settings, None)
