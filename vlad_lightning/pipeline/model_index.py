"""The index of a pipeline folder, the ``pipeline.py`` by which plain diffusers finds the class, and its weights."""

from __future__ import annotations

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
    """Write ``pipeline.py`` beside an index of diffusers, and name the class of that file in it.

    Args:
        index: the folder's ``model_index.json``.
        class_name: of the pipeline.
    """
    content = json.loads(index.read_text(encoding="utf-8")) | {"_class_name": [_MODULE, class_name]}
    content.pop("_name_or_path", None)  # a folder of this machine
    (index.parent / f"{_MODULE}.py").write_text(_CODE, encoding="utf-8")
    index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Refuse a pipeline folder with an index that is none, a file that is cut short, or sizes beyond all limits.

    Raises:
        ValueError: naming the file.
    """
    index = folder / "model_index.json"
    for part in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        check_stored(part)
    if index.is_file() and not isinstance(json.loads(index.read_text(encoding="utf-8")), dict):
        raise ValueError(f"{index} is no index of a pipeline: it must hold a mapping of its parts")
    settings = (file for name in ("config", "scheduler_config") for file in sorted(folder.glob(f"*/{name}.json")))
    for file in (index, *settings):  # a tokenizer's has a length of 10^30, which it takes for none
        if file.is_file():
            try:
                check_settings(json.loads(file.read_text(encoding="utf-8")))
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error


def check_weights(folder: Path, components: Mapping[str, Any]) -> None:
    """Refuse a folder whose files lack weights; diffusers and transformers fill them at random, with a warning.

    Args:
        folder: of the pipeline; each component has a folder in it.
        components: by name, as they were loaded from it.

    Raises:
        ValueError: naming the component and what is missing.
    """
    for name, component in components.items():
        if not isinstance(component, nn.Module) or not Path(folder, name).is_dir():
            continue
        state = component.state_dict()
        saved = {key for file in Path(folder, name).glob("*.safetensors") for key in _keys(file)}
        kept = {tensor.data_ptr() for key, tensor in state.items() if key in saved}
        # a weight that is tied to another one is saved once
        missing = [k for k, t in state.items() if k not in saved and t.data_ptr() not in kept]
        if missing:
            lost = f"{len(missing)} weights of the {name}, {missing[0]!r} among them"
            raise ValueError(f"{Path(folder, name)} lacks {lost}")


def _keys(file: Path) -> list[str]:
    with safe_open(file, "pt") as opened:
        return list(opened.keys())
