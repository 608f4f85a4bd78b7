"""Checks of settings that weights do not show: other heads or activations make another network of equal shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerFast

from vlad_lightning.diffusion.objective import Schedule
from vlad_lightning.models.text.towers import DualTower, TextTower, reader_of

_NOT_COMPARED = (
    "sample_size",
    "upcast_attention",
    "force_upcast",
    "dropout",
)  # of diffusers: no output depends on them
_COMPARED = (  # of transformers, whose configs hold much that no output depends on
    "hidden_act",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "layer_norm_eps",
    "rms_norm_eps",
    "rope_theta",
    "mrope_section",
    "use_sliding_window",
    "image_size",
    "patch_size",
)
_SCHEDULE = (
    "prediction_type",
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "rescale_betas_zero_snr",
    "shift",  # of flow matching, as is the next
    "use_dynamic_shifting",
)


def compare_settings(part: nn.Module, published: Mapping[str, Any]) -> None:
    """Refuse published settings that differ from the part's.

    Args:
        part: a network of diffusers or transformers.
        published: the ``config.json`` of its source, with the defaults of its class filled in.

    Raises:
        ValueError: naming the first key and both values.
    """
    config: Any = part.config
    if isinstance(config, Mapping):
        _compare([k for k in config if not k.startswith("_") and k not in _NOT_COMPARED], config, published)
        return
    own, published = ({**c, **(c.get("rope_parameters") or {})} for c in (config.to_dict(), published))
    _compare([k for k in _COMPARED if k in own], own, published)


def compare_schedules(own: Schedule, published: Schedule) -> None:
    """Refuse a published schedule that differs from a part's, of the same class.

    Raises:
        ValueError: naming the first key and both values.
    """
    _compare(_SCHEDULE, own.config, published.config)


def compare_tokenizer(tokenizer: PreTrainedTokenizerFast, tower: TextTower) -> None:
    """Refuse a tokenizer whose tokens a tower cannot read.

    Raises:
        ValueError: naming the vocabulary or the end token, both values.
    """
    reader = reader_of(tower)
    rows, end = reader.vocabulary(tower), reader.end_token(tower)
    if len(tokenizer) > rows:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens; the tower's vocabulary is {rows}")
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token")
    if end is not None and tokenizer.eos_token_id != end:
        raise ValueError(f"the tokenizer's end token is {tokenizer.eos_token_id}; the tower reads t_g at {end}")


def compare_second_tokenizer(first: PreTrainedTokenizerFast, second: PreTrainedTokenizerFast, tower: TextTower) -> None:
    """Refuse a second tokenizer of SDXL that differs from the first in more than the tower's ``second_pad``.

    Raises:
        ValueError: naming what differs.
    """
    if not isinstance(tower, DualTower):
        raise ValueError(f"a second tokenizer is for a DualTower; the tower is a {type(tower).__name__}")
    if first.get_vocab() != second.get_vocab():
        raise ValueError("the second tokenizer has another vocabulary than the first")
    if second.pad_token_id != tower.config.second_pad:
        raise ValueError(
            f"the second tokenizer's padding is {second.pad_token_id}; the tower's second_pad is "
            f"{tower.config.second_pad}"
        )


def _compare(keys: Any, own: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    for key in keys:
        mine, theirs = own.get(key), published.get(key)
        if not _same(mine, theirs):
            raise ValueError(f"{key} is {theirs!r} there; this config has {mine!r}")


def _same(mine: Any, theirs: Any) -> bool:
    """Return whether two settings are equal; a value for all blocks equals a list with that value for each block."""
    mine, theirs = (list(x) if isinstance(x, list | tuple) else x for x in (mine, theirs))
    if isinstance(mine, list) != isinstance(theirs, list):
        several, one = (mine, theirs) if isinstance(mine, list) else (theirs, mine)
        return len(several) > 0 and all(_same(x, one) for x in several)
    return bool(mine == theirs)
