from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser, get_loader
from lightning.pytorch.callbacks.timer import Interval

from vlad_lightning.cli import fit as cli
from vlad_lightning.cli.config_parser import Parser, dump, prepare
from vlad_lightning.cli.launcher import main
from vlad_lightning.files import configs_folder

CONFIG = configs_folder() / "mini/stage0_align.yaml"
TEXTS = (
    *("7435e1", "1e3", "on", "~", "0x1F", "12:30", "1_000", "null", "007", "2020-01-01"),
    *("", " a", "a: b", "[x]", "#x", "-", "two\nlines", "next\x85line", "\u2028", "\ufeff", "tab\t", "\x07"),
)


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Run a fit that must be refused, and return its one line."""
    capsys.readouterr()
    try:
        code = main(["fit", "--config", str(CONFIG), *map(str, args)])
    except SystemExit as ended:
        code = int(str(ended.code))
    error = capsys.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if not line.startswith("Seed set to")]
    assert len(lines) == 1, error
    assert lines[0].startswith("vlad-cli fit: ")
    return lines[0].removeprefix("vlad-cli fit: ")


@pytest.mark.parametrize("text", TEXTS)
def test_a_written_configuration_reads_back(text: str) -> None:
    prepare()
    content = {"text": text, text or "key": [text], "number": 1e-5, "nothing": None, "whole": 3, "flag": True}
    assert get_loader("yaml")(dump(content)) == content
    assert yaml.safe_load(dump(content)) == content
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--text", type=str)
    assert parser.parse_string(dump({"text": text})).text == text


def test_members_of_an_enumeration_are_written_as_their_values() -> None:
    assert yaml.safe_load(dump({"interval": Interval.step})) == {"interval": "step"}


def test_what_is_read_only_once_is_what_jsonargparse_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--config", str(CONFIG.parent / "stage1_tlg.yaml"), "--model.generator.tlg.layers=3", "--data.size=48")
    command = ["fit", *files, "--trainer.callbacks+", "class_path: lightning.pytorch.callbacks.Timer", "--print_config"]

    def printed() -> str:
        with pytest.raises(SystemExit):
            cli.build(command, run=True)
        return capsys.readouterr().out

    ours = printed()
    monkeypatch.delattr(Parser, "parse_object")
    assert "layers: 3" in ours
    assert printed() == ours


@pytest.mark.parametrize("command", ["fit", "cache"])
def test_a_key_without_a_configuration_asks_for_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([command, "--data.root", "x"])
    said = capsys.readouterr().err.splitlines()[-1]
    example = "--config mini/stage0_align.yaml"
    assert said.endswith(f"data.root is given, and no class for data; name a configuration that has one: {example}")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--data.rot", "x"), "data: MarioDataModule has no key 'rot'; did you mean 'root'?"),
        (("--data.batch_size", "many"), "data.batch_size: Expected a <class 'int'>. Got value: many"),
        (
            ("--trainer.precision", "fp16"),
            "trainer.precision: 'fp16' is not allowed; allowed are 64, 32, 16, transformer-engine, "
            "transformer-engine-float16, 16-true, 16-mixed, bf16-true, bf16-mixed, 32-true, 64-true, bf16, null",
        ),
        (("--seed_everything", "x"), "seed_everything: 'x' is not allowed; allowed are true or false, a whole number"),
        (("--stage9", "3"), "there is no key 'stage9'; did you mean 'stage'?"),
        (("--model", "Nope"), "model: 'Nope' is not allowed; allowed are the path of a class such as lightning."),
        (("--trainer.callbacks", "Nope"), "trainer.callbacks: 'Nope' is not allowed; allowed are a list, the path of "),
        (("--data.batch_size", "0"), "batch_size is 0; it must be a whole number from 1 to 65,536"),
        (("--model.optimization.lr", "x"), "model.optimization.lr: Expected a <class 'float'>. Got value: x"),
        (("--trainer.max_step", "3"), "there is no key 'trainer.max_step'; did you mean 'trainer.max_steps'?"),
        (("--chekpoints.keep", "3"), "there is no key 'chekpoints.keep'; did you mean 'checkpoints.keep'?"),
        (
            ("--model.class_path", "vlad_lightning.modules.AlignmentModul"),
            "model: module 'vlad_lightning.modules' has no attribute 'AlignmentModul'; did you mean 'AlignmentModule'?",
        ),
        (("--config", "nowhere.yaml"), "no configuration file 'nowhere.yaml'; searched: "),
        (
            ("--data.batch_size", "1000000000"),
            "data.batch_size is 1000000000; it must be at most 65,536",
        ),
        (("--data.size", "1000000"), "data.size is 1000000; it must be at most 4,096"),
        (("--data.batch_size", "9" * 400), "data.batch_size is 999"),
        (("--model.optimization.lr", "9" * 400), "model.optimization.lr is 999"),
        *(
            (args, r"data.root is 'caf\\xe9/posters'; it must be UTF-8; use a link with such a name instead")
            for path in [os.fsdecode(b"caf\xe9/posters")]
            for args in [("--data.root", path), ("--trainer.fast_dev_run", f"--data.root={path}")]
        ),
    ],
)
def test_an_error_of_the_command_line_is_one_line(
    args: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *args).startswith(reason)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--model.optimization.lr", "-1"), "lr is -1.0; it must be above 0"),
        (("--model.terms.edits", "-1"), "edits is -1; it must be at least 0"),
        (("--data.val_share", "2"), "val_share=2.0: must lie in [0, 1]"),
        (("--step_guard.spikes.window", "1"), "window is 1; it must be at least 8"),
        (("--model.prompt_encoder.text_encoder.lora.rank", "0"), "rank is 0; it must be at least 1"),
    ],
)
def test_a_value_that_a_class_refuses_is_reported_with_the_last_reason(
    args: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *args) == reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: [\n", "--config {path}: not a YAML file: while parsing a flow node"),
        ("[" * 100_000, "--config {path}: not a YAML file: maximum recursion depth exceeded"),
        (f"seed_everything: {'9' * 5000}", "--config {path}: not a YAML file: Exceeds the limit"),
        (
            f"model: {{init_args: {{optimization: {{lr: {'9' * 400}}}}}}}",
            "--config {path}: model.optimization.lr is 999",
        ),
        ("- a\n", "--config {path}: must be a mapping of keys such as trainer and model; got ['a']"),
        ("trainer: {max_step: 3}", "there is no key 'trainer.max_step'; did you mean 'trainer.max_steps'?"),
        (
            "model: {init_args: {optimization: {lrr: 3}}}",
            "model: AlignmentModule has no key 'optimization.lrr'; did you mean 'optimization.lr'?",
        ),
        (
            "trainer: {callbacks: [{class_path: vlad_lightning.callbacks.InitFrm}]}",
            "trainer.callbacks: module 'vlad_lightning.callbacks' has no attribute 'InitFrm'; did you mean 'InitFrom'?",
        ),
    ],
)
def test_an_error_of_a_file_is_one_line(
    content: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "more.yaml"
    path.write_text(content)
    assert refused(capsys, "--config", path).startswith(reason.format(path=path))


def strategy(path: Path, setting: object) -> Path:
    """Write a configuration file with a setting of DDP."""
    ddp = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": setting}
    path.write_text(yaml.safe_dump({"trainer": {"strategy": ddp, "accelerator": "cpu"}}))
    return path


def test_a_class_for_an_argument_of_any_type_is_not_built(tmp_path: Path) -> None:
    handler = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler.SubprocessHandler"
    command = {"entrypoint": "touch", "args": [str(tmp_path / "started")], "env": {}, "local_rank_id": 0}
    spec = {"class_path": handler, "init_args": command | dict.fromkeys(("stdout", "stderr", "numa_options"))}
    path = strategy(tmp_path / "more.yaml", {"ddp_comm_state": spec})
    built = cli.build(["--config", str(CONFIG), "--config", str(path)], run=False)
    ddp: Any = built.trainer.strategy
    state = ddp._ddp_comm_state
    assert not hasattr(state, "proc")
    assert str(state["class_path"]).endswith("SubprocessHandler")
    assert not (tmp_path / "started").exists()


def test_imports_of_an_allowed_library_are_not_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = strategy(tmp_path / "more.yaml", {"ddp_comm_hook": "torch.os.system"})
    allowed = "Importing 'posix.system' is not allowed; a configuration may name what is in vlad_lightning, lightning, "
    assert allowed in refused(capsys, "--config", path)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.ckpt", "file:///tmp/x.ckpt"])
def test_a_checkpoint_address_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--ckpt_path", address).startswith(f"--ckpt_path {address} is an address")


def test_loading_pickled_code_cannot_be_requested(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--weights_only", "false")
    assert said.startswith("--weights_only false: the code in a checkpoint is never run")


def test_a_fit_writes_nothing_into_the_working_directory(
    posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.yaml").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "7435e1").symlink_to(posters)
    quiet = ("--trainer.logger", "false", "--trainer.callbacks=[]", "--trainer.enable_progress_bar", "false")
    short = ("--trainer.max_steps", 1, "--trainer.limit_val_batches", 0, "--data.batch_size", 4)
    command = ("fit", "--config", CONFIG, *quiet, *short, "--data.root", "7435e1", "--out", tmp_path / "out")
    assert main([*map(str, command)]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["7435e1", "config.yaml"]
    assert Path("config.yaml").read_text() == "mine"
    (kept,) = (tmp_path / "out").rglob("config.yaml")
    assert yaml.safe_load(kept.read_text())["data"]["init_args"]["root"] == "7435e1"
    assert main(["fit", "--config", str(kept), "--checkpoints.overwrite", "true"]) == 0
    assert not list((tmp_path / "out").rglob(".fit.lock"))


def test_a_fit_in_the_folder_of_a_running_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage0").mkdir()
    held = {"host": socket.gethostname(), "pid": os.getppid()}
    (tmp_path / "stage0" / ".fit.lock").write_text(json.dumps(held))
    error = refused(capsys, "--out", tmp_path)
    assert error.startswith(f"{tmp_path}/stage0 is being written by another fit, process {os.getppid()} on")
    assert error.endswith(f"remove {tmp_path}/stage0/.fit.lock")


def test_tasks_that_would_each_train_alone_are_refused(
    posters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_ID": 1}
    for name, number in numbers.items():
        monkeypatch.setenv(f"SLURM_{name}", str(number))
    monkeypatch.setenv("SLURM_JOB_NAME", "stage")
    error = refused(capsys, "--out", tmp_path, "--data.root", posters, "--trainer.accelerator", "cpu")
    assert error.startswith("SLURM started 2 tasks (SLURM_NTASKS=2, SLURM_NNODES=1, SLURM_NTASKS_PER_NODE=2)")
    for name in ("NTASKS", "NTASKS_PER_NODE"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    joined = ("--trainer.strategy", "ddp", "--trainer.devices", 2, "--trainer.accelerator", "cpu")
    error = refused(capsys, "--out", tmp_path, "--data.root", posters, *joined)
    assert error.startswith(
        "trainer.devices=2 times trainer.num_nodes=1 are 2 processes, but SLURM started SLURM_NTASKS=1"
    )
