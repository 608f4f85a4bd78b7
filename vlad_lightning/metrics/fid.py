"""Frechet and kernel distances between the features of true and of generated images, such as FID and KID.

They are called ``fid`` and ``kid`` only if the features come from the Inception network that the literature uses.
"""

from __future__ import annotations

import hashlib
import io
import re
import urllib.error
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.hub import get_dir, load_state_dict_from_url
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd
from torchmetrics.utilities.data import dim_zero_cat

from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.metrics.embedder import Held, ImageEmbedder
from vlad_lightning.metrics.per_image import ResultMetric
from vlad_lightning.types import MetricResult


class _GivenFeatures(nn.Module):
    """Identity that torchmetrics takes as its feature extractor, for features that are already computed."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Compute |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of two feature sets in float64 (Heusel et al. 2017).

    With fewer samples than features the covariances do not have full rank; the distance exists but is biased upwards.

    Args:
        real: (N, F) float, N at least 2.
        fake: (M, F) float, M at least 2.
    """
    # the features are already gathered from all processes: gathered again, each would count once per process
    distance = FrechetInceptionDistance(feature=_GivenFeatures(real.shape[1]), sync_on_compute=False)
    distance.update(real.double(), real=True)
    distance.update(fake.double(), real=False)
    return max(float(distance.compute()), 0.0)  # rounding can make it slightly negative for equal sets


def kernel_distance(real: Tensor, fake: Tensor, subsets: int, subset_size: int, generator: torch.Generator) -> Tensor:
    """Compute the unbiased squared MMD with the kernel (x.y / F + 1)^3 on random subsets (Binkowski et al. 2018).

    Args:
        real: (N, F) float.
        fake: (M, F) float.
        subsets: how many pairs of subsets are drawn.
        subset_size: samples in each subset; at least 2, at most N and M.
        generator: random generator of the subsets, on the CPU.

    Returns:
        (subsets,) float64: KID is their mean.
    """
    real, fake = real.double(), fake.double()

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:subset_size]]

    return torch.stack([poly_mmd(draw(real), draw(fake)) for _ in range(subsets)])


class InceptionNetwork(nn.Module):
    """The Inception v3 of FID (2,048 features of pool3, TensorFlow's 2015 weights as torch-fidelity converted them).

    Args:
        weights: a ``.safetensors`` or ``.pth`` file of torch-fidelity's weights; None downloads them once into torch's
            hub folder.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file does not hold these weights, or holds code.
        RuntimeError: if ``weights`` is None and the download fails.
    """

    name = "inception-v3-compat"
    result_names = ("fid", "kid")

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        if weights is not None and not Path(weights).is_file():
            raise FileNotFoundError(f"weights={weights!r} does not exist; it must be the Inception network of FID")
        path = Path(weights) if weights is not None else _download_inception()
        content = path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.network = _build_inception(path, content)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, 2048) float; resized to 299 px as TensorFlow 1 did."""
        pixels = to_bytes(images)
        return self.network(pixels)[0]


class PytorchFidNetwork(InceptionNetwork):
    """The same network with pytorch-fid's resizing, which AnyText-bench and many papers use.

    pytorch-fid resizes with PyTorch's bilinear interpolation and scales to [-1, 1]; torch-fidelity follows
    TensorFlow 1, whose grid is shifted by half a pixel (Parmar et al. 2022), and scales by 128. The arguments are those
    of :class:`InceptionNetwork`.
    """

    name = "inception-v3-compat, resized as pytorch-fid"
    result_names = ("fid_pytorch_fid", "kid_pytorch_fid")

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, 2048) float."""
        side = self.network.INPUT_IMAGE_SIZE
        pixels = to_bytes(images).float() / 255
        resized = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
        return inception_features(self.network, 2 * resized - 1)


def inception_features(network: FeatureExtractorInceptionV3, inputs: Tensor) -> Tensor:
    """Return the features (B, 2048) of inputs (B, 3, 299, 299) float that are already scaled."""
    for name, layer in network.named_children():  # in the order in which its own forward uses them
        if name == "fc":
            break
        inputs = layer(inputs)
    return inputs.flatten(1).float()


def _download_inception() -> Path:
    try:
        load_state_dict_from_url(URL_INCEPTION_V3, progress=False, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError) as error:
        raise RuntimeError(f"weights is None, and Inception cannot be downloaded ({error}); give a file") from error
    return Path(get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]


