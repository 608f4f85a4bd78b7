from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from vlad_lightning.diffusion.sampler import Denoiser, Sampler
from vlad_lightning.diffusion.solvers import SolverName

MEAN, DEVIATION = 0.7, 0.4
KINDS = ("sample", "v_prediction", "epsilon")


def schedule(kind: str = "sample", zero_snr: bool = True, steps: int = 1000) -> DDPMScheduler:
    return DDPMScheduler(steps, prediction_type=kind, rescale_betas_zero_snr=zero_snr)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def oracle(of: DDPMScheduler, x0: Tensor) -> Denoiser:
    """Return the perfect prediction for data of one point."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha = of.alphas_cumprod[t].view(-1, 1)
        told = {
            "sample": x0.expand_as(x),
            "epsilon": (x - alpha.sqrt() * x0) / (1 - alpha).sqrt(),
            "v_prediction": (alpha.sqrt() * x - x0) / (1 - alpha).sqrt(),
        }
        return told[of.config.prediction_type]

    return denoise


def gaussian_epsilon(alpha: Tensor, x: Tensor) -> Tensor:
    """E[noise | x_t] for x0 ~ N(MEAN, DEVIATION^2): the optimal denoiser in closed form."""
    return (1 - alpha).sqrt() * (x - alpha.sqrt() * MEAN) / (alpha * DEVIATION**2 + 1 - alpha)


def draw(sampler: Sampler, denoiser: Denoiser, x: Tensor, of: DDPMScheduler, seed: int = 0) -> Tensor:
    return sampler.draw(denoiser, x, of, [torch.Generator().manual_seed(seed)] * len(x))


@pytest.mark.parametrize("steps", [1, 2, 7, 15, 20, 30, 61, 600, 1000])  # including numbers that do not divide 1000
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_oracle_of_x0_is_recovered_exactly(steps: int, eta: float) -> None:
    x0 = torch.tensor([[3.0, -1.5, 0.25]])  # beyond [-1, 1]: nothing is clipped
    of = schedule()
    assert torch.equal(draw(Sampler(steps=steps, eta=eta), oracle(of, x0), noise(2, 3), of), x0.expand(2, 3))


@pytest.mark.parametrize(("kind", "zero_snr"), [("v_prediction", True), ("v_prediction", False), ("epsilon", False)])
@pytest.mark.parametrize("steps", [1, 15, 20, 61, 600])
def test_an_oracle_in_any_parametrisation_is_recovered(kind: str, zero_snr: bool, steps: int) -> None:
    x0 = torch.tensor([[3.0, -1.5]])
    of = schedule(kind, zero_snr)
    result = draw(Sampler(steps=steps), oracle(of, x0), noise(2, 2), of)
    torch.testing.assert_close(result, x0.expand(2, 2), rtol=0, atol=1e-3 if steps == 1 else 1e-5)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_schedule_published_with_another_solver_is_sampled_to_its_end(
    solver: SolverName, steps: int, tmp_path: Path
) -> None:
    """The solver's settings stay in its config, where diffusers' solvers find them."""
    published = {"_class_name": "DDIMScheduler", "set_alpha_to_one": False, "steps_offset": 1, "skip_prk_steps": True}
    published |= {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": True}
    published |= {"algorithm_type": "sde-dpmsolver++", "lower_order_final": False, "solver_type": "heun"}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(published))
    of, x0 = DDPMScheduler.from_pretrained(tmp_path), torch.tensor([[3.0, -1.5]])
    assert of.config.prediction_type == "epsilon"
    result = draw(Sampler(steps=steps, solver=solver), oracle(of, x0), noise(2, 2), of)
    torch.testing.assert_close(result, x0.expand(2, 2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_epsilon_of_a_cosine_schedule_is_sampled_in_few_steps(solver: SolverName, steps: int, eta: float) -> None:
    """At its end abar is 2e-9, and the beta that leads there in a single step is 1 in float32."""
    of, x0 = DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False), torch.tensor([[0.5, -1.5]])
    sampler = Sampler(steps=steps, solver=solver, eta=eta if solver == "ddim" else 0.0)
    result = draw(sampler, oracle(of, x0), noise(2, 2), of)
    # of one step x0 is what rounding of x leaves of sqrt(abar) x0, 5e-5 x0
    torch.testing.assert_close(result, x0.expand(2, 2), rtol=0, atol=1e-2 if steps == 1 else 1e-3)


@pytest.mark.parametrize("steps", [10, 30])
def test_ddim_equals_eq_12_of_its_paper_in_float64(steps: int) -> None:
    """The recursion of arXiv 2010.02502 by hand, for Gaussian data, over the timesteps T k / steps - 1."""
    of = schedule("epsilon", zero_snr=False)
    times = [1000 * k // steps - 1 for k in range(steps, 0, -1)]
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    x = noise(64, 1).double()
    for now, after in zip(times, [*times[1:], None], strict=True):
        alpha, following = alphas[now], torch.ones(()) if after is None else alphas[after]
        epsilon = gaussian_epsilon(alpha, x)
        x0 = (x - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()
        x = following.sqrt() * x0 + (1 - following).sqrt() * epsilon
    result = draw(
        Sampler(steps=steps), lambda x, t: gaussian_epsilon(of.alphas_cumprod[t][:, None], x), noise(64, 1), of
    )
    torch.testing.assert_close(result.double(), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gaussian_data_are_sampled_with_their_mean_and_deviation(eta: float) -> None:
    of = schedule("epsilon", zero_snr=False)
    result = draw(
        Sampler(steps=500, eta=eta),
        lambda x, t: gaussian_epsilon(of.alphas_cumprod[t][:, None], x),
        noise(100, 200),
        of,
    )
    assert result.mean().item() == pytest.approx(MEAN, abs=0.012)  # 4 standard errors: 0.4 / sqrt(20000) * 4
    assert result.std().item() == pytest.approx(DEVIATION, abs=0.012)


def test_more_steps_than_the_schedule_has_are_refused() -> None:
    with pytest.raises(ValueError, match="steps is 11"):
        draw(Sampler(steps=11), lambda x, t: x, noise(1, 2), schedule(steps=10))


def test_the_denoiser_is_called_once_per_step_with_the_trainings_timesteps() -> None:
    asked: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return x * 0

    draw(Sampler(steps=4), denoise, noise(3, 2), schedule())
    assert [t.tolist() for t in asked] == [[time] * 3 for time in (999, 749, 499, 249)]


def test_the_progress_bar_counts_every_step() -> None:
    seen: list[int] = []

    def watch(times: Tensor) -> Iterable[Tensor]:
        assert len(times) == 7  # tqdm shows a length
        for t in times:
            seen.append(int(t))
            yield t

    Sampler(steps=7).draw(lambda x, t: x * 0, noise(1, 2), schedule(), [torch.Generator()], progress=watch)
    assert len(seen) == 7


def test_the_seed_determines_the_result_and_only_eta_needs_one() -> None:
    of = schedule("v_prediction")
    x = noise(2, 3)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * x)

    random = Sampler(steps=5, eta=1.0)
    assert torch.equal(draw(random, denoise, x, of, seed=1), draw(random, denoise, x, of, seed=1))
    assert not torch.equal(draw(random, denoise, x, of, seed=1), draw(random, denoise, x, of, seed=2))
    assert torch.equal(draw(Sampler(steps=5), denoise, x, of, seed=1), draw(Sampler(steps=5), denoise, x, of, seed=2))


def test_schedule_and_noise_are_not_changed() -> None:
    of, fresh, x = schedule(), schedule(), noise(2, 3)
    draw(Sampler(steps=7, eta=0.5), oracle(of, torch.zeros(1, 3)), x, of)
    assert dict(of.config) == dict(fresh.config)
    assert torch.equal(of.alphas_cumprod, fresh.alphas_cumprod)
    assert torch.equal(of.timesteps, fresh.timesteps)
    assert of.num_inference_steps is None
    assert torch.equal(x, noise(2, 3))


def test_a_half_precision_network_is_solved_in_float32() -> None:
    of = schedule()
    result = draw(Sampler(steps=3), lambda x, t: torch.full_like(x, 0.5).bfloat16(), noise(1, 2), of)
    assert result.dtype == torch.float32
    assert torch.equal(result, torch.full((1, 2), 0.5))


def test_no_solver_value_is_rounded_to_the_networks_half_precision() -> None:
    """DDIM's Eq. 12 in float64, for the predictions of a network in bfloat16."""
    of, x, said = schedule("v_prediction", zero_snr=False), noise(16, 3), noise(16, 3, seed=1).bfloat16()
    result = draw(Sampler(steps=2), lambda x, t: said, x, of)
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    expected = x.double()
    for alpha, after in ((alphas[999], alphas[499]), (alphas[499], torch.ones(()))):
        x0 = alpha.sqrt() * expected - (1 - alpha).sqrt() * said.double()
        epsilon = alpha.sqrt() * said.double() + (1 - alpha).sqrt() * expected
        expected = after.sqrt() * x0 + (1 - after).sqrt() * epsilon
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampler(steps=0), "steps is 0; it must be a whole number from 1"),
        (lambda: Sampler(steps=10**9), "steps is 1000000000; it must be a whole number from 1 to 10,000"),
        (lambda: Sampler(steps=2.5), "steps is 2.5; it must be a whole number"),  # type: ignore[arg-type]
        (lambda: Sampler(solver="euler"), r"solver is 'euler'; allowed are 'ddim', 'dpmsolver\+\+'"),  # type: ignore[arg-type]
        (lambda: Sampler(eta=1.5), r"eta is 1.5; it must lie in \[0, 1\]"),
        (lambda: Sampler(eta=-0.5), r"eta is -0.5; it must lie in \[0, 1\]"),
    ],
)
def test_a_value_out_of_range_is_named(make: Callable[[], Sampler], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
