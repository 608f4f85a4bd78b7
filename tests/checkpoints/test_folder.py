from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlad_lightning.checkpoints import folder as checkpoint_folder
from vlad_lightning.checkpoints.checksum import DamagedError
from vlad_lightning.checkpoints.folder import digest, is_folder_checkpoint, publish, read_checkpoint, write_folder
from vlad_lightning.checkpoints.ranks import SaveFailedError


def checkpoint() -> dict[str, Any]:
    tied = torch.randn(3, 2)
    state = {
        "a": tied,
        "b": tied,
        "bytes": torch.arange(4, dtype=torch.uint8),
        "extra": "a text",
        "one": torch.ones(()),
    }
    rows = torch.randn(4, 6).T  # not contiguous
    return {
        "state_dict": state,
        "current_model_state": state | {"b": rows, "none": torch.zeros(0, 3)},
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(2)}}, "param_groups": [1]}
        ],
        "loops": {"fit": {"steps": (1, 2.5, None, True)}},
    }


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        for pair in zip(found, expected, strict=True):
            assert_same(*pair)
    else:
        assert found == expected


def test_a_written_folder_reads_back(tmp_path: Path) -> None:
    path, saved = tmp_path / "runs" / "last.ckpt", checkpoint()
    write_folder(saved, path)
    assert is_folder_checkpoint(path)
    assert_same(read_checkpoint(path), saved)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]  # no leftovers beside it


def test_shared_memory_is_written_once(tmp_path: Path) -> None:
    write_folder(checkpoint(), tmp_path / "c")
    (shard,) = (tmp_path / "c").glob("*.safetensors")
    keys = set(load_file(shard))
    assert {"state_dict/a", "current_model_state/b"} <= keys
    assert not keys & {"state_dict/b", "current_model_state/a"}


