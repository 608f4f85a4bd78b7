"""``vlad-cli export``: a stage-2 checkpoint as a pipeline folder, its UNet's adapters alone, or evaluation weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlad_lightning.cli.arguments import Parser, misspelt
from vlad_lightning.files import TEXT_BYTES, new_folder, picture_size, read_utf8

if TYPE_CHECKING:
    from vlad_lightning.modules import VFEModule
    from vlad_lightning.pipeline.model_card import Run

_INDEX, _LORA = "model_index.json", "pytorch_lora_weights.safetensors"  # diffusers' names
_EVALUATION = "encoder/config.json"
FORMATS = ("float32", "float16", "bfloat16")
"""The keys of ``models.number_format.DTYPES``, whose import takes seconds."""


def export(args: Sequence[str]) -> None:
    """Run ``vlad-cli export --checkpoint FILE --folder DIR --config ...``, or with ``--evaluation``.

    Args:
        args: the arguments after ``export``; all that are not its own options are the stage's configuration.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if no folder is named, a folder holds something else, or the checkpoint does not fit.
    """
    options, rest = _export_parser().parse_known_args(args)
    _check_combination(options, rest)
    if options.evaluation:
        _check_targets({"--evaluation": (options.evaluation, _EVALUATION)})
        from vlad_lightning.cli.export_evaluation import write_evaluation

        sources = options.evaluation.name, options.encoder, options.detector
        _replace(options.evaluation, lambda new: write_evaluation(*sources, new, options.dtype))
        return
    if not options.checkpoint.exists():
        raise FileNotFoundError(f"--checkpoint {options.checkpoint} does not exist")
    targets = {"--folder": (options.folder, _INDEX), "--lora-folder": (options.lora_folder, _LORA)}
    _check_targets(targets)
    pictures: list[Path] = options.card_pictures or []
    for picture in pictures:
        picture_size(picture)
    notes = _read_notes(options.card_notes)
    _export_stage_2(options, rest, pictures, notes)


def _export_stage_2(options: argparse.Namespace, rest: Sequence[str], pictures: Sequence[Path], notes: str) -> None:
    from vlad_lightning.checkpoints.resume import load_checkpoint
    from vlad_lightning.cli.fit import build
    from vlad_lightning.models.painter.lora_file import save_unet_lora
    from vlad_lightning.modules import VFEModule
    from vlad_lightning.pipeline.model_card import read_run

    built = build(rest, run=False, trainer=False)
    module = built.model
    if not isinstance(module, VFEModule):
        raise ValueError(f"the config builds {type(module).__name__}; export needs stage 2, VFEModule")
    if options.lora_folder and module.image_generator.vfe.lora is None:
        raise ValueError("--lora-folder: the config trains the whole unet, vfe.lora is null; export --folder")
    saved = load_checkpoint(module, options.checkpoint)
    if options.lora_folder:
        _replace(options.lora_folder, lambda new: save_unet_lora(module.image_generator.vfe, new))
    if options.folder:
        source = getattr(built.datamodule, "source", None)
        data, shown = getattr(source, "name", "unknown"), getattr(source, "nouns", ())
        nouns = getattr(module.layout_generator, "nouns", ()) or shown  # what it has learned, as the checkpoint says
        results = Path(built.config["out"], "results.json")
        told = module.sampler, module.layout_sampler, _seeds(built, module), notes
        run = read_run(options.folder.name, data, options.checkpoint, saved, results, *told)
        _replace(options.folder, lambda new: _save_pipeline(module, nouns, run, new, options.dtype, pictures))


def _export_parser() -> Parser:
    parser = Parser(
        "vlad-cli export",
        usage="%(prog)s --config FILE [--config FILE ...] --checkpoint FILE (--folder | --lora-folder) DIR "
        "[--dtype DTYPE] [--card_pictures FILE ...] [--card_notes FILE] [--out DIR]\n"
        "       %(prog)s --evaluation DIR --encoder FILE --detector FILE [--dtype DTYPE]",
        description="Write a stage-2 checkpoint as a pipeline folder, or its UNet's adapters alone; or the weights of "
        "an evaluation encoder and an object detector as a folder.",
        epilog="All other options are those of the training run, as for vlad-cli fit: --config FILE (may be repeated), "
        "--out DIR (whose results.json the model card shows), --data.root DIR, --model.image_generator.vfe.lora and "
        "the like.",
    )
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of stage 2, a .ckpt file or folder")
    parser.add_argument("--folder", type=Path, help="new folder of the pipeline")
    parser.add_argument(
        "--lora-folder", type=Path, help="new folder of the UNet's adapters alone, for load_lora_weights"
    )
    parser.add_argument(
        "--dtype",
        choices=FORMATS,
        default="float32",
        help="format of the stored weights, which are loaded as float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--card_pictures", type=Path, nargs="+", help="image files that the model card of --folder shows"
    )
    parser.add_argument("--card_notes", type=Path, help="text in Markdown that the model card shows as its notes")
    parser.add_argument("--evaluation", type=Path, help="new folder of the evaluation's weights")
    parser.add_argument("--encoder", type=Path, help="checkpoint of a stage-0 run, for --evaluation")
    parser.add_argument("--detector", type=Path, help="checkpoint of an object detector's run, for --evaluation")
    return parser


def _check_combination(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Refuse options that are missing, or have no effect beside the others."""
    pipeline = {"--checkpoint": options.checkpoint, "--folder": options.folder, "--lora-folder": options.lora_folder}
    card = {"--card_pictures": options.card_pictures, "--card_notes": options.card_notes}
    pipeline |= card
    evaluation = {"--encoder": options.encoder, "--detector": options.detector}
    needed, idle = (evaluation, pipeline) if options.evaluation else ({"--checkpoint": options.checkpoint}, evaluation)
    mode = "with" if options.evaluation else "without"
    if missing := [name for name, value in needed.items() if value is None]:
        lacking = f"{missing[0]} is missing; {mode} --evaluation, export needs {' and '.join(needed)}"
        raise ValueError(misspelt(rest, missing) or lacking)
    given = [name for name, value in idle.items() if value is not None] + (list(rest) if options.evaluation else [])
    if given:
        raise ValueError(f"{given[0]} has no effect {mode} --evaluation; leave it out")
    if not options.folder and (named := [name for name, value in card.items() if value is not None]):
        raise ValueError(f"{named[0]} belongs to --folder; leave it out, or name that folder")


def _read_notes(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return read_utf8(path, TEXT_BYTES)
    except (OSError, ValueError) as error:
        raise ValueError(f"--card_notes {path} cannot be read as text in UTF-8: {error}") from error


def _seeds(built: Any, module: VFEModule) -> dict[str, int]:
    """Return the seeds that the model card shows."""
    trained = built.config.get("seed_everything")
    seeds = {"model.sampling_seed": module.sampling_seed}
    return seeds if trained is None else {"seed_everything": trained} | seeds


def _save_pipeline(
    module: VFEModule, nouns: Sequence[str], run: Run, folder: Path, dtype: str, pictures: Sequence[Path]
) -> None:
    from vlad_lightning.models.number_format import DTYPES
    from vlad_lightning.pipeline import VLADPipeline
    from vlad_lightning.pipeline.model_card import write_card
    from vlad_lightning.pipeline.precision import store_as

    VLADPipeline.from_module(module, nouns).save_pretrained(folder)
    if dtype != "float32":
        store_as(folder, DTYPES[dtype])
    write_card(folder, run, pictures)


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
    from vlad_lightning.pipeline.precision import megabytes

    print(f"wrote {folder} ({megabytes(folder):.1f} MB)")