def _build_inception(path: Path, content: bytes) -> FeatureExtractorInceptionV3:
    """Build the network with the weights in ``content``, read without running pickled code."""
    try:
        if path.suffix == ".safetensors":
            state = load_safetensors(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        plain = io.BytesIO()  # torch-fidelity unpickles the file, so it gets a file with tensors only
        torch.save(state, plain)
        plain.seek(0)
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=plain)
    except Exception as error:  # the unpickler, safetensors and load_state_dict raise different types
        raise ValueError(f"weights={str(path)!r} does not hold the Inception network of FID: {error}") from error


class FrechetDistance(ResultMetric):
    """``fid`` and ``kid``, or with another network ``frechet_distance_<network>`` and ``kernel_distance_<network>``.

    A network may name its results by its ``result_names``.

    There is no interval, since resampling the images biases both distances. The details hold the standard deviation of
    KID over its subsets, the network, its hash and the numbers of images. If a subset holds all images of both sides,
    KID is computed once and has no standard deviation.

    Args:
        network: computes the features; :class:`InceptionNetwork` for the original FID and KID.
        kid_subsets: how many subsets KID averages.
        kid_subset_size: images in each subset; all images if there are fewer.
        seed: seed of the subsets.

    Raises:
        ValueError: if ``kid_subsets`` is below 1 or ``kid_subset_size`` below 2.
    """

    width: Tensor
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(
        self, network: ImageEmbedder, kid_subsets: int = 100, kid_subset_size: int = 1000, seed: int = 0
    ) -> None:
        super().__init__()
        for argument, value, least in (("kid_subsets", kid_subsets, 1), ("kid_subset_size", kid_subset_size, 2)):
            if value < least:
                raise ValueError(f"{argument} is {value}; it must be at least {least}")
        self.kid_subsets, self.kid_subset_size, self.seed = kid_subsets, kid_subset_size, seed
        self._encoder = Held(network)
        # Flat, because a process without images has to take part in the gather with an empty vector.
        self.add_state("width", torch.tensor(0), dist_reduce_fx="max")
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Keep the features of B images.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            real: whether these are true images.
        """
        if not len(images):
            return
        features = self._encoder.images(images)
        self.width.fill_(features.shape[1])
        (self.real if real else self.fake).append(features.to(self.device, self.dtype).flatten())

    def compute(self) -> dict[str, MetricResult]:
        """Return both distances by name; with fewer than two images on a side, warn and return none."""
        if not self.width:
            return {}
        real, fake = self._features(self.real), self._features(self.fake)
        least = min(len(real), len(fake))
        if least < 2:
            warnings.warn(f"distances need 2 images per side; {len(real)} true, {len(fake)} generated", stacklevel=2)
            return {}
        if least <= real.shape[1]:
            warnings.warn(f"{least} images for {real.shape[1]} features: the Frechet distance is biased", stacklevel=2)
        frechet, kernel = self._names()
        common = self._details(len(real), len(fake))
        return {
            frechet: MetricResult(frechet_distance(real, fake), n=len(fake), details=common),
            kernel: self._kernel_result(real, fake, common),
        }

    def _kernel_result(self, real: Tensor, fake: Tensor, details: dict[str, Any]) -> MetricResult:
        size = min(self.kid_subset_size, len(real), len(fake))
        drawn = len(real) > size or len(fake) > size
        generators = torch.Generator().manual_seed(self.seed)
        values = kernel_distance(real, fake, self.kid_subsets if drawn else 1, size, generators)
        spread = {"subsets": self.kid_subsets, "std": float(values.std(unbiased=False))} if drawn else {}
        return MetricResult(float(values.mean()), n=len(fake), details=details | {"subset_size": size} | spread)

    def _features(self, state: list[Tensor]) -> Tensor:
        flat = dim_zero_cat(state) if len(state) else torch.zeros(0)
        return flat.detach().cpu().reshape(-1, int(self.width))

    def _names(self) -> tuple[str, str]:
        network = self._encoder.network
        if own := getattr(network, "result_names", None):
            return own
        slug = re.sub(r"\W+", "_", network.name)
        return f"frechet_distance_{slug}", f"kernel_distance_{slug}"

    def _details(self, n_real: int, n_fake: int) -> dict[str, Any]:
        network = self._encoder.network
        return {"network": network.name, "sha256": network.sha256, "n_real": n_real, "n_fake": n_fake}
