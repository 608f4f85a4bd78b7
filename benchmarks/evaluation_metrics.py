"""Measure the metrics that need a network, in images a second: ``python benchmarks/evaluation_metrics.py FOLDER``.

FOLDER holds image files of any size. Each network has the architecture that the metric uses; Inception's and CLIP's
weights are random, as the speed does not depend on them. `Plain loop` embeds one image at a time, `batches` as
``vlad-cli evaluate score`` does. The last rows are the arithmetic on what was read: OCR's measures and a bootstrap.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from markdown_table import table, table_rows
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from vlad_lightning.evaluation.distances import EMBEDDED_TOGETHER
from vlad_lightning.files import PICTURE_SUFFIXES, as_rgb, read_picture
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.bootstrap import ratio_result
from vlad_lightning.metrics.clip_score import TransformersCLIP
from vlad_lightning.metrics.efficientnet_lite import EfficientNetLite0
from vlad_lightning.metrics.embedder import Held, ImageEmbedder
from vlad_lightning.metrics.fid import InceptionNetwork, PytorchFidNetwork
from vlad_lightning.metrics.ocr import edit_score

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

_MARIO_EVAL = 21_656
"""Images of MARIO-Eval: 5,414 prompts, four images each."""

_TOWERS = {
    "B/32": ((768, 3072, 12, 12, 32), (512, 2048, 8, 12), 512),
    "L/14": ((1024, 4096, 16, 24, 14), (768, 3072, 12, 12), 768),
}
"""Of CLIP's image and text towers: width, width of the MLP, heads, layers, side of a patch; width of the embedding."""


class _Untrained(FeatureExtractorInceptionV3):
    """The Inception network with random weights: loading, the only way in, is switched off."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of images, at any depth")
    parser.add_argument("--images", type=int, default=32, help="images for each row (default: %(default)s)")
    parser.add_argument("--side", type=int, default=512, help="to which they are resized (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    with TemporaryDirectory() as folder:
        copies = [
            resized(path, options.side, Path(folder, f"{i}.png")) for i, path in enumerate(paths[: options.images])
        ]
        print(
            f"{os.cpu_count()} processors ({platform.machine()}), {options.device}, {torch.get_num_threads()} threads, "
        )
        print(f"load {os.getloadavg()[0]:.1f}, {date.today()}; {len(copies)} images of {options.side} px\n")
        head = ("metric", "how", "images/s", "s of the processor an image", "MARIO-Eval's images, hours of a thread")
        table(head, ())
        for name, build in networks(Path(folder)):
            held = Held(build())
            for how, size in (("plain loop", 1), ("batches", EMBEDDED_TOGETHER)):
                row(name, how, len(copies), lambda: embed(held, copies, size, options.device))  # noqa: B023
        rows_of_text()


def resized(path: Path, side: int, copy: Path) -> Path:
    """Write a copy of an image with another side."""
    as_rgb(read_picture(path)).resize((side, side)).save(copy)
    return copy


def networks(folder: Path) -> Iterator[tuple[str, Callable[[], ImageEmbedder]]]:
    """Yield the name of each metric, and how its network is built."""
    empty = folder / "empty.pth"
    torch.save({}, empty)
    state = _Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(empty)).state_dict()
    torch.save(state, folder / "inception.pth")
    yield "FID and KID", lambda: InceptionNetwork(str(folder / "inception.pth"))
    yield "FID and KID, resized as pytorch-fid", lambda: PytorchFidNetwork(str(folder / "inception.pth"))
    yield "distances by EfficientNet-Lite0", EfficientNetLite0
    for name in _TOWERS:
        yield f"CLIP score, ViT-{name}", lambda: TransformersCLIP(str(untrained_clip(name, folder / "clip")))  # noqa: B023


def untrained_clip(name: str, folder: Path) -> Path:
    """Write a CLIP of OpenAI's size with random weights."""
    from tiny_clip import tokenizer

    (width, inner, heads, layers, patch), text, joint = _TOWERS[name]
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    config = CLIPConfig(
        text_config=dict(zip(names, text, strict=True)),
        vision_config=dict(zip(names, (width, inner, heads, layers), strict=True)) | {"patch_size": patch},
        projection_dim=joint,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(), tokenizer()).save_pretrained(folder)
    return folder


def embed(held: Held[ImageEmbedder], paths: Sequence[Path], size: int, device: str) -> None:
    """Read and embed images, ``size`` at a time."""
    for start in range(0, len(paths), size):
        batch = torch.stack([from_pil(as_rgb(read_picture(path))) for path in paths[start : start + size]])
        held.images(batch.to(device)).cpu()


def rows_of_text() -> None:
    """Print the rows of the arithmetic: words of images compared, and an interval over MARIO-Eval's prompts."""
    read, wanted = ["grand", "0pening", "sale", "today"], ["grand", "opening", "sale"]
    row(
        "edit distance of an image's words", "plain loop", 2000, lambda: [edit_score(read, wanted) for _ in range(2000)]
    )
    rng = np.random.default_rng(0)
    parts = rng.integers(0, 4, _MARIO_EVAL).astype(np.float64)
    row(
        "interval of a share over all images",
        "2,000 resamples",
        _MARIO_EVAL,
        lambda: ratio_result(parts, parts + 1, rng),
    )


def row(name: str, how: str, images: int, work: Callable[[], object]) -> None:
    """Run once and print a row; the processor's seconds are those of this process."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    hours = _MARIO_EVAL * processor / images / 3600
    table_rows([(name, how, f"{images / clock:.3g}", f"{processor / images:.3g}", f"{hours:.3g}")])


if __name__ == "__main__":
    main()
