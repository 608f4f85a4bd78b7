"""Files of a pipeline folder: the index, the ``pipeline.py`` through which diffusers finds the class, the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from vlad_lightning.files import check_stored
from vlad_lightning.limits import check_settings

_MODULE = "pipeline"
_CODE = '''"""For plain diffusers: `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`."""

from vlad_lightning.pipeline import VLADPipeline

__all__ = ["VLADPipeline"]
'''


def add_code(index: Path, class_name: str) -> None:
    """Write ``pipeline.py`` beside a diffusers index, and name that file's class in the index.

    Args:
        index: the folder's ``model_index.json``.
        class_name: the name of the pipeline's class.
    """
    content = json.loads(index.read_text(encoding="utf-8")) | {"_class_name": [_MODULE, class_name]}
    content.pop("_name_or_path", None)  # a local path
    (index.parent / f"{_MODULE}.py").write_text(_CODE, encoding="utf-8")
    index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Refuse a pipeline folder with an invalid index, a truncated file, or sizes beyond the limits.

    Raises:
        ValueError: naming the file.
    """
    index = folder / "model_index.json"
    for part in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        check_stored(part)
    if index.is_file() and not isinstance(json.loads(index.read_text(encoding="utf-8")), dict):
        raise ValueError(f"{index} is no index of a pipeline: it must hold a mapping of its parts")
    settings = (file for name in ("config", "scheduler_config") for file in sorted(folder.glob(f"*/{name}.json")))
    for file in (index, *settings):  # not a tokenizer's: its length of 10^30 means no limit
        if file.is_file():
            try:
                check_settings(json.loads(file.read_text(encoding="utf-8")))
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error


def check_weights(folder: Path, components: Mapping[str, Any]) -> None:
    """Refuse a folder whose files lack weights; diffusers and transformers would initialise them at random.

    Args:
        folder: the pipeline's folder; each component has a folder in it.
        components: the components by name, as loaded from the folder.

    Raises:
        ValueError: naming the component and what is missing.
    """
    for name, component in components.items():
        if not isinstance(component, nn.Module) or not Path(folder, name).is_dir():
            continue
        state = component.state_dict()
        saved = {key for file in Path(folder, name).glob("*.safetensors") for key in _keys(file)}
        kept = {tensor.data_ptr() for key, tensor in state.items() if key in saved}
        # tied weights are saved once
        missing = [k for k, t in state.items() if k not in saved and t.data_ptr() not in kept]
        if missing:
            lost = f"{len(missing)} weights of the {name}, {missing[0]!r} among them"
            raise ValueError(f"{Path(folder, name)} lacks {lost}")


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of a pipeline's weights, in hex; ``sha256sum */*.safetensors | sha256sum`` prints the same."""
    total = hashlib.sha256()
    for name in sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*.safetensors")):
        with Path(folder, name).open("rb") as file:
            total.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return total.hexdigest()


def _keys(file: Path) -> list[str]:
    with safe_open(file, "pt") as opened:
        return list(opened.keys())
