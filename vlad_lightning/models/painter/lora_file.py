"""Export of a UNet's adapters alone, as the file that diffusers' pipelines read with ``load_lora_weights``."""

from __future__ import annotations

from pathlib import Path

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict

from vlad_lightning.models.painter.vfe import LORA_TARGETS, VFE


def save_unet_lora(vfe: VFE, folder: Path) -> None:
    """Write ``pytorch_lora_weights.safetensors``, with alpha and rank in its metadata.

    The file holds only the adapters of the UNet, not the trained weights of the fusion and the composition.

    Args:
        vfe: a VFE with adapters in its UNet.
        folder: is created.

    Raises:
        ValueError: if the UNet has no adapters, or there is no UNet.
    """
    if vfe.unet is None:
        raise ValueError("the image generator is a transformer; its adapters are exported with the whole pipeline only")
    if vfe.lora is None:
        raise ValueError("the unet has no adapters: vfe.lora is null; export the whole pipeline")
    StableDiffusionLoraLoaderMixin.save_lora_weights(
        folder,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(vfe.unet)),
        unet_lora_adapter_metadata=vfe.lora.config(LORA_TARGETS).to_dict(),
    )
