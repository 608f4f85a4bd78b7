"""What cached latents save: `python benchmarks/latents.py`.

Samples a second of one core, read for stage 2 from a prepared set of synthetic posters, with their pictures or with
cached latents of Stable Diffusion's size; files are in the page cache. Then the floating-point operations of a training
step of the shipped configurations with and without them, counted on the meta device.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from markdown_table import table
from workloads import LORA, NETWORKS, build_module, forward_tflop

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.latent_cache import LatentNote, claim_cache, finish_cache, write_latents
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_sample import PrepareSettings
from vlad_lightning.data.prepared_source import PreparedSource
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.types import COSTLY_FIELDS, LATENTS, Latents

_CHANNELS, _FACTOR, _EMBEDDING = 4, 8, 768  # of Stable Diffusion 1.5's autoencoder and CLIP ViT-L/14
_READ = {
    "pictures and glyph maps": COSTLY_FIELDS,
    "cached latents": (LATENTS,),
    "neither: caption, words and boxes": (),
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts; default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _reading(Path(folder), options.samples, options.size, options.rounds)
    print()
    _operations()


def _reading(folder: Path, samples: int, size: int, rounds: int) -> None:
    write_posters(folder / "posters", samples, size, workers=1, charseg=False, world="rich")
    prepare(Preparation("posters", folder_portions(folder / "posters"), folder / "set", PrepareSettings(size)))
    _write_random(folder / "set", size)
    data = MarioDataModule(str(folder / "set"), size=size, latents=True)
    data.setup()
    found = data.samples(np.arange(samples))
    seconds = {}
    for name, fields in _READ.items():
        found.built = fields
        seconds[name] = min(_seconds(found.__getitem__, samples) for _ in range(rounds)) / samples
    alone = min(_seconds(data.source.read_latents, samples) for _ in range(rounds)) / samples
    seconds["the latents alone"] = alone
    first = seconds["pictures and glyph maps"]
    rows = [(name, f"{1e3 * s:.2f}", f"{1 / s:,.0f}", f"{first / s:.1f}") for name, s in seconds.items()]
    table(("read", "ms of the CPU a sample", "samples a second of one core", "times as many"), rows)


def _seconds(read: Callable[[int], object], samples: int) -> float:
    began = time.process_time()
    for number in range(samples):
        assert read(number) is not None
    return time.process_time() - began


def _write_random(root: Path, size: int) -> None:
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


def _operations() -> None:
    rows = []
    for name, (config, _) in NETWORKS.items():
        # without gradients of the frozen weights, the backward pass is as long as the forward pass
        for title, more, passes in ((name, [], 3), (f"{name}, LoRA", ["--model.image_generator.vfe.lora", LORA], 2)):
            generated, frozen = forward_tflop(build_module(config, *more))
            trained = passes * generated
            share = frozen / (trained + frozen)
            rows.append((title, f"{trained + frozen:.2f}", f"{trained:.2f}", f"{100 * share:.0f} %"))
    table(("configuration", "TFLOP an image", "with cached latents", "saved"), rows)


if __name__ == "__main__":
    main()
