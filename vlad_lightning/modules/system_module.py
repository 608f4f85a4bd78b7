"""What every module of a whole text-to-image system has in common: generation, the test and its results."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule

from vlad_lightning.diffusion.generators import Key, numbered
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling, generate_named
from vlad_lightning.metrics.evaluation import Evaluation
from vlad_lightning.metrics.paired import PerImage
from vlad_lightning.types import Batch, GeneratedImages, MetricResult, PromptBatch, TextToImage


class SystemModule(LightningModule):
    """A LightningModule whose test and predict generate images with a whole system; training is left to subclasses.

    A subclass defines :attr:`system`, :attr:`sampling`, :meth:`check_sampler`, :meth:`check_prompt` and
    :meth:`generate_prompts`.

    Args:
        sampling_seed: seed of the noise of layouts and images; a run-time setting.
        evaluation: the metrics of ``test``; None measures nothing.
    """

    def __init__(self, sampling_seed: int = 0, evaluation: Evaluation | None = None) -> None:
        super().__init__()
        self.sampling_seed = sampling_seed
        self.evaluation = evaluation
        self.results: dict[str, MetricResult] = {}
        self.rows: dict[str, PerImage] = {}

    @property
    @abstractmethod
    def system(self) -> TextToImage[SystemSampling]:
        """The whole system, which turns prompts into images."""

    @property
    @abstractmethod
    def sampling(self) -> SystemSampling:
        """Sampling settings of the whole system."""

    @abstractmethod
    def check_sampler(self, sampler: ImageSampler) -> None:
        """Refuse settings that do not suit the system.

        Raises:
            ValueError: naming the setting.
        """

    @abstractmethod
    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that the system cannot generate.

        Raises:
            ValueError: saying why.
        """

    @abstractmethod
    def generate_prompts(self, batch: PromptBatch) -> GeneratedImages:
        """Generate a batch of prompts that have no true images, as ``predict`` does."""

    def draw(self, prompts: Sequence[str], keys: Sequence[str] = ()) -> GeneratedImages:
        """Generate layouts, then images; a prompt's noise depends on ``sampling_seed`` and its key."""
        return generate_named(self.system, prompts, keys, self.sampling, self.sampling_seed)

    def draw_batch(self, batch: Batch) -> GeneratedImages:
        """Generate the prompts of a batch that has true images, as ``test`` does."""
        return self.draw(batch.prompts, batch.keys)

    def test_step(
        self, batch: Batch | PromptBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, GeneratedImages]:
        """Generate the batch's prompts and measure the result."""
        if isinstance(batch, PromptBatch):
            generated = self.generate_prompts(batch)
            if self.evaluation is not None and not batch.spare:
                self.evaluation.update_human(generated)
            return {"generated": generated}
        generated = self.draw_batch(batch)
        if self.evaluation is not None and batch.counted:
            self.evaluation.update(generated, batch)
            self.probe(batch, batch_idx)
        return {"generated": generated}

    def probe(self, batch: Batch, batch_idx: int) -> None:
        """Measure what needs the batch and the networks beside the images; nothing here."""

    def probed(self) -> tuple[dict[str, PerImage], dict[str, MetricResult]]:
        """Return the rows and results of :meth:`probe`, and reset; none here."""
        return {}, {}

    def on_test_epoch_end(self) -> None:
        """Log every result; :class:`~vlad_lightning.callbacks.ResultsWriter` writes them and the per-image rows."""
        if self.evaluation is None:
            return
        rows, results = self.probed()
        self.rows = self.evaluation.per_image() | rows
        self.results = self.evaluation.compute() | results
        self.evaluation.reset()
        self.log_dict({f"test/{name}": f.value for name, f in self.results.items()})

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> Any:
        """Generate a batch of prompts; :class:`~vlad_lightning.callbacks.ImageWriter` writes the images."""
        return self.generate_prompts(batch)


def noise_names(batch: PromptBatch) -> Sequence[Key]:
    """Return the names of the noise of a batch of prompts."""
    return batch.noise_keys or [(key,) for key in batch.keys] or numbered(batch.prompts)
