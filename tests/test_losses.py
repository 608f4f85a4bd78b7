from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vlad_lightning.losses import info_nce, retrieval_at_1


def pairs(size: int, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, size, width, generator=generator, dtype=torch.float64)
    return images, texts


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def one_direction(queries: list[list[float]], answers: list[list[float]], tau: float, offset: int = 0) -> float:
    """Eq. 3 spelt out: -mean_i log( exp(cos(q_i, a_i) / tau) / sum_j exp(cos(q_i, a_j) / tau) )."""
    total = 0.0
    for i, query in enumerate(queries):
        own = math.exp(cosine(query, answers[offset + i]) / tau)
        total -= math.log(own / sum(math.exp(cosine(query, answer) / tau) for answer in answers))
    return total / len(queries)


@pytest.mark.parametrize("tau", [0.07, 0.5, 1.0])
def test_eq_3_is_the_hand_written_loop(tau: float) -> None:
    images, texts = pairs(5)
    expected = one_direction(images.tolist(), texts.tolist(), tau)
    assert info_nce(images, texts, tau, symmetric=False).item() == pytest.approx(expected, rel=1e-12)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    images, texts = pairs(5)
    there = one_direction(images.tolist(), texts.tolist(), 0.1)
    back = one_direction(texts.tolist(), images.tolist(), 0.1)
    assert there != pytest.approx(back)
    assert info_nce(images, texts, 0.1).item() == pytest.approx((there + back) / 2, rel=1e-12)
    assert info_nce(texts, images, 0.1).item() == pytest.approx((there + back) / 2, rel=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_negatives_of_every_rank_and_where_this_one_starts(symmetric: bool) -> None:
    images, texts = pairs(6)
    there = one_direction(images[2:4].tolist(), texts.tolist(), 0.2, offset=2)
    back = one_direction(texts[2:4].tolist(), images.tolist(), 0.2, offset=2)
    loss = info_nce(images[2:4], texts[2:4], 0.2, images, texts, offset=2, symmetric=symmetric)
    assert loss.item() == pytest.approx((there + back) / 2 if symmetric else there, rel=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_two_ranks_have_the_gradient_of_one(symmetric: bool) -> None:
    """The mean over ranks of the losses, as DDP takes it, is the loss of the whole batch; so are the gradients."""
    values = pairs(6)
    images, texts = (x.clone().requires_grad_() for x in values)
    one = info_nce(images, texts, 0.1, symmetric=symmetric)
    ranks = [
        info_nce(images[at : at + 3], texts[at : at + 3], 0.1, images, texts, offset=at, symmetric=symmetric)
        for at in (0, 3)
    ]
    two = torch.stack(ranks).mean()
    assert two.item() == pytest.approx(one.item(), rel=1e-12)
    expected, got = (torch.autograd.grad(loss, (images, texts), retain_graph=True) for loss in (one, two))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_products_are_not_rounded_under_autocast() -> None:
    images, texts = (x.float() for x in pairs(16, 64))
    expected = info_nce(images, texts, 0.01, images, texts)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(images, texts, 0.01, images, texts)
        half = info_nce(images.bfloat16(), texts.bfloat16(), 0.01)
    assert torch.equal(found, expected)
    assert half.dtype == torch.float32


def test_the_temperature_learns() -> None:
    images, texts = pairs(4)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: info_nce(images, texts, t), tau)


def test_lengths_do_not_matter_and_alike_pairs_cost_log_b() -> None:
    images, texts = pairs(4)
    scales = torch.tensor([[0.1], [1.0], [7.0], [100.0]])
    assert info_nce(images * scales, texts * 3, 0.1).item() == pytest.approx(info_nce(images, texts, 0.1).item())
    same = torch.ones(8, 3)
    assert info_nce(same, same, 0.07).item() == pytest.approx(math.log(8), rel=1e-6)


def test_retrieval_counts_each_direction() -> None:
    """Image 1 is nearest to text 0; text 1 is still nearest to image 1."""
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    texts = torch.tensor([[9.0, 0.0], [0.0, 2.0]])
    image_to_text, text_to_image = retrieval_at_1(images, texts)
    assert (image_to_text.item(), text_to_image.item()) == (0.5, 1.0)
    assert [x.item() for x in retrieval_at_1(texts, images)] == [1.0, 0.5]
