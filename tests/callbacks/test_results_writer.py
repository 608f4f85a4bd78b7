from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from vlad_lightning.callbacks.results_writer import ResultsWriter, results_table
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.types import MetricResult

RESULTS = {
    "ocr/f": MetricResult(0.81234, 0.7, 0.9, 120, {"engine": "rapidocr 3.10", "café": "☕"}),
    "fid": MetricResult(35.12, n=5000),
}


Rows = dict[str, dict[str, tuple[float, float]]]


class Measured(LightningModule):
    def __init__(self, results: dict[str, MetricResult], rows: Rows) -> None:
        super().__init__()
        self.results: dict[str, MetricResult] = {}
        self.rows: Rows = {}
        self.measured = results, rows

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def on_test_epoch_end(self) -> None:
        self.results, self.rows = self.measured


class Data(LightningDataModule):
    """Names its test data, as the data modules of the package do."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.__dict__ |= settings

    def test_dataloader(self) -> DataLoader[Any]:
        return loader()


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(2)))  # type: ignore[arg-type]


def run_test(results: dict[str, MetricResult], out: Path, rows: Rows | None = None, data: Data | None = None) -> None:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ResultsWriter(str(out), system="vlad-mini")],
    )
    trainer.test(Measured(results, rows or {}), data or loader(), verbose=False)


def test_a_test_writes_both_files(tmp_path: Path) -> None:
    run_test(RESULTS, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "results.md"]
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8")) == {
        "vlad-mini": {
            "ocr/f": {
                "value": 0.81234,
                "low": 0.7,
                "high": 0.9,
                "n": 120,
                "details": {"engine": "rapidocr 3.10", "café": "☕"},
            },
            "fid": {"value": 35.12, "low": None, "high": None, "n": 5000, "details": {}},
        }
    }
    table = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert table == results_table("vlad-mini", RESULTS)


def test_results_name_the_data_they_were_measured_on(tmp_path: Path) -> None:
    results = {"word_accuracy": MetricResult(0.5), "human_word_accuracy": MetricResult(0.25)}

    def told(**settings: Any) -> list[str]:
        run_test(results, tmp_path, data=Data(source=MarioFolder("data/train"), **settings))
        return [f["data"] for f in json.loads((tmp_path / "results.json").read_text())["vlad-mini"].values()]

    assert told(test_source=None) == ["data/train, test split"] * 2
    assert told(test_source=MarioFolder("data/heldout")) == ["data/heldout"] * 2
    assert told(test_source=MarioFolder("data/heldout"), test_prompts="people.txt") == ["data/heldout", "people.txt"]


def test_the_table_lists_results_with_intervals() -> None:
    assert results_table("vlad", RESULTS).splitlines() == [
        "| vlad | value | 95 % interval | n | from |",
        "|---|---|---|---|---|",
        "| ocr/f | 0.8123 | 0.700 to 0.900 | 120 | engine: rapidocr 3.10, café: ☕ |",
        "| fid | 35.1200 |  | 5000 |  |",
    ]


def test_a_test_without_results_writes_nothing(tmp_path: Path) -> None:
    run_test({}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_per_image_rows_are_written_and_outdated_ones_removed(tmp_path: Path) -> None:
    run_test(RESULTS, tmp_path, {"ocr/f": {"00ff": (1.0, 2.0), "ff00": (0.0, 1.0)}})
    assert json.loads((tmp_path / "per_image.json").read_text()) == {
        "vlad-mini": {"ocr/f": {"00ff": [1, 2], "ff00": [0, 1]}}
    }
    run_test(RESULTS, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "results.md"]
