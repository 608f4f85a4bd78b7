"""Any text-to-image pipeline of diffusers as a :class:`~vlad_lightning.types.TextToImage`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from vlad_lightning.files import NOTE_BYTES, check_stored, naming, read_utf8
from vlad_lightning.generation.system import check_finite
from vlad_lightning.types import GeneratedImages, Layout


@dataclass(frozen=True)
class DiffusersSampling:
    """Settings of a call; None leaves a setting to the pipeline.

    Attributes:
        num_inference_steps: sampling steps.
        guidance_scale: guidance scale of the text.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None

    def given(self) -> dict[str, int | float]:
        """Return the settings that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class DiffusersSystem:
    """A pipeline of diffusers, which makes its own layouts, if any.

    Args:
        pipe: the pipeline.

    Raises:
        ValueError: if it takes no prompt or no generator.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self._takes = set(inspect.signature(type(pipe).__call__).parameters)
        if missing := {"prompt", "generator", "output_type"} - self._takes:
            raise ValueError(
                f"{type(pipe).__name__} takes no {' and no '.join(sorted(missing))}; it is no text-to-image"
            )
        pipe.set_progress_bar_config(disable=True)

    def check(self, settings: DiffusersSampling) -> None:
        """Refuse settings that the pipeline does not take.

        Raises:
            ValueError: naming the setting.
        """
        if unknown := sorted(settings.given().keys() - self._takes):
            raise ValueError(f"{unknown[0]} is given, and {type(self.pipe).__name__} takes none; leave it out")

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: DiffusersSampling,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Generate B images, see :meth:`~vlad_lightning.types.TextToImage.generate`.

        Raises:
            ValueError: if layouts are given, or the images hold NaN or infinite values.
        """
        if layouts is not None and any(layout is not None for layout in layouts):
            raise ValueError(f"layouts are given, and {type(self.pipe).__name__} follows none")
        made = self.pipe(
            prompt=list(prompts), generator=list(generators), output_type="pt", return_dict=True, **settings.given()
        ).images
        images = torch.as_tensor(made).to("cpu", torch.float32) * 2 - 1
        check_finite(images)
        empty = tuple(Layout.empty() for _ in prompts)
        return GeneratedImages(images, empty, torch.full_like(images, -1.0), tuple(prompts))


def is_vlad(folder: Path) -> bool:
    """Return whether a folder is a pipeline folder of this project.

    Raises:
        FileNotFoundError: if it is no pipeline folder of diffusers.
        ValueError: if its index cannot be read.
    """
    return _class_name(folder) in (["pipeline", "VLADPipeline"], "VLADPipeline")


def open_diffusers(folder: Path, device: str, dtype: torch.dtype) -> DiffusersSystem:
    """Open a folder that diffusers wrote; only safetensors are read, and no code of the folder is run.

    Args:
        folder: with a ``model_index.json``.
        device: where it runs.
        dtype: the format of its weights in memory.

    Raises:
        FileNotFoundError, ValueError: as :func:`is_vlad`; also if the folder names a class of its own, or its weights
            are truncated or no safetensors, or it is a single stage of DeepFloyd IF.
    """
    import diffusers

    name = _class_name(folder)
    if not isinstance(name, str) or not hasattr(diffusers, name):
        raise ValueError(
            f"{folder} needs the class {name!r}, which diffusers does not have; no code of a folder is run"
        )
    if name.startswith("IF"):  # alone it makes small images, and in another range than other pipelines
        raise ValueError(f"{folder} is one stage of DeepFloyd IF; name the folder that holds the folders of all three")
    for part in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        check_stored(part)
    with naming(folder):
        pipe = DiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, torch_dtype=dtype
        )
    return DiffusersSystem(pipe.to(device))


def _class_name(folder: Path) -> object:
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} is no pipeline folder: it has no model_index.json")
    try:
        content = json.loads(read_utf8(index, NOTE_BYTES))
        return content["_class_name"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{index} is no index of a pipeline: {error}") from error
