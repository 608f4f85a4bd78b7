from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch

from vlad_lightning.checkpoints.checksum import checksum_file, step_path
from vlad_lightning.checkpoints.config_lock import RECORD
from vlad_lightning.checkpoints.folder import write_folder
from vlad_lightning.checkpoints.io import DurableCheckpointIO
from vlad_lightning.checkpoints.resume import Found, check_config, check_weights, resolve


def save(path: Path, step: int = 1, run: str = "", **more: Any) -> Path:
    content = {"global_step": step, "state_dict": {}, "loops": {}, "optimizer_states": []} | more
    content["callbacks"] = {"Checkpoints": {"run": run}}
    with checksum_file(path) as file:
        torch.save(content, file)  # type: ignore[arg-type]
    return path


def path_of(*args: Any, **kwargs: Any) -> str:
    found = resolve(*args, **kwargs)
    assert isinstance(found, Found)
    assert found.verified
    return str(found.path)


def test_last_is_the_newest_undamaged_checkpoint_of_the_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "stage2")
    assert resolve("last", folder, "", fits=True) is None
    save(step_path(tmp_path / "stage1", 900), 900)  # another stage's
    assert resolve("last", folder, "", fits=True) is None
    for step in (1, 2):
        save(step_path(Path(folder), step), step)
    os.link(step_path(Path(folder), 2), Path(folder, "last.ckpt"))
    assert path_of("last", folder, "", fits=True) == f"{folder}/last.ckpt"
    os.truncate(Path(folder, "last.ckpt"), 200)
    with pytest.warns(UserWarning, match=r"last.ckpt is damaged.*step-000000001.ckpt is taken in its place"):
        assert path_of("last", folder, "", fits=True) == str(step_path(Path(folder), 1))


def test_last_ckpt_of_another_run_is_skipped(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt", run="old")
    with pytest.warns(UserWarning, match="are of another run; this one starts again"):
        assert resolve("last", str(tmp_path), "new", fits=True) is None
    assert path_of("last", str(tmp_path), "old", fits=True) == str(tmp_path / "last.ckpt")
    assert path_of("last", str(tmp_path), "", fits=True) == str(tmp_path / "last.ckpt")


def test_only_a_fit_may_start_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--ckpt_path last: there is no checkpoint in"):
        resolve("last", str(tmp_path), "", fits=False)


def test_lightnings_keywords_pass_and_addresses_are_refused(tmp_path: Path) -> None:
    for given in ("best", "hpc", "registry:x"):
        assert resolve(given, str(tmp_path), "", fits=True) == given
    for given in ("s3://bucket/x.ckpt", "http://host/x.ckpt", f"file://{tmp_path}/x.ckpt"):
        for fits in (True, False):
            with pytest.raises(ValueError, match=f"--ckpt_path {given} is an address"):
                resolve(given, str(tmp_path), "", fits=fits)
    assert resolve("last", None, "", fits=True) == "last"  # a configuration with Lightning's own callbacks
    assert resolve("last", None, "run", fits=True) is None


def test_unusable_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.ckpt does not exist"):
        resolve(str(tmp_path / "no.ckpt"), None, "", fits=True)
    (tmp_path / "x.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"x\.ckpt is damaged"):
        resolve(str(tmp_path / "x.ckpt"), None, "", fits=True)
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"foreign\.ckpt is no checkpoint of Lightning"):
        resolve(str(tmp_path / "foreign.ckpt"), None, "", fits=False)
    torch.save({"state_dict": {}, "global_step": 3}, tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match="holds weights only; a fit cannot go on from it"):
        resolve(str(tmp_path / "weights.ckpt"), None, "", fits=True)
    assert path_of(str(tmp_path / "weights.ckpt"), None, "", fits=False)


def test_a_changed_configuration_is_refused_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "x.ckpt", **{RECORD: {"data.batch_size": 4, "model.lr": 0.1, "trainer.max_steps": 9}})
    found = resolve(str(tmp_path / "x.ckpt"), None, "", fits=True)
    assert isinstance(found, Found)
    now = {"data.batch_size": 8, "model.lr": 0.1, "trainer.max_steps": 99}
    with pytest.raises(ValueError, match=r"1 keys differ.*--resume.allow_changes '\[data.batch_size\]'"):
        check_config(found, now, [])
    assert capsys.readouterr().err.splitlines() == ["key              then  now", "data.batch_size  4     8"]
    check_config(found, now, ["data.batch_size"])
    check_config(found, now | {"data.batch_size": 4}, [])


def test_a_checkpoint_without_a_configuration_is_accepted_with_a_warning(tmp_path: Path) -> None:
    found = resolve(str(save(tmp_path / "x.ckpt")), None, "", fits=True)
    assert isinstance(found, Found)
    with pytest.warns(UserWarning, match="does not say under which configuration"):
        check_config(found, {"a": 1}, [])


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_checkpoint_is_compared_by_names_and_shapes(form: str, tmp_path: Path) -> None:
    module = tiny.stage("alignment")
    content = {"state_dict": module.state_dict(), "global_step": 1, "lora_scale": 1.0}

    def written(**changes: Any) -> Found:
        path = tmp_path / "last.ckpt"
        write_folder(content | changes, path) if form == "folder" else DurableCheckpointIO().save_checkpoint(
            content | changes, path
        )
        found = resolve(str(path), None, "", fits=False)
        assert isinstance(found, Found)
        return found

    fresh = tiny.alignment(tokenizer=False)
    before = {name: value.clone() for name, value in fresh.named_parameters()}
    check_weights(fresh, written())
    assert all(torch.equal(value, before[name]) for name, value in fresh.named_parameters())  # no weights are loaded
    assert fresh.prompt_encoder.text_encoder.tokenizer is not None  # but values that are not tensors are
    with pytest.raises(ValueError, match=r"last.ckpt does not fit TLGModule .* another stage or shape: \d+ weights"):
        check_weights(tiny.stage("tlg"), written())
    with pytest.raises(ValueError, match=r"1 weights differ; log_temperature is \(2,\), here \(\)"):
        check_weights(fresh, written(state_dict=module.state_dict() | {"log_temperature": torch.ones(2)}))
    with pytest.raises(ValueError, match="1 weights differ; new is no tensor, here absent"):
        check_weights(fresh, written(state_dict=module.state_dict() | {"new": "text"}))
    with pytest.raises(ValueError, match="no checkpoint of Lightning: its state_dict is no mapping"):
        check_weights(fresh, written(state_dict="text"))
    with pytest.raises(ValueError, match="the checkpoint's adapters have alpha / rank"):
        check_weights(fresh, written(lora_scale=3.0))
