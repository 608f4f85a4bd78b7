from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import tiny_system as tiny
import torch

from vlad_lightning.baselines.textdiffuser_layout import LayoutTransformer
from vlad_lightning.baselines.textdiffuser_layout_generator import WordLayoutGenerator, corners
from vlad_lightning.baselines.textdiffuser_layout_module import TextDiffuserLayoutModule
from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.layout.overlaps import overlap_share
from vlad_lightning.types import Batch, Layout

SAID = ("ONE above two three at the top", "nothing to draw", "a red circle and HI")
PROMPTS = ('"ONE" above "two three" at the top', "nothing to draw", 'a red circle and "HI"')


def generator(seed: int = 0, **changes: int) -> WordLayoutGenerator:
    torch.manual_seed(seed)
    settings = {"text_width": tiny.WIDTH, "max_words": 4, "width": 32, "heads": 2, "layers": 1, "bins": 64} | changes
    return WordLayoutGenerator(tiny.prompt_encoder(ccm=False), LayoutTransformer(**settings))


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=6).val_dataloader()))


def test_the_loss_is_the_mean_absolute_error_of_the_known_boxes(batch: Batch) -> None:
    layouts = generator().double()
    batch = replace(batch, word_boxes=batch.word_boxes.double())
    batch.word_mask[0, 0] = False
    truth = torch.zeros(6, 4, 4, dtype=torch.float64)
    for i, n in batch.word_mask.nonzero().tolist():
        corner = Layout(("x",), batch.word_boxes[i, n][None]).quads()[0]
        truth[i, n] = torch.cat([corner.amin(0), corner.amax(0)]).clamp(0, 1)
    with torch.no_grad():
        tokens = layouts.tokens(batch.prompts)
        encoded = layouts.layout_transformer.encode(tokens)
        predicted = layouts.layout_transformer(encoded, truth, tokens.mask).float()
        found = float(layouts.loss(batch))
    errors = [float((predicted[i, n] - truth[i, n]).abs().mean()) for i, n in batch.word_mask.nonzero().tolist()]
    assert found == pytest.approx(np.mean(errors), rel=1e-6)


def test_a_box_depends_on_the_boxes_before_it_only() -> None:
    layouts = generator()
    tokens = layouts.tokens(PROMPTS[:1])
    boxes = torch.rand(1, 4, 4)
    changed = boxes.clone()
    changed[:, 1] = 1 - changed[:, 1]
    with torch.no_grad():
        encoded = layouts.layout_transformer.encode(tokens)
        first, second = (layouts.layout_transformer(encoded, given, tokens.mask) for given in (boxes, changed))
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert (first[:, 2:] - second[:, 2:]).abs().amin(dim=(0, 2)).min() > 0


def test_decoding_feeds_each_box_back() -> None:
    network = generator().layout_transformer
    with torch.no_grad():
        encoded = torch.randn(2, 5, 32)
        boxes = network.decode(encoded)
        again = network(encoded, boxes).clamp(0, 1)
    torch.testing.assert_close(boxes, again)


def test_tokens_know_their_words() -> None:
    layouts = generator()
    tokenizer = layouts.prompt_encoder.text_encoder.tokenizer
    assert tokenizer is not None
    tokens = layouts.tokens(PROMPTS)
    words = tokens.words
    assert words.marked.sum(dim=1).tolist() == [3, 0, 1]
    assert tokens.mask is not None
    for row, (prompt, said) in enumerate(zip(PROMPTS, SAID, strict=True)):
        ids = tokenizer(prompt).input_ids
        kinds = words.kinds[row].tolist()
        starts = [i for i, kind in enumerate(kinds) if kind == 0]
        assert words.lengths[row, starts].tolist() == [len(word) for word in said.split()]
        for start, word in zip(starts, said.split(), strict=True):
            end = next(i for i in range(start + 1, len(kinds)) if kinds[i] != 1)
            assert re.sub(r"\W", "", tokenizer.decode(ids[start:end])) == word.lower()
            assert (words.widths[row, start:end] == words.widths[row, start]).all()
        assert {kinds[i] for i in (0, len(ids) - 1)} == {2}
        assert (words.kinds[row, len(ids) :] == 3).all()
    first = words.marked[0].nonzero()[:, 0]
    assert words.lengths[0, first].tolist() == [3, 3, 5]
    one, above = words.widths[0, first[0]], words.widths[0][words.lengths[0] == 5][0]
    assert 10 < one < above < 120


def test_widths_change_in_training_by_at_most_three_pixels() -> None:
    layouts = generator()
    plain = layouts.tokens(PROMPTS).words.widths
    changed = [
        layouts.tokens(PROMPTS, generators=SampleGenerators.of_rows("cpu", (i,), range(3), 3)).words.widths
        for i in range(20)
    ]
    differences = torch.stack([x - plain for x in changed])
    assert set(differences.unique().tolist()) == {-3, -2, -1, 0, 1, 2}
    assert not differences[:, plain == 0].any()


def test_a_layout_has_the_prompts_words_apart_and_depends_on_its_prompt_alone() -> None:
    layouts = generator(1)
    found = layouts.sample(PROMPTS)
    assert [layout.words for layout in found] == [("ONE", "two", "three"), (), ("HI",)]
    boxes = found[0].boxes
    assert (boxes[:, 2:4] > 0).all()
    assert max(overlap_share(boxes[i], boxes[j]) for i, j in [(0, 1), (0, 2), (1, 2)]) < 0.02
    for prompt, layout in zip(PROMPTS, found, strict=True):
        torch.testing.assert_close(layouts.sample([prompt])[0].boxes, layout.boxes)
    long = "a word " * 60  # more than one window of tokens
    assert layouts.sample([f'{long} "HI"'])[0].words == ("HI",)
    torch.testing.assert_close(layouts.sample([f'{long} "HI"', PROMPTS[2]])[1].boxes, found[2].boxes)


def test_corners_are_those_of_the_rectangle_around_a_box() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.1, 0.3], [0.4, 0.6, 0.2, 0.3, -2.0], [0.05, 0.9, 0.3, 0.4, math.pi / 2]])
    for box, found in zip(boxes, corners(boxes), strict=True):
        quad = Layout(("x",), box[None]).quads()[0]
        expected = shapely.intersection(shapely.envelope(shapely.polygons(quad)), shapely.box(0, 0, 1, 1)).bounds
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_parts_that_do_not_fit_and_too_many_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layout_transformer\.text_width is 16; the text encoder's is 32"):
        generator(text_width=16)
    with pytest.raises(ValueError, match=r"layout_transformer\.max_words is 8; the text encoder's is 4"):
        generator(max_words=8)
    with pytest.raises(ValueError, match="asks for 5 words; the layout holds at most 4"):
        generator().check(['"a b c d e"'])


def test_it_learns_the_boxes_and_leaves_the_text_encoder_as_it_is(posters: Path) -> None:
    module = TextDiffuserLayoutModule(generator(), tiny.FAST)
    before = {key: value.clone() for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    trainer = tiny.trainer(10, limit_val_batches=1)
    first = trainer.validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    trainer.fit(module, datamodule=tiny.data(posters))
    last = trainer.validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert last["val/loss"] < 0.8 * first["val/loss"]
    assert {"val/iou", "val/position_accuracy", "val/out_of_bounds"} <= set(last)
    moved = {key for key, value in module.state_dict().items() if key in before and not torch.equal(value, before[key])}
    assert moved
    assert not any("prompt_encoder" in key for key in moved)
