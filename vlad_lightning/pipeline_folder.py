"""The index of a pipeline folder, and the ``pipeline.py`` by which plain diffusers finds the class."""

from __future__ import annotations

import json
from pathlib import Path

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
