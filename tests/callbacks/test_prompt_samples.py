from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drawer import Drawer, batches, logged
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from vlad_lightning.callbacks import PromptSamples
from vlad_lightning.callbacks.sample_sheets import caption
from vlad_lightning.health import EMA

PROMPTS = ['a poster that says "SALE" and "GO ON", in large letters, on a blue background', "a red circle"]


def fit(
    folder: Path, samples: PromptSamples, module: Drawer | None = None, ckpt_path: Path | None = None, **changes: Any
) -> Drawer:
    module = module or Drawer()
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": folder,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "max_epochs": -1,
        "max_steps": 4,
        "logger": False,
        "callbacks": [],
    } | changes
    saves = ModelCheckpoint(folder, save_last=True, every_n_train_steps=4)
    callbacks = [*settings.pop("callbacks"), samples, saves]
    Trainer(callbacks=callbacks, **settings).fit(module, batches(), ckpt_path=ckpt_path, weights_only=True)
    return module


def sheets(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "samples").iterdir())


def test_given_prompts_are_drawn_before_the_first_step_and_every_so_many(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path / "log")
    module = fit(tmp_path, PromptSamples(PROMPTS, every=2), logger=logger)
    names = [f"step-00000000{step}{kind}.png" for step in (0, 2, 4) for kind in ("-layouts", "")]
    assert sheets(tmp_path) == sorted(names)
    assert module.asked == [(tuple(PROMPTS), ())] * 3
    assert logged(logger.log_dir) == {"prompts/images": [0, 2, 4], "prompts/layouts": [0, 2, 4]}
    with Image.open(tmp_path / "samples" / names[1]) as image:
        assert image.format == "PNG"


def test_a_resumed_fit_does_not_draw_step_0_again(tmp_path: Path) -> None:
    fit(tmp_path, PromptSamples(PROMPTS, every=2))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").iterdir()}
    module = fit(tmp_path, PromptSamples(PROMPTS, every=2), ckpt_path=tmp_path / "last.ckpt", max_steps=6)
    assert len(module.asked) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert "step-000000006.png" in sheets(tmp_path)


def test_accumulated_batches_draw_once_a_step_and_start_may_be_left_out(tmp_path: Path) -> None:
    module = fit(tmp_path, PromptSamples(PROMPTS, every=1, at_start=False), accumulate_grad_batches=2, max_steps=2)
    assert len(module.asked) == 2


class Watching(Drawer):
    """Records its mode and weight when it draws, and counts its steps by its weight."""

    def __init__(self) -> None:
        super().__init__(generates=False)
        self.dropout = torch.nn.Dropout().eval()
        self.states: list[tuple[bool, float]] = []

    def draw(self, prompts: tuple[str, ...], keys: tuple[str, ...] = ()) -> Any:
        self.states.append((self.training, round(float(self.weight), 6)))
        return super().draw(prompts, keys)


def test_averaged_weights_draw_in_evaluation_mode_and_training_goes_on_as_before(tmp_path: Path) -> None:
    module = Watching()
    fit(tmp_path, PromptSamples(PROMPTS, every=2), module, callbacks=[ema := EMA(decay=0.5)], max_steps=2)
    # the gradient is 1, the rate 0.1: the weight is -0.1 and -0.2, its average -0.1 and -0.15
    assert module.states == [(False, 0.0), (False, pytest.approx(-0.15))]
    assert float(ema.trained("weight", module.weight)) == pytest.approx(-0.2)
    assert not module.dropout.training
    assert sheets(tmp_path) == ["step-000000000.png", "step-000000002.png"]  # layouts


class Wandb(CSVLogger):
    """A logger with W&B's way to log pictures."""

    pictures: list[tuple[str, int | None]]

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        assert all(isinstance(image, Image.Image) for image in images)
        self.pictures.append((key, step))


def test_loggers_with_log_image_get_pictures_and_others_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    takes = Wandb(tmp_path / "wandb")
    takes.pictures = []
    loggers: list[Logger] = [takes, CSVLogger(tmp_path / "csv")]
    with caplog.at_level("INFO"):
        fit(tmp_path, PromptSamples(PROMPTS, every=4), logger=loggers)
    assert takes.pictures == [(f"prompts/{kind}", step) for step in (0, 4) for kind in ("layouts", "images")]
    said = [r.getMessage() for r in caplog.records if "takes no pictures" in r.getMessage()]
    assert said == [f"CSVLogger takes no pictures; the samples are in {tmp_path / 'samples'}"]


class Reads:
    """An OCR engine that reads one line on each image."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def read(self, images: torch.Tensor) -> list[list[str]]:
        self.shapes.append(tuple(images.shape))
        return [["SALE"] for _ in images]


def test_images_are_read_and_layouts_are_not(tmp_path: Path) -> None:
    reader = Reads()
    fit(tmp_path, PromptSamples(PROMPTS, every=4, at_start=False, ocr=reader))
    fit(tmp_path, PromptSamples(PROMPTS, every=4, at_start=False, ocr=reader), Drawer(generates=False))
    assert reader.shapes == [(2, 3, 4, 4)]


def test_beneath_a_picture_stand_the_whole_prompt_the_words_and_what_was_read() -> None:
    lines = caption(PROMPTS[0], ("SALE", "GO", "ON"), ["SALE", "G0"]).splitlines()
    assert lines == [PROMPTS[0], "words: SALE GO ON", "read: SALE G0"]
    assert caption("a dog", (), []) == "a dog\nread: -"


def test_many_prompts_are_drawn_in_parts(tmp_path: Path) -> None:
    module = fit(tmp_path, PromptSamples([f"prompt {i}" for i in range(17)], every=4, at_start=False))
    assert [len(prompts) for prompts, _ in module.asked] == [16, 1]


def test_without_prompts_or_with_a_module_that_cannot_draw_nothing_happens(tmp_path: Path) -> None:
    assert fit(tmp_path, PromptSamples()).asked == []
    assert not (tmp_path / "samples").exists()


def test_prompts_are_read_from_a_file_or_a_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\n two \n")
    assert PromptSamples(str(file)).prompts == ["one", "two"]
    assert PromptSamples("demo_prompts.txt").prompts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": "absent.txt"}, "--samples.prompts absent.txt"),
        ({"prompts": []}, "the number of samples.prompts"),
        ({"every": 0}, "samples.every"),
        ({"columns": 0}, "samples.columns"),
    ],
)
def test_wrong_settings_are_refused_before_a_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        PromptSamples(**settings)
