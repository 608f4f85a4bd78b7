"""The latents of a whole set: killed at any moment, in parts, with samples that cannot be read or that come later."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from kills import kill_when
from prepared_sets import jpeg, write_mario

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.latent_cache import FOLDER, LatentReader, stored_note
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_shard import PreparedRow, write_shard
from vlad_lightning.data.prepared_source import SHARDS, PreparedSource
from vlad_lightning.data.source import SkipSample
from vlad_lightning.modules.latent_run import CacheReport, fill_cache
from vlad_lightning.modules.latents import LatentEncoder

PER_SHARD = 3


@pytest.fixture(scope="module")
def encoder() -> LatentEncoder:
    torch.manual_seed(0)
    return LatentEncoder(tiny.image_generator(), tiny.image_encoder())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Prepare 20 samples in seven shards, of which one is a copy of another."""
    for number in range(19):
        write_mario(tmp_path / "mario", number, f"a big SALE {number}", shelf=number // PER_SHARD)
    write_mario(tmp_path / "mario", 19, shelf=6, image=jpeg(4))
    return prepared(tmp_path)


def prepared(folder: Path) -> Path:
    portions = folder_portions(folder / "mario")
    assert len(portions) >= 7
    prepare(Preparation("x", portions, folder / "set"))
    return folder / "set"


def data(root: Path | str, **changes: Any) -> MarioDataModule:
    return MarioDataModule(str(root), size=tiny.SIZE, batch_size=4, **changes)


def done(root: Path | str, encoder: LatentEncoder, **changes: Any) -> CacheReport:
    return fill_cache(data(root), encoder, **changes)


def content(root: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (root / FOLDER).iterdir()
        if not path.name.startswith(".")
    }


@pytest.mark.parametrize("moment", ["note", "third shard", "last shard"])
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    root: Path, tmp_path: Path, moment: str, encoder: LatentEncoder
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(root, whole)
    assert done(whole, encoder).samples == 19
    needed = {"note": 0, "third shard": 3, "last shard": 7}[moment]

    def reached() -> bool:
        return (root / FOLDER / "latents.json").exists() and len(list((root / FOLDER).glob("[!.]*.arrow"))) >= needed

    kill_when(lambda: done(root, encoder), reached)
    there = {path: path.stat().st_mtime_ns for path in (root / FOLDER).glob("[!.]*.arrow")}
    report = done(root, encoder)
    assert report.samples <= 19 - PER_SHARD * needed + 2  # the last shard has one of its samples less
    assert content(root) == content(whole)
    assert {path: path.stat().st_mtime_ns for path in there} == there


def test_parts_end_as_one_run_and_an_unfinished_cache_is_refused(
    root: Path, tmp_path: Path, encoder: LatentEncoder
) -> None:
    shutil.copytree(root, tmp_path / "whole")
    done(tmp_path / "whole", encoder)
    assert done(root, encoder, part=(1, 2)).left == 4
    with pytest.raises(ValueError, match="are not finished; go on: vlad-cli cache"):
        data(root, latents=True).setup()
    assert done(root, encoder, part=(0, 2)).left == 0
    assert content(root) == content(tmp_path / "whole")
    assert done(root, encoder).samples == 0
    data(root, latents=True).setup()


def test_later_samples_are_added_and_only_their_shards_are_computed(root: Path, encoder: LatentEncoder) -> None:
    done(root, encoder)
    before = content(root)
    for number in (20, 21):
        write_mario(root.parent / "mario", number, f"a big SALE {number}", shelf=7)
    prepared(root.parent)
    with pytest.raises(ValueError, match="has changed since its latents were cached"):
        data(root, latents=True).setup()
    assert done(root, encoder).samples == 2
    after = content(root)
    assert len(after) == len(before) + 1
    assert {name for name in before if after[name] != before[name]} == {"latents.json"}
    data(root, latents=True).setup()


def test_a_sample_that_cannot_be_read_has_no_latents_and_is_replaced(root: Path, encoder: LatentEncoder) -> None:
    source = PreparedSource(str(root))
    source.setup()
    name, length = source.shards[2]
    rows = [PreparedRow(**source.row(int(index))) for index in source.samples_of(2)[0]]
    assert len(rows) == length == PER_SHARD
    write_shard(root / SHARDS / f"{name}.arrow", [replace(rows[0], image=b"no picture"), *rows[1:]])
    report = done(root, encoder)
    assert (report.samples, report.unreadable, report.left) == (18, 1, 0)
    note = stored_note(root)
    assert note is not None
    reader = LatentReader(root, note)
    with pytest.raises(SkipSample, match="no cached latents"):
        reader(name, 0)
    assert reader(name, 1).images.shape == (tiny.LATENT, tiny.SIZE // 2, tiny.SIZE // 2)
    module = data(root, latents=True, val_share=0.2, test_share=0.1)
    module.ask_for("latents")
    keys = [key for loader in (module.train_dataloader(), module.val_dataloader()) for b in loader for key in b.keys]
    assert rows[0].key not in keys


def test_a_last_shard_without_samples_is_finished_too(root: Path, encoder: LatentEncoder) -> None:
    write_mario(root.parent / "mario", 20, shelf=7, image=jpeg(4))  # a copy, alone in its shard
    prepared(root.parent)
    source = PreparedSource(str(root))
    source.setup()
    unwritten = next(n for n in range(len(source.shards)) if not len(source.samples_of(n)[0]))
    report = done(root, encoder, part=(unwritten, len(source.shards)))
    assert (report.samples, report.left) == (0, len(source.shards) - 1)
    assert done(root, encoder).left == 0
    data(root, latents=True).setup()


def test_another_cache_is_replaced_on_request_only(root: Path, encoder: LatentEncoder) -> None:
    done(root, encoder)
    with pytest.raises(ValueError, match=r"made with dtype float16, and here it is float32; .* --replace"):
        done(root, encoder, dtype="float32")
    assert done(root, encoder, dtype="float32", replaces=True).samples == 19
    with pytest.raises(ValueError, match=r"made with other settings; --replace makes it again"):
        done(root, LatentEncoder(encoder.image_generator, None), dtype="float32")  # embeddings would be lost


def test_values_beyond_the_dtype_are_refused(root: Path) -> None:
    large = tiny.image_generator()
    large.autoencoder.scale.fill_(1e6)
    with pytest.raises(ValueError, match=r"dtype is float16; images has values beyond its range: --dtype float32"):
        done(root, LatentEncoder(large, None))
    assert done(root, LatentEncoder(large, None), dtype="float32", replaces=True).samples == 19


def test_a_set_behind_a_url_is_refused(encoder: LatentEncoder) -> None:
    with pytest.raises(
        ValueError, match=r"data.root is 's3://bucket/set', a URL; sets are written to a local folder only"
    ):
        done("s3://bucket/set", encoder)


def test_a_part_of_a_set_is_refused(root: Path, tmp_path: Path, encoder: LatentEncoder) -> None:
    index = tmp_path / "index.txt"
    index.write_text("00000_000000000\n")
    with pytest.raises(ValueError, match=r"index is '.*index.txt'; latents are cached of the whole set"):
        fill_cache(data(root, index=str(index)), encoder)
