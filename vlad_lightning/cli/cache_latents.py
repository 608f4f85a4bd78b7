"""``vlad-cli cache``: stores what the frozen networks of stage 2 compute of each sample of a prepared data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad_lightning.cli.arguments import Parser
from vlad_lightning.cli.prepare import part_of

if TYPE_CHECKING:
    import torch

    from vlad_lightning.modules import VFEModule

_PARTS = ("image_generator.autoencoder", "image_encoder")  # whose outputs are stored
_FORMATS = ("float16", "float32")  # those of data.latent_cache, whose import takes seconds


def cache(args: Sequence[str]) -> None:
    """Run ``vlad-cli cache --config ... --data.root SET``.

    Args:
        args: the arguments after ``cache``; all that are not its own options are the configuration of the training.

    Raises:
        FileNotFoundError: if there is no such set or checkpoint.
        ValueError: if the configuration is not that of stage 2, or there is another cache.
    """
    options, rest = _parser().parse_known_args(args)
    if options.checkpoint is not None and not options.checkpoint.exists():
        raise FileNotFoundError(f"--checkpoint {options.checkpoint} does not exist")
    from vlad_lightning.cli.fit import build
    from vlad_lightning.modules import VFEModule
    from vlad_lightning.modules.latent_run import fill_cache
    from vlad_lightning.modules.latents import LatentEncoder

    built = build(rest, run=False)
    module = built.model
    if not isinstance(module, VFEModule):
        raise ValueError(
            f"the config builds {type(module).__name__}; only stage 2, VFEModule, trains on cached latents"
        )
    if module.masking is not None:
        raise ValueError("model.masking trains inpainting, which encodes a part of each picture and reads no latents")
    autocast = _autocast(built.trainer.precision)
    _load(built.trainer, module, options.checkpoint)
    encoder = LatentEncoder(module.image_generator, module.image_encoder, autocast)
    module.eval().to(_device(options.device))
    report = fill_cache(built.datamodule, encoder, options.dtype, options.range, options.replace)
    root = built.datamodule.source.name
    print(f"{report.samples} samples were computed, {report.nbytes:,} bytes each; {report.unreadable} cannot be read")
    if report.left:
        print(f"this part is done; {report.left} shards are left to the other parts")
    else:
        print(f"train on them: vlad-cli fit with the same configuration, --data.root {root} --data.latents true")


def _load(trainer: Any, module: VFEModule, checkpoint: Path | None) -> None:
    """Load the weights of the networks whose outputs are stored, as a fit does at its start, or from a checkpoint."""
    from vlad_lightning.callbacks import FromPipeline, FromPretrained, InitFrom
    from vlad_lightning.checkpoints.resume import load_checkpoint

    if checkpoint is not None:
        load_checkpoint(module, checkpoint)
        return
    for callback in trainer.callbacks:
        needed = isinstance(callback, FromPretrained | InitFrom) and any(_overlap(callback.part, p) for p in _PARTS)
        if needed or isinstance(callback, FromPipeline):
            callback.setup(trainer, module, "fit")


def _overlap(first: str, second: str) -> bool:
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _autocast(precision: str) -> torch.dtype | None:
    import torch

    known = {"32-true": None, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
    if precision not in known:
        raise ValueError(f"trainer.precision is {precision}; latents are cached under {', '.join(known)}")
    return known[precision]


def _device(name: str | None) -> str:
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _parser() -> Parser:
    parser = Parser(
        "vlad-cli cache",
        usage="%(prog)s --config FILE [--config FILE ...] --data.root SET [--checkpoint FILE] [--dtype DTYPE] "
        "[--range i/n] [--replace] [--device DEVICE]",
        description="Store the latents of the images and of the glyph maps of a prepared data set, and the images' "
        "embeddings, so that stage 2 need not compute them in every epoch: --data.latents true. After a stop, at any "
        "moment, the same command goes on.",
        epilog="All other options are those of the training, as for vlad-cli fit: --config FILE (may be repeated), "
        "--data.root SET, --data.num_workers N, --data.batch_size N and the like.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="read the networks from this checkpoint of stage 2, not as a fit does at its start",
    )
    parser.add_argument(
        "--dtype", choices=_FORMATS, default="float16", help="format of the stored numbers; default: %(default)s"
    )
    parser.add_argument(
        "--range", type=part_of, default=(0, 1), help="i/n: do part i of n, from 0 on, as a task of a SLURM array"
    )
    parser.add_argument(
        "--replace", action="store_true", help="remove latents that other networks or settings have made"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser
