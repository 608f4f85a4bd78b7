"""Data folders for tests of prepared data sets: samples in MARIO's format, and an index of made-up entries."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from vlad_lightning.data.prepared_shard import PreparedRow, write_shard
from vlad_lightning.data.prepared_source import KEY, KEYS, NOTE, ROWS, SHARDS, VERSION

WORDS = "SALE 10,10,200,10,200,90,10,90 0.9\n"


def jpeg(seed: int, size: tuple[int, int] = (80, 72)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).resize(size).save(content, "JPEG")
    return content.getvalue()


def write_mario(
    root: Path, number: int, caption: str = "a big SALE", ocr: str = WORDS, image: bytes | None = None, shelf: int = 0
) -> Path:
    folder = root / f"{shelf:05d}" / f"{number:09d}"
    folder.mkdir(parents=True)
    (folder / "caption.txt").write_text(caption, encoding="utf-8")
    (folder / "ocr.txt").write_text(ocr, encoding="utf-8")
    (folder / "image.jpg").write_bytes(jpeg(number) if image is None else image)
    return folder


def made_up_set(root: Path, samples: int, per_shard: int = 1000, image: bytes | None = None) -> Path:
    """Write an index of any length whose shards are one file under many numbers."""
    index = root / "index_0"
    index.mkdir(parents=True)
    numbers = np.char.zfill(np.arange(samples).astype("S9"), 9)
    np.save(index / KEYS, np.char.add(b"00000_", numbers).astype(KEY))
    np.save(index / ROWS, np.arange(samples, dtype=np.int64))
    row = PreparedRow(
        "00000_000000000", "made up", "a big SALE", 'a big "SALE"', WORDS.strip(), "", image or jpeg(0), 80, 72
    )
    write_shard(root / SHARDS / "s.arrow", [row] * per_shard)
    note = {"version": VERSION, "source": "nowhere", "finished": True, "samples": samples, "index": index.name}
    content = {"content": {"samples": "0"}, "shards": [["s", per_shard]] * -(-samples // per_shard)}
    (root / NOTE).write_text(json.dumps(note | content), encoding="utf-8")
    return root
