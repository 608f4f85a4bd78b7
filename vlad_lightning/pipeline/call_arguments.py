"""Arguments of a call that diffusers' pipelines have too: checked and brought to one entry for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vlad_lightning.limits import check_prompts, shown

StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], Mapping[str, Tensor] | None]
"""(pipeline, index of the step, its timestep, {"latents": x}) -> {"latents": the x to go on with}, or nothing."""

_Entry = TypeVar("_Entry")


def prompt_list(prompt: object) -> list[str]:
    """Return one or several prompts as a list.

    Raises:
        ValueError: for anything but a text or a sequence of texts, and for none.
    """
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, Sequence) or not prompt:
        raise ValueError(f"prompt is {shown(prompt)}; it must be a text, or a list of at least one")
    check_prompts(prompt)
    return list(prompt)


def negative_prompts(negative: object, count: int) -> list[str] | None:
    """Return a negative prompt for each of ``count`` prompts; None if there is none.

    Raises:
        ValueError: for anything but a text or ``count`` texts.
    """
    if negative is None:
        return None
    if isinstance(negative, str):
        return [negative] * count
    if not isinstance(negative, Sequence) or not all(isinstance(entry, str) for entry in negative):
        raise ValueError(f"negative_prompt is {shown(negative)}; it must be a text, or one for each prompt")
    if len(negative) != count:
        raise ValueError(f"negative_prompt has {len(negative)} entries; {count} prompts need one each, or one text")
    return list(negative)


def repeated(entries: Sequence[_Entry], times: int) -> list[_Entry]:
    """Repeat each entry ``times`` times, one after the other."""
    return [entry for entry in entries for _ in range(times)]


def check_tensor_inputs(names: Sequence[str]) -> None:
    """Refuse tensors that a callback cannot be given.

    Raises:
        ValueError: naming them.
    """
    if unknown := [name for name in names if name != "latents"]:
        raise ValueError(
            f"callback_on_step_end_tensor_inputs has {', '.join(map(repr, unknown))}; only 'latents' is known"
        )


def offload_device(gpu_id: int | None, device: torch.device | str | None) -> torch.device:
    """Return the accelerator that parts are moved to while they are in use.

    Raises:
        ValueError: without an accelerator, or for two numbers.
    """
    if device is None:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if found is None:
            raise ValueError("enable_model_cpu_offload needs an accelerator, and torch finds none; give device")
        device = found
    device = torch.device(device)
    if gpu_id is not None and device.index is not None:
        raise ValueError(f"gpu_id is {gpu_id} and device is {str(device)!r}; give the number once")
    return device if gpu_id is None else torch.device(device.type, gpu_id)


def check_has(part: Any, name: str, method: str) -> Any:
    """Return a part, or refuse one without a method.

    Raises:
        ValueError: naming the part's class and the method.
    """
    if not hasattr(part, method):
        raise ValueError(f"{name} is a {type(part).__name__}, which has no {method}()")
    return part
