import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlad_lightning.types import (
    Batch,
    Conditioning,
    Layout,
    Negatives,
    ParsedPrompts,
    PhrasePairs,
    PromptBatch,
    Sample,
    not_built,
)

# A box: centre, size (not so thin that its angle is lost in rounding), angle.
BOX = st.tuples(
    *[st.floats(-1, 2, width=32)] * 2, *[st.floats(0.03125, 2, width=32)] * 2, st.floats(-3.140625, 3.140625, width=32)
)


def sample(number, words=2):
    generator = torch.Generator().manual_seed(number)
    return Sample(
        key=f"{number:05d}_{number:09d}",
        image=torch.rand(3, 8, 8, generator=generator),
        prompt=f'a poster "{number}"',
        layout=Layout((str(number),), torch.rand(1, 5, generator=generator)),
        glyphs=torch.randint(256, (1, 8, 8), generator=generator).byte(),
        word_boxes=torch.rand(words, 5, generator=generator),
        word_mask=torch.tensor([True] + [False] * (words - 1)),
        object_boxes=torch.rand(words, 5, generator=generator),
        object_mask=torch.tensor([True] + [False] * (words - 1)),
        object_counts=torch.ones(words, dtype=torch.int64),
        scene_known=number % 2 == 0,
    )


@given(st.lists(BOX, max_size=5))
def test_boxes_are_kept_by_a_conversion_to_quads_and_back(boxes):
    words = tuple(f"w{i}" for i in range(len(boxes)))
    layout = Layout(words, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5))
    back = Layout.from_quads(words, layout.quads())
    assert back.words == words
    assert torch.allclose(back.boxes[:, :4], layout.boxes[:, :4], atol=1e-5)
    turn = (back.boxes[:, 4] - layout.boxes[:, 4] + math.pi) % (2 * math.pi) - math.pi
    assert (turn.abs() < 1e-3).all()


def test_an_upright_quad_is_the_box_that_it_looks_like():
    quad = torch.tensor([[[0.25, 0.5], [0.75, 0.5], [0.75, 0.625], [0.25, 0.625]]])
    layout = Layout.from_quads(["HELLO"], quad)
    assert torch.allclose(layout.boxes, torch.tensor([[0.5, 0.5625, 0.5, 0.125, 0.0]]))
    assert torch.allclose(layout.quads(), quad)


def test_the_angle_turns_clockwise_on_screen():
    # A word that reads downwards: it starts at the top right corner, and its baseline is on the left.
    quad = torch.tensor([[[0.6, 0.1], [0.6, 0.9], [0.4, 0.9], [0.4, 0.1]]])
    box = Layout.from_quads(["DOWN"], quad).boxes[0]
    assert box.tolist() == pytest.approx([0.5, 0.5, 0.8, 0.2, math.pi / 2], abs=1e-6)


@given(arrays(np.float32, (3, 4, 2), elements=st.floats(-1, 2, width=32)))
def test_the_nearest_box_of_any_quad_has_its_centre_and_finite_numbers(quads):
    layout = Layout.from_quads(["a", "b", "c"], torch.from_numpy(quads))
    assert torch.isfinite(layout.boxes).all()
    assert np.allclose(layout.boxes[:, :2].numpy(), quads.mean(axis=1), atol=1e-5)
    assert (layout.boxes[:, 2:4] >= 0).all()


def test_an_empty_layout_has_no_quads():
    assert len(Layout.empty()) == 0
    assert Layout.empty().quads().shape == (0, 4, 2)
    assert Layout.from_quads([], torch.zeros(0, 4, 2)).boxes.shape == (0, 5)


def test_boxes_that_do_not_fit_the_words_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 5\).*2 words.*\(2, 5\)"):
        Layout(("a", "b"), torch.zeros(1, 5))


def test_boxes_are_recovered_exactly_from_float64_quads():
    boxes = torch.tensor([[0.3, 0.7, 0.123, 0.0456, 2.5], [1.1, -0.2, 0.5, 0.25, -0.1]])
    quads = Layout(("a", "b"), boxes.double()).quads()
    assert quads.dtype == torch.float64
    back = Layout.from_quads(("a", "b"), quads)
    assert back.boxes.dtype == torch.float32
    assert torch.equal(back.boxes, boxes)


def test_corners_are_equally_exact_under_autocast() -> None:
    layout = Layout(("a",), torch.tensor([[0.3, 0.7, 0.123, 0.0456, 2.5]]))
    with torch.autocast("cpu", torch.bfloat16):
        quads = layout.quads()
    assert torch.equal(quads, layout.quads())
    assert torch.allclose(quads.double(), Layout(layout.words, layout.boxes.double()).quads(), atol=1e-6)


def test_a_batch_stacks_its_samples_in_their_order():
    samples = [sample(i) for i in range(3)]
    batch = Batch.collate(samples)
    assert len(batch) == 3
    assert batch.keys == tuple(s.key for s in samples)
    assert batch.prompts == ('a poster "0"', 'a poster "1"', 'a poster "2"')
    assert batch.layouts == tuple(s.layout for s in samples)
    assert batch.images.shape == (3, 3, 8, 8)
    for i, one in enumerate(samples):
        for stacked, single in (("images", "image"), ("glyphs", "glyphs"), ("word_boxes", "word_boxes")):
            assert torch.equal(getattr(batch, stacked)[i], getattr(one, single))
        assert torch.equal(batch.word_mask[i], one.word_mask)


