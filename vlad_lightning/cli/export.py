"""``vlad-cli export``: a stage-2 checkpoint as a pipeline folder, or its UNet's adapters alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diffusers import DiffusionPipeline

from vlad_lightning.checkpoints.resume import load_checkpoint
from vlad_lightning.cli.fit import build
from vlad_lightning.files import new_folder
from vlad_lightning.models.painter.lora_file import save_unet_lora
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.model_card import Run, read_run, write_card
from vlad_lightning.pipeline.precision import DTYPES, megabytes, store_as

_INDEX, _LORA = DiffusionPipeline.config_name, "pytorch_lora_weights.safetensors"


def export(args: Sequence[str]) -> None:
    """Run ``vlad-cli export --checkpoint FILE --folder DIR --config ...``.

    Args:
        args: the arguments after ``export``; all that are not its own options are the stage's configuration.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if no folder is named, a folder holds something else, or the checkpoint does not fit.
    """
    options, rest = _export_parser().parse_known_args(args)
    if not options.checkpoint.exists():
        raise FileNotFoundError(f"--checkpoint {options.checkpoint} does not exist")
    targets = {"--folder": (options.folder, _INDEX), "--lora-folder": (options.lora_folder, _LORA)}
    _check_targets(targets)
    built = build(rest, run=False)
    module = built.model
    if not isinstance(module, VFEModule):
        raise ValueError(f"the config builds {type(module).__name__}; export needs stage 2, VFEModule")
    if options.lora_folder and module.image_generator.vfe.lora is None:
        raise ValueError("--lora-folder: the config trains the whole unet, vfe.lora is null; export --folder")
    saved = load_checkpoint(module, options.checkpoint)
    if options.lora_folder:
        _replace(options.lora_folder, lambda new: save_unet_lora(module.image_generator.vfe, new))
    if options.folder:
        data = getattr(getattr(built.datamodule, "source", None), "name", "unknown")
        results = Path(built.config["out"], "results.json")
        samplers = module.sampler, module.layout_sampler
        run = read_run(options.folder.name, data, options.checkpoint, saved, results, *samplers)
        _replace(options.folder, lambda new: _save_pipeline(module, run, new, options.dtype))


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "vlad-cli export",
        allow_abbrev=False,
        usage="%(prog)s --config FILE [--config FILE ...] --checkpoint FILE (--folder | --lora-folder) DIR "
        "[--dtype DTYPE] [--out DIR]",
        description="Write a stage-2 checkpoint as a pipeline folder, or its UNet's adapters alone.",
        epilog="All other options are those of the training run, as for vlad-cli fit: --config FILE (may be repeated), "
        "--out DIR (whose results.json the model card shows), --data.root DIR, --model.image_generator.vfe.lora and "
        "the like.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of stage 2, a .ckpt file or folder")
    parser.add_argument("--folder", type=Path, help="new folder of the pipeline")
    parser.add_argument(
        "--lora-folder", type=Path, help="new folder of the UNet's adapters alone, for load_lora_weights"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="format in which --folder's weights are stored; they are loaded as float32 (default: %(default)s)",
    )
    return parser


def _save_pipeline(module: VFEModule, run: Run, folder: Path, dtype: str) -> None:
    VLADPipeline.from_module(module).save_pretrained(folder)
    if dtype != "float32":
        store_as(folder, DTYPES[dtype])
    write_card(folder, run)


def _check_targets(targets: Mapping[str, tuple[Path | None, str]]) -> None:
    """Refuse to overwrite anything except an earlier export, recognised by a file of the given name."""
    if all(folder is None for folder, _ in targets.values()):
        raise ValueError(f"nothing to write: name {' or '.join(targets)}")
    for option, (folder, sign) in targets.items():
        if folder and folder.exists() and any(folder.iterdir()) and not (folder / sign).is_file():
            raise ValueError(f"{option} {folder} holds something else than an earlier export; name a new one")


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    with new_folder(folder) as beside:
        write(beside)
    print(f"wrote {folder} ({megabytes(folder):.1f} MB)")
