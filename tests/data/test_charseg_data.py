from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vlad_lightning.data.charseg_data import UNKNOWN, CharsegBatch, CharsegDataModule


def module(root: Path, **changes: object) -> CharsegDataModule:
    settings: dict[str, object] = {"size": 64, "batch_size": 4, "val_share": 0.2, "test_share": 0.2}
    return CharsegDataModule(str(root), **settings | changes)


def maps(data: CharsegDataModule) -> dict[str, torch.Tensor]:
    data.setup()
    found = {}
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert isinstance(batch, CharsegBatch)
            assert batch.charseg.dtype == torch.uint8
            found |= dict(zip(batch.keys, batch.charseg, strict=True))
    return found


def stored(root: Path) -> dict[str, np.ndarray]:
    return {f"{f.parts[-3]}_{f.parts[-2]}": np.load(f) for f in root.glob("*/*/charseg.npy")}


def test_each_pixel_has_the_class_at_its_centre(lettered_posters: Path) -> None:
    truth, found = stored(lettered_posters), maps(module(lettered_posters))
    assert len(found) >= 20
    for key, shown in found.items():
        assert np.array_equal(shown, truth[key][2::4, 2::4])
    assert any(shown.any() for shown in found.values())


def test_a_batch_keeps_its_maps_when_it_is_moved(lettered_posters: Path) -> None:
    data = module(lettered_posters)
    data.setup()
    batch = next(iter(data.val_dataloader())).to("meta")
    assert isinstance(batch, CharsegBatch)
    assert batch.charseg.is_meta


def test_files_that_cannot_be_used_count_as_unknown(
    lettered_posters: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(lettered_posters, root)
    files = sorted(root.glob("*/*/charseg.npy"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    np.save(files[2], np.zeros((8, 8), dtype=np.int64))
    with files[3].open("wb") as file:
        pickle.dump({"a": 1}, file)
    np.save(files[4], np.full((256, 256), 96))  # no class of MARIO's
    files[5].write_bytes(b"\x93NUMPY" + b"\0" * 2_000_000)
    keys = [f"{f.parts[-3]}_{f.parts[-2]}" for f in files]
    found = maps(module(root, batch_size=1))
    assert len(found) == len(files)  # no sample is left out
    for key in keys[:6]:
        assert (found[key] == UNKNOWN).all()
    assert (found[keys[6]] != UNKNOWN).all()
    assert caplog.text.count("count as unknown") == 4


def test_a_training_folder_without_maps_is_refused_and_a_test_folder_is_not(
    posters: Path, lettered_posters: Path
) -> None:
    with pytest.raises(ValueError, match=r"no sample has a charseg\.npy; .* vlad-cli synth --charseg true"):
        module(posters).setup()
    data = module(lettered_posters, test_root=str(posters))
    data.setup()
    assert (next(iter(data.test_dataloader())).charseg == UNKNOWN).all()
    with pytest.raises(ValueError, match="resize is 'crop'; it must be 'stretch'"):
        module(lettered_posters, resize="crop").setup()