@pytest.mark.parametrize(
    "use",
    [
        lambda field: field.shape,
        lambda field: field[:2],
        len,
        lambda field: field * 2,
        lambda field: 1 - field,
        list,
        bool,
        lambda field: field == 0,
        lambda field: torch.cat([torch.zeros(1), field]),
        lambda field: torch.nn.functional.max_pool2d(field, 3),
        lambda field: torch.nn.Conv2d(1, 1, 1)(input=field),
    ],
)
def test_whoever_uses_a_field_that_was_not_built_gets_an_error_that_names_it(use):
    batch = Batch.collate([dataclasses.replace(sample(i), glyphs=not_built("glyphs")) for i in range(2)])
    batch = dataclasses.replace(pickle.loads(pickle.dumps(copy.deepcopy(batch))).to("cpu"), spare=True)
    assert batch.images.shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="'glyphs' was not built for this batch: the module does not read it"):
        use(batch.glyphs)


def test_a_batch_moves_its_tensors_and_leaves_its_layouts():
    batch = Batch.collate([sample(0), sample(1)])
    moved = batch.to("meta")
    for name in ("images", "glyphs", "word_boxes", "word_mask"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(batch, name).device.type == "cpu"
    assert moved.layouts is batch.layouts
    assert moved.layouts[0].boxes.device.type == "cpu"
    assert moved.prompts == batch.prompts


def test_a_batch_moves_its_parsed_texts_too():
    numbers = torch.zeros(2, 3, dtype=torch.int64)
    parsed = ParsedPrompts(**{field.name: numbers for field in dataclasses.fields(ParsedPrompts)})
    negatives = Negatives(7, ("a", "b"), parsed, PhrasePairs(numbers, numbers, numbers.float(), numbers))
    batch = dataclasses.replace(Batch.collate([sample(0), sample(1)]), parsed=parsed, negatives=negatives)
    moved = batch.to("meta")
    assert moved.texts.inside.device.type == moved.negatives.parsed.ids.device.type == "meta"
    assert moved.negatives.pairs.boxes.device.type == "meta"
    assert (moved.negatives.step, moved.negatives.texts) == (7, ("a", "b"))
    assert batch.parsed.ids.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_a_batch_can_be_pinned():
    assert Batch.collate([sample(0)]).pin_memory().images.is_pinned()


def test_batches_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Batch.collate([sample(0)]).images = torch.zeros(1)
    assert len(PromptBatch(("a", "b"), ("x", "y"))) == 2


def conditioning(value, size=2):
    return Conditioning(
        pooled=torch.full((size, 4), value),
        phrases=torch.full((size, 3, 4), value),
        phrase_mask=torch.full((size, 3), value > 0),
        tokens=torch.full((size, 5, 4), value),
        token_mask=torch.full((size, 5), value > 0),
        words=torch.full((size, 2, 4), value),
        word_mask=torch.full((size, 2), value > 0),
        read_mask=torch.full((size, 5), value > 0),
        text_embeds=torch.full((size, 6), value),
        word_groups=torch.full((size, 2, 2), int(value)),
    )


def test_conditionings_mix_row_by_row():
    mixed = conditioning(1.0).where(torch.tensor([True, False]), conditioning(0.0))
    for field in dataclasses.fields(Conditioning):
        value = getattr(mixed, field.name)
        assert value.dtype == getattr(conditioning(1.0), field.name).dtype
        assert value[0].float().eq(1).all()
        assert value[1].float().eq(0).all()


def test_one_conditioning_serves_a_whole_batch():
    row = conditioning(1.0, size=1)
    wide = row.expand(3)
    assert len(wide) == 3
    for field in dataclasses.fields(Conditioning):
        assert all(torch.equal(one, getattr(row, field.name)[0]) for one in getattr(wide, field.name))


def test_a_longer_conditioning_is_joined_behind_a_mask():
    short = dataclasses.replace(conditioning(1.0), read_mask=None, text_embeds=None)
    long = dataclasses.replace(short, tokens=torch.ones(2, 8, 4), token_mask=torch.ones(2, 8, dtype=torch.bool))
    for joined in (Conditioning.cat([short, long]), short.where(torch.tensor([True, False]), long)):
        assert joined.tokens.shape[1] == 8
        assert joined.read_mask is not None
        assert joined.read_mask[0].tolist() == joined.token_mask[0].tolist() == [True] * 5 + [False] * 3
        assert joined.read_mask[-1].all()
        assert not joined.tokens[0, 5:].any()
        assert joined.text_embeds is None
    assert Conditioning.cat([short, short]).read_mask is None


def test_conditionings_join_in_order():
    joined = Conditioning.cat([conditioning(1.0, size=2), conditioning(0.0, size=1)])
    assert len(joined) == 3
    assert joined.tokens[:, 0, 0].tolist() == [1.0, 1.0, 0.0]
    assert joined.word_mask[:, 0].tolist() == [True, True, False]
