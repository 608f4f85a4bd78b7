"""The checkpoint whose words can be read best, found while a stage trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from vlad_lightning.callbacks.sample_sheets import draw, draws, ready_to_draw
from vlad_lightning.checkpoints.retention import fit_folder
from vlad_lightning.files import read_prompt_lines, told_at
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import check_prompts, check_whole
from vlad_lightning.types import GeneratedImages, MetricResult

BEST = "best.ckpt"
"""The name of the checkpoint, in the stage's folder of checkpoints."""

_MOST = 1000


class WordMetric(Protocol):
    """Measures words in images; ``vlad_lightning.metrics.ocr.OCRMetrics`` does."""

    def reset(self) -> None:
        """Forget the images."""
        ...

    def update(self, images: Tensor, targets: Sequence[Sequence[str]]) -> None:
        """Read (B, 3, H, W) images, float in [-1, 1], and compare with the words wanted in each."""
        ...

    def compute(self) -> Mapping[str, MetricResult]:
        """Return the results by name."""
        ...


class BestByOCR(Callback):
    """Keeps the checkpoint whose images of a small fixed set of prompts have the highest F of the words read.

    Every ``every`` steps it draws the prompts, with the same noise each time and the averaged weights if there are any,
    and logs the figure as ``ocr/<figure>``. If it is higher than ever before, the checkpoint is also written as
    ``best.ckpt``. A resumed fit goes on with the best so far. The figure of a small set is noisy, and the best of many
    measurements is too high: measure ``best.ckpt`` on other prompts.

    Args:
        metric: reads the images, such as ``OCRMetrics``.
        prompts: a text file in UTF-8 with a prompt a line, the name of a shipped one, or a list of prompts, at least
            one of them with words in quotes.
        every: optimizer steps between two measurements, at least 1.
        figure: which of the metric's results decides.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if no prompt has words to draw, there are too many or too long ones, or ``every`` is below 1.
    """

    def __init__(
        self, metric: WordMetric, prompts: str | list[str], every: int = 1000, figure: str = "micro_f1"
    ) -> None:
        check_whole("every", every, 1, 2**31)
        if isinstance(prompts, str):
            with told_at(f"prompts {prompts}"):
                prompts = read_prompt_lines(Path(prompts))
        check_whole("the number of prompts", len(prompts), 1, _MOST)
        check_prompts(prompts)
        self.prompts, self.every, self.figure, self.metric = list(prompts), every, figure, metric
        self.words = [list(drawn_words(prompt)) for prompt in self.prompts]
        if not any(self.words):
            raise ValueError("prompts has no words in quotes; without words to read there is no F")
        self.best, self.best_step = -math.inf, 0
        self._seen_step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best figure so far and its step."""
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best figure so far."""
        self.best, self.best_step = float(state_dict["best"]), int(state_dict["best_step"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the step that the fit goes on from."""
        self._seen_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after every ``every``-th optimizer step."""
        if trainer.global_step == self._seen_step:  # gradients are accumulating
            return
        self._seen_step = trainer.global_step
        if trainer.global_step % self.every == 0 and hasattr(pl_module, "draw"):
            self._measure(trainer, pl_module)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        drawn = None
        if draws(trainer, pl_module):
            with ready_to_draw(trainer, pl_module):
                drawn = draw(trainer, pl_module, self.prompts)
        value = self._value(drawn) if trainer.is_global_zero and isinstance(drawn, GeneratedImages) else None
        value = trainer.strategy.broadcast(value)  # every rank takes part in writing
        if value is None:
            return
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics({f"ocr/{self.figure}": value}, step=trainer.global_step)
        if value > self.best:
            self.best, self.best_step = value, trainer.global_step
            path = fit_folder(trainer) / BEST
            trainer.save_checkpoint(path)
            rank_zero_info(f"step {trainer.global_step}: {self.figure} {value:.3f} is the best so far; wrote {path}")

    def _value(self, drawn: GeneratedImages) -> float:
        self.metric.reset()
        self.metric.update(drawn.images.float().cpu(), self.words)
        results = self.metric.compute()
        if self.figure not in results:
            raise ValueError(f"figure is {self.figure!r}; allowed are {', '.join(results)}")
        return results[self.figure].value