def test_optimizer_states_can_be_left_out(tmp_path: Path) -> None:
    write_folder(checkpoint(), tmp_path / "c")
    assert "optimizer_states" not in read_checkpoint(tmp_path / "c", optimizer=False)


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("earlier", ["folder", "file"])
def test_earlier_checkpoint_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: str, exchanges: bool
) -> None:
    if not exchanges:  # a file system that cannot
        monkeypatch.setattr(checkpoint_folder, "_exchange", lambda one, other: False)
    path = tmp_path / "last.ckpt"
    if earlier == "folder":
        write_folder({"state_dict": {"old": torch.zeros(1)}}, path)
    else:
        torch.save({}, path)
    saved = checkpoint()
    write_folder(saved, path)
    assert_same(read_checkpoint(path), saved)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_leftovers_of_a_kill_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    (tmp_path / ".last.ckpt.part").mkdir()
    (tmp_path / ".last.ckpt.part" / "shard-00007-model-00001-of-00001.safetensors").write_bytes(b"half")
    saved = checkpoint()
    write_folder(saved, path)
    assert_same(read_checkpoint(path), saved)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_failed_write_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, saved = tmp_path / "last.ckpt", checkpoint()
    write_folder(saved, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_folder, "publish", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder({"state_dict": {}}, path)
    assert_same(read_checkpoint(path), saved)


def test_a_full_disk_leaves_only_the_earlier_checkpoint(small_disk: Path) -> None:
    path, saved = small_disk / "last.ckpt", checkpoint()
    write_folder(saved, path)
    with pytest.raises(SaveFailedError, match=r"No space left on device \(process 0\)"):
        write_folder({"state_dict": {"large": torch.ones(3_000_000)}}, path)
    with pytest.raises(SaveFailedError, match="No space left on device"):  # when writing non-tensors
        write_folder({"state_dict": {}, "text": "x" * 9_000_000}, path)
    assert_same(read_checkpoint(path), saved)
    assert [p.name for p in small_disk.iterdir()] == ["last.ckpt"]


def test_a_program_error_is_not_reported_as_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_folder({"state_dict": {}, "function": lambda: None}, tmp_path / "last.ckpt")


def shard(folder: Path, number: int, first_row: int, rows: int) -> None:
    """Return process ``number``'s shard of "state_dict/b"; the names and the header are torch's."""
    place = json.dumps({"state_dict/b": {"saved_offsets": [first_row, 0]}})
    name = f"shard-{number:05d}-model-00001-of-00001.safetensors"
    save_file({"state_dict/b": torch.zeros(rows, 4)}, folder / name, {"DCP_SHARDING_INFO": place})


@pytest.mark.parametrize(("shards", "whole"), [([1, 2, 3], True), ([1, 3], False), ([2, 3], False)])
def test_a_folder_without_all_shards_is_damaged(tmp_path: Path, shards: list[int], whole: bool) -> None:
    write_folder({"state_dict": {"b": torch.ones(6, 4)}}, tmp_path / "c")
    next((tmp_path / "c").glob("*.safetensors")).unlink()
    for number in shards:
        shard(tmp_path / "c", number, 2 * number - 2, 2)
    if whole:
        assert torch.equal(read_checkpoint(tmp_path / "c")["state_dict"]["b"], torch.zeros(6, 4))
        return
    with pytest.raises(DamagedError, match=r"1 tensors are not whole, 'state_dict/b' among them.*one file system"):
        read_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("broken", ["short", "gone", "cut"])
def test_an_incomplete_folder_is_not_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def save(tensors: dict[str, torch.Tensor], storage_writer: Any) -> None:
        folder = Path(storage_writer.path)
        if broken != "gone":
            shard(folder, 1, 0, 2)
        if broken == "cut":
            shard(folder, 2, 2, 4)
            with next(folder.glob("shard-00002*")).open("r+b") as file:
                file.truncate(5)

    write_folder(checkpoint(), tmp_path / "c")
    monkeypatch.setattr(checkpoint_folder, "save", save)
    with pytest.raises(SaveFailedError, match=r"not whole, 'state_dict/b' among them.*one file system|no whole header"):
        write_folder({"state_dict": {"b": torch.ones(6, 4)}}, tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert "current_model_state" in read_checkpoint(tmp_path / "c")


def test_a_folder_that_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a folder without meta\.pt"):
        read_checkpoint(tmp_path)


def test_damaged_folder_is_refused(tmp_path: Path) -> None:
    write_folder(checkpoint(), tmp_path / "c")
    (shard,) = (tmp_path / "c").glob("*.safetensors")
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(tmp_path / "c")
    shard.unlink()
    with pytest.raises(ValueError, match="tensors are missing, 'current_model_state/b' among them"):
        read_checkpoint(tmp_path / "c")


class Trap:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("code of a checkpoint was run",))


def test_code_in_a_folder_does_not_run(tmp_path: Path) -> None:
    write_folder(checkpoint(), tmp_path / "c")
    (tmp_path / "c" / ".metadata").write_bytes(pickle.dumps(Trap()))  # torch's format keeps its index here
    assert_same(read_checkpoint(tmp_path / "c"), checkpoint() | read_checkpoint(tmp_path / "c"))
    torch.save({"trap": Trap()}, tmp_path / "c" / "meta.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        read_checkpoint(tmp_path / "c")


def test_the_digest_distinguishes_folders(tmp_path: Path) -> None:
    write_folder(checkpoint(), tmp_path / "one")
    write_folder(checkpoint(), tmp_path / "two")
    assert digest(tmp_path / "one") == digest(tmp_path / "one")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_a_published_folder_has_its_name_and_no_leftovers(tmp_path: Path) -> None:
    for content in ("one", "two"):
        (tmp_path / ".x.part").mkdir()
        (tmp_path / ".x.part" / "file").write_text(content)
        publish(tmp_path / ".x.part", tmp_path / "x")
        assert (tmp_path / "x" / "file").read_text() == content
        assert [p.name for p in tmp_path.iterdir()] == ["x"]
