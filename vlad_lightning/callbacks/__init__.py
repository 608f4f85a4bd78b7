"""Lightning callbacks: initialisation, pictures, results and progress."""

from vlad_lightning.callbacks.best_by_ocr import BestByOCR
from vlad_lightning.callbacks.from_pipeline import FromPipeline
from vlad_lightning.callbacks.image_writer import ImageWriter
from vlad_lightning.callbacks.init_from import InitFrom
from vlad_lightning.callbacks.parts_table import PartsTable
from vlad_lightning.callbacks.pretrained import FromPretrained, SameSchedule, TokenizerFromPretrained
from vlad_lightning.callbacks.progress_lines import ProgressLines
from vlad_lightning.callbacks.prompt_samples import PromptSamples
from vlad_lightning.callbacks.results_writer import ResultsWriter
from vlad_lightning.callbacks.sample_grid import SampleGrid
from vlad_lightning.callbacks.step_progress import StepProgressBar
from vlad_lightning.callbacks.test_images import TestImages

__all__ = [
    "BestByOCR",
    "FromPipeline",
    "FromPretrained",
    "ImageWriter",
    "InitFrom",
    "PartsTable",
    "ProgressLines",
    "PromptSamples",
    "ResultsWriter",
    "SameSchedule",
    "SampleGrid",
    "StepProgressBar",
    "TestImages",
    "TokenizerFromPretrained",
]
