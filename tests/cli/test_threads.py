from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlad_lightning.cli.threads import VARIABLE, choose_threads, idle_processors, plan_threads, processors


@pytest.mark.parametrize(
    ("usable", "idle", "threads"),
    [(2, 2.0, 2), (2, 1.6, 2), (2, 1.4, 1), (2, 0.0, 1), (8, 3.2, 3), (4, 60.0, 4), (1, 2.0, 1)],
)
def test_there_are_as_many_threads_as_idle_processors(usable: int, idle: float, threads: int) -> None:
    assert choose_threads(usable, idle) == threads


def test_this_machine_has_processors_of_which_some_may_be_idle() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)
    assert 0 <= idle_processors(0.05) <= (os.cpu_count() or 1)


def test_a_number_that_is_set_is_kept() -> None:
    assert plan_threads({VARIABLE: "3"}) == ({}, "threads: 3, from OMP_NUM_THREADS")
    added, why = plan_threads({})
    assert why.startswith(f"threads: {added[VARIABLE]}, as ")
    assert 1 <= int(added[VARIABLE]) <= processors()


def test_the_quota_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr("vlad_lightning.cli.threads._QUOTA", quota)
    whole = processors()
    for text, count in (("100000 100000", 1), ("max 100000", whole), ("50000 100000", 1), ("99999999 100000", whole)):
        quota.write_text(text)
        assert processors() == count


def test_without_the_systems_times_the_load_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vlad_lightning.cli.threads._STAT", tmp_path / "none")
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 0.0, 0.0))
    assert idle_processors() == (os.cpu_count() or 1) - 0.25
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    assert idle_processors() == 0
