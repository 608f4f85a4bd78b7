from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.noising import add_noise, draw_timesteps

STEPS = 1000
KINDS = ("epsilon", "v_prediction", "sample")


def schedule(kind: str, zero_snr: bool = False) -> DDPMScheduler:
    return DDPMScheduler(STEPS, beta_schedule="scaled_linear", prediction_type=kind, rescale_betas_zero_snr=zero_snr)


def alpha_bar(zero_snr: bool = False) -> Tensor:
    """Compute (STEPS,) float64 from Eq. 4's definition; rescaled as in Algorithm 1 of arXiv 2305.08891."""
    betas = torch.linspace(0.0001**0.5, 0.02**0.5, STEPS, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2 if zero_snr else root**2


def data(size: int) -> tuple[Tensor, Tensor]:
    x0, noise = torch.randn(2, size, 3, 4, 4, generator=torch.Generator().manual_seed(size))
    return x0 / 2, noise


def to_x0(kind: str, x_t: Tensor, said: Tensor, alpha: Tensor) -> Tensor:
    """Convert a prediction to x0."""
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    return {"sample": said, "epsilon": (x_t - noise * said) / signal, "v_prediction": signal * x_t - noise * said}[kind]


@pytest.mark.parametrize("zero_snr", [False, True])
def test_x_t_equals_eq_4(zero_snr: bool) -> None:
    x0, noise = data(5)
    t = torch.tensor([0, 1, 400, 998, 999])
    alpha = alpha_bar(zero_snr)[t].view(-1, 1, 1, 1)
    expected = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    x_t = add_noise(schedule("sample", zero_snr), x0, noise, t).x_t
    torch.testing.assert_close(x_t.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_data_are_noised_like_float32(kind: str) -> None:
    """An autoencoder's latents under autocast: every step, including the first ones, adds the noise of Eq. 4."""
    x0, noise = data(7)
    x0, t = x0.bfloat16(), torch.tensor([0, 1, 2, 10, 100, 500, 999])
    found, expected = (add_noise(schedule(kind), value, noise, t) for value in (x0, x0.float()))
    for name in ("x_t", "target", "loss_weight"):
        assert getattr(found, name).dtype == torch.float32
        assert torch.equal(getattr(found, name), getattr(expected, name))
    alpha = alpha_bar()[t].view(-1, 1, 1, 1)
    added = found.x_t.double() - alpha.sqrt() * x0.double()
    torch.testing.assert_close(added, (1 - alpha).sqrt() * noise.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_recovers_x0(kind: str) -> None:
    x0, noise = data(6)
    t = torch.tensor([0, 10, 250, 500, 700, 900])
    noised = add_noise(schedule(kind), x0, noise, t)
    alpha = alpha_bar()[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        to_x0(kind, noised.x_t.double(), noised.target.double(), alpha), x0.double(), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_weighted_error_equals_the_same_error_of_x0(kind: str) -> None:
    """weight * |error of the target|^2 = min(1 + SNR, 5) * |error of x0|^2; for epsilon min(SNR, 5), as published."""
    x0, noise = data(6)
    t = torch.tensor([0, 10, 250, 500, 700, 900])
    noised = add_noise(schedule(kind), x0, noise, t, snr_gamma=5)
    alpha = alpha_bar()[t].view(-1, 1, 1, 1)
    wrong = noised.target.double() + 0.1 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(9))
    error = to_x0(kind, noised.x_t.double(), wrong, alpha) - to_x0(
        kind, noised.x_t.double(), noised.target.double(), alpha
    )
    snr = (alpha / (1 - alpha)).flatten()
    expected = (snr + (kind != "epsilon")).clamp(max=5) * error.square().mean(dim=(1, 2, 3))
    got = noised.loss_weight * (wrong - noised.target).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(got.double(), expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_terminal_snr_is_finite_everywhere(kind: str) -> None:
    x0, noise = data(STEPS)
    noised = add_noise(schedule(kind, zero_snr=True), x0, noise, torch.arange(STEPS))
    for value in (noised.x_t, noised.target, noised.loss_weight):
        assert value.isfinite().all()
    assert (noised.loss_weight > 0).all()
    assert torch.equal(noised.x_t[-1], noise[-1])  # none of the data is left


def test_pure_noise_has_weight_for_x0_and_v() -> None:
    x0, noise = data(1)
    last = torch.tensor([STEPS - 1])
    for kind in ("sample", "v_prediction"):
        assert add_noise(schedule(kind, zero_snr=True), x0, noise, last).loss_weight.item() == 1
    torch.testing.assert_close(add_noise(schedule("v_prediction", zero_snr=True), x0, noise, last).target, -x0)


def test_the_weight_of_epsilon_is_at_most_one() -> None:
    """The published schedules end at an SNR of 0.005: a weight of 1 / SNR would dominate the loss."""
    x0, noise = data(STEPS)
    loss_weight = add_noise(schedule("epsilon"), x0, noise, torch.arange(STEPS)).loss_weight
    assert loss_weight[-1] == loss_weight.max() == 1
    assert 0 < loss_weight[0] < 0.01


def test_gamma_clips_the_weight() -> None:
    x0, noise = data(2)
    t = torch.tensor([0, 999])
    weights = [add_noise(schedule("sample"), x0, noise, t, snr_gamma=gamma).loss_weight.tolist() for gamma in (1, 3, 5)]
    assert [w[0] for w in weights] == [1, 3, 5]
    snr = (alpha_bar()[-1] / (1 - alpha_bar()[-1])).item()
    assert [w[1] for w in weights] == pytest.approx([1, 1 + snr, 1 + snr], rel=1e-5)


def rows(size: int, seed: int = 0) -> SampleGenerators:
    return SampleGenerators.of_rows("cpu", (seed,), range(size), size)


@given(size=st.integers(1, 64), seed=st.integers(0, 2**31), high=st.floats(0, 10))
def test_timesteps_lie_in_the_schedule(size: int, seed: int, high: float) -> None:
    steps = draw_timesteps(rows(size, seed), STEPS, high)
    assert steps.shape == (size,)
    assert steps.dtype == torch.int64
    assert 0 <= steps.min() <= steps.max() < STEPS


@given(size=st.sampled_from([1, 2, 4, 5, 8, 20, 50]), seed=st.integers(0, 2**31))
def test_each_stratum_is_drawn_once(size: int, seed: int) -> None:
    steps = draw_timesteps(rows(size, seed), STEPS)
    assert sorted((steps * size // STEPS).tolist()) == list(range(size))


def test_the_order_of_the_strata_and_the_position_in_each_are_random() -> None:
    generators = torch.stack([draw_timesteps(rows(4, seed), STEPS) for seed in range(400)])  # (400, 4)
    strata = generators // 250
    assert all(torch.bincount(strata[:, i], minlength=4).min() > 60 for i in range(4))  # 100 expected
    place = (generators % 250).float()  # uniform over 250 timesteps
    assert place.mean().item() == pytest.approx(124.5, abs=6)  # 72 / sqrt(1600) = 1.8
    assert place.std().item() == pytest.approx(250 / 12**0.5, abs=4)


def test_with_two_rows_per_timestep_each_is_drawn_twice() -> None:
    steps = draw_timesteps(rows(2 * STEPS), STEPS)
    assert torch.equal(steps.sort().values, torch.arange(STEPS).repeat_interleave(2))


@pytest.mark.parametrize("high", [0.0, 0.5, 1.0, 3.0])
def test_timestep_shift_shifts_the_mean(high: float) -> None:
    """E[u ** (1 / (1 + h))] = (1 + h) / (2 + h) for uniform u; rounding down subtracts half a step."""
    steps = draw_timesteps(rows(4000), STEPS, high)
    assert steps.double().mean().item() == pytest.approx(STEPS * (1 + high) / (2 + high) - 0.5, abs=0.5)


def test_the_generators_determine_the_draws() -> None:
    first, again, other = (draw_timesteps(rows(16, seed), STEPS) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
