from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.models.contrastive import info_nce, phrase_nce, phrase_similarity, region_nce, retrieval_at_1


def pairs(size: int, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, size, width, generator=generator, dtype=torch.float64)
    return images, texts


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def one_direction(queries: list[list[float]], answers: list[list[float]], tau: float, offset: int = 0) -> float:
    """Compute Eq. 3 by its formula: -mean_i log( exp(cos(q_i, a_i) / tau) / sum_j exp(cos(q_i, a_j) / tau) )."""
    total = 0.0
    for i, query in enumerate(queries):
        own = math.exp(cosine(query, answers[offset + i]) / tau)
        total -= math.log(own / sum(math.exp(cosine(query, answer) / tau) for answer in answers))
    return total / len(queries)


@pytest.mark.parametrize("tau", [0.07, 0.5, 1.0])
def test_eq_3_equals_a_hand_written_loop(tau: float) -> None:
    """-log exp(sim(t_i, I_i) / tau) / sum_j exp(sim(t_i, I_j) / tau): a softmax over the images, given a text."""
    images, texts = pairs(5)
    expected = one_direction(texts.tolist(), images.tolist(), tau)
    assert expected != pytest.approx(one_direction(images.tolist(), texts.tolist(), tau))
    assert info_nce(images, texts, tau, symmetric=False).item() == pytest.approx(expected, rel=1e-12)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    images, texts = pairs(5)
    there = one_direction(images.tolist(), texts.tolist(), 0.1)
    back = one_direction(texts.tolist(), images.tolist(), 0.1)
    assert there != pytest.approx(back)
    assert info_nce(images, texts, 0.1).item() == pytest.approx((there + back) / 2, rel=1e-12)
    assert info_nce(texts, images, 0.1).item() == pytest.approx((there + back) / 2, rel=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_negatives_of_all_ranks_are_gathered_with_this_ranks_offset(symmetric: bool) -> None:
    images, texts = pairs(6)
    there = one_direction(images[2:4].tolist(), texts.tolist(), 0.2, offset=2)
    back = one_direction(texts[2:4].tolist(), images.tolist(), 0.2, offset=2)
    loss = info_nce(images[2:4], texts[2:4], 0.2, images, texts, offset=2, symmetric=symmetric)
    assert loss.item() == pytest.approx((there + back) / 2 if symmetric else back, rel=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_two_ranks_have_the_gradient_of_one(symmetric: bool) -> None:
    """The mean loss over ranks, as in DDP, equals the loss of the whole batch; so do the gradients."""
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


def test_a_text_matching_two_images_has_a_loss_and_the_reverse_has_none() -> None:
    """Two images are equal: no text can distinguish them, but each image distinguishes the texts."""
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert info_nce(images, texts, 0.5, symmetric=False).item() == pytest.approx(math.log(2), rel=1e-12)
    of_images = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2  # the texts apart, given an image
    assert info_nce(texts, images, 0.5, symmetric=False).item() == pytest.approx(of_images, rel=1e-12)


def test_edited_texts_are_in_the_softmax_of_their_image() -> None:
    (images, texts), (edited, _) = pairs(3), pairs(6, seed=1)
    tau, total = 0.3, 0.0
    for i, image in enumerate(images.tolist()):
        others = [*texts.tolist(), *edited[2 * i : 2 * i + 2].tolist()]
        every = [math.exp(cosine(image, text) / tau) for text in others]
        total -= math.log(every[i] / sum(every))
    back = one_direction(texts.tolist(), images.tolist(), tau)
    loss = info_nce(images, texts, tau, edited=edited.view(3, 2, -1))
    assert loss.item() == pytest.approx((total / 3 + back) / 2, rel=1e-12)


def test_edited_texts_need_the_symmetric_loss() -> None:
    images, texts = pairs(3)
    with pytest.raises(ValueError, match="edited texts are negatives in the softmax over texts"):
        info_nce(images, texts, 0.1, symmetric=False, edited=texts[:, None])


def places(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Phrases of three texts, of which the second has one and the third two; four patches an image."""
    generator = torch.Generator().manual_seed(seed)
    phrases, patches = (torch.randn(3, n, 5, generator=generator, dtype=torch.float64) for n in (3, 4))
    return phrases, torch.tensor([[True, True, True], [False, True, False], [True, False, True]]), patches


def best_mean(phrases: Tensor, mask: Tensor, patches: Tensor) -> float:
    best = [max(cosine(p, q) for q in patches.tolist()) for p in phrases[mask].tolist()]
    return sum(best) / len(best)


def test_phrase_similarity_is_the_mean_of_each_phrases_best_patch() -> None:
    phrases, mask, patches = places()
    found = phrase_similarity(phrases, mask, patches)
    assert found.tolist() == pytest.approx([best_mean(*row) for row in zip(phrases, mask, patches, strict=True)])
    assert not phrase_similarity(phrases, torch.zeros_like(mask), patches).any()


def test_phrase_nce_is_eq_3_over_that_similarity() -> None:
    phrases, mask, patches = places()
    tau, untrue = 0.2, [[0.3], [-0.2], [0.9]]
    table = [[best_mean(phrases[t], mask[t], patches[i]) for i in range(3)] for t in range(3)]
    there = [-math.log(math.exp(row[t] / tau) / sum(math.exp(x / tau) for x in row)) for t, row in enumerate(table)]
    back = []
    for i in range(3):
        row = [table[t][i] for t in range(3)] + untrue[i]
        back.append(-math.log(math.exp(row[i] / tau) / sum(math.exp(x / tau) for x in row)))
    expected = (sum(there) / 3 + sum(back) / 3) / 2
    edited = torch.tensor(untrue, dtype=torch.float64)
    assert phrase_nce(phrases, mask, patches, tau, edited).item() == pytest.approx(expected, rel=1e-12)


def test_region_nce_is_over_patches_per_phrase_and_phrases_per_patch() -> None:
    phrases, mask, patches = places()
    row, slot = mask.nonzero(as_tuple=True)
    at = torch.tensor([0, 3, 1, 2, 2, 0])
    edited, tau, total = pairs(2, 5)[0], 0.4, 0.0
    every_patch, every_phrase = patches.flatten(0, 1).tolist(), [*phrases[mask].tolist(), *edited.tolist()]
    for k, phrase in enumerate(phrases[mask].tolist()):
        own = patches[row[k], at[k]].tolist()
        agree = math.exp(cosine(phrase, own) / tau)
        total -= math.log(agree / sum(math.exp(cosine(phrase, q) / tau) for q in every_patch)) / 2
        total -= math.log(agree / sum(math.exp(cosine(p, own) / tau) for p in every_phrase)) / 2
    loss = region_nce(phrases[row, slot], patches, row, at, tau, edited)
    assert loss.item() == pytest.approx(total / 6, rel=1e-12)


def test_without_known_boxes_the_loss_is_zero_with_a_gradient() -> None:
    _, _, patches = places()
    patches.requires_grad_()
    none, at = torch.zeros(0, 5, dtype=torch.float64), torch.zeros(0, dtype=torch.long)
    loss = region_nce(none, patches, at, at, 0.1, none)
    assert loss.item() == 0
    loss.backward()
    assert patches.grad is not None
    assert not patches.grad.any()


def test_products_stay_in_float32_under_autocast() -> None:
    images, texts = (x.float() for x in pairs(16, 64))
    expected = info_nce(images, texts, 0.01, images, texts)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(images, texts, 0.01, images, texts)
        half = info_nce(images.bfloat16(), texts.bfloat16(), 0.01)
    assert torch.equal(found, expected)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("name", ["pooled", "similarity", "phrases", "regions"])
def test_losses_under_autocast_equal_float64(name: str) -> None:
    """Divided by 0.01, the 8 bits of bfloat16 would be off by tenths of a nat."""
    phrases, mask, patches = places()
    row, slot = mask.nonzero(as_tuple=True)
    at, tau = torch.tensor([0, 3, 1, 2, 2, 0]), 0.01

    def term(phrases: Tensor, patches: Tensor) -> Tensor:
        if name == "pooled":
            return info_nce(patches[:, 0], phrases[:, 0], tau, patches[:, 0], phrases[:, 0], edited=phrases[:, 1:])
        if name == "similarity":
            return phrase_similarity(phrases, mask, patches)
        if name == "phrases":
            return phrase_nce(phrases, mask, patches, tau)
        return region_nce(phrases[row, slot], patches, row, at, tau, phrases[0])

    with torch.autocast("cpu", torch.bfloat16):
        found = term(phrases.float(), patches.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), term(phrases, patches), rtol=1e-5, atol=1e-5)


def test_the_temperature_has_a_gradient() -> None:
    images, texts = pairs(4)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: info_nce(images, texts, t), tau)


def test_norms_do_not_matter_and_equal_pairs_have_loss_log_b() -> None:
    images, texts = pairs(4)
    scales = torch.tensor([[0.1], [1.0], [7.0], [100.0]])
    assert info_nce(images * scales, texts * 3, 0.1).item() == pytest.approx(info_nce(images, texts, 0.1).item())
    same = torch.ones(8, 3)
    assert info_nce(same, same, 0.07).item() == pytest.approx(math.log(8), rel=1e-6)


def test_retrieval_is_counted_in_each_direction() -> None:
    """Image 1 is nearest to text 0; text 1 is still nearest to image 1."""
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    texts = torch.tensor([[9.0, 0.0], [0.0, 2.0]])
    image_to_text, text_to_image = retrieval_at_1(images, texts)
    assert (image_to_text.item(), text_to_image.item()) == (0.5, 1.0)
    assert [x.item() for x in retrieval_at_1(texts, images)] == [1.0, 0.5]


def test_retrieval_in_blocks_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(101, 8, generator=generator)
    texts = images + torch.randn(101, 8, generator=generator)
    whole = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    own = torch.arange(101)
    expected = [(whole.argmax(dim=dim) == own).float().mean() for dim in (1, 0)]
    assert 0.1 < expected[0] < 0.9
    for similarities in (1, 1000, 2**24):
        monkeypatch.setattr("vlad_lightning.models.contrastive._SIMILARITIES", similarities)
        assert list(retrieval_at_1(images, texts)) == expected
