from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vlad_lightning.models.tlg import TLG, decode_boxes, encode_boxes
from vlad_lightning.types import Conditioning

WIDTH, WORDS, PHRASES = 12, 4, 6
INSIDE = st.floats(0, 1, width=32)
BOX = st.tuples(INSIDE, INSIDE, *[st.floats(0.015625, 1, width=32)] * 2, st.floats(-3.140625, 3.140625, width=32))


def told(word_mask: Tensor, seed: int = 0) -> Conditioning:
    size, generator = len(word_mask), torch.Generator().manual_seed(seed)
    phrases = torch.randn(size, 1 + PHRASES, WIDTH, generator=generator)
    phrase_mask = torch.zeros(size, 1 + PHRASES, dtype=torch.bool)
    phrase_mask[:, 0] = True
    phrase_mask[:, 1 : 1 + WORDS] = word_mask
    return Conditioning(
        pooled=phrases[:, 0],
        phrases=phrases,
        phrase_mask=phrase_mask,
        tokens=torch.zeros(size, 3, WIDTH),
        token_mask=torch.ones(size, 3, dtype=torch.bool),
        words=phrases[:, 1 : 1 + WORDS] * word_mask[..., None],
        word_mask=word_mask,
    )


def tlg() -> TLG:
    torch.manual_seed(0)
    return TLG(WIDTH, width=16, layers=2, heads=2, max_words=WORDS)


def noise(size: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(size, WORDS, 6, generator=torch.Generator().manual_seed(seed))


TWO = torch.tensor([[True, True, False, False]])
STEP = torch.tensor([400])


@given(st.lists(BOX, min_size=1, max_size=5))
def test_coding_and_decoding_keeps_boxes(boxes: list[tuple[float, ...]]) -> None:
    value = torch.tensor(boxes)
    tokens = encode_boxes(value, torch.ones(len(value), dtype=torch.bool))
    assert tokens.abs().max() <= 1
    found, present = decode_boxes(tokens)
    assert present.all()
    torch.testing.assert_close(found, value, rtol=0, atol=1e-6)


@given(st.lists(st.tuples(*[st.floats(-3, 3, width=32)] * 6), min_size=1, max_size=5))
def test_any_denoised_token_has_a_positive_size(tokens: list[tuple[float, ...]]) -> None:
    boxes, _ = decode_boxes(torch.tensor(tokens))
    assert (boxes[:, 2:4] >= 0.01).all()
    assert boxes.isfinite().all()


def test_the_token_of_the_whole_frame_and_a_quarter_turn() -> None:
    boxes = torch.tensor([[0.5, 0.25, 1.0, 0.5, math.pi / 2]] * 2)
    tokens = encode_boxes(boxes, torch.tensor([True, False]))
    torch.testing.assert_close(tokens, torch.tensor([[0.0, -0.5, 1.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, -1.0]]))
    assert decode_boxes(tokens)[1].tolist() == [True, False]


def test_a_prompt_without_words_is_finite_and_does_not_change_its_neighbour() -> None:
    module = tlg()
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    both = module(noise(), torch.tensor([400, 10]), told(mask))
    assert both.shape == (2, WORDS, 6)
    assert both.isfinite().all()
    everything = told(mask)
    parts = (getattr(everything, name) for name in everything.__dataclass_fields__)
    first = Conditioning(*(None if part is None else part[:1] for part in parts))
    torch.testing.assert_close(module(noise()[:1], STEP, first), both[:1], rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_batch_with_a_prompt_without_words_is_finite() -> None:
    module = tlg()
    mask = torch.tensor([[True, False, False, False], [False] * 4])
    (module(noise(), torch.tensor([0, 1]), told(mask)) * mask[..., None]).square().sum().backward()
    for weight in module.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


def test_empty_word_slots_do_not_influence_the_words() -> None:
    module, x = tlg(), noise(1)
    other = torch.where(TWO[..., None], x, 40 * noise(1, seed=8))
    before, after = (module(value, STEP, told(TWO))[TWO] for value in (x, other))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", ["box", "word", "phrase", "time"])
def test_words_depend_on_each_other_the_text_and_the_time(what: str) -> None:
    """The first word's box depends on the second word's box and phrase, on t_g and on t."""
    module, x, conditioning, step = tlg(), noise(1), told(TWO), STEP
    before = module(x, step, conditioning)[0, 0]
    with torch.no_grad():
        if what == "box":
            x[0, 1] += 1
        elif what == "word":
            conditioning.phrases[0, 2].mul_(-1)
        elif what == "phrase":
            conditioning.phrases[0, 0].mul_(-1)
        else:
            step = torch.tensor([900])
    assert (module(x, step, conditioning)[0, 0] - before).abs().max() > 1e-4


def test_words_depend_on_their_phrase_and_their_rank_in_it() -> None:
    module, x = tlg(), noise(1)
    of = [torch.tensor([[[0, 0], [group, rank], [0, 0], [0, 0]]]) for group, rank in ((1, 0), (0, 1), (0, 0))]
    boxes = [module(x, STEP, replace(told(TWO), word_groups=groups))[TWO] for groups in of]
    torch.testing.assert_close(boxes[0], module(x, STEP, told(TWO))[TWO])  # as without this information
    for first, second in pairwise(boxes):
        assert (first - second).abs().max() > 1e-4


def test_objects_are_placed_beside_the_words_and_unknown_ones_left_out() -> None:
    torch.manual_seed(0)
    module = TLG(WIDTH, width=16, layers=2, heads=2, max_words=WORDS, max_objects=PHRASES - WORDS)
    conditioning = told(TWO)
    conditioning.phrase_mask[:, 1 + WORDS] = True
    x = torch.randn(1, PHRASES, 6, generator=torch.Generator().manual_seed(3))
    before = module(x, STEP, conditioning)
    assert before.shape == (1, PHRASES, 6)
    moved = x.clone()
    moved[0, WORDS] += 1
    assert (
        module(moved, STEP, conditioning)[TWO.nonzero(as_tuple=True)] - before[TWO.nonzero(as_tuple=True)]
    ).abs().max() > 1e-4
    unknown = torch.zeros(1, PHRASES, dtype=torch.bool)
    unknown[0, WORDS:] = True
    alone = module(x, STEP, conditioning, unknown)[:, :2]
    torch.testing.assert_close(module(moved, STEP, conditioning, unknown)[:, :2], alone, rtol=1e-5, atol=1e-6)


def test_masked_phrases_are_not_read() -> None:
    module, x, conditioning = tlg(), noise(1), told(TWO)
    before = module(x, STEP, conditioning)
    conditioning.phrases[~conditioning.phrase_mask] = 100.0
    torch.testing.assert_close(module(x, STEP, conditioning), before, rtol=1e-5, atol=1e-6)


def test_it_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    module = tlg()
    module.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = TLG.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(noise(1), STEP, told(TWO)), module(noise(1), STEP, told(TWO)))
