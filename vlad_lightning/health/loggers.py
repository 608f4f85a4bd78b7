"""Lightning's file loggers, made tolerant: training continues while their disk is full or unavailable.

They write on the first process only. An error there would leave the other processes waiting for it.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from vlad_lightning.files import check_file, set_aside, write_file


class Patience:
    """Tolerance of disk errors, with one warning for each series of failures.

    Args:
        what: the name of the written file or log, for the warning.
        pause: seconds without another attempt after a failed one.
    """

    def __init__(self, what: str, pause: float = 0.0) -> None:
        self.what = what
        self.pause = pause
        self._failed = False
        self._until = 0.0

    def attempt(self, act: Callable[[], object], undo: Callable[[], object] | None = None) -> None:
        """Call ``act``; if the disk raises an error, warn and call ``undo`` to clean up."""
        if time.monotonic() < self._until:
            return
        try:
            act()
        except (OSError, ValueError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__  # TensorBoardLogger wraps the OSError
            if not isinstance(cause, OSError):
                raise
            if not self._failed:
                rank_zero_warn(f"{self.what} could not be written: {cause}. Training goes on")
            self._failed, self._until = True, time.monotonic() + self.pause
            if undo is not None:
                undo()
        else:
            self._failed = False


class PatientCSVLogger(CSVLogger):
    """A CSVLogger that keeps rows in memory until they can be written, and appends to the file of a resumed fit."""

    @cached_property
    def _patience(self) -> Patience:
        return Patience(f"the log in {self.log_dir}")

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the rows."""
        if self._experiment is None and "://" not in self.log_dir:  # other file systems are left to Lightning
            self._experiment = RowWriter(self.log_dir)
        return super().experiment

    @rank_zero_only
    def save(self) -> None:
        """Append the rows that are not written yet."""
        self._patience.attempt(super().save)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Write the hyper-parameters."""
        self._patience.attempt(partial(super().log_hyperparams, params))


class RowWriter(ExperimentWriter):
    """An ExperimentWriter that appends to an existing file, and restores the file if it cannot write all rows.

    A damaged file is renamed, with a warning, and a new one is started.

    If a fit resumes from an earlier checkpoint, the rows of steps that are logged again replace the old rows.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._path = Path(self.metrics_file_path)
        self._goes_on = self._path.exists()

    def save(self) -> None:
        """Append the rows; if there is a new column, first rewrite the file atomically.

        Raises:
            OSError: if they could not be written; the file then has none of these rows.
        """
        if not self.metrics:
            return
        if self._goes_on:
            self._go_on(before=min(row["step"] for row in self.metrics))
            self._goes_on = False
        known, size = list(self.metrics_keys), self._path.stat().st_size if self._path.exists() else 0
        try:
            if self._record_new_keys() and size:
                self._rewrite(self.metrics_keys)
                size, known = self._path.stat().st_size, list(self.metrics_keys)
            with self._path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self.metrics_keys)
                if not size:
                    writer.writeheader()
                writer.writerows(self.metrics)
        except OSError:
            self.metrics_keys = known
            with suppress(OSError):
                os.truncate(self._path, size)
            raise
        self.metrics = []

    def _go_on(self, before: float) -> None:
        """Keep the file's rows of the steps before ``before``; a damaged file is set aside."""
        try:
            self.metrics_keys = self._rewrite(before=before)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            set_aside(self._path, f"it is no table of steps ({type(error).__name__}: {error})")
            self.metrics_keys = []

    def _rewrite(self, columns: list[str] | None = None, before: float = math.inf) -> list[str]:
        """Rewrite the rows of the steps before ``before``, and return the columns: those given, else the file's."""
        check_file(self._path, sys.maxsize)
        with self._path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if None not in row.values() and float(row["step"]) < before]
        columns = columns or list(reader.fieldnames or [])
        if "step" not in columns:
            raise ValueError("it has no column 'step'")

        def write(beside: Path) -> None:
            with beside.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)

        write_file(self._path, write)
        return columns

    def _check_log_dir_exists(self) -> None:
        """Do nothing; Lightning's method would remove the file."""


class PatientTensorBoardLogger(TensorBoardLogger):
    """A TensorBoardLogger that starts a new event file after a write error, since the error ends the writer's thread.

    It tries every ``PAUSE`` seconds; what is logged meanwhile is lost.
    """

    PAUSE = 60.0

    @cached_property
    def _patience(self) -> Patience:
        return Patience(f"the log in {self.log_dir}", self.PAUSE)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        self._patience.attempt(partial(super().log_metrics, metrics, step), self._drop)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Log the hyper-parameters."""
        self._patience.attempt(partial(super().log_hyperparams, params, metrics, step), self._drop)

    @rank_zero_only
    def save(self) -> None:
        """Write what has been logged."""
        self._patience.attempt(super().save, self._drop)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rest and close."""
        self._patience.attempt(partial(super().finalize, status), self._drop)

    def _drop(self) -> None:
        """Drop the writer, and remove event files to which nothing could be written."""
        self._experiment = None
        with suppress(OSError):
            for path in Path(self.log_dir).glob("events.out.tfevents.*"):
                if path.stat().st_size == 0:
                    path.unlink()
