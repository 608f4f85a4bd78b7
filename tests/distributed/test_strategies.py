"""Compare every strategy on 2 and 4 processes with one: losses, gradients, averages, metrics, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from distributed.processes import run_processes
from safetensors.torch import load_file

from vlad_lightning.callbacks import InitFrom
from vlad_lightning.checkpoints.folder import digest, is_folder_checkpoint, read_checkpoint
from vlad_lightning.checkpoints.resume import load_checkpoint

SCRIPT = Path(__file__).with_name("strategy_process.py")
STAGES = ("alignment", "tlg", "vfe")
TWO = [f"{kind}2-{stage}" for kind in ("ddp", "fsdp") for stage in STAGES]
FOUR = ["ddp4-alignment", *(f"hsdp4-{stage}" for stage in STAGES), "fsdp4-vfe"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make all runs of this file: three groups of processes, each of which fits one module after the other."""
    folder = tmp_path_factory.mktemp("strategies")

    def job(name: str, **more: Any) -> dict[str, Any]:
        kind, stage = name.split("-")[:2]
        devices = int(kind[-1])
        given = {"root": str(posters), "stage": stage, "strategy": kind[:-1], "devices": devices}
        return given | {"batch": 8 // devices, "out": str(folder / name)} | more

    def saved(name: str) -> str:
        return str(folder / name / "step=2.ckpt")

    def start(count: int, jobs: list[dict[str, Any]]) -> None:
        run_processes(count, SCRIPT, json.dumps(jobs), limit=280)

    start(1, [job(f"one1-{stage}") for stage in STAGES] + [job("one1-tlg-accumulated", batch=4, accumulation=2)])
    two = [job(f"ddp2-{stage}") for stage in STAGES]
    two += [job("fsdp2-alignment"), job("fsdp2-tlg"), job("fsdp2-vfe", folder=True, fused=True, test=True)]
    two += [
        job("ddp_static2-tlg"),
        job("fsdp2-vfe-resumed", folder=True, fused=True, seed=1, ckpt_path=saved("fsdp2-vfe")),
        job("fsdp2-tlg-from-one", seed=1, ckpt_path=saved("one1-tlg")),
        job("fsdp2-tlg-bf16", precision="bf16-mixed"),
        job("fsdp2-tlg-accumulated", batch=2, accumulation=2),
    ]
    counted = {"count": True, "steps": 2, "val_check_interval": 9}
    for kind in ("ddp2", "fsdp2"):
        two += [job(f"{kind}-tlg-count", **counted)]
        two += [job(f"{kind}-tlg-count-accumulated", batch=2, accumulation=2, **counted)]
    two += [job("fsdp2-tlg-count-each", batch=2, accumulation=2, sync_each_backward=True, **counted)]
    start(2, two)
    four = [job(name, folder=name == "hsdp4-vfe", fused=name == "hsdp4-vfe") for name in FOUR]
    start(4, [*four, job("fsdp4-vfe-resharded", folder=True, seed=1, ckpt_path=saved("fsdp2-vfe"))])
    again = [("one1-vfe-from-folder", "fsdp2-vfe"), ("one1-vfe-from-four", "fsdp4-vfe-resharded")]
    again += [("one1-tlg-from-file", "fsdp2-tlg")]
    start(
        1,
        [
            job(name, seed=1, ckpt_path=saved(source) if "four" not in name else str(folder / source / "last.ckpt"))
            | ({"steps": 6} if "four" in name else {})
            for name, source in again
        ],
    )
    return folder


def losses(folder: Path) -> list[float]:
    """Return the mean over ranks of each batch's loss."""
    rows = [json.loads(path.read_text())[0] for path in sorted(folder.glob("losses-*.json"))]
    return [sum(row) / len(row) for row in zip(*rows, strict=True)]


def norms(folder: Path) -> list[float]:
    """Return the norm of the whole gradient in each step, after a check that it is equal on all ranks."""
    rows = [json.loads(path.read_text())[1] for path in sorted(folder.glob("losses-*.json"))]
    assert all(row == rows[0] for row in rows)
    return list(rows[0])


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the norm of the difference of two runs' weights, relative to the norm of the weights."""
    assert found.keys() == expected.keys()
    apart = sum(float((found[k].double() - v.double()).square().sum()) for k, v in expected.items())
    size = sum(float(v.double().square().sum()) for v in expected.values())
    return float((apart / size) ** 0.5)


@pytest.mark.parametrize("name", TWO + FOUR)
def test_losses_gradients_and_norms_equal_those_of_one_process(out: Path, name: str) -> None:
    one = out / f"one1-{name.split('-')[1]}"
    assert losses(out / name)[0] == pytest.approx(losses(one)[0], rel=1e-5)
    assert losses(out / name) == pytest.approx(losses(one), rel=1e-4)
    assert norms(out / name)[0] == pytest.approx(norms(one)[0], rel=1e-4)
    found, expected = (load_file(folder / "gradients.safetensors") for folder in (out / name, one))
    largest = max(float(value.abs().max()) for value in expected.values())
    used = {key for key, value in expected.items() if value.abs().max() > 0}
    assert used <= set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5 * largest, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize(("name", "groups"), [("fsdp2-tlg", 1), ("hsdp4-tlg", 2)])
def test_every_group_of_the_mesh_has_the_strategys_time_out(out: Path, name: str, groups: int) -> None:
    for path in (out / name).glob("timeouts-*.json"):
        assert json.loads(path.read_text()) == [47 * 60] * groups
    assert list((out / name).glob("timeouts-*.json"))


@pytest.mark.parametrize("name", TWO + FOUR)
def test_averages_and_metrics_equal_those_of_one_process(out: Path, name: str) -> None:
    """The processes assert that each is, bit for bit, the average of its own weights."""
    one = out / f"one1-{name.split('-')[1]}"
    found, expected = (load_file(folder / "averaged.safetensors") for folder in (out / name, one))
    assert distance(found, expected) < 1e-5
    expected = json.loads((one / "metrics-0.json").read_text())
    assert "val/loss" in expected
    if name.startswith(("fsdp", "hsdp")):  # with sharded weights, no probe runs
        expected = {key: value for key, value in expected.items() if "probe" not in key}
    for path in (out / name).glob("metrics-*.json"):  # of each rank
        assert json.loads(path.read_text()) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_static_graph_equals_ddp(out: Path) -> None:
    assert losses(out / "ddp_static2-tlg") == pytest.approx(losses(out / "ddp2-tlg"), rel=1e-5)


def test_accumulated_batches_equal_one_batch(out: Path) -> None:
    one, two = out / "one1-tlg-accumulated", out / "fsdp2-tlg-accumulated"
    assert norms(one) == pytest.approx(norms(two), rel=2e-3)
    assert distance(load_file(two / "averaged.safetensors"), load_file(one / "averaged.safetensors")) < 1e-3


def counts(out: Path, name: str, *operations: str) -> int:
    found = json.loads((out / name / "collectives.json").read_text())
    return sum(number for key, number in found.items() if key in operations)


def test_accumulation_sends_gradients_once_per_step(out: Path) -> None:
    scatter = ("c10d::_reduce_scatter_base_", "c10d::reduce_scatter_tensor_coalesced_")
    once = counts(out, "fsdp2-tlg-count", *scatter)
    assert once > 0
    assert counts(out, "fsdp2-tlg-count-accumulated", *scatter) == once
    assert counts(out, "fsdp2-tlg-count-each", *scatter) == 2 * once


def test_checkpoint_of_a_sharded_fit_equals_that_of_one_process(out: Path) -> None:
    """The same keys in the same order, so that any strategy can resume any other's checkpoint."""
    one = torch.load(out / "one1-tlg" / "step=2.ckpt", weights_only=True)
    two = torch.load(out / "fsdp2-tlg" / "step=2.ckpt", weights_only=True)
    assert set(two) == set(one)
    for state in ("state_dict", "current_model_state"):
        assert list(two[state]) == list(one[state])
        for key, value in one[state].items():
            assert type(two[state][key]) is type(value)
    moments = [saved["optimizer_states"][0]["state"] for saved in (one, two)]
    assert list(moments[0]) == list(moments[1])
    largest = max(float(state["exp_avg"].abs().max()) for state in moments[0].values())
    for i, state in moments[0].items():
        torch.testing.assert_close(moments[1][i]["exp_avg"], state["exp_avg"], rtol=1e-2, atol=1e-3 * largest)


def test_checkpoint_folder_holds_no_pickled_code_and_is_read_without_processes(out: Path) -> None:
    path = out / "fsdp2-vfe" / "last.ckpt"
    assert is_folder_checkpoint(path)
    names = {file.name for file in path.iterdir()}
    assert names >= {"meta.pt", *(f"shard-0000{i}-model-00001-of-00001.safetensors" for i in (1, 2))}
    assert ".metadata" not in names  # a pickle
    saved, whole = read_checkpoint(path), torch.load(out / "one1-vfe" / "step=4.ckpt", weights_only=True)
    assert set(saved) == set(whole)
    assert list(saved["state_dict"]) == list(whole["state_dict"])
    averaged = load_file(out / "fsdp2-vfe" / "averaged.safetensors")
    assert all(torch.equal(saved["state_dict"][key], value) for key, value in averaged.items())
    assert not all(torch.equal(saved["current_model_state"][key], value) for key, value in averaged.items())
    assert "optimizer_states" not in read_checkpoint(path, optimizer=False)
    assert not list(path.parent.glob(".*"))  # no leftovers beside it


def test_resumed_fit_ends_with_the_same_weights_bit_for_bit(out: Path) -> None:
    found, expected = (load_file(out / f / "averaged.safetensors") for f in ("fsdp2-vfe-resumed", "fsdp2-vfe"))
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    "name",
    ["fsdp4-vfe-resharded", "fsdp2-tlg-from-one", "one1-vfe-from-folder", "one1-tlg-from-file"],
)
def test_any_number_of_processes_resumes_any_checkpoint(out: Path, name: str) -> None:
    one = out / f"one1-{name.split('-')[1]}"
    assert losses(out / name) == pytest.approx(losses(one)[2:], rel=1e-4)
    assert distance(load_file(out / name / "averaged.safetensors"), load_file(one / "averaged.safetensors")) < 1e-5


