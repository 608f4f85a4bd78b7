"""Rename networks of diffusers to the names of the original repositories, as in single files."""

from __future__ import annotations

import re

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet(network: UNet2DConditionModel) -> dict[str, Tensor]:
    """Rename a UNet to ``model.diffusion_model.*``."""
    each = network.config.layers_per_block + 1
    has_attention = [len(getattr(b, "attentions", [])) > 0 for b in network.up_blocks]

    def name(key: str) -> str:
        for old, new in (
            ("time_embedding.linear_1", "time_embed.0"),
            ("time_embedding.linear_2", "time_embed.2"),
            ("add_embedding.linear_1", "label_emb.0.0"),
            ("add_embedding.linear_2", "label_emb.0.2"),
            ("conv_norm_out", "out.0"),
            ("conv_out", "out.2"),
            ("conv_in", "input_blocks.0.0"),
        ):
            if key.startswith(old + "."):
                return new + key.removeprefix(old)
        kind, place, rest = _place(key, each, has_attention)
        if kind == "resnets":
            part, _, leaf = rest.partition(".")
            rest = f"{_RESNET[part]}.{leaf}"
        return f"{place}.{rest}"

    return {f"model.diffusion_model.{name(k)}": v for k, v in network.state_dict().items()}


def _place(key: str, each: int, has_attention: list[bool]) -> tuple[str, str, str]:
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", key):
        kind, index, rest = found.groups()
        return kind, f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}", rest
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", key)
    assert found is not None, key
    side, block, kind, index, rest = found.groups()
    i, j = int(block), int(index)
    if kind == "downsamplers":
        return kind, f"input_blocks.{(i + 1) * each}.0", rest.replace("conv", "op")
    if kind == "upsamplers":
        return kind, f"output_blocks.{(i + 1) * each - 1}.{2 if has_attention[i] else 1}", rest
    stretch = f"input_blocks.{1 + i * each + j}" if side == "down" else f"output_blocks.{i * each + j}"
    return kind, f"{stretch}.{1 if kind == 'attentions' else 0}", rest


def autoencoder(network: AutoencoderKL) -> dict[str, Tensor]:
    """Rename an autoencoder to ``first_stage_model.*``, where the attention's linear layers are convolutions."""
    most = len(network.config.block_out_channels) - 1
    state = {}
    for key, value in network.state_dict().items():
        name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", key)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{most - int(m[1])}.block.", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{most - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if ".attentions.0." in name:
            for old, new in _ATTENTION.items():
                name = name.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
            name = name.replace("mid_block.attentions.0", "mid.attn_1")
            value = value[..., None, None] if value.ndim == 2 else value
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        state[f"first_stage_model.{name}"] = value
    return state


def openai_clip(network: CLIPTextModel, prefix: str = "cond_stage_model.transformer.text_model.") -> dict[str, Tensor]:
    """Rename OpenAI's tower as in Stable Diffusion 1 and SDXL."""
    return {prefix + key: value for key, value in network.state_dict().items()}


def open_clip(network: CLIPTextModel | CLIPTextModelWithProjection, prefix: str) -> dict[str, Tensor]:
    """Rename OpenCLIP's tower as in Stable Diffusion 2 and SDXL: one matrix for queries, keys and values."""
    old = {k.removeprefix("text_model."): v for k, v in network.state_dict().items()}
    state = {
        "token_embedding.weight": old["embeddings.token_embedding.weight"],
        "positional_embedding": old["embeddings.position_embedding.weight"],
        "ln_final.weight": old["final_layer_norm.weight"],
        "ln_final.bias": old["final_layer_norm.bias"],
    }
    if "text_projection.weight" in old:
        state["text_projection"] = old["text_projection.weight"].T.contiguous()
    for i in range(network.config.num_hidden_layers):
        was, now = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for end in ("weight", "bias"):
            joined = [old[f"{was}.self_attn.{x}_proj.{end}"] for x in "qkv"]
            state[f"{now}.attn.in_proj_{end}"] = torch.cat(joined)
            state[f"{now}.attn.out_proj.{end}"] = old[f"{was}.self_attn.out_proj.{end}"]
            for mine, theirs in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")):
                state[f"{now}.{theirs}.{end}"] = old[f"{was}.{mine}.{end}"]
            for mine, theirs in (("fc1", "c_fc"), ("fc2", "c_proj")):
                state[f"{now}.mlp.{theirs}.{end}"] = old[f"{was}.mlp.{mine}.{end}"]
    return {prefix + key: value for key, value in state.items()}
