from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from vlad_lightning.metrics.fid import (
    FrechetDistance,
    InceptionNetwork,
    PytorchFidNetwork,
    frechet_distance,
    inception_features,
    kernel_distance,
)


class Corner(nn.Module):
    """The left upper corner as features."""

    name, sha256 = "corner of 2x1", "1" * 64

    def embed_images(self, images: Tensor) -> Tensor:
        return images[:, :, :2, :1].flatten(1)  # 6 features


class UntrainedInception(FeatureExtractorInceptionV3):
    """The architecture with random weights: loading, the only way in, is switched off."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        return None


@pytest.fixture(scope="module")
def inception_state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    empty = tmp_path_factory.mktemp("empty") / "empty.pth"
    torch.save({}, empty)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UntrainedInception("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(empty))
    return network.state_dict()


def gaussian(n: int, mean: Tensor, root: Tensor, seed: int) -> Tensor:
    generators = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + generators @ root.T


def images(n: int, seed: int) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def filled(metric: FrechetDistance, real: Tensor, fake: Tensor) -> FrechetDistance:
    for batch in real.split(16):
        metric.update(batch, real=True)
    for batch in fake.split(16):
        metric.update(batch, real=False)
    return metric


def exactly(features: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    """The features moved and turned so that their sample mean and covariance are ``mean`` and ``root root'``."""
    centred = features - features.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(centred.T))).T
    return mean + white @ root.T


def test_frechet_distance_is_the_closed_form_for_diagonal_gaussians() -> None:
    """(mu_1 - mu_2)^2 + (s_1 - s_2)^2, summed over dimensions."""
    mean1, mean2 = torch.tensor([1001.0, 2, 3]).double(), torch.tensor([1000.0, 2, 5]).double()
    std1, std2 = torch.tensor([1.0, 2, 0.5]).double(), torch.tensor([3.0, 2, 1.5]).double()
    real = exactly(gaussian(50, mean1, torch.eye(3).double(), 0), mean1, std1.diag())
    fake = exactly(gaussian(70, mean1, torch.eye(3).double(), 1), mean2, std2.diag())
    expected = (mean1 - mean2).square().sum() + (std1 - std2).square().sum()
    assert frechet_distance(real, fake) == pytest.approx(expected.item(), rel=1e-8)


def test_frechet_distance_is_scipys_matrix_root() -> None:
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(2, 8, 8, generator=generator, dtype=torch.float64)
    means = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    real, fake = (
        gaussian(200, mean, root, seed).numpy() for seed, (mean, root) in enumerate(zip(means, roots, strict=True))
    )
    sigma1, sigma2 = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(sigma1 @ sigma2).real
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * root)
    assert frechet_distance(torch.from_numpy(real), torch.from_numpy(fake)) == pytest.approx(expected, rel=1e-9)


def test_equal_sets_have_no_distance() -> None:
    features = torch.randn(30, 10, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features, features) >= 0


def test_rounding_makes_no_distance_of_equal_sets_negative() -> None:
    generators = torch.randn(40, 30, 10, generator=torch.Generator().manual_seed(0))
    distances = [frechet_distance(features, features) for features in generators + 3]
    assert min(distances) == 0  # of so many, some were below
    assert max(distances) < 1e-6


def test_kernel_distance_is_the_unbiased_estimate_by_loops() -> None:
    real, fake = (torch.randn(5, 3, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1))
    fake = fake + 1

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    pairs = [(i, j) for i in range(5) for j in range(5)]
    within = sum(kernel(real[i], real[j]) + kernel(fake[i], fake[j]) for i, j in pairs if i != j) / 20
    expected = within - 2 * sum(kernel(real[i], fake[j]) for i, j in pairs) / 25
    values = kernel_distance(real, fake, subsets=3, subset_size=5, generator=torch.Generator().manual_seed(0))
    assert values.tolist() == pytest.approx([expected] * 3)


