"""Test logs on a disk that is full for a while, in real fits."""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import Callback, Trainer
from poisoned import Regression, loader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vlad_lightning.health.loggers import PatientCSVLogger, PatientTensorBoardLogger, RowWriter


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as content:
        while True:
            content.write(bytes(4096))


class Full(Callback):
    """Fills the disk at step 6 and frees it at step 12; from step 9 on there is a new column."""

    def __init__(self, disk: Path) -> None:
        self.others = disk / "others"

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 6:
            fill(self.others)
        elif trainer.global_step == 12:
            self.others.unlink()
        if trainer.global_step >= 9:
            pl_module.log("late", float(trainer.global_step), batch_size=1)
        pl_module.log("step_of_fit", float(trainer.global_step), batch_size=1)
        pl_module.log_dict({f"much/{i}": 1 / 3 for i in range(80)}, batch_size=1)  # more than a page of the disk


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's writer when it ends
def test_a_full_disk_neither_ends_the_fit_nor_loses_rows(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientTensorBoardLogger, "PAUSE", 0.0)
    rows = PatientCSVLogger(small_disk, name="log", version="csv")
    events = PatientTensorBoardLogger(small_disk, name="log", version="", flush_secs=0)
    options: dict[str, Any] = {"logger": [events, rows], "log_every_n_steps": 1}
    with pytest.warns(UserWarning, match=r"the log in .* could not be written: .*No space left.*goes on") as warned:
        tiny.trainer(16, callbacks=[Full(small_disk)], **options).fit(Regression(), loader())
    said = [str(w.message) for w in warned if "could not be written" in str(w.message)]
    assert len(said) == 2, said  # one for each log
    with Path(rows.log_dir, "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [float(row["step_of_fit"]) for row in found] == list(range(16))
    assert [row["late"] for row in found] == [""] * 9 + [str(float(step)) for step in range(9, 16)]
    written: list[int] = []
    for file in sorted(Path(events.log_dir).glob("events.out.tfevents.*")):
        assert file.stat().st_size
        accumulator = EventAccumulator(str(file))
        accumulator.Reload()
        if "step_of_fit" in accumulator.Tags()["scalars"]:
            written += [int(event.value) for event in accumulator.Scalars("step_of_fit")]
    assert set(range(6)) | set(range(13, 16)) <= set(written)


def test_rows_that_do_not_fit_leave_the_file_unchanged(small_disk: Path) -> None:
    writer = RowWriter(str(small_disk / "log"))
    path = small_disk / "log" / "metrics.csv"
    writer.log_metrics({"a": 1.0}, 0)
    writer.save()
    whole = path.read_text()
    fill(small_disk / "others")
    writer.log_metrics({"a": 2.0, "b": 3.0}, 1)  # a new column: the whole file is written again
    for step in range(2, 500):
        writer.log_metrics({"a": 1 / 3}, step)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            writer.save()
        assert path.read_text() == whole
    (small_disk / "others").unlink()
    writer.save()
    assert path.read_text().startswith("a,b,step\n1.0,,0\n2.0,3.0,1\n")
    assert path.read_text().count("\n") == 501


def log(folder: Path, steps: range, column: str) -> str:
    """Return the file's content after a fit that logs these steps."""
    writer = RowWriter(str(folder))
    for step in steps:
        writer.log_metrics({column: float(step)}, step)
        writer.save()
    return (folder / "metrics.csv").read_text()


def test_a_resumed_fit_continues_its_file(tmp_path: Path) -> None:
    log(tmp_path, range(4), "a")
    assert log(tmp_path, range(2, 4), "b") == "a,b,step\n0.0,,0\n1.0,,1\n,2.0,2\n,3.0,3\n"
    assert log(tmp_path, range(4, 5), "b").endswith(",3.0,3\n,4.0,4\n")
    assert log(tmp_path, range(1), "c") == "a,b,c,step\n,,0.0,0\n"  # from the start, in the same folder


def test_a_line_truncated_by_a_kill_is_left_out(tmp_path: Path) -> None:
    whole = log(tmp_path, range(3), "a")
    (tmp_path / "metrics.csv").write_text(whole[: whole.rindex(",")])
    assert log(tmp_path, range(3, 4), "a") == "a,step\n0.0,0\n1.0,1\n3.0,3\n"


def test_program_errors_are_not_treated_as_disk_errors(tmp_path: Path) -> None:
    logger = PatientTensorBoardLogger(tmp_path)
    with pytest.raises(ValueError, match="not supported"):
        logger.log_metrics({"a": object()}, 0)  # type: ignore[dict-item]


@pytest.mark.parametrize("content", ["", "\0\0\0\n\0", "a,b\n1,2\n", "a,step\n1.0,x\n", "a,step\n1.0,0,7\n", "\udcff"])
def test_a_damaged_file_is_set_aside(content: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content.encode(errors="surrogateescape"))
    for name in ("metrics.csv.damaged", "metrics.csv.damaged1"):
        with pytest.warns(UserWarning, match=rf"metrics.csv is damaged: .* It is kept as {name}, and made again"):
            assert log(tmp_path, range(3, 4), "a") == "a,step\n3.0,3\n"
        assert (tmp_path / name).read_bytes() == content.encode(errors="surrogateescape")
        (tmp_path / "metrics.csv").write_bytes(content.encode(errors="surrogateescape"))


def test_a_pipe_in_place_of_the_file_is_set_aside(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.warns(UserWarning, match=r"metrics.csv is damaged: .*no regular file"):
        assert log(tmp_path, range(3, 4), "a") == "a,step\n3.0,3\n"
