"""Weights of the evaluation encoder and the object detector: from a training run's checkpoint or an exported folder.

    vlad-mini-evaluation/
      encoder/model.safetensors    the prompt encoder and the image encoder, adapters folded in
      encoder/config.json          its tokenizer, and how it scores
      detector/model.safetensors
      detector/config.json

The architecture is not in the folder: as for a checkpoint, the configuration of the evaluation names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlad_lightning.checkpoints.folder import digest, read_saved, refuse_address
from vlad_lightning.files import NOTE_BYTES, check_stored, naming, read_utf8, write_text
from vlad_lightning.models.lora import fold
from vlad_lightning.models.number_format import cast_weights
from vlad_lightning.pretrained import find_weights

ENCODER = "encoder"
DETECTOR = "detector"
_PARTS = {ENCODER: ("prompt_encoder", "image_encoder"), DETECTOR: ("detector",)}
_RUNS = {ENCODER: "a stage-0 run", DETECTOR: "an object detector"}
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class EvaluationWeights:
    """The weights of one evaluation model.

    Attributes:
        path: the checkpoint or folder they are from.
        states: the state of each of the model's parts by name, adapters folded in; a tokenizer is a text in it.
        local: whether an encoder's score compares phrases with patches.
        sha256: hash of the checkpoint, or of the model's folder.
    """

    path: Path
    states: Mapping[str, Mapping[str, Any]]
    local: bool
    sha256: str


def read_weights(checkpoint: str, model: str) -> EvaluationWeights:
    """Read the weights of an evaluation model.

    Args:
        checkpoint: the ``.ckpt`` of a training run, a file or a folder; a folder of :func:`write_weights`, or the name
            of a shipped one, ``vlad-mini-evaluation``.
        model: :data:`ENCODER` or :data:`DETECTOR`.

    Raises:
        FileNotFoundError: if there is no such checkpoint or folder.
        ValueError: if it is damaged, or neither a checkpoint nor such a folder.
    """
    refuse_address(checkpoint)
    path = find_weights(checkpoint)
    if not path.exists():
        raise FileNotFoundError(f"checkpoint={checkpoint!r} does not exist; it must be that of {_RUNS[model]}")
    if (path / model / _CONFIG).is_file():
        return _read_exported(path / model, _PARTS[model])
    saved = read_saved(path)
    scale = saved.get("lora_scale", 1.0)
    states = {part: fold(_part(saved["state_dict"], part), scale) for part in _PARTS[model]}
    return EvaluationWeights(path, states, bool(saved.get("local_score", False)), digest(path))


def write_weights(weights: EvaluationWeights, folder: Path, dtype: torch.dtype) -> None:
    """Write the weights of an evaluation model as safetensors, and the rest as JSON.

    Args:
        weights: the weights.
        folder: the model's new folder, such as ``vlad-mini-evaluation/encoder``.
        dtype: the format of the floating-point weights; they are read as float32.

    Raises:
        ValueError: if a part has no weights, or a weight is beyond the format's range.
    """
    if empty := [part for part, state in weights.states.items() if not state]:
        raise ValueError(f"{weights.path} has no weights of a {empty[0]}")
    state = {f"{part}.{name}": value for part, own in weights.states.items() for name, value in own.items()}
    tensors = {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}
    texts = {name: value for name, value in state.items() if isinstance(value, str)}
    config = {"local_score": weights.local, "checkpoint_sha256": weights.sha256, "texts": texts}
    folder.mkdir()
    save_file(cast_weights(tensors, dtype, weights.path), folder / _WEIGHTS, {"format": "pt"})
    write_text(folder / _CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _read_exported(folder: Path, parts: tuple[str, ...]) -> EvaluationWeights:
    check_stored(folder)
    with naming(folder):
        config = json.loads(read_utf8(folder / _CONFIG, NOTE_BYTES))
        state = {**load_file(folder / _WEIGHTS), **config["texts"]}
        states = {part: _part(state, part) for part in parts}
        return EvaluationWeights(folder, states, bool(config["local_score"]), digest(folder))


def _part(state: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the state of one part, by the names within it."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
