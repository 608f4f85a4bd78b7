from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
import tiny_system as tiny
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from poisoned import Regression, loader

from vlad_lightning.health import Watchdog
from vlad_lightning.health.watchdog import Watch


class Recorder(Watchdog):
    """Records the times for which the clock was set, and their purposes."""

    def __init__(self) -> None:
        super().__init__(timeout=1000, slow_timeout=5000)
        self.fed: list[tuple[float, str]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if (watch := self._watch) is not None:
            feed = watch.feed
            watch.feed = lambda seconds, what: (self.fed.append((seconds, what)), feed(seconds, what))[1]  # type: ignore[method-assign]


def test_the_fit_feeds_the_watchdog_and_slow_parts_have_longer(tmp_path: Path) -> None:
    dog = Recorder()
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=2)
    tiny.trainer(3, callbacks=[dog, saver], enable_checkpointing=True).fit(Regression(), loader())
    assert dog.fed[0] == (5000, "in a training batch, after step 0")  # the first step may compile
    assert dog.fed[1] == (1000, "waiting for a training batch, after step 1")
    assert (1000, "in a training batch, after step 1") in dog.fed
    assert (5000, "saving a checkpoint, after step 2") in dog.fed
    assert dog._watch is None
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}
    assert not (tmp_path / "stacks").exists()


def test_fit_that_fails_stops_the_clock(tmp_path: Path) -> None:
    class Broken(Regression):
        def on_train_start(self) -> None:
            raise RuntimeError("no training today")

    with pytest.raises(RuntimeError, match="no training today"):
        tiny.trainer(1, callbacks=[Watchdog()], default_root_dir=tmp_path).fit(Broken(), loader())
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}


def test_none_disables_the_watchdog() -> None:
    dog = Watchdog(timeout=None)
    tiny.trainer(1, callbacks=[dog]).fit(Regression(), loader())
    assert dog._watch is None


def set_up(dog: Watchdog, trainer: Trainer) -> timedelta:
    """Set up like a fit of several processes; return the time-out of their collectives."""
    dog.go_first(trainer)
    dog.setup(trainer, Regression(), "fit")
    dog.teardown(trainer, Regression(), "fit")
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy._timeout is not None
    return trainer.strategy._timeout


@pytest.mark.parametrize("strategy", ["ddp", "ddp_find_unused_parameters_true"])
def test_the_time_out_of_collectives_is_longer_than_the_watchdogs(
    strategy: str, recwarn: pytest.WarningsRecorder
) -> None:
    times = [
        set_up(dog, tiny.trainer(devices=2, strategy=strategy))
        for dog in (Watchdog(), Watchdog(slow_timeout=20_000), Watchdog(grace=4000), Watchdog(600, 1000))
    ]
    least = [timedelta(seconds=seconds) for seconds in (7275, 20_060, 11_200, 1060)]
    assert all(time > needed for time, needed in zip(times, least, strict=True))
    assert times[-1] == default_pg_timeout  # which is long enough
    assert not [w for w in recwarn if "collectives" in str(w.message)]


def test_a_given_time_out_is_kept_and_named_if_shorter() -> None:
    long, short = (DDPStrategy(timeout=timedelta(hours=hours)) for hours in (3, 1))
    assert set_up(Watchdog(), tiny.trainer(devices=2, strategy=long)) == timedelta(hours=3)
    with pytest.warns(UserWarning, match=r"time out after 1:00:00, and the watchdog would wait for 2:01:00"):
        assert set_up(Watchdog(), tiny.trainer(devices=2, strategy=short)) == timedelta(hours=1)


def test_the_pause_depends_on_the_time(tmp_path: Path) -> None:
    watch = Watch(tmp_path, rank=0, grace=0)
    for seconds, pause in ((1800, 5.0), (2, 0.2)):
        watch.feed(seconds, "")
        assert watch._pause() == pytest.approx(pause)


@pytest.mark.parametrize("change", [{"timeout": 0}, {"timeout": 10, "slow_timeout": 5}, {"grace": -1}])
def test_bad_settings_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(timeout|grace) is"):
        Watchdog(**change)
