"""TextDiffuser with its published weights, from a folder in the layout of their archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel

from vlad_lightning.baselines.textdiffuser import TextDiffuser
from vlad_lightning.baselines.textdiffuser_features import SegmentationFeatures
from vlad_lightning.baselines.textdiffuser_layout import LayoutTransformer
from vlad_lightning.baselines.textdiffuser_layout_generator import WordLayoutGenerator
from vlad_lightning.files import NOTE_BYTES, check_stored, naming, read_utf8
from vlad_lightning.models.autoencoder import KLAutoencoder
from vlad_lightning.models.painter.widened import parted
from vlad_lightning.models.published import Source
from vlad_lightning.models.text.ccm import IdentityComposition
from vlad_lightning.models.text.encoder import TextEncoder
from vlad_lightning.models.text.prompt_encoder import PromptEncoder

LAYOUT = "layout_transformer.pth"
UNET = "diffusion_backbone/unet"
BASE = "stable-diffusion-v1-5"
"""Stable Diffusion 1.5, which the archive does not hold, beside its files."""

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_BASE_PARTS = ("tokenizer", "text_encoder", "vae", "scheduler")
_HEADS, _MAX_WORDS, _WIDTHS = 8, 8, (32, 64)
_FEATURES = {"word_embedding.": "embedding.", "segmap_conv.": "convolutions."}
_LAYOUT_PARTS = {
    "input_layer.": "text_in.",
    "width_embedding.": "width_embedding.",
    "position_embedding.": "position_embedding.",
    "x_embedding.": "box_embeddings.0.",
    "y_embedding.": "box_embeddings.1.",
    "w_embedding.": "box_embeddings.2.",
    "h_embedding.": "box_embeddings.3.",
    "transformer.": "encoder.",
    "decoder_transformer.": "decoder.",
    "output_layer.": "box_out.",
}
"""The parts of the published layout transformer that its predictions depend on, and their names here."""
_MARKS = "encoder_target_embedding.weight"


def is_textdiffuser(folder: Path) -> bool:
    """Return whether a folder looks like the published archive of TextDiffuser, complete or not."""
    return (folder / LAYOUT).exists() or (folder / UNET).exists()


def open_textdiffuser(folder: Path) -> TextDiffuser:
    """Read the published system: its UNet and layout transformer, and the parts of Stable Diffusion 1.5 around them.

    ``textdiffuser-ckpt`` holds ``diffusion_backbone/unet`` and ``layout_transformer.pth``; a copy of, or a link to, the
    folder of Stable Diffusion 1.5 is expected in it as ``stable-diffusion-v1-5``. The segmenters of the archive are not
    read: one reads pictures of templates, the other is for training. Pickled files are read as tensors only.

    Raises:
        FileNotFoundError: naming what is missing.
        ValueError: if a file cannot be used.
    """
    _check_complete(folder)
    base = folder / BASE
    with naming(folder / UNET):
        settings = json.loads(read_utf8(folder / UNET / "config.json", NOTE_BYTES))
        config = {**settings, "in_channels": settings["out_channels"]}  # of the latent alone
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
        state = _read(_unet_weights(folder))
        features = SegmentationFeatures(
            len(state["word_embedding.weight"]), state["word_embedding.weight"].shape[1], _WIDTHS, batch_norm=True
        )
        features.load_state_dict(_renamed(state, _FEATURES))
    with naming(base):
        autoencoder = KLAutoencoder.from_pretrained(base / "vae", use_safetensors=True, local_files_only=True)
        schedule = Source(str(base), "scheduler").load_schedule(DDPMScheduler)
    side = int(unet.config.sample_size)
    system = TextDiffuser(
        text_encoder=_text_encoder(base),
        unet=unet,
        autoencoder=autoencoder,
        schedule=schedule,
        features=features,
        word_layouts=_word_layouts(folder / LAYOUT, base),
        image_size=side * 2 ** (len(autoencoder.config.block_out_channels) - 1),
        segmentation_size=side * 2 ** len(_WIDTHS),
    )
    with naming(folder / UNET):
        own = {k: v for k, v in state.items() if not k.startswith(tuple(_FEATURES))}
        system.unet.load_state_dict(parted(own, system.unet.state_dict()))
    return system.requires_grad_(False).eval()


def textdiffuser_hash(folder: Path) -> str:
    """Return the SHA-256 of the weights that :func:`open_textdiffuser` reads, in hex, as ``weights_hash`` forms it."""
    used = [_unet_weights(folder), folder / LAYOUT, *(folder / BASE).glob("*/*.safetensors")]
    total = hashlib.sha256()
    for name in sorted(file.relative_to(folder).as_posix() for file in used):
        with Path(folder, name).open("rb") as file:
            total.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return total.hexdigest()


def _unet_weights(folder: Path) -> Path:
    """Return the file of the UNet's weights; where there are both, it is the one without pickles."""
    return next(folder / UNET / name for name in _WEIGHTS if (folder / UNET / name).is_file())


