"""Initialisation of a whole system from a pipeline folder: what ``vlad-cli export`` writes, and what ships."""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.callbacks.pretrained import FromPretrained, TokenizerFromPretrained
from vlad_lightning.files import NOTE_BYTES, read_utf8
from vlad_lightning.models.published import Source
from vlad_lightning.models.published_settings import compare_schedules
from vlad_lightning.pretrained import find_weights

_ENCODER = {  # the components of a prompt encoder, and where they are in a generator
    "text_encoder": "prompt_encoder.text_encoder.tower",
    "character_encoder": "prompt_encoder.text_encoder.character_encoder",
    "text_adapter": "prompt_encoder.text_encoder.adapter",
    "composition": "prompt_encoder.composition",
}
_IMAGES = _ENCODER | {
    "unet": "vfe.unet",
    "transformer": "vfe.transformer",
    "fusion": "vfe.fusion",
    "inpainting": "vfe.inpainting",
    "phrase_map": "vfe.phrase_map",
    "layout_skip": "vfe.layout_skip",
    "autoencoder": "autoencoder",
}
_LAYOUTS = {f"layout_{component}": part for component, part in _ENCODER.items()} | {"tlg": "tlg"}
_SETTINGS = {  # of the index; the rest of it is settings of the samplers
    "image_size": "image_size",
    "word_colours": "word_colours",
    "read_phrases": "prompt_encoder.read_phrases",
    **{
        name: f"prompt_encoder.text_encoder.{name}"
        for name in ("max_words", "max_objects", "skip_layers", "context", "mask_padding")
    },
}


class FromPipeline(Callback):
    """Initialisation of stage 2 with all parts of a pipeline folder, for fine-tuning a finished system.

    Weights, tokenizers, settings and noise schedules are compared as
    :class:`~vlad_lightning.callbacks.FromPretrained` does, and so are the settings of the folder's
    ``model_index.json``. Before the first step the module generates what the folder does. A module without a layout
    generator leaves the folder's out.

    Args:
        source: a local folder, or the name of the shipped one, ``vlad-mini``.

    Raises:
        FileNotFoundError: where the folder does not exist, or is no pipeline's.
        ValueError: where a part or a setting differs from the module's.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def state_key(self) -> str:
        """Key of the callback's state in a checkpoint."""
        return "FromPipeline[]"  # in the brackets: the part, here the whole module

    def state_dict(self) -> dict[str, Any]:
        """Return the provenance."""
        return {"source": self.source}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fill the module when a fit starts."""
        if stage != "fit" or trainer.ckpt_path:  # a checkpoint to resume from holds everything
            return
        index, module = self._read_index(), cast(Any, pl_module)
        self._compare_index(index, module)
        module.known_nouns = tuple(index.get("nouns") or ())
        self._fill(trainer, module, "image_generator", _IMAGES)
        if module.layout_generator is not None:
            self._fill(trainer, module, "layout_generator", _LAYOUTS, prefix="layout_")

    def _read_index(self) -> dict[str, Any]:
        file = Path(find_weights(self.source), "model_index.json")
        if not file.is_file():
            raise FileNotFoundError(
                f"source={self.source!r} is no folder of a pipeline here: it has no {file.name}; `vlad-cli export` "
                "writes one, and 'vlad-mini' is the name of the one that ships"
            )
        try:
            index = json.loads(read_utf8(file, NOTE_BYTES))
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from error
        if not isinstance(index, dict):
            raise ValueError(f"{file} is damaged: it must hold a mapping of a pipeline's parts")
        return index

    def _compare_index(self, index: dict[str, Any], module: Any) -> None:
        """Refuse other settings than the module's, and parts of other classes, or of none."""
        for name, path in _SETTINGS.items():
            own = attrgetter(path)(module.image_generator)
            if index.get(name, own) != own:
                raise ValueError(f"source={self.source!r} has {name} {index[name]!r}; this config has {own!r}")
        generators = {"image_generator": _IMAGES | {"scheduler": "schedule"}}
        if module.layout_generator is not None:
            generators["layout_generator"] = _LAYOUTS | {"layout_scheduler": "schedule"}
        for generator, parts in generators.items():
            for component, path in parts.items():
                part = attrgetter(path)(getattr(module, generator))
                own, theirs = None if part is None else type(part).__name__, (index.get(component) or [None])[-1]
                if own != theirs:
                    raise ValueError(
                        f"source={self.source!r} has {_named(theirs)} as {component}; this config has {_named(own)} "
                        f"({generator}.{path})"
                    )

    def _fill(self, trainer: Trainer, module: Any, generator: str, parts: dict[str, str], prefix: str = "") -> None:
        for component, path in parts.items():
            if attrgetter(f"{generator}.{path}")(module) is not None:
                FromPretrained(f"{generator}.{path}", self.source, component).setup(trainer, module, "fit")
        encoder = f"{generator}.prompt_encoder.text_encoder"
        TokenizerFromPretrained(encoder, self.source, f"{prefix}tokenizer").setup(trainer, module, "fit")
        source, own = Source(self.source, f"{prefix}scheduler"), getattr(module, generator).schedule
        try:
            compare_schedules(own, source.load_schedule(type(own)))
        except ValueError as error:
            raise ValueError(f"{source} does not fit '{generator}.schedule': {error}") from error


def _named(class_name: str | None) -> str:
    return "none" if class_name is None else f"a {class_name}"
