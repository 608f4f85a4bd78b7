"""A training on cached latents is the one on pictures, which are not read; latents of other networks are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from diffusers import UNet2DConditionModel
from lightning.pytorch import Callback, LightningModule, Trainer
from prepared_sets import write_mario

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mixed_source import MixedSource
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_shard import PreparedRow, write_shard
from vlad_lightning.data.prepared_source import SHARDS, PreparedSource
from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.generation import ImageGenerator
from vlad_lightning.generation.masking import Masking
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.models.autoencoder import build_kl_autoencoder
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.latent_run import fill_cache
from vlad_lightning.modules.latents import LatentEncoder, weights_digest
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.types import COSTLY_FIELDS, Batch, FieldNotBuilt

LOSS = LossSettings(text_weight=3.0, object_weight=2.0, layout_dropout=0.3)


class Losses(Callback):
    """Records the batches and losses of a fit, and those of its validations."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.values: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.batches.append(batch)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *rest: Any) -> None:
        self.values += [float(trainer.callback_metrics[f"train/loss{part}"]) for part in ("", "_align", "_diffusion")]

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.values.append(float(trainer.callback_metrics["val/loss"]))


@pytest.fixture(scope="module")
def prepared(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare the synthetic posters."""
    out = tmp_path_factory.mktemp("prepared") / "set"
    prepare(Preparation("posters", folder_portions(posters), out))
    return out


def data(root: Path | None, **changes: Any) -> MarioDataModule:
    settings: dict[str, Any] = {
        "size": tiny.SIZE,
        "batch_size": 4,
        "max_objects": 8,
        "val_share": 0.2,
        "test_share": 0.2,
    }
    return MarioDataModule(None if root is None else str(root), **settings | changes)


def vfe(**changes: Any) -> VFEModule:
    module = tiny.stage("vfe", **{"training": LOSS, "text_probe": 0} | changes)
    assert isinstance(module, VFEModule)
    return module


def published(schedule: Schedule) -> VFEModule:
    """Build stage 2 with an autoencoder of Stable Diffusion's kind."""
    torch.manual_seed(0)
    coder = build_kl_autoencoder((16, 16), 1, 4, 8, tiny.SIZE)
    network = UNet2DConditionModel(
        sample_size=16,
        in_channels=12,
        out_channels=4,
        block_out_channels=(16,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=tiny.WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    fusion = LatentFusion(4, 4, tiny.WIDTH, 12, time_width=16, starts_open=True)
    whole = ImageGenerator(tiny.prompt_encoder(), VFE(fusion, network), coder, schedule, tiny.SIZE)
    return VFEModule(whole, tiny.image_encoder(), training=LOSS, text_probe=0, optimization=tiny.FAST)


def fill(root: Path, module: VFEModule, dtype: str = "float32", autocast: torch.dtype | None = None) -> None:
    encoder = LatentEncoder(module.image_generator, module.image_encoder, autocast)
    report = fill_cache(data(root), encoder, dtype, replaces=True)
    assert (report.samples, report.unreadable, report.left) == (40, 0, 0)


def fit(module: VFEModule, samples: MarioDataModule, steps: int = 3, **changes: Any) -> Losses:
    losses = Losses()
    settings: dict[str, Any] = {"limit_val_batches": 2, "val_check_interval": steps, "use_distributed_sampler": False}
    tiny.trainer(steps, callbacks=[losses], log_every_n_steps=1, **settings | changes).fit(module, samples)
    assert len(losses.batches) == steps
    return losses


def emptied(root: Path) -> None:
    """Replace all pictures of a prepared set by nothing."""
    source = PreparedSource(str(root))
    source.setup()
    for number, (name, _) in enumerate(source.shards):
        rows = [PreparedRow(**source.row(int(i))) for i in source.samples_of(number)[0]]
        write_shard(root / SHARDS / f"{name}.arrow", [replace(row, image=b"") for row in rows])


BUILT: list[Callable[[], VFEModule]] = [
    lambda: vfe(),
    lambda: vfe(hierarchical=False),
    lambda: vfe(word_colours=True),
    lambda: published(tiny.schedule("epsilon")),
]


@pytest.mark.parametrize("build", BUILT, ids=["grounded", "no layout", "word colours", "SD's autoencoder"])
def test_a_cached_fit_has_the_losses_of_an_uncached_one_and_reads_no_picture(
    build: Callable[[], VFEModule], prepared: Path
) -> None:
    fill(prepared, build())
    plain = fit(build(), data(prepared))
    cached = fit(build(), data(prepared, latents=True, num_workers=1))
    assert [batch.keys for batch in cached.batches] == [batch.keys for batch in plain.batches]
    assert len(plain.values) == 3 * 3 + 1
    assert cached.values == pytest.approx(plain.values, rel=1e-5)
    for batch in cached.batches:
        assert all(isinstance(getattr(batch, name), FieldNotBuilt) for name in COSTLY_FIELDS)
        assert batch.latents is not None
    assert all(batch.latents is None for batch in plain.batches)


def test_under_mixed_precision_latents_are_those_that_the_training_would_compute(prepared: Path) -> None:
    settings = replace(LOSS, augmentation=0.0)  # its noise is drawn in another format
    fill(prepared, vfe(), "float16", torch.bfloat16)
    losses = [
        fit(vfe(training=settings), data(prepared, latents=cached), 2, precision="bf16-mixed").values
        for cached in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_no_picture_is_decoded_and_boxes_are_where_they_were(resize: str, tmp_path: Path) -> None:
    for number in range(12):  # pictures of 80 x 72
        write_mario(tmp_path / "mario", number)
    prepare(Preparation("x", folder_portions(tmp_path / "mario"), tmp_path / "set"))
    settings: dict[str, Any] = {"resize": resize}
    module = vfe()
    encoder = LatentEncoder(module.image_generator, module.image_encoder)
    fill_cache(data(tmp_path / "set", **settings), encoder, "float16")
    plain = next(iter(data(tmp_path / "set", **settings, batch_size=2).val_dataloader()))
    emptied(tmp_path / "set")
    whole = data(tmp_path / "set", **settings, batch_size=2, latents=True)
    whole.ask_for("latents")
    batch = next(iter(whole.val_dataloader()))
    assert batch.keys == plain.keys
    assert torch.equal(batch.word_boxes, plain.word_boxes)
    assert batch.word_mask.any()
    expected = encoder(plain.images, plain.glyphs)
    assert batch.latents is not None
    assert batch.latents.images.dtype == torch.float16
    assert torch.allclose(batch.latents.images.float(), torch.stack([e.images for e in expected]), rtol=1e-3, atol=1e-6)
    assert torch.equal(batch.latents.letters, torch.stack([e.letters for e in expected]))
    assert batch.latents.letters.any()


def test_latents_of_other_networks_sizes_or_fonts_are_refused_before_the_first_step(prepared: Path) -> None:
    fill(prepared, vfe())
    other = vfe()
    with torch.no_grad():
        other.image_generator.autoencoder.scale.mul_(1.001)
    remedy = "here it is .*; make it again: vlad-cli cache .* --replace"
    with pytest.raises(ValueError, match=f"latents was made with autoencoder.weights [0-9a-f]+..., and {remedy}"):
        tiny.trainer(1).fit(other, data(prepared, latents=True))
    moved = vfe()
    assert moved.image_encoder is not None
    torch.nn.init.normal_(moved.image_encoder.tower.visual_projection.weight)
    with pytest.raises(ValueError, match=r"made with image_encoder.weights"):
        tiny.trainer(limit_val_batches=1).validate(moved, data(prepared, latents=True))
    for change, named in (
        ({"size": 64}, "data.size 32, and here it is 64"),
        ({"resize": "pad"}, "data.resize stretch, and here it is pad"),
        ({"max_boxes": 5}, "data.max_boxes 32, and here it is 5"),
        ({"rasterizer": Rasterizer("serif")}, "data.font DejaVu Sans Bold, and here it is DejaVu Seri..."),
        ({"size": 64, "resize": "pad"}, "data.size 32, and here it is 64 and 1 more"),
    ):
        with pytest.raises(ValueError, match=named):
            data(prepared, latents=True, **change).setup()
    fit(vfe(), data(prepared, latents=True), 1)  # its own are used after all


def test_what_does_not_read_latents_refuses_them(prepared: Path, posters: Path) -> None:
    fill(prepared, vfe(hierarchical=False))
    with pytest.raises(ValueError, match="made with glyphs none, and here it is encoded"):
        tiny.trainer(1).fit(vfe(), data(prepared, latents=True))
    with pytest.raises(ValueError, match="reads no cached latents, only stage 2 does"):
        tiny.trainer(1).fit(tiny.alignment(), data(prepared, latents=True))
    with pytest.raises(ValueError, match=r"model.masking trains inpainting"):
        tiny.trainer(1).fit(tiny.vfe(inpaints=True, masking=Masking()), data(prepared, latents=True))
    with pytest.raises(ValueError, match="cannot have cached latents; a prepared data set can"):
        data(posters, latents=True).setup()
    with pytest.raises(ValueError, match=r"they are read where data.latents is true"):
        data(prepared).ask_for("latents")


def test_a_mixture_reads_latents_if_all_of_its_sources_have_them(prepared: Path, posters: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    prepare(Preparation("posters", folder_portions(posters), other))
    fill(prepared, vfe())

    def mixture(**changes: Any) -> MarioDataModule:
        sources = [PreparedSource(str(root)) for root in (prepared, other)]
        return data(None, source=MixedSource(sources, [1, 1]), latents=True, **changes)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"data.latents is true, and \S+other has no cached latents; make them"):
        mixture().setup()
    fill(other, vfe(), "float16")
    losses = fit(vfe(), mixture(), 2)
    assert {key[0] for batch in losses.batches for key in batch.keys} == {"0", "1"}
    assert all(value == value for value in losses.values)
    with pytest.raises(ValueError, match=r"name each by itself: --data.source null --data.root SET"):
        fill_cache(mixture(), LatentEncoder(vfe().image_generator, None))


def test_a_hash_of_weights_depends_on_values_names_and_dtypes() -> None:
    first = torch.nn.Linear(2, 2)
    found = weights_digest(first)
    assert weights_digest(first) == found
    assert weights_digest(torch.nn.Sequential(first)) != found
    assert weights_digest(first.double()) != found
    with torch.no_grad():
        first.float().bias[0] += 1
    assert weights_digest(first) != found