def _check_complete(folder: Path) -> None:
    """Refuse a folder that lacks a file.

    Raises:
        FileNotFoundError: naming all that is missing.
    """
    needed = [f"{UNET}/config.json", LAYOUT, *(f"{BASE}/{part}" for part in _BASE_PARTS)]
    missing = [name for name in needed if not (folder / name).exists()]
    if not any((folder / UNET / name).is_file() for name in _WEIGHTS):
        missing.insert(0, f"{UNET}/{' or '.join(_WEIGHTS)}")
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}; expected the archive textdiffuser-ckpt with the folder of Stable "
            f"Diffusion 1.5 in it as {BASE}"
        )
    for part in (folder / UNET, *(folder / BASE / part for part in _BASE_PARTS)):
        check_stored(part)


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict; of a pickled file nothing but tensors is accepted."""
    with naming(path):
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        # a network that was trained in several processes has this prefix
        return {key.removeprefix("module."): value for key, value in state.items()}


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the weights whose names begin with a key of ``names``, with that beginning replaced."""
    return {
        new + key.removeprefix(old): value
        for key, value in state.items()
        for old, new in names.items()
        if key.startswith(old)
    }


def _text_encoder(base: Path) -> TextEncoder:
    """Read CLIP's text tower and tokenizer, of which TextDiffuser's two stages each have one."""
    with naming(base / "text_encoder"):
        tower = CLIPTextModel.from_pretrained(base / "text_encoder", use_safetensors=True, local_files_only=True)
    encoder = TextEncoder(tower, max_words=_MAX_WORDS)
    encoder.tokenizer = Source(str(base), "tokenizer").load_tokenizer()
    return encoder


def _word_layouts(path: Path, base: Path) -> WordLayoutGenerator:
    """Read the layout transformer; its sizes are those of its weights."""
    state = _read(path)
    with naming(path):
        width = state[_MARKS].shape[1]
        network = LayoutTransformer(
            text_width=state["input_layer.0.weight"].shape[1],
            max_words=_MAX_WORDS,
            width=width,
            heads=_HEADS,
            layers=1 + max(int(key.split(".")[2]) for key in state if key.startswith("transformer.layers.")),
            feedforward=len(state["transformer.layers.0.linear1.weight"]),
            bins=len(state["x_embedding.weight"]),
            norm_first=False,
        )
        read = _renamed(state, _LAYOUT_PARTS) | {"mark_embedding.weight": state[_MARKS][:2]}
        # the published network has embeddings of length and state, but adds them nowhere
        unread = ("length_embedding.weight", "kind_embedding.weight")
        blank = {name: torch.zeros_like(network.state_dict()[name]) for name in unread}
        network.load_state_dict(read | blank)
        return WordLayoutGenerator(
            PromptEncoder(_text_encoder(base), IdentityComposition()), network, read_padding=True
        )