def test_kernel_distance_does_not_touch_the_global_generator() -> None:
    features = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first, again = (kernel_distance(features, features + 1, 4, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(before, torch.get_rng_state())


def test_another_network_is_never_called_fid() -> None:
    real, fake = images(40, 0), images(30, 1) * 0.5
    results = filled(FrechetDistance(Corner(), kid_subsets=10), real, fake).compute()
    assert set(results) == {"frechet_distance_corner_of_2x1", "kernel_distance_corner_of_2x1"}
    frechet, kernel = results.values()
    features = [x[:, :, :2, :1].flatten(1) for x in (real, fake)]
    assert frechet.value == pytest.approx(frechet_distance(*features))
    assert frechet.details == {"network": "corner of 2x1", "sha256": "1" * 64, "n_real": 40, "n_fake": 30}
    assert kernel.details["subset_size"] == 30
    assert kernel.details["std"] > 0
    assert kernel.value > 0.01


def test_kid_and_its_spread_are_those_of_the_subsets_that_the_seed_draws() -> None:
    real, fake = images(40, 0), images(30, 1) * 0.5
    features = [x[:, :, :2, :1].flatten(1) for x in (real, fake)]
    for seed in (0, 5):
        metric = FrechetDistance(Corner(), kid_subsets=10, kid_subset_size=20, seed=seed)
        kernel = filled(metric, real, fake).compute()["kernel_distance_corner_of_2x1"]
        values = kernel_distance(*features, subsets=10, subset_size=20, generator=torch.Generator().manual_seed(seed))
        assert kernel.value == pytest.approx(values.numpy().mean(), rel=1e-6)
        assert kernel.details["std"] == pytest.approx(values.numpy().std(), rel=1e-6)  # of these, not of all there are


def test_a_subset_of_all_images_is_computed_once_and_has_no_spread() -> None:
    real, fake = images(30, 0), images(30, 1) * 0.5
    _, kernel = filled(FrechetDistance(Corner(), kid_subset_size=40), real, fake).compute().values()
    assert kernel.details["subset_size"] == 30
    assert not {"std", "subsets"} & set(kernel.details)
    features = [x[:, :, :2, :1].flatten(1) for x in (real, fake)]
    mean = kernel_distance(*features, subsets=20, subset_size=30, generator=torch.Generator()).mean()
    assert kernel.value == pytest.approx(float(mean), rel=1e-9)


def test_the_order_of_batches_and_sides_does_not_matter() -> None:
    real, fake = images(40, 0), images(40, 1) * 0.5
    first = filled(FrechetDistance(Corner()), real, fake)
    second = FrechetDistance(Corner())
    for i in range(0, 40, 10):
        second.update(fake[i : i + 10], real=False)
        second.update(real[i : i + 10], real=True)
    assert [f.value for f in first.compute().values()] == pytest.approx([f.value for f in second.compute().values()])


def test_computing_twice_gives_the_same() -> None:
    metric = filled(FrechetDistance(Corner(), kid_subset_size=10), images(20, 0), images(20, 1))
    first = metric.compute()
    metric.update(images(0, 0), real=True)  # drops the cached result
    assert metric.compute() == first


@pytest.mark.parametrize(("n_real", "n_fake"), [(1, 1), (1, 5), (5, 0)])
def test_too_few_images_leave_the_results_out_with_a_warning(n_real: int, n_fake: int) -> None:
    metric = filled(FrechetDistance(Corner()), images(n_real, 0), images(n_fake, 1))
    with pytest.warns(UserWarning, match=f"{n_real} true, {n_fake} generated"):
        assert metric.compute() == {}


def test_fewer_images_than_features_give_a_result_with_a_warning() -> None:
    for number in (3, 6):  # of 6 images the covariance has rank 5
        metric = filled(FrechetDistance(Corner()), images(number + 1, 0), images(number, 1))
        with pytest.warns(UserWarning, match=f"{number} images for 6 features"):
            results = metric.compute()
    assert all(np.isfinite(result.value) for result in results.values())


def test_without_updates_there_are_no_results() -> None:
    assert FrechetDistance(Corner()).compute() == {}


def test_inception_from_either_kind_of_file_gives_fid_and_kid(
    inception_state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(inception_state, tmp_path / "weights.pth")
    save_file(inception_state, tmp_path / "weights.safetensors")
    pickled, safe = (InceptionNetwork(str(tmp_path / name)) for name in ("weights.pth", "weights.safetensors"))
    pictures = images(4, 0)
    features = pickled.embed_images(pictures)
    assert features.shape == (4, 2048)
    assert torch.equal(features, safe.embed_images(pictures))
    assert pickled.sha256 == hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    metric = filled(FrechetDistance(pickled, kid_subsets=2), pictures[:2], pictures[2:])
    with pytest.warns(UserWarning, match="2 images for 2048 features"):
        results = metric.compute()
    assert set(results) == {"fid", "kid"}
    assert results["fid"].details["sha256"] == pickled.sha256


@pytest.mark.parametrize("off", [-0.45, 0.45])
def test_inception_sees_the_nearest_bytes(inception_state: dict[str, Tensor], tmp_path: Path, off: float) -> None:
    torch.save(inception_state, tmp_path / "weights.pth")
    pixels = torch.randint(1, 255, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    reference = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    found = InceptionNetwork(str(tmp_path / "weights.pth")).embed_images((pixels + off) / 127.5 - 1)
    assert torch.equal(found, reference(pixels.to(torch.uint8))[0])


def test_inception_sees_what_an_image_generator_overshoots_as_black_and_white(
    inception_state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(inception_state, tmp_path / "weights.pth")
    network = InceptionNetwork(str(tmp_path / "weights.pth"))
    edges = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    assert torch.equal(network.embed_images(1.3 * edges), network.embed_images(edges))


def test_inception_from_the_hub_folder(
    inception_state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hub" / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(inception_state, file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert InceptionNetwork().sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_missing_weights_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"weights='none.pth' does not exist"):
        InceptionNetwork("none.pth")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_weights_of_another_network_or_with_code_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save(Payload(tmp_path / "ran"), tmp_path / "code.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other.pth", "code.pth", "plain.pth", "text.safetensors"):
        with pytest.raises(ValueError, match=rf"{name}' does not hold the Inception network"):
            InceptionNetwork(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


class Flat(Corner):
    def embed_images(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))


def test_bad_arguments_and_networks() -> None:
    with pytest.raises(ValueError, match="kid_subsets is 0"):
        FrechetDistance(Corner(), kid_subsets=0)
    with pytest.raises(ValueError, match="kid_subset_size is 1"):
        FrechetDistance(Corner(), kid_subset_size=1)
    with pytest.raises(ValueError, match=r"gives shape \(2,\) for 2 images"):
        FrechetDistance(Flat()).update(images(2, 0), real=True)


def test_pytorch_fids_resizing_is_another_way_into_the_same_network(
    inception_state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(inception_state, tmp_path / "inception.safetensors")
    ours = InceptionNetwork(str(tmp_path / "inception.safetensors"))
    other = PytorchFidNetwork(str(tmp_path / "inception.safetensors"))
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (1, 3, 299, 299), generator=drawn).to(torch.uint8)
    scaled = (pixels.float() - 128) / 128
    assert apart(inception_features(ours.network, scaled), ours.network(pixels)[0]) < 1e-5
    small = torch.randint(256, (1, 3, 8, 8), generator=drawn).float() / 127.5 - 1
    resized = torch.nn.functional.interpolate((small + 1) / 2, size=(299, 299), mode="bilinear", align_corners=False)
    features = other.embed_images(small)
    assert apart(features, inception_features(ours.network, 2 * resized - 1)) < 1e-3
    assert apart(features, ours.embed_images(small)) > 0.01


def apart(first: Tensor, second: Tensor) -> float:
    """Return the distance relative to the size: untrained features are tiny."""
    return float((first - second).norm() / second.norm())


def test_a_network_may_name_its_results() -> None:
    network = Corner()
    network.result_names = ("fd_corner", "kd_corner")
    found = filled(FrechetDistance(network), images(20, 0), images(20, 1)).compute()
    assert list(found) == ["fd_corner", "kd_corner"]
