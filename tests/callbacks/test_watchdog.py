from __future__ import annotations

import subprocess
import sys
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

from vlad_lightning.callbacks import Watchdog
from vlad_lightning.callbacks.watchdog import Watch
from vlad_lightning.exit_codes import STALLED

pytestmark = pytest.mark.timeout(900)

HUNG = """
import sys, threading, time, ctypes
from pathlib import Path
from vlad_lightning.callbacks.watchdog import Watch

Watch._BEHIND = 1.0
watch = Watch(Path(sys.argv[2]), rank=3, grace=2.5 if sys.argv[1] == "patient" else 0.1)
watch.feed(5.0, "in a training batch, after step 7")
watch.start()
def hang_here():
    if sys.argv[1] == "lock":
        ctypes.PyDLL(None).sleep(300)  # holds Python's lock
    threading.Event().wait()
for _ in range(6):
    time.sleep(1)
    watch.feed(5.0, "in a training batch, after step 7")
print("fed", flush=True)
time.sleep(2)  # the timer behind is set meanwhile
if sys.argv[1] == "away":
    watch.folder = Path("x" * 300)  # to look into it is an error
    for _ in range(8):  # longer than the timer behind waits
        watch.feed(5.0, "in a training batch, after step 7")
        time.sleep(1)
    watch.stop()
    print("still here", flush=True)
    sys.exit(0)
hang_here()
"""


Hung = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hung, Path]:
    """Six processes at once: importing takes each of them many seconds."""
    root = tmp_path_factory.mktemp("hung")
    (root / "told").mkdir()
    (root / "told" / "stalled.txt").write_text("rank 0 on a: no end of a batch\n")
    (root / "file").write_text("")
    cases = {
        "wait": root / "wait",
        "lock": root / "lock",
        "told": root / "told",
        "unwritable": root / "file" / "stacks",
        "away": root / "away",
        "patient": root / "patient",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = {
        name: subprocess.Popen([sys.executable, "-c", HUNG, name, str(folder)], **pipes)  # type: ignore[call-overload]
        for name, folder in cases.items()
    }
    try:
        said = {name: process.communicate(timeout=800) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
    done = {n: subprocess.CompletedProcess(p.args, p.returncode, *said[n]) for n, p in started.items()}
    return done, root


@pytest.mark.slow
def test_hung_process_ends_with_its_stacks(hung: tuple[Hung, Path]) -> None:
    done, root = hung[0]["wait"], hung[1]
    assert done.returncode == STALLED == 76
    assert done.stdout == "fed\n"  # it was alive while it was fed, longer than the time
    written = (root / "wait" / "rank3.txt").read_text()
    assert "no end of a batch for 5 s; in a training batch, after step 7" in written
    assert "in hang_here" in written
    assert "in hang_here" in done.stderr
    assert "rank 3" in (root / "wait" / "stalled.txt").read_text()


@pytest.mark.slow
def test_process_that_holds_pythons_lock_ends_too(hung: tuple[Hung, Path]) -> None:
    done = hung[0]["lock"]
    assert done.returncode == 1
    assert "in hang_here" in done.stderr


@pytest.mark.slow
def test_word_from_another_rank_ends_a_process_that_is_fed(hung: tuple[Hung, Path]) -> None:
    done, root = hung[0]["told"], hung[1]
    assert done.returncode == STALLED
    assert done.stdout == ""
    assert "another rank stalled" in (root / "told" / "rank3.txt").read_text()


@pytest.mark.slow
def test_stacks_that_cannot_be_written_do_not_keep_the_process(hung: tuple[Hung, Path]) -> None:
    done = hung[0]["unwritable"]
    assert done.returncode == STALLED
    assert "in hang_here" in done.stderr


@pytest.mark.slow
def test_a_file_system_that_is_away_ends_nothing(hung: tuple[Hung, Path]) -> None:
    done = hung[0]["away"]
    assert (done.returncode, done.stdout) == (0, "fed\nstill here\n")
    assert "Exception in thread" not in done.stderr


@pytest.mark.slow
def test_a_grace_longer_than_the_timer_behind_is_waited_for(hung: tuple[Hung, Path]) -> None:
    done, root = hung[0]["patient"], hung[1]
    assert done.returncode == STALLED
    assert "in hang_here" in (root / "patient" / "rank3.txt").read_text()


class Recorder(Watchdog):
    """Notes how long the clock was set for, and what for."""

    def __init__(self) -> None:
        super().__init__(timeout=1000, slow_timeout=5000)
        self.fed: list[tuple[float, str]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if (watch := self._watch) is not None:
            feed = watch.feed
            watch.feed = lambda seconds, what: (self.fed.append((seconds, what)), feed(seconds, what))[1]  # type: ignore[method-assign]


def test_fit_is_fed_and_slow_things_have_longer(tmp_path: Path) -> None:
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


def test_none_watches_nothing() -> None:
    dog = Watchdog(timeout=None)
    tiny.trainer(1, callbacks=[dog]).fit(Regression(), loader())
    assert dog._watch is None


def set_up(dog: Watchdog, trainer: Trainer) -> timedelta:
    """As a fit of several processes is; returns how long their collectives wait."""
    dog.go_first(trainer)
    dog.setup(trainer, Regression(), "fit")
    dog.teardown(trainer, Regression(), "fit")
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.strategy._timeout is not None
    return trainer.strategy._timeout


@pytest.mark.parametrize("strategy", ["ddp", "ddp_find_unused_parameters_true"])
def test_collectives_wait_for_longer_than_the_watchdog(strategy: str, recwarn: pytest.WarningsRecorder) -> None:
    times = [
        set_up(dog, tiny.trainer(devices=2, strategy=strategy))
        for dog in (Watchdog(), Watchdog(slow_timeout=20_000), Watchdog(grace=4000), Watchdog(600, 1000))
    ]
    least = [timedelta(seconds=seconds) for seconds in (7275, 20_060, 11_200, 1060)]
    assert all(time > needed for time, needed in zip(times, least, strict=True))
    assert times[-1] == default_pg_timeout  # which is long enough
    assert not [w for w in recwarn if "collectives" in str(w.message)]


def test_a_time_out_that_is_given_stays_and_is_named_where_it_is_the_first() -> None:
    long, short = (DDPStrategy(timeout=timedelta(hours=hours)) for hours in (3, 1))
    assert set_up(Watchdog(), tiny.trainer(devices=2, strategy=long)) == timedelta(hours=3)
    with pytest.warns(UserWarning, match=r"time out after 1:00:00, and the watchdog would wait for 2:01:00"):
        assert set_up(Watchdog(), tiny.trainer(devices=2, strategy=short)) == timedelta(hours=1)


def test_pause_follows_the_time(tmp_path: Path) -> None:
    watch = Watch(tmp_path, rank=0, grace=0)
    for seconds, pause in ((1800, 5.0), (2, 0.2)):
        watch.feed(seconds, "")
        assert watch._pause() == pytest.approx(pause)


@pytest.mark.parametrize("change", [{"timeout": 0}, {"timeout": 10, "slow_timeout": 5}, {"grace": -1}])
def test_bad_settings_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(timeout|grace) is"):
        Watchdog(**change)
