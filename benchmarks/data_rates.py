"""How fast samples are read: folders, a prepared set and cached latents, beside WebDataset and a loop of PIL.

python benchmarks/data_rates.py --sizes 64 128 512

Posters of the rich world are written as MARIO's folders, as a prepared set, and as a tar file for WebDataset. All are
read in one process by one thread; files are in the page cache, and only the CPU's time counts. What is kept in memory
(``data.keep_in_memory``) is found there from the second round on. WebDataset is measured if it is installed, by its
plain reader, which gives pixels and a string, and as a source of the same samples that a training gets from a prepared
set; the project does not need it.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markdown_table import table
from PIL import Image
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.latent_cache import LatentNote, claim_cache, finish_cache, write_latents
from vlad_lightning.data.mario import read_texts
from vlad_lightning.data.ocr_lines import parse_ocr
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_sample import PrepareSettings
from vlad_lightning.data.prepared_source import PreparedSource
from vlad_lightning.data.sample_memory import SampleMemory
from vlad_lightning.data.scene_file import decode_scene
from vlad_lightning.data.source import RawSample, SampleSource, prompt_of
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.files import as_rgb, picture_from_bytes
from vlad_lightning.types import COSTLY_FIELDS, LATENTS, Latents

_CHANNELS, _FACTOR, _EMBEDDING = 4, 8, 768  # of Stable Diffusion 1.5's autoencoder and CLIP ViT-L/14
_PIECES = {"picture and texts": ("images",), "picture, texts and glyph map": COSTLY_FIELDS, "texts alone": ()}

Pass = Callable[[], int]
"""Reads every sample once, and returns how many there were."""


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=400, help="more than the 256 prompts that the parser remembers")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts; default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            passes = readers(Path(folder), options.samples, size)
            seconds = {name: float("inf") for name in passes}
            for _ in range(options.rounds):  # interleaved
                for name, read in passes.items():
                    seconds[name] = min(seconds[name], timed(read))
        base = seconds["PIL: picture"]
        rows = [(name, f"{1e3 * s:.2f}", f"{1 / s:,.0f}", f"{base / s:.2f}") for name, s in seconds.items()]
        print(f"\n{size} px:\n")
        table(("read", "ms of the CPU a sample", "samples a second of one core", "times PIL's rate"), rows)


def timed(read: Pass) -> float:
    """Return the CPU's seconds for a sample of a pass."""
    began = time.process_time()
    count = read()
    return (time.process_time() - began) / count


def readers(folder: Path, samples: int, size: int) -> dict[str, Pass]:
    """Write the posters in every form, and return how each is read."""
    posters, packed, tar = folder / "posters", folder / "set", folder / "posters.tar"
    write_posters(posters, samples, size, workers=1, charseg=False, world="rich")
    prepare(Preparation("posters", folder_portions(posters), packed, PrepareSettings(size)))
    cache_random(packed, size)
    pack(posters, tar)
    jpegs = sorted(posters.rglob("image.jpg"))
    found: dict[str, Pass] = {"PIL: picture": lambda: sum(opened(path) is not None for path in jpegs)}
    try:
        import webdataset
    except ImportError:
        print("WebDataset is not installed, and not measured")
    else:
        shard = webdataset.WebDataset(str(tar), shardshuffle=False)
        plain = shard.decode("torchrgb").to_tuple("jpg", "txt")
        found["WebDataset: picture and caption"] = lambda: sum(1 for _ in plain)
        for piece in ("picture and texts", "picture, texts and glyph map"):
            source = TarSource(lambda: iter(webdataset.WebDataset(str(tar), shardshuffle=False)), samples)
            found[f"WebDataset: {piece}"] = every(data_set(source, size, samples, _PIECES[piece]))
    for name, root in (("folders", posters), ("prepared set", packed)):
        for piece, fields in _PIECES.items():
            found[f"{name}: {piece}"] = every(data_set(root, size, samples, fields))
    cached = data_set(packed, size, samples, (LATENTS,), latents=True)
    found["prepared set: cached latents and texts"] = every(cached)
    read = cached.source.read_latents
    found["prepared set: cached latents"] = lambda: sum(read(i) is not None for i in range(samples))
    for piece, kept in (
        ("picture, texts and glyph map", data_set(packed, size, samples, COSTLY_FIELDS)),
        ("cached latents and texts", data_set(packed, size, samples, (LATENTS,), latents=True)),
    ):
        kept.memory = SampleMemory(10_000)
        found[f"kept in memory: {piece}"] = every(kept)
    return found


