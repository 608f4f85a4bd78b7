"""Published weights: a folder in the layout of diffusers or transformers, a hub id, or one .safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    create_diffusers_clip_model_from_ldm,
    load_single_file_checkpoint,
)
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextModel,
    Qwen3VLTextModel,
)

from vlad_lightning.files import check_stored, naming
from vlad_lightning.pretrained import find_weights

_CONFIG = "config.json"
_SINGLE = ".safetensors"
_NESTED = (Qwen2_5_VLTextModel, Qwen3VLTextModel)
_PICKLED = (".ckpt", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class Source:
    """The location of published weights.

    Attributes:
        location: a local folder, a shipped name such as ``vlad-mini``, a hub id, or a local .safetensors file in the
            layout of the original repositories.
        subfolder: subfolder of the folder or the hub id, such as ``unet``.
        revision: a commit; a hub id needs it.
        config: for a single file: a local folder in diffusers' layout that has ``<subfolder>/config.json``.
    """

    location: str
    subfolder: str = ""
    revision: str | None = None
    config: str | None = None

    def __str__(self) -> str:
        return self.location if self.single else str(Path(self.location, self.subfolder))

    @property
    def single(self) -> bool:
        """Whether the location is a single file."""
        return self.location.endswith(_SINGLE)

    @property
    def settings(self) -> str:
        """The folder, or the hub id, that holds ``<subfolder>/config.json``."""
        return self.config or str(find_weights(self.location))

    def check(self, needed: str = _CONFIG, weights: bool = True) -> None:
        """Refuse a source that cannot be read, before anything is loaded.

        Args:
            needed: a file that a local folder must have; alternatives are separated by ``|``.
            weights: whether a local folder must have .safetensors too.

        Raises:
            FileNotFoundError: if a folder or file does not exist, or a hub id has no revision.
            ValueError: for pickled weights, a single file without ``config``, or a file that is cut short.
        """
        if self.location.endswith(_PICKLED):
            raise ValueError(f"source={self.location!r} may hold pickled code, which is not read; use {_SINGLE}")
        if self.single:
            self._check_single()
        folder = Path(self.settings)
        if not folder.is_dir():
            if self.config is not None:
                raise FileNotFoundError(f"config={self.config!r} is no folder")
            if self.revision is None:
                raise FileNotFoundError(
                    f"source={self.location!r} is no folder here; a hub id needs a revision, the commit to load"
                )
            return
        names = needed.split("|")
        check_stored(folder / self.subfolder)
        there = sorted(p.name for p in (folder / self.subfolder).glob("*"))
        where = folder / self.subfolder
        if not set(names) & set(there):
            parts = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())) or "none"
            raise FileNotFoundError(
                f"{where / names[0]} does not exist; expected a folder in diffusers' layout; {folder} has the folders "
                f"{parts}"
            )
        if weights and not self.single and not any(name.endswith(_SINGLE) for name in there):
            raise FileNotFoundError(f"{where} has no {_SINGLE} file; pickled weights are not read. It has {there}")

    def _check_single(self) -> None:
        if not Path(self.location).is_file():
            raise FileNotFoundError(f"source={self.location!r} does not exist")
        if self.config is None:
            raise ValueError(
                f"source={self.location!r} is a single file: it needs config, a local folder in diffusers' layout with "
                f"{Path(self.subfolder, _CONFIG)}"
            )

    def load(self, part: nn.Module) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
        """Load the published weights for a network like ``part``, in float32, and their settings.

        Raises:
            FileNotFoundError: see :meth:`check`.
            ValueError: if the source lacks weights that the part has.
        """
        self.check()
        with naming(self):
            loaded, missing = self._load_single(type(part)) if self.single else self._load_folder(type(part))
        if missing:
            raise ValueError(f"it lacks {missing[:5]}")
        settings = loaded.config if isinstance(loaded.config, Mapping) else loaded.config.to_dict()
        return loaded.state_dict(), settings

    def _load_folder(self, kind: Any) -> tuple[Any, list[str]]:
        # a language model inside a vision-language model: one level deeper than where its class looks
        nested = {"key_mapping": {r"^model\.language_model\.": "model."}} if issubclass(kind, _NESTED) else {}
        loaded, info = kind.from_pretrained(
            str(find_weights(self.location)),
            **nested,
            subfolder=self.subfolder,
            revision=self.revision,
            use_safetensors=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
        return loaded, sorted(info["missing_keys"])

    def _load_single(self, kind: Any) -> tuple[Any, list[str]]:
        """Load with diffusers' converters, which leave weights that the file lacks on the meta device."""
        options = {"config": self.config, "subfolder": self.subfolder, "torch_dtype": torch.float32}
        try:
            if issubclass(kind, CLIPTextModel | CLIPTextModelWithProjection):
                checkpoint = load_single_file_checkpoint(self.location, local_files_only=True)
                loaded = create_diffusers_clip_model_from_ldm(kind, checkpoint, local_files_only=True, **options)
            elif hasattr(kind, "from_single_file"):
                loaded = kind.from_single_file(self.location, local_files_only=True, **options)
            else:
                raise ValueError(f"diffusers converts no single file to a {kind.__name__}")
        except (KeyError, NotImplementedError, SingleFileComponentError) as error:
            raise ValueError(f"it holds no {kind.__name__} like {self.config}/{self.subfolder}: {error}") from error
        return loaded, sorted(name for name, value in loaded.state_dict().items() if value.is_meta)

    def load_tokenizer(self) -> PreTrainedTokenizerFast:
        """Load the published tokenizer.

        Raises:
            FileNotFoundError: see :meth:`check`.
            ValueError: if it cannot report the characters of its tokens.
        """
        self.check("tokenizer.json|vocab.json|tokenizer_config.json", weights=False)
        with naming(self):
            tokenizer: Any = AutoTokenizer.from_pretrained(
                self.settings, subfolder=self.subfolder, revision=self.revision
            )
        if not tokenizer.is_fast:
            raise ValueError(f"{self} has a {type(tokenizer).__name__} that does not tell the characters of its tokens")
        read: PreTrainedTokenizerFast = tokenizer
        return read

    def load_schedule(self, kind: Any = DDPMScheduler) -> Any:
        """Load the published noise schedule as one of class ``kind``, whatever solver it was published with.

        Raises:
            FileNotFoundError: see :meth:`check`.
        """
        self.check("scheduler_config.json", weights=False)
        config = kind.load_config(self.settings, subfolder=self.subfolder, revision=self.revision)
        return kind.from_config(config)
