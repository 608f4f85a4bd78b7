"""A prepared set behind a URL has the same samples as the local one, and only those that are read are fetched."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_system as tiny
import torch
from prepared_sets import made_up_set, write_mario
from range_server import RangeServer, serving

from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.latent_cache import FOLDER, LatentNote, claim_cache, finish_cache, write_latents
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_source import NOTE, SHARDS, PreparedSource
from vlad_lightning.data.remote_path import CACHE, check_writable
from vlad_lightning.data.source import DataOutageError, SkipSample
from vlad_lightning.types import Latents

SAMPLES, FORK = 12, multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare a set in three shards, with latents of each sample."""
    folder = tmp_path_factory.mktemp("stored")
    for number in range(SAMPLES):
        write_mario(folder / "mario", number, f"a big SALE {number}", shelf=number // 4)
    prepare(Preparation("x", folder_portions(folder / "mario"), folder / "bucket" / "set"))
    add_latents(folder / "bucket" / "set")
    return folder / "bucket"


def add_latents(root: Path) -> None:
    source = opened(root)
    note = LatentNote({"dtype": "float32"}, {"images": [2, 2], "glyphs": [2, 2], "letters": [2]}, source.content())
    claim_cache(root, note, torch.ones(2, 2))
    for name, rows in source.shards:
        seed = torch.Generator().manual_seed(rows + len(name))
        values = [torch.randn(2, 2, 2, generator=seed) for _ in range(rows)]
        latents = [Latents(v[0], v[1], torch.ones(2, 2), v[0, 0] > 0, None) for v in values]
        write_latents(root, name, "state", note, latents)
    finish_cache(root, note, [name for name, _ in source.shards])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path / "cache"


@pytest.fixture
def web(stored: Path, tmp_path: Path) -> Iterator[RangeServer]:
    shutil.copytree(stored, tmp_path / "served" / "bucket")
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def upload(folder: Path, endpoint: str) -> None:
    from pyarrow import fs

    system = fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True)
    system.create_dir(folder.name)
    fs.copy_files(str(folder), folder.name, fs.LocalFileSystem(), system)


def opened(root: Path | str, **settings: Any) -> PreparedSource:
    source = PreparedSource(str(root), **settings)
    source.setup()
    return source


def all_of(source: PreparedSource) -> list[Any]:
    """Return everything that a training can see of a set, as values that can be compared and sent."""
    source.check_latents({"dtype": "float32"})
    found: list[Any] = [list(source.keys), source.content(), source.positions(3).tolist()]
    for index in range(len(source)):
        sample, texts, latents = source.read(index), source.read_texts(index), source.read_latents(index)
        assert isinstance(latents.glyphs, torch.Tensor)
        found.append((sample.key, np.asarray(sample.image).tobytes(), sample.caption, str(sample.words)))
        found.append((sample.prompt, texts.caption, str(texts.words), source.read_without_image(index).image.size))
        found.append([part.tolist() for part in (latents.images, latents.glyphs, latents.letters, latents.no_glyphs)])
    return found


def digest_of(source: PreparedSource) -> str:
    return hashlib.sha256(repr(all_of(source)).encode()).hexdigest()


def in_other_processes(work: Callable[[], Any], count: int) -> list[Any]:
    queue: Any = FORK.SimpleQueue()
    processes = [FORK.Process(target=lambda: queue.put(work())) for _ in range(count)]
    for process in processes:
        process.start()
    found = [queue.get() for process in processes if process.join(20) is None and process.exitcode == 0]
    for process in processes:
        process.kill()
    return found


def check_same(url: str, local: PreparedSource) -> None:
    remote, expected = opened(url), digest_of(local)
    assert len(remote) == SAMPLES
    assert all_of(remote) == all_of(local)
    copy = pickle.loads(pickle.dumps(remote))
    assert in_other_processes(lambda: digest_of(remote), 1) == [expected]  # a fork, of connections that are open
    assert in_other_processes(lambda: digest_of(copy), 1) == [expected]


