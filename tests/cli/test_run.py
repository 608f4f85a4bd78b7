from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from terminals import in_terminal

from vlad_lightning.cli import fit as cli
from vlad_lightning.cli.launcher import main as launch
from vlad_lightning.cli.run import _execute, _run_options, closing_words, main, override, run
from vlad_lightning.cli.stages import SETTINGS, Pipeline, Stage, read_pipeline
from vlad_lightning.exit_codes import PREEMPTED


def synth(name: str, folder: str, *more: object, samples: int = 2) -> dict[str, Any]:
    args = ["--out", folder, "--samples", samples, "--size", 48, "--workers", 1, *more]
    return {"name": name, "command": "synth", "args": args, "outputs": [folder]}


def write(folder: Path, *stages: dict[str, Any]) -> Path:
    """Write a pipeline file whose stages are real but small commands."""
    path = folder / "pipeline.yaml"
    path.write_text(
        yaml.safe_dump({"out": str(folder / "out"), "data": {"train": "{out}/data"}, "stages": list(stages)})
    )
    return path


def vlad_run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlad_lightning", "run", *map(str, args)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)


def two_stages(folder: Path, *more: object) -> Path:
    return write(folder, synth("first", "{data}", *more), synth("second", "{out}/more"))


@pytest.fixture
def mario(request: pytest.FixtureRequest) -> Path:
    """Return the shared folder of posters; in this file, ``posters`` counts them."""
    return Path(request.getfixturevalue("posters"))


def begun(out: Path, drawn: int) -> bool:
    """Return whether so many posters are written; with 0, whether the processes that write them are starting."""
    return any(out.glob(".data.*.partial")) and posters(out) >= drawn


def posters(folder: Path) -> int:
    return len(list(folder.rglob("image.jpg")))


def test_a_data_folder_whose_name_is_not_utf8_is_refused_before_any_stage(tmp_path: Path) -> None:
    """A YAML configuration could not hold it."""
    data = tmp_path / os.fsdecode(b"caf\xe9")
    data.mkdir()
    with pytest.raises(ValueError, match=r"data is '.*caf\\\\xe9'"):
        main(["--config", str(two_stages(tmp_path)), "--data", str(data)])
    assert not (tmp_path / "out").exists()


