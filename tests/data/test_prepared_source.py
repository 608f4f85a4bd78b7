"""A prepared data set is opened at once, whatever its length; it is read in other processes and waited for."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared_sets import made_up_set, write_mario

from vlad_lightning.data import prepared_source
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_source import NOTE, SIDES, PreparedSource, key_positions
from vlad_lightning.data.source import DataOutageError, SkipSample


def opened(root: Path, **settings: Any) -> PreparedSource:
    source = PreparedSource(str(root), **settings)
    source.setup()
    return source


def test_positions_are_a_uniform_hash_of_key_and_seed() -> None:
    keys = np.array([f"00000_{i:09d}" for i in range(20_000)], dtype="S16")
    found = key_positions(keys, 0)
    assert 0 <= found.min() < found.max() < 1
    assert len(set(found.tolist())) == len(keys)
    counts = np.histogram(found, 20, (0, 1))[0]
    assert np.abs(counts - 1000).max() < 5 * 1000**0.5  # five standard deviations
    for seed in (1, -1, 2**64 - 5):
        other = key_positions(keys, seed)
        assert abs(np.corrcoef(found, other)[0, 1]) < 0.05
    assert np.array_equal(key_positions(keys[5:9], 0), found[5:9])


def test_opening_and_splitting_takes_no_step_of_python_and_few_bytes_for_a_sample(tmp_path: Path) -> None:
    calls: dict[int, int] = {}
    for samples in (20_000, 200_000):
        root = made_up_set(tmp_path / str(samples), samples)
        calls[samples] = 0

        def count(frame: object, event: str, argument: object, samples: int = samples) -> None:
            calls[samples] += event in ("call", "c_call")

        module = MarioDataModule(str(root), size=16, batch_size=4)
        tracemalloc.start()
        sys.setprofile(count)
        try:
            batch: Any = next(iter(module.train_dataloader()))
        finally:
            sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert batch.prompts == ('a big "SALE"',) * 4
    assert peak < 60 * 200_000  # bytes, of which 48 are numbers; the names as texts would take 64 more
    assert calls[200_000] < calls[20_000] * 1.5


def test_the_data_module_recognises_it_and_refuses_settings_of_a_folder(tmp_path: Path) -> None:
    for number in range(30):
        write_mario(tmp_path / "mario", number)
    prepare(Preparation("x", folder_portions(tmp_path / "mario"), tmp_path / "out"))
    root = str(tmp_path / "out")
    module = MarioDataModule(root, size=16, batch_size=2, num_workers=1, val_share=0.2, test_share=0.2)
    module.setup()
    assert isinstance(module.source, PreparedSource)
    assert module.content() == dict(module.source.content())
    assert module.captions(3) == ['a big "SALE"'] * 3  # read in this process, and then in a fork of it
    batches: list[Any] = [batch for loader in (module.train_dataloader(), module.val_dataloader()) for batch in loader]
    assert batches[0].images.shape == (2, 3, 16, 16)
    assert batches[0].word_mask.any()
    keys = [key for batch in batches for key in batch.keys]
    assert len(set(keys)) == len(keys) > 20
    assert not module.broken
    other = MarioDataModule(root, size=16, resize="crop", test_root=root)
    other.setup()
    assert isinstance(other.test_source, PreparedSource)
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"min_confidence": 0.5}, r"min_confidence is 0.5; .* is a prepared .*: vlad-cli prepare --min_confidence"),
        ({"max_bad_share": 0.1}, r"max_bad_share is 0.1; .* is a prepared .*: vlad-cli prepare --max_bad"),
    )
    for changes, message in refused:
        with pytest.raises(ValueError, match=message):
            MarioDataModule(root, **changes)


def test_it_is_read_after_a_fork_and_in_a_pickled_copy(tmp_path: Path) -> None:
    source = opened(made_up_set(tmp_path, 5000))
    assert source.read(4999).prompt == source.read_texts(0).prompt == 'a big "SALE"'
    copy = pickle.loads(pickle.dumps(source))
    assert (len(copy), copy.keys[4999], copy.place(4321)) == (5000, "00000_000004999", ("s", 321))
    queue: Any = multiprocessing.get_context("fork").SimpleQueue()
    processes = [
        multiprocessing.get_context("fork").Process(target=lambda: queue.put(source.read(7).prompt)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [queue.get() for _ in processes] == ['a big "SALE"'] * 3


def test_an_outage_is_waited_for_and_a_missing_shard_is_one_sample(tmp_path: Path) -> None:
    root = made_up_set(tmp_path / "set", 10)
    source = opened(root, max_outage=0.3)
    (root / "shards" / "s.arrow").rename(root / "shards" / "away")
    with pytest.raises(SkipSample, match="its shard is missing"):
        source.read(0)
    root.rename(tmp_path / "away")
    with pytest.raises(DataOutageError, match=r"could not be read for 0.3 s \(data.max_outage\)"):
        source.read(0)
    (tmp_path / "away").rename(root)
    (root / "shards" / "away").rename(root / "shards" / "s.arrow")
    assert source.read(0).prompt == 'a big "SALE"'
    with pytest.raises(ValueError, match="max_outage=-1: must be at least 0"):
        PreparedSource(str(root), -1)


def test_a_damaged_shard_is_an_error_of_its_samples_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = made_up_set(tmp_path, 40, per_shard=20)
    shard = root / "shards" / "s.arrow"
    shard.write_bytes(shard.read_bytes()[:-100])
    module = MarioDataModule(str(root), size=16, batch_size=2)
    module.setup()
    with pytest.raises(ValueError, match=r"none of the .* samples can be read"):
        next(iter(module.train_dataloader()))
    assert "ArrowInvalid" in caplog.text


def test_before_it_is_set_up_it_is_empty(tmp_path: Path) -> None:
    source = PreparedSource(str(tmp_path))
    assert len(source) == 0
    assert torch.from_numpy(source.positions(0)).shape == (0,)
    with pytest.raises(FileNotFoundError, match=NOTE):
        source.setup()


def test_an_index_picks_samples_that_stay_in_their_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made_up_set(tmp_path / "set", 5000)
    sides = np.random.default_rng(0).integers(100, 900, (5000, 2), dtype=np.int32)
    np.save(root / "index_0" / SIDES, sides)
    whole = opened(root)
    picked = [3, 700, 1999, 4321]
    index = tmp_path / "index.txt"
    index.write_text("\n".join([whole.keys[i] for i in reversed(picked)] + ["", whole.keys[3], "no_such_sample"]))
    monkeypatch.setattr(prepared_source, "_CHUNK", 1000)
    source = opened(root, index=str(index))
    assert np.array_equal(source.positions(5), whole.positions(5)[picked])
    assert list(source.keys) == [whole.keys[i] for i in picked]
    assert source.keys[1:3] == [whole.keys[700], whole.keys[1999]]
    assert [source.place(i) for i in range(4)] == [whole.place(i) for i in picked]
    assert np.array_equal(source.proportions(), whole.proportions()[picked])
    assert "1 of the 5 samples of index" in caplog.text
    assert source.content() != whole.content()
    copy = pickle.loads(pickle.dumps(source))
    assert (len(copy), copy.keys[3], copy.content()) == (4, whole.keys[4321], source.content())
    index.write_text("\n".join(whole.keys[::50]))
    module = MarioDataModule(str(root), size=16, batch_size=2, index=str(index))
    batches: list[Any] = list(module.train_dataloader())
    assert len(batches) > 40
    assert {key for batch in batches for key in batch.keys} <= set(whole.keys[::50])


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "which is not a file"),
        (b"a\xff", ValueError, "is not text in UTF-8"),
        (b"00000_999999999\n", ValueError, "names none of the samples of"),
        (b"\n", ValueError, "names none of the samples of"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused(
    content: bytes | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    root, index = made_up_set(tmp_path / "set", 20), tmp_path / "index.txt"
    if content is not None:
        index.write_bytes(content)
    with pytest.raises(error, match=message):
        opened(root, index=str(index))
