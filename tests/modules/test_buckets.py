"""Training on pictures of several formats: what each step reads, and that a stopped fit goes on as it would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback
from prepared_sets import jpeg, write_mario

from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.data.buckets import AspectBuckets
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_source import PreparedSource
from vlad_lightning.types import Batch

SIZES = [(96, 96), (160, 96), (96, 160)]  # widths and heights
BUCKETS = AspectBuckets(step=8, longest=2.0)  # of 32: 32 x 32, 40 x 24, 24 x 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare 60 pictures of three formats."""
    root = tmp_path_factory.mktemp("formats")
    for number in range(60):
        write_mario(root / "mario", number, image=jpeg(number, SIZES[number % 3]))
    prepare(Preparation("x", folder_portions(root / "mario"), root / "out"))
    return root / "out"


class Seen(Callback):
    """The keys and the frames of the batches of a fit."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, ...]] = []
        self.frames: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        self.keys.append(batch.keys)
        assert batch.images.shape[-2:] == batch.glyphs.shape[-2:]
        self.frames.append((batch.images.shape[-2], batch.images.shape[-1]))


def fit(pictures: Path, steps: int, name: str = "vfe", ckpt_path: Path | None = None, **settings: Any) -> Any:
    seen, module = Seen(), tiny.stage(name)
    trainer = tiny.trainer(steps, callbacks=[ExactResume(), seen])
    data = tiny.data(pictures, **{"batch_size": 4, "buckets": BUCKETS} | settings)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return trainer, module, seen, data


def test_sizes_are_in_the_index(pictures: Path) -> None:
    source = PreparedSource(str(pictures))
    source.setup()
    proportions = dict(zip(source.keys, source.proportions().tolist(), strict=True))
    assert proportions == {
        key: pytest.approx(width / height)
        for key, (width, height) in ((f"00000_{n:09d}", SIZES[n % 3]) for n in range(60))
    }


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_step_has_pictures_of_one_format_in_its_frame(pictures: Path, resize: str) -> None:
    _, module, seen, _ = fit(pictures, 8, resize=resize)
    expected = {0: (32, 32), 1: (24, 40), 2: (40, 24)}
    for keys, frame in zip(seen.keys, seen.frames, strict=True):
        assert {expected[int(key[-9:]) % 3] for key in keys} == {frame}
    assert len(set(seen.frames)) == 3
    assert all(value.isfinite().all() for value in module.parameters())


def test_a_stopped_fit_goes_on_as_it_would_have(pictures: Path, tmp_path: Path) -> None:
    _, whole, through, _ = fit(pictures, 8)
    stopped, _, first, _ = fit(pictures, 3)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    _, resumed, rest, _ = fit(pictures, 8, ckpt_path=tmp_path / "stopped.ckpt")
    assert first.keys + rest.keys == through.keys
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[name]) for name, value in whole.named_parameters())


def test_the_frames_are_those_of_the_order_that_is_read(pictures: Path) -> None:
    data = tiny.data(pictures, batch_size=4, buckets=BUCKETS)
    trainers = {many: tiny.trainer(accumulate_grad_batches=many) for many in (1, 4)}
    for many, kinds in ((1, 3), (4, 2), (1, 3)):  # three frames have 4 samples, and two have 16
        data.trainer = trainers[many]
        assert len({batch.images.shape for batch in data.train_dataloader()}) == kinds


def test_validation_has_squares(pictures: Path) -> None:
    *_, data = fit(pictures, 1)
    assert {batch.images.shape[-2:] for batch in data.val_dataloader()} == {(32, 32)}


def test_a_broken_picture_is_replaced_in_the_frame_of_the_step(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = PreparedSource.read

    def broken(self: PreparedSource, index: int) -> Any:
        if int(self.keys[index][-9:]) % 3 == 1 and index % 2:
            raise OSError("damaged")
        return read(self, index)

    monkeypatch.setattr(PreparedSource, "read", broken)
    _, _, seen, data = fit(pictures, 8)
    assert data.broken
    assert len(set(seen.frames)) == 3


@pytest.mark.parametrize("name", ["alignment", "tlg"])
def test_stages_that_read_squares_refuse_them(pictures: Path, name: str) -> None:
    with pytest.raises(ValueError, match="this training reads squares, only stage 2 reads others"):
        fit(pictures, 1, name)


def test_a_source_without_sizes_says_so(posters: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.buckets is given, and .* does not list the sizes of its pictures"):
        fit(posters, 1)


def test_frames_that_the_image_generator_cannot_have_are_refused(pictures: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.buckets is AspectBuckets\(step=1, .*must be a multiple of 2"):
        fit(pictures, 1, buckets=AspectBuckets(step=1))
    with pytest.raises(ValueError, match="cached latents are those of squares"):
        tiny.data(pictures, buckets=BUCKETS, latents=True)
