"""Test the callbacks of every fit by the command line: a shipped config with and without them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vlad_lightning.cli.launcher import main
from vlad_lightning.files import configs_folder

OFF = (
    *("--step_guard.enabled", "false", "--roll_back.after", "null", "--watchdog.timeout", "null"),
    *("--weight_census.enabled", "false", "--summary.enabled", "false"),
    *("--throughput.count_flops", "false"),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def vlad_cli(*args: object) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([*map(str, args)]) == 0
    return said.getvalue()


@pytest.fixture(scope="module")
def stages(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run stage 0, then stage 1 twice: as shipped, and without the callbacks."""
    out = tmp_path_factory.mktemp("health")
    short = ("--data.root", posters, "--data.batch_size", 4, "--trainer.max_steps", 4, "--trainer.limit_val_batches", 1)
    short += ("--trainer.val_check_interval", 3, "--trainer.log_every_n_steps", 2)
    mini = configs_folder() / "mini"
    vlad_cli("fit", "--config", mini / "stage0_align.yaml", *short, "--out", out / "on")
    (out / "off").mkdir()
    (out / "off" / "stage0").symlink_to(out / "on" / "stage0")
    sampler = ("--model.sampler.steps", 2)
    (out / "on.txt").write_text(
        vlad_cli("fit", "--config", mini / "stage1_tlg.yaml", *short, *sampler, "--out", out / "on")
    )
    vlad_cli("fit", "--config", mini / "stage1_tlg.yaml", *short, *sampler, "--out", out / "off", *OFF)
    return out


def test_weights_equal_those_without_the_callbacks_bit_for_bit(stages: Path) -> None:
    on, off = (torch.load(stages / s / "stage1" / "last.ckpt", weights_only=True) for s in ("on", "off"))
    for key in ("state_dict", "current_model_state"):
        assert on[key].keys() == off[key].keys()
        tensors = [name for name, value in on[key].items() if isinstance(value, torch.Tensor)]  # not the tokenizer
        assert tensors
        assert all(torch.equal(on[key][name], off[key][name]) for name in tensors)
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (on, off)]
    assert all(torch.equal(v, moments[1][i][k]) for i, state in moments[0].items() for k, v in state.items())
    losses = []
    for run in ("on", "off"):
        with (stages / run / "stage1" / "csv" / "metrics.csv").open() as file:
            losses.append([row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]])
    assert losses[0] == losses[1] != []


def test_signals_are_in_tensorboard(stages: Path) -> None:
    events = EventAccumulator(str(stages / "on" / "stage1")).Reload()
    names = {name for name in events.Tags()["scalars"] if name.startswith(("health/", "throughput/"))}
    assert names == {
        "health/grad_norm",
        "health/skipped_steps",
        "health/loss_spikes",
        "health/rollbacks",
        "throughput/images_per_s",
        "throughput/step_s",
        "throughput/data_wait_share",
        "throughput/peak_memory_gib",
        "throughput/tflops_per_device",
    }
    assert [event.step for event in events.Scalars("health/grad_norm")] == [1, 3]


def test_the_summary_is_beside_the_checkpoints(stages: Path) -> None:
    folder = stages / "on" / "stage1"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["outcome"], summary["steps"], summary["samples"]) == ("finished", 4, 16)
    assert summary["last_checkpoint"] == str(folder / "last.ckpt")
    assert "fit: outcome finished, steps 4, samples 16" in (stages / "on.txt").read_text()
    assert not (stages / "off" / "stage1" / "summary.json").exists()