class TarSource(SampleSource):
    """The samples of a tar file, read in its order by WebDataset, again and again.

    Args:
        start: returns the samples from the first one on.
        count: their number.
    """

    def __init__(self, start: Callable[[], Iterator[Mapping[str, Any]]], count: int) -> None:
        self._start, self._count = start, count
        self._samples: Iterator[Mapping[str, Any]] = iter(())

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Sequence[str]:
        """Numbers."""
        return [f"{number:09d}" for number in range(self._count)]

    def read(self, index: int) -> RawSample:
        """Return the next sample."""
        if index == 0:
            self._samples = self._start()
        row = next(self._samples)
        image = as_rgb(picture_from_bytes(row["jpg"], row["__key__"]), in_place=True)
        prompt, words = row["txt"].decode(), tuple(parse_ocr(row["ocr"].decode())[0])
        return RawSample(row["__key__"], image, prompt, words, (), decode_scene(row["scene"].decode()), prompt)


def data_set(
    root: Path | SampleSource, size: int, samples: int, fields: tuple[str, ...], latents: bool = False
) -> MarioDataset:
    """Return the samples as a training reads them that needs these fields."""
    where: dict[str, Any] = {"root": str(root)} if isinstance(root, Path) else {"source": root}
    data = MarioDataModule(**where, size=size, latents=latents)
    data.setup()
    found = data.samples(np.arange(samples))
    found.built = fields
    return found


def every(samples: MarioDataset) -> Pass:
    """Read them in order, and check that none is broken."""

    def read() -> int:
        for number in range(len(samples)):
            assert samples.read(number) is not None, samples.source.keys[number]
        return len(samples)

    return read


def opened(path: Path) -> Tensor:
    """Decode a picture into (3, H, W) float32 in [-1, 1], as short as one would write it."""
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(127.5).sub(1)


def pack(posters: Path, tar: Path) -> None:
    """Write the posters as WebDataset reads them; the caption has the quotes that ours are read with."""
    with tarfile.open(tar, "w") as shard:
        for folder in sorted(path.parent for path in posters.rglob("image.jpg")):
            contents = {
                "jpg": (folder / "image.jpg").read_bytes(),
                "txt": prompt_of(read_texts(folder), folder).encode(),
                "ocr": (folder / "ocr.txt").read_bytes(),
                "scene": (folder / "scene.json").read_bytes(),
            }
            for suffix, content in contents.items():
                entry = tarfile.TarInfo(f"{folder.name}.{suffix}")
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))


def cache_random(root: Path, size: int) -> None:
    """Cache random numbers in the place of latents."""
    source = PreparedSource(str(root))
    source.setup()
    drawing = dict(MarioDataModule(str(root), size=size).drawing)
    side = size // _FACTOR
    latent = [_CHANNELS, side, side]
    shapes = {"images": latent, "glyphs": latent, "letters": [side, side], "embeddings": [_EMBEDDING]}
    note = LatentNote({"data": drawing, "dtype": "float16"}, shapes, dict(source.content()))
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(*shape, generator=generator) for shape in (latent, latent, [_EMBEDDING])]
    row = Latents(values[0], values[1], values[0], torch.rand(side, side, generator=generator) < 0.1, values[2])
    claim_cache(root, note, values[0].half())
    for name, length in source.shards:
        write_latents(root, name, "", note, [row] * length)
    finish_cache(root, note, [name for name, _ in source.shards])


if __name__ == "__main__":
    main()