def test_a_fit_resumes_on_two_then_four_then_one_process(out: Path) -> None:
    assert len(losses(out / "one1-vfe-from-four")) == 2


def test_sharded_checkpoint_is_validated_by_other_processes_modules(out: Path) -> None:
    found = [json.loads((out / "fsdp2-vfe" / f"tested-{rank}.json").read_text()) for rank in range(2)]
    expected = json.loads((out / "fsdp2-vfe" / "metrics-0.json").read_text())
    assert found[0] == found[1] == pytest.approx(expected, rel=1e-5)


def test_bf16_is_close_to_float32(out: Path) -> None:
    assert losses(out / "fsdp2-tlg-bf16") == pytest.approx(losses(out / "one1-tlg"), rel=0.05)


def test_the_next_stage_and_the_command_line_read_a_folder(out: Path) -> None:
    path = out / "fsdp2-vfe" / "last.ckpt"
    module = tiny.stage("vfe", seed=3)
    saved = load_checkpoint(module, path)
    assert saved["global_step"] == 4
    averaged = load_file(out / "fsdp2-vfe" / "averaged.safetensors")
    assert all(torch.equal(p, averaged[key]) for key, p in module.named_parameters())
    other = tiny.stage("vfe", seed=4)
    start = InitFrom("image_generator.vfe", str(path))
    start.setup(tiny.trainer(), other, "fit")
    key = "image_generator.vfe.fusion.weight"
    assert torch.equal(other.state_dict()[key], saved["state_dict"][key])
    assert start.sha256 == digest(path)