def test_stages_run_once(tmp_path: Path) -> None:
    path, out = two_stages(tmp_path), tmp_path / "out"
    first = vlad_run("--config", path)
    assert first.returncode == 0, first.stderr
    assert (posters(out / "data"), posters(out / "more")) == (2, 2)
    stamp = json.loads((out / "first" / "done.json").read_text())
    assert len(stamp["digest"]) == 64
    assert stamp["command"][0] == "synth"
    logs = [(out / name / "log.txt").read_text() for name in ("first", "second")]
    assert all(log in first.stdout for log in logs)  # the terminal shows the log's content too
    again = vlad_run("--config", path)
    assert again.returncode == 0
    assert again.stdout == "[1/2] first: done before, skipped\n[2/2] second: done before, skipped\n"
    forced = vlad_run("--config", path, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "skipped" not in forced.stdout
    assert json.loads((out / "first" / "done.json").read_text())["digest"] == stamp["digest"]


def test_a_rerun_never_removes_a_folder_it_did_not_make(tmp_path: Path) -> None:
    path, out = two_stages(tmp_path), tmp_path / "out"
    mine = out / "more" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    result = vlad_run("--config", path, "--force")
    assert result.returncode == 2
    assert "is not empty" in result.stdout
    assert mine.read_text() == "precious"
    mine.unlink()
    assert vlad_run("--config", path).returncode == 0
    two_stages(tmp_path, "--seed", 1)
    before = (out / "data" / "00000" / "000000000" / "image.jpg").read_bytes()
    assert vlad_run("--config", path).returncode == 0
    assert (out / "data" / "00000" / "000000000" / "image.jpg").read_bytes() != before


def plan(capfd: pytest.CaptureFixture[str], *args: object) -> list[str]:
    """Return what a dry run says about each stage: 'skipped' or 'would run'."""
    assert main([*map(str, args), "--dry-run"]) == 0
    return ["skipped" if "skipped" in line else "would run" for line in capfd.readouterr().out.splitlines()]


def test_changed_stages_rerun_and_others_do_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = two_stages(tmp_path), tmp_path / "out"
    assert plan(capfd, "--config", path) == ["would run", "would run"]
    assert not out.exists()  # a dry run writes nothing
    assert main(["--config", str(path)]) == 0
    capfd.readouterr()
    assert plan(capfd, "--config", path) == ["skipped", "skipped"]
    assert plan(capfd, "--config", path, "--force") == ["would run", "would run"]
    two_stages(tmp_path, "--seed", 1)
    assert plan(capfd, "--config", path) == ["would run", "would run"]  # the stages after a changed one run too
    write(tmp_path, synth("first", "{data}"), synth("second", "{out}/more", "--seed", 1))
    assert plan(capfd, "--config", path) == ["skipped", "would run"]
    two_stages(tmp_path)
    assert plan(capfd, "--config", path) == ["skipped", "skipped"]
    shutil.rmtree(out / "more")
    assert plan(capfd, "--config", path) == ["skipped", "would run"]  # its output was removed
    (out / "first" / "done.json").write_text("{")
    assert plan(capfd, "--config", path) == ["would run", "would run"]


def test_changed_inputs_rerun(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one")
    path = write(tmp_path, {**synth("first", "{data}"), "inputs": [str(words)]})
    assert main(["--config", str(path)]) == 0
    capfd.readouterr()
    assert plan(capfd, "--config", path) == ["skipped"]
    words.write_text("two")
    assert plan(capfd, "--config", path) == ["would run"]
    words.unlink()
    with pytest.raises(FileNotFoundError, match=r"'first' reads .*words\.txt"):
        main(["--config", str(path)])


def test_changed_configuration_and_data_rerun(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "mine"
    (data / "00000").mkdir(parents=True)
    config = tmp_path / "fit.yaml"
    config.write_text("seed_everything: 1")
    path = write(tmp_path, synth("posters", "{data}"), {"name": "fit", "command": "fit", "config": "fit.yaml"})
    # Dry runs only: a stamp with the current digest represents a finished training.
    stamp = tmp_path / "out" / "fit" / "done.json"
    stamp.parent.mkdir(parents=True)

    def finish() -> None:
        from vlad_lightning.cli.run import _digest

        pipeline = read_pipeline(path, data=data)
        stamp.write_text(json.dumps({"digest": _digest(pipeline.stages[0], pipeline, "")}))

    finish()
    assert plan(capfd, "--config", path, "--data", data) == ["skipped"]
    config.write_text("seed_everything: 2")
    assert plan(capfd, "--config", path, "--data", data) == ["would run"]
    finish()
    (data / "00001").mkdir()
    assert plan(capfd, "--config", path, "--data", data) == ["would run"]
    finish()
    caption = data / "00000" / "000000007" / "caption.txt"
    caption.parent.mkdir()
    (data / "00001" / "around").symlink_to(data)
    caption.write_text("a poster that says ONE")
    assert plan(capfd, "--config", path, "--data", data) == ["would run"]
    finish()
    caption.write_text("a poster that says TWO")  # written in place: neither its size nor its folder's time changes
    assert plan(capfd, "--config", path, "--data", data) == ["would run"]
    finish()
    (data / ".index").write_text("a cache of the reader changes nothing")
    assert plan(capfd, "--config", path, "--data", data) == ["skipped"]
    # the check starts a process; the misspelt settings below, and tests/cli/test_ctrl_c.py, go through it
    monkeypatch.setattr("vlad_lightning.cli.run.check_overrides", lambda before, after: None)
    assert plan(capfd, "--config", path, "--data", data, "--trainer.max_steps", 5) == ["would run"]


def test_first_failure_ends_the_run_with_its_code(tmp_path: Path) -> None:
    path = write(tmp_path, synth("first", "{data}", "--bogus"), synth("second", "{out}/more"))
    result = vlad_run("--config", path)
    log = tmp_path / "out" / "first" / "log.txt"
    assert result.returncode == 2
    assert "first: failed with exit code 2" in result.stderr
    assert str(log) in result.stderr
    assert "--bogus" in log.read_text()
    assert not (tmp_path / "out" / "first" / "done.json").exists()
    assert not (tmp_path / "out" / "second").exists()


def test_a_stage_without_its_output_has_failed(tmp_path: Path) -> None:
    path = write(tmp_path, {**synth("first", "{data}"), "outputs": ["{out}/elsewhere"]})
    result = vlad_run("--config", path)
    assert result.returncode == 1
    assert f"ended without writing {tmp_path / 'out' / 'elsewhere'}" in result.stderr
    assert not (tmp_path / "out" / "first" / "done.json").exists()


@pytest.mark.parametrize(
    ("number", "drawn"), [(signal.SIGTERM, 3), (signal.SIGINT, 3), (signal.SIGINT, 0)], ids=["TERM", "INT", "INT early"]
)
def test_signal_ends_the_stage_too(number: signal.Signals, drawn: int, tmp_path: Path) -> None:
    path = write(tmp_path, synth("first", "{data}", samples=10_000_000))
    command = [sys.executable, "-m", "vlad_lightning", "run", "--config", str(path)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit it
    try:
        runner = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 60
        while not begun(tmp_path / "out", drawn) and runner.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert begun(tmp_path / "out", drawn)
        if number == signal.SIGINT:
            os.killpg(runner.pid, number)  # like Ctrl-C in a terminal
        else:
            runner.send_signal(number)
        _, errors = runner.communicate(timeout=60)
    finally:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)
    assert runner.returncode == 128 + number
    assert f"failed with exit code {128 + number}" in errors
    assert not (tmp_path / "out" / "first" / "done.json").exists()
    written = posters(tmp_path / "out")
    time.sleep(1)
    assert posters(tmp_path / "out") == written  # nothing continues in the background


def test_a_signal_is_passed_on_although_nothing_interrupts_the_wait_for_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread receives it; one that arrives just before the wait begins does not interrupt it either."""
    monkeypatch.setattr("vlad_lightning.cli.run._SILENCE", 10_000)
    log = tmp_path / "log.txt"

    def end() -> None:
        while not log.exists() or not log.stat().st_size:
            time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    assert _execute(["sh", "-c", "echo begun; exec sleep 900"], log, {}) == 128 + signal.SIGTERM
    thread.join()


def test_a_signal_before_the_stage_has_started_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def interrupted(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        signal.raise_signal(signal.SIGTERM)
        return start(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # without one, a failure would end pytest
    try:
        assert _execute(["sleep", "900"], tmp_path / "log.txt", {}) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_overrides_reach_their_stages(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        synth("posters", "{data}"),
        {"name": "sheet", "command": "generate"},
        {"name": "stage0", "command": "fit", "args": ["--trainer.max_steps=5"]},
        {"name": "test", "command": "test"},
    )
    words = [
        "--trainer.max_steps",
        "3",
        "--stage0.trainer.callbacks+=X",
        "--seed_everything=7",
        "--test.model.x",
        "-1",
        "2",
    ]
    pipeline = override(read_pipeline(path), words)
    assert [stage.args for stage in pipeline.stages[2:]] == [
        ("--trainer.max_steps=5", "--trainer.max_steps", "3", "--trainer.callbacks+=X", "--seed_everything=7"),
        ("--trainer.max_steps", "3", "--seed_everything=7", "--model.x", "-1", "2"),
    ]
    assert pipeline.stages[:2] == read_pipeline(path).stages[:2]


def fit_stage(*args: str) -> Stage:
    return Stage("stage0", "fit", args=args)


def test_a_training_gets_its_runs_name_and_resumes_unless_forced() -> None:
    digest = "0123456789abcdef" * 4
    name = ["--checkpoints.run", "0123456789abcdef", "--checkpoints.overwrite", "true"]
    assert _run_options(fit_stage(), digest, resumes=True) == [*name, "--ckpt_path", "last"]
    assert _run_options(fit_stage(), digest, resumes=False) == name
    for own in (("--ckpt_path", "x.ckpt"), ("--ckpt_path=x.ckpt",)):
        assert _run_options(fit_stage(*own), digest, resumes=True) == name
    assert _run_options(Stage("x", "test"), digest, resumes=True) == []


@pytest.mark.slow
def test_an_interrupted_training_resumes_and_a_changed_one_starts_again(
    mario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def pipeline(steps: int) -> list[str]:
        args = ["--out", "{out}", "--data.root={data}", "--data.batch_size=4", "--trainer.limit_val_batches=0"]
        args += ["--trainer.logger=false", "--trainer.callbacks=[]", "--checkpoints.every_n_steps=1"]
        args += [f"--trainer.default_root_dir={tmp_path}", f"--trainer.max_steps={steps}"]
        stage = {"name": "stage0", "command": "fit", "config": "mini/stage0_align.yaml", "args": args}
        path = write(tmp_path, {**stage, "outputs": ["{out}/stage0/last.ckpt"]})
        return ["--config", str(path), "--data", str(mario)]

    command = [sys.executable, "-m", "vlad_lightning", "run", *pipeline(steps=12)]
    last = tmp_path / "out" / "stage0" / "last.ckpt"
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not last.exists() and runner.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    with contextlib.suppress(ProcessLookupError):  # the stage's own process ends a moment later
        while time.monotonic() < deadline + 60:
            os.killpg(runner.pid, 0)
            time.sleep(0.05)
    assert last.exists()
    assert not (tmp_path / "out" / "stage0" / "done.json").exists()
    # processes for the next two trainings would show nothing more
    monkeypatch.setattr("vlad_lightning.cli.run._execute", lambda command, log, threads: launch(command[3:]))
    assert main(pipeline(steps=12)) == 0
    assert f"Restored all states from the checkpoint at {last}" in caplog.text
    assert torch.load(last, weights_only=True)["global_step"] == 12
    # another configuration: step 12 is not resumed
    with pytest.warns(UserWarning, match="are of another run"):
        assert main(pipeline(steps=2)) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 2


def test_misspelt_settings_are_refused_before_the_first_stage(tmp_path: Path) -> None:
    stages = [
        {"name": "posters", "command": "synth", "args": ["--out", "{data}", "--samples", 1]},
        {"name": "stage0", "command": "fit", "config": "mini/stage0_align.yaml"},
    ]
    content = {"out": str(tmp_path / "out"), "data": {"train": "{out}/data"}, "stages": stages}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(content))
    message = "stage 'stage0': there is no key 'trainer.max_step'; did you mean 'trainer.max_steps'?"
    with pytest.raises(ValueError, match=re.escape(message)):
        main(["--config", str(tmp_path / "pipeline.yaml"), "--trainer.max_step", "3", "--dry-run"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--forse"], r"unknown option --forse; did you mean --force\?; allowed are"),
        (["--stage9.trainer.max_steps", "3"], "--stage9.trainer.max_steps: there is no stage 'stage9'; the stages"),
        (["--trainr.max_steps=3"], "--trainr.max_steps: there is no stage 'trainr'; the stages are "),
        (["out"], "unexpected argument 'out'"),
    ],
)
def test_unknown_options_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        main(["--config", str(two_stages(tmp_path)), *words])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--data", "--test-data"])
def test_missing_data_is_refused_before_anything_runs(option: str, tmp_path: Path) -> None:
    path = write(tmp_path, synth("posters", "{data}"), {"name": "stage0", "command": "fit"})
    with pytest.raises(FileNotFoundError, match=f"{option}: no folder '.*nowhere'"):
        main(["--config", str(path), option, str(tmp_path / "nowhere")])
    assert not (tmp_path / "out").exists()


def test_a_stage_that_was_preempted_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vlad_lightning.cli.run._execute", lambda command, log, threads: PREEMPTED)
    pipeline = Pipeline(tmp_path, tmp_path, None, (Stage("stage0", "synth"), Stage("stage1", "synth")))
    assert run(pipeline) == PREEMPTED == 75
    assert "stage0: preempted after" in capsys.readouterr().err
    assert not (tmp_path / "stage0" / "done.json").exists()
    assert not (tmp_path / "stage1").exists()


def test_a_stamp_that_is_a_pipe_is_set_aside(tmp_path: Path) -> None:
    path, folder = write(tmp_path, synth("first", "{data}")), tmp_path / "out" / "first"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "done.json")
    with pytest.warns(UserWarning, match=r"done.json is damaged"):
        assert main(["--config", str(path)]) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff", '{"digest": 3}', '{"digest": "x", "outputs": 3}'])
def test_a_damaged_stamp_is_set_aside(content: str, tmp_path: Path) -> None:
    path, folder = write(tmp_path, synth("first", "{data}")), tmp_path / "out" / "first"
    folder.mkdir(parents=True)
    (folder / "done.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.warns(UserWarning, match=r"done.json is damaged: it does not say what the stage did"):
        assert main(["--config", str(path)]) == 0
    assert (folder / "done.json.damaged").read_bytes() == content.encode(errors="surrogateescape")
    assert json.loads((folder / "done.json").read_text())["outputs"] == [str(tmp_path / "out" / "data")]


def test_in_a_terminal_a_stage_shows_its_live_bar_and_its_log_is_plain_text(tmp_path: Path) -> None:
    path = write(tmp_path, synth("first", "{data}", samples=3))
    text, code = in_terminal(lambda: main(["--config", str(path)]))
    assert code == 0, text
    assert "\x1b[" in text  # the stage's bar
    log = (tmp_path / "out" / "first" / "log.txt").read_text()
    assert "posters in data" in log
    assert "\x1b" not in log


def test_without_a_terminal_a_silent_stage_is_said_to_be_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vlad_lightning.cli.run._SILENCE", 0.01)
    assert main(["--config", str(write(tmp_path, synth("first", "{data}")))]) == 0
    assert "first: running for 0:00:0" in capfd.readouterr().out


def test_the_end_names_the_results_the_pictures_and_the_next_command(tmp_path: Path) -> None:
    names = ["results.json", "results.md", "samples.png", "my pipeline/model_index.json", "absent.png"]
    paths = [tmp_path / name for name in names]
    for written in paths[:-1]:
        written.parent.mkdir(exist_ok=True)
        written.touch()
    pipeline = Pipeline(tmp_path, None, None, (Stage("test", "test", outputs=tuple(paths)),))
    assert closing_words(pipeline) == [
        f"results: {tmp_path}/results.md",
        f"pictures: {tmp_path}/samples.png",
        f"next: vlad-cli generate \"a poster that says 'HELLO'\" --model '{tmp_path}/my pipeline' --out hello.png",
    ]


def test_the_settings_of_every_stage_are_accepted() -> None:
    assert set(cli._OF_EVERY_FIT) <= set(SETTINGS)
