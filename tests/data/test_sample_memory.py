import shutil
from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor

from vlad_lightning.data.charseg_data import CharsegDataModule
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.types import FieldNotBuilt

SIZE = 48


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("posters") / "posters"
    write_posters(folder, 16, size=SIZE, seed=2, charseg=True)
    return folder


def data_of(root, kind=MarioDataModule, size=SIZE, **arguments):
    data = kind(str(root), size=size, batch_size=4, val_share=0.3, test_share=0.05, **arguments)
    data.setup("fit")
    return data


def flat(value):
    """Return all leaves of a batch, with the types of the dataclasses around them."""
    if is_dataclass(value):
        return [type(value), *(leaf for f in fields(value) for leaf in flat(getattr(value, f.name)))]
    return [leaf for entry in value for leaf in flat(entry)] if isinstance(value, tuple) else [value]


def same(one, other):
    return one.dtype == other.dtype and torch.equal(one, other) if isinstance(one, Tensor) else one == other


def equal(batches, others):
    """Tell whether batches are the same bit for bit; what was not built is a ``FieldNotBuilt`` in both."""
    pairs = list(zip(flat(tuple(batches)), flat(tuple(others)), strict=True))
    return all(type(one) is type(other) for one, other in pairs) and all(
        same(one, other) for one, other in pairs if not isinstance(one, FieldNotBuilt)
    )


def epochs(loader, count=2):
    return [batch for _ in range(count) for batch in loader]


@pytest.mark.parametrize("kind", [MarioDataModule, CharsegDataModule])
@pytest.mark.parametrize("asked", [(), ("images",), ("images", "glyphs")])
def test_kept_samples_are_those_that_were_read_bit_for_bit(root, kind, asked):
    keeps, reads = data_of(root, kind, keep_in_memory=100), data_of(root, kind)
    for data in (keeps, reads):
        data.ask_for(*asked)
    batches = epochs(keeps.train_dataloader())
    assert len(batches) == 4
    assert equal(batches, epochs(reads.train_dataloader()))
    assert equal(epochs(keeps.val_dataloader()), epochs(reads.val_dataloader()))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_kept_sample_is_not_read_again(root, tmp_path, num_workers):
    folder = shutil.copytree(root, tmp_path / "posters")
    data = data_of(folder, keep_in_memory=100, max_outage=0.0, num_workers=num_workers)
    loader = data.val_dataloader()
    first = list(loader)
    shutil.rmtree(folder)
    assert equal(loader, first)


def test_a_changed_batch_does_not_change_what_is_kept(root):
    loader = data_of(root, keep_in_memory=100).val_dataloader()
    first, again = list(loader), list(loader)
    for batch in again:
        batch.layouts[0].boxes.fill_(7.0)
        batch.images.fill_(7.0)
    assert equal(loader, first)


def test_what_does_not_fit_is_read_in_each_epoch(root, tmp_path):
    folder = shutil.copytree(root, tmp_path / "posters")
    data = data_of(folder, size=512, keep_in_memory=2)  # a picture has 786,432 bytes; the last one may go beyond
    data.ask_for("images")
    first, *_ = data.val_dataloader()
    for picture in folder.rglob("image.jpg"):
        picture.unlink()
    again = next(iter(data.val_dataloader()))
    assert len(first) == 4
    assert again.keys == first.keys[:3]
    assert torch.equal(again.images, first.images[:3])


def test_the_next_module_gets_the_fields_that_it_asks_for(root):
    data = data_of(root, keep_in_memory=100)
    data.ask_for()
    epochs(data.train_dataloader())
    data.teardown("fit")
    data.setup("fit")
    data.ask_for("images")
    assert all(batch.images.shape == (4, 3, SIZE, SIZE) for batch in epochs(data.train_dataloader()))


def test_a_negative_size_is_refused(root):
    with pytest.raises(ValueError, match="keep_in_memory=-1: must be at least 0"):
        MarioDataModule(str(root), keep_in_memory=-1)
