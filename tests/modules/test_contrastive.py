"""Compare the code between encoders and Eq. 3 with float64 and one text at a time."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_system as tiny
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.models.contrastive import agreement
from vlad_lightning.models.conv_tower import ConvTower
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.modules.contrastive import align

TEXTS = ['a red star left of a blue ring, with "SALE" at the top', "a green heart", '"HELLO"', "a poster", "hi"]
OF = [1, 1, 0, 2, 0]


def pictures() -> Tensor:
    return torch.rand(3, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def encoders() -> tuple[Any, ImageEncoder]:
    torch.manual_seed(0)
    tower = ConvTower(tiny.SIZE, channels=(8, 16, 32), blocks=(0, 1, 1), layers=1, heads=2, projection=tiny.WIDTH)
    return tiny.prompt_encoder().eval(), ImageEncoder(tower).eval()


@torch.no_grad()
def test_agreement_is_the_cosine_in_float32() -> None:
    """Captions that differ by a word differ by less than the precision of bfloat16."""
    prompts, images = encoders()
    with torch.autocast("cpu", torch.bfloat16):
        found = agreement(prompts, images, pictures(), TEXTS, OF)
        seen, said = images(pictures()), prompts(TEXTS).pooled
    assert seen.dtype == torch.bfloat16
    expected = F.cosine_similarity(seen.double()[OF], said.double(), dim=-1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_local_agreement_adds_the_best_patch_of_each_phrase() -> None:
    prompts, images = encoders()
    found = agreement(prompts, images, pictures(), TEXTS, OF, local=True)
    seen = images.look(pictures())
    for text, picture, score in zip(TEXTS, OF, found.tolist(), strict=True):
        said = prompts([text])
        expected = F.cosine_similarity(seen.pooled[picture].double(), said.pooled[0].double(), dim=0)
        phrases = F.normalize(said.phrases[0, 1:][said.phrase_mask[0, 1:]].double(), dim=-1)  # without t_g
        if len(phrases):
            patches = F.normalize(seen.patches[picture].flatten(0, 1).double(), dim=-1)
            expected = expected + (phrases @ patches.T).amax(dim=1).mean()
        assert score == pytest.approx(expected.item(), abs=1e-5)


@torch.no_grad()
def test_scores_do_not_depend_on_the_chunk_size() -> None:
    prompts, images = encoders()
    texts = [f"a poster that says 'WORD {i}'" for i in range(70)]
    found = agreement(prompts, images, pictures(), texts, [i % 3 for i in range(70)])
    assert found.shape == (70,)
    for i in (0, 62, 63, 64, 69):
        alone = agreement(prompts, images, pictures()[i % 3 : i % 3 + 1], texts[i : i + 1])
        assert found[i].item() == pytest.approx(alone.item(), abs=1e-5)


class SecondOfTwo(LightningModule):
    """The second of two ranks; the values of the first one are given."""

    global_rank = 1

    def __init__(self, first: list[Tensor]) -> None:
        super().__init__()
        self.first = first
        self.types: list[torch.dtype] = []

    def all_gather(self, data: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        assert sync_grads
        self.types.append(data.dtype)
        return torch.stack([self.first[len(self.types) - 1], data])


def rows(seed: int) -> tuple[Tensor, Tensor]:
    images, texts = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(seed))
    return images, texts


def surprise(queries: Tensor, answers: Tensor, own: Tensor, tau: float) -> Tensor:
    """Compute the mean of -log softmax(cos / tau) at the matching pairs, in float64."""
    cosines = F.normalize(queries.double(), dim=-1) @ F.normalize(answers.double(), dim=-1).T
    return -(cosines / tau).log_softmax(dim=1).gather(1, own[:, None]).mean()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_rank_scores_its_pairs_against_those_of_all_ranks(symmetric: bool) -> None:
    first, (images, texts) = list(rows(0)), rows(1)
    loss = align(SecondOfTwo(first), images, texts, 0.2, symmetric)
    own = torch.arange(4, 8)
    expected = surprise(texts, torch.cat([first[0], images]), own, 0.2)
    if symmetric:
        expected = (expected + surprise(images, torch.cat([first[1], texts]), own, 0.2)) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_embeddings_are_gathered_in_float32() -> None:
    """The backward pass of the gathering adds the ranks' gradients of a row in the dtype of the row."""
    module, (images, texts) = SecondOfTwo(list(rows(0))), rows(1)
    align(module, images.bfloat16(), texts.bfloat16(), 0.2)
    assert module.types == [torch.float32, torch.float32]


def test_negatives_are_the_batch_and_edited_texts() -> None:
    (images, texts), (edited, _) = rows(0), rows(1)
    loss = align(SecondOfTwo([]), images, texts, 0.2, everywhere=False, edited=edited[:, None])
    expected = surprise(texts, images, torch.arange(4), 0.2) / 2
    for i in range(4):
        of_text = surprise(images[i : i + 1], torch.cat([texts, edited[i : i + 1]]), torch.tensor([i]), 0.2)
        expected = expected + of_text / 8
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
