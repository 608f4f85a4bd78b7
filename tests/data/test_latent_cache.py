"""The files of cached latents: what is written is read back, also in another process; damaged ones are named."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pyarrow.ipc
import pytest
import torch

from vlad_lightning.data.latent_cache import (
    FOLDER,
    LatentNote,
    LatentReader,
    claim_cache,
    finish_cache,
    has_latents,
    read_latent_note,
    write_latents,
)
from vlad_lightning.data.source import SkipSample
from vlad_lightning.types import Latents

SHAPES = {"images": [2, 3, 4], "glyphs": [2, 3, 4], "letters": [3, 4], "embeddings": [5]}
CONTENT = {"samples": "0"}


def drawn(seed: int) -> Latents:
    generator = torch.Generator().manual_seed(seed)
    image, glyphs, empty = torch.randn(3, 2, 3, 4, generator=generator)
    return Latents(
        image, glyphs, empty, torch.rand(3, 4, generator=generator) < 0.5, torch.randn(5, generator=generator)
    )


def written(root: Path, dtype: str, shapes: dict[str, list[int]] = SHAPES) -> LatentNote:
    note = LatentNote({"data": {"size": 8}, "dtype": dtype}, shapes, CONTENT)
    claim_cache(root, note, drawn(0).no_glyphs if "glyphs" in shapes else None)
    write_latents(root, "a", "state", note, [drawn(0), None, drawn(1)])
    finish_cache(root, note, ["a"])
    return read_latent_note(root, CONTENT)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0.0), ("float16", 2.0**-11)])
def test_latents_are_read_back_up_to_the_rounding_of_the_dtype(tmp_path: Path, dtype: str, error: float) -> None:
    note = written(tmp_path, dtype)
    reader = pickle.loads(pickle.dumps(LatentReader(tmp_path, note)))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        elsewhere = pool.apply(reader, ("a", 2))
    for found in (reader("a", 2), elsewhere):
        expected = drawn(1)
        assert found.images.dtype == found.glyphs.dtype == found.embeddings.dtype == getattr(torch, dtype)
        for name in ("images", "glyphs", "embeddings"):
            stored, true = getattr(found, name).float(), getattr(expected, name)
            assert stored.shape == true.shape
            assert ((stored - true).abs() <= error * true.abs() + 1e-7 * bool(error)).all()
        assert torch.equal(found.letters, expected.letters)
    no_glyphs, empty = reader("a", 0).no_glyphs, drawn(0).no_glyphs
    assert no_glyphs is not None
    assert empty is not None
    assert torch.equal(no_glyphs, empty)
    with pytest.raises(SkipSample, match="a, row 1: no cached latents"):
        reader("a", 1)


def test_any_library_of_arrow_reads_the_numbers(tmp_path: Path) -> None:
    written(tmp_path, "float16", {"images": [2, 3, 4], "letters": [3, 4]})
    with pyarrow.ipc.open_file(str(tmp_path / FOLDER / "a.arrow")) as file:
        rows = file.read_all().to_pylist()
    assert rows[1] == {"images": None, "letters": None}
    assert rows[0]["images"] == drawn(0).images.half().flatten().tolist()
    assert rows[0]["letters"] == drawn(0).letters.int().flatten().tolist()


def test_a_shard_is_done_for_its_own_samples_and_key_only(tmp_path: Path) -> None:
    note = written(tmp_path, "float16")
    assert has_latents(tmp_path, "a", "state", note)
    assert not has_latents(tmp_path, "a", "another", note)
    assert not has_latents(tmp_path, "b", "state", note)
    assert not has_latents(tmp_path, "a", "state", LatentNote({"dtype": "float16"}, SHAPES, CONTENT))
    (tmp_path / FOLDER / "a.arrow").write_bytes(b"half")
    assert not has_latents(tmp_path, "a", "state", note)


def test_damaged_notes_and_files_are_named(tmp_path: Path) -> None:
    note = written(tmp_path, "float16")
    path = tmp_path / FOLDER / "latents.json"
    whole: dict[str, Any] = json.loads(path.read_text())
    for content, message in (
        ("{", r"latents.json cannot be used \(JSONDecodeError"),
        (json.dumps(whole | {"version": 9}), "is of version 9, and this is version 1; remove its folder"),
        (json.dumps(whole | {"more": 1}), r"latents.json cannot be used \(TypeError"),
        (json.dumps(whole | {"finished": False}), "are not finished; go on: vlad-cli cache"),
        (json.dumps(whole | {"content": {}}), "has changed since its latents were cached"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_latent_note(tmp_path, CONTENT)
    (tmp_path / FOLDER / "no_glyphs.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"no_glyphs.npy cannot be used"):
        LatentReader(tmp_path, note)