def test_samples_over_http_are_those_of_the_folder(web: RangeServer, stored: Path) -> None:
    check_same(f"{web.url}/bucket/set", opened(stored / "set"))


def test_samples_in_s3_are_those_of_the_folder(s3: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    upload(stored, s3)
    check_same("s3://bucket/set", opened(stored / "set"))
    with pytest.raises(FileNotFoundError, match=r"data.root is 's3://other/set': s3://other/set/.* does not exist;"):
        opened("s3://other/set")


def test_a_data_module_batches_and_splits_alike(web: RangeServer, stored: Path) -> None:
    batches: list[list[Any]] = []
    for root in (stored / "set", f"{web.url}/bucket/set/"):
        module = MarioDataModule(str(root), size=16, batch_size=4, num_workers=1, val_share=0.2, test_share=0.2)
        module.setup()
        batches.append([*module.train_dataloader(), *module.val_dataloader()])
        assert not module.broken
    assert [batch.keys for batch in batches[0]] == [batch.keys for batch in batches[1]]
    assert all(torch.equal(a.images, b.images) for a, b in zip(*batches, strict=True))


def test_a_fit_over_a_url_resumes_as_one_from_the_folder_would_have_gone_on(
    web: RangeServer, stored: Path, tmp_path: Path
) -> None:
    def fit(root: Path | str, steps: int, seed: int, ckpt_path: Path | None = None) -> Any:
        module, trainer = tiny.stage("alignment", seed), tiny.trainer(steps, callbacks=[ExactResume()])
        data = MarioDataModule(str(root), size=tiny.SIZE, batch_size=2, num_workers=1, val_share=0.1, test_share=0.1)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return trainer, module

    url = f"{web.url}/bucket/set"
    _, whole = fit(stored / "set", 6, 0)
    stopped, _ = fit(url, 3, 0)
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    shutil.rmtree(tmp_path / "cache")  # as on another machine
    trainer, resumed = fit(url, 6, 1, tmp_path / "stopped.ckpt")  # what the seed gives is overwritten
    assert trainer.global_step == 6
    restored = dict(resumed.named_parameters())
    assert all(torch.equal(value, restored[name]) for name, value in whole.named_parameters())


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_only_what_is_read_is_fetched(
    web: RangeServer, scheme: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    made_up_set(web.root / "bucket" / "large", 1000)
    shard = (web.root / "bucket" / "large" / SHARDS / "s.arrow").stat().st_size
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    url = f"{web.url}/bucket/large" if scheme == "http" else "s3://bucket/large"
    source = opened(url)
    assert len(web.bytes_of(NOTE)) == 1
    assert len(web.bytes_of("index_0")) == 2
    web.sent.clear()
    for index in (3, 500, 999):
        assert source.read(index).prompt == 'a big "SALE"'
    ranges = web.bytes_of(SHARDS)
    assert len(ranges) == len(web.sent) == 2  # a range each; the last sample is in the end of the shard
    assert sum(ranges) < 2 * 1.1 * shard / 1000
    web.sent.clear()
    source.read_texts(7)
    texts = sum(web.bytes_of(SHARDS))
    assert texts < 0.7 * shard / 1000
    web.sent.clear()
    opened(url)  # as a second command does: the index and the shard's end are in the cache
    assert web.bytes_of("index_0") == []
    assert max(web.bytes_of(SHARDS)) < shard / 1000
    assert [path.suffix for path in cache.rglob("*.tail")] == [".tail"]


def test_a_changed_set_is_noticed(web: RangeServer, tmp_path: Path) -> None:
    url = f"{web.url}/bucket/set"
    before = opened(url)
    for number in range(SAMPLES):
        write_mario(tmp_path / "mario", number, f"a new SALE {number}", shelf=number // 4)
    shutil.rmtree(web.root / "bucket" / "set")
    prepare(Preparation("y", folder_portions(tmp_path / "mario"), web.root / "bucket" / "set"))
    after = opened(url)
    assert list(after.keys) == list(before.keys)
    assert after.content() != before.content()
    assert [after.read(i).caption for i in range(SAMPLES)] == [f"a new SALE {i}" for i in range(SAMPLES)]


def test_processes_that_start_together_fetch_the_index_once(web: RangeServer) -> None:
    web.delay = 0.05
    url = f"{web.url}/bucket/set"
    assert in_other_processes(lambda: opened(url).read(5).caption, 3) == ["a big SALE 5"] * 3
    assert len(web.bytes_of("keys.npy")) == len(web.bytes_of("rows.npy")) == 1
    assert len(web.bytes_of(NOTE)) == 3


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_an_outage_is_waited_for(
    web: RangeServer, scheme: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made_up_set(web.root / "bucket" / "large", 500, per_shard=500)
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    url = f"{web.url}/bucket/large" if scheme == "http" else "s3://bucket/large"
    web.failing = 2  # fsspec asks with HEAD and then GET; the S3 client tries three times by itself
    source = opened(url, max_outage=20)
    web.failing = 2
    assert source.read(9).prompt == 'a big "SALE"'
    assert web.failing == 0
    assert ("waiting for up to 20 s" in caplog.text) == (scheme == "http")
    source.max_outage = 0.1
    web.failing = 1000
    message = rf"{url} could not be read for 0.1 s \(data.max_outage\): .* cannot be read .*{url}/shards"
    with pytest.raises(DataOutageError, match=message):
        source.read(70)
    web.failing = 0
    assert source.read(70).prompt == 'a big "SALE"'


def test_refusals_are_one_line_at_the_start(web: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{web.url}/bucket/set"

    def refused(root: str) -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            opened(root, max_outage=60)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert f"data.root is '{web.url}/no': {web.url}/no/{NOTE} does not exist; copy the whole" in refused(
        f"{web.url}/no"
    )
    assert "http://nowhere.invalid/set/prepared.json its host is not known" in refused("http://nowhere.invalid/set")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid")
    assert "its host is not known" in (text := refused("s3://bucket/set"))
    assert text.endswith("check the name, and AWS_ENDPOINT_URL for s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.failing, web.status = 10_000, 403
    for root in (url, "s3://bucket/set"):
        assert f"data.root is '{root}': {root}/{NOTE} may not be read with these credentials" in refused(root)
    web.failing = 0
    made_up_set(web.root / "bucket" / "large", 200, per_shard=200)
    web.ranges = False
    assert "its server must answer range requests" in refused(f"{web.url}/bucket/large")
    web.ranges = True
    (web.root / "bucket" / "large" / SHARDS / "s.arrow").unlink()
    assert f"/large/{SHARDS}/s.arrow does not exist" in refused(f"{web.url}/bucket/large")


def test_a_shard_that_goes_missing_is_one_sample(web: RangeServer) -> None:
    source = opened(f"{web.url}/bucket/set")
    (web.root / "bucket" / "set" / SHARDS / f"{source.place(11)[0]}.arrow").unlink()
    with pytest.raises(SkipSample, match="its shard is missing"):
        source.read(11)
    shutil.rmtree(web.root / "bucket" / "set" / FOLDER)
    with pytest.raises(ValueError, match=r"data.latents is true, and .*/bucket/set has no cached latents; .* copy its"):
        source.check_latents({})


def test_urls_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, message in (
        ("gs://bucket/set", "root is 'gs://bucket/set'; allowed are a folder, s3://, https:// and http://"),
        ("https://me:secret@host/set", "root is a URL of host with a user, a query or a fragment"),
        ("https://host/set?token=secret", "root is a URL of host with a user, a query or a fragment"),
    ):
        with pytest.raises(ValueError, match=message.replace("?", "[?]")) as error:
            MarioDataModule(url)
        assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match=r"out is 's3://bucket/set', a URL; sets are written to a local folder only"):
        check_writable("out", Path("s3://bucket/set"))


def test_a_cache_that_cannot_be_written_is_named(web: RangeServer, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"data.root is .* cannot be written .*; VLAD_CACHE names another folder"):
        opened(f"{web.url}/bucket/set")
