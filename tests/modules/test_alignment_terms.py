from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vlad_lightning.layout.caption_edits import KINDS
from vlad_lightning.models.contrastive import phrase_nce, phrase_similarity, region_nce
from vlad_lightning.models.conv_tower import ConvTower, VisionStates
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.modules import AlignmentModule
from vlad_lightning.modules.alignment_terms import AlignmentTerms
from vlad_lightning.types import Batch

ALL = AlignmentTerms(edits=2, phrase_weight=0.5, region_weight=2.0)
PROMPTS = ('a red star at the top left and a blue ring left of a pink heart, with the word "SALE" at the top', "", "hi")


def a_batch(prompts: tuple[str, ...] = PROMPTS, words: int = 4, objects: int = 12) -> Batch:
    size = len(prompts)
    return Batch(
        keys=tuple(f"key {prompt}" for prompt in prompts),
        images=torch.zeros(size, 3, 32, 32),
        prompts=prompts,
        layouts=(),
        glyphs=torch.zeros(size, 1, 32, 32, dtype=torch.uint8),
        word_boxes=torch.zeros(size, words, 5),
        word_mask=torch.zeros(size, words, dtype=torch.bool),
        object_boxes=torch.zeros(size, objects, 5),
        object_mask=torch.zeros(size, objects, dtype=torch.bool),
        object_counts=torch.ones(size, objects, dtype=torch.int64),
        scene_known=torch.ones(size, dtype=torch.bool),
    )


def small_module(terms: AlignmentTerms = ALL) -> AlignmentModule:
    torch.manual_seed(0)
    tower = ConvTower(tiny.SIZE, channels=(8, 16, 32), blocks=(0, 1, 1), layers=1, heads=2, projection=tiny.WIDTH)
    return AlignmentModule(tiny.prompt_encoder(), ImageEncoder(tower), tiny.FAST, terms=terms)


def test_edits_depend_on_the_sample_the_step_and_the_seed() -> None:
    batch = a_batch()
    edits = ALL.edited(batch, 7, ("tree",))
    assert len(edits) == 6
    assert edits[0] != edits[1]
    alone = replace(batch, prompts=batch.prompts[:1], keys=batch.keys[:1])
    assert ALL.edited(alone, 7, ("tree",)) == edits[:2]
    assert any(ALL.edited(alone, step, ("tree",)) != edits[:2] for step in range(8, 12))
    assert any(replace(ALL, seed=seed).edited(alone, 7, ("tree",)) != edits[:2] for seed in range(1, 5))


def test_a_prompt_without_enough_to_change_repeats_an_edit_or_has_an_empty_one() -> None:
    terms = AlignmentTerms(edits=3, kinds=("word_replaced",))
    assert terms.edited(a_batch(('the word "A"', "hi")), 0, ("TREE",)) == ['the word "TREE"'] * 3 + [""] * 3
    assert AlignmentTerms().edited(a_batch(), 0, ("tree",)) == []


def test_only_the_requested_kinds_are_edited() -> None:
    for step in range(5):
        edited = AlignmentTerms(edits=1, kinds=("object_shape",)).edited(a_batch(PROMPTS[:1]), step, ())[0]
        assert sum(a != b for a, b in zip(edited.split(), PROMPTS[0].split(), strict=True)) == 1
        assert "at the top left" in edited


@pytest.mark.parametrize(("grid", "at"), [((4, 4), [2, 7, 3]), ((3, 4), [2, 7, 3]), ((4, 2), [1, 3, 1])])
def test_regions_are_the_patches_at_the_centres_of_the_known_boxes(grid: tuple[int, int], at: list[int]) -> None:
    module, batch = small_module(), a_batch(PROMPTS[:1])
    batch.word_boxes[0, 0] = torch.tensor([0.6, 0.1, 0.3, 0.1, 0.0])
    batch.object_boxes[0, 2] = torch.tensor([0.99, 0.49, 0.2, 0.2, 0.0])
    batch.object_boxes[0, 3] = torch.tensor([1.2, -0.1, 0.2, 0.2, 0.0])  # outside the frame: the nearest patch
    batch.object_boxes[0, 1] = torch.tensor([0.5, 0.5, 1.0, 1.0, 0.0])  # a background: no patch belongs to it alone
    batch.word_mask[0, 0] = True
    batch.object_mask[0, 1:4] = True
    batch.object_mask[0, 7] = True  # a box for a phrase that is not in the prompt
    patches = torch.randn(1, *grid, tiny.WIDTH)
    shapes = AlignmentTerms(edits=1, kinds=("object_shape",), region_weight=1.0)
    text = PROMPTS[0].replace("blue ring", "blue star")
    said = module.prompt_encoder([PROMPTS[0], text])
    seen = VisionStates(torch.zeros(1, tiny.WIDTH), patches)
    negatives = shapes.contrasted(module.prompt_encoder.parser, batch, [text])
    loss = shapes.losses(negatives, seen, said, module.temperature)["regions"]
    slots = [1, 1 + 4 + 2, 1 + 4 + 3]
    row = torch.zeros(3, dtype=torch.long)
    expected = region_nce(
        said.phrases[0, slots],
        patches.flatten(1, 2),
        row,
        torch.tensor(at),
        module.temperature,
        said.phrases[1, [slots[1]]],
    )
    torch.testing.assert_close(loss, expected)


def test_each_image_is_scored_against_the_phrases_of_its_edits() -> None:
    prompts = (PROMPTS[0], 'a green heart with "HI"')
    edited = [
        prompts[0].replace("red", "blue"),
        prompts[0].replace("ring", "star"),
        prompts[1].replace("HI", "NO"),
        prompts[1].replace("heart", "ring"),
    ]
    module, patches = small_module(), torch.randn(2, 4, 4, tiny.WIDTH)
    said = module.prompt_encoder([*prompts, *edited])
    terms = replace(ALL, region_weight=0.0)
    negatives = terms.contrasted(module.prompt_encoder.parser, a_batch(prompts), edited)
    seen = VisionStates(torch.zeros(2, tiny.WIDTH), patches)
    found = terms.losses(negatives, seen, said, module.temperature)
    phrases, mask, places = said.phrases[:, 1:], said.phrase_mask[:, 1:], patches.flatten(1, 2)
    untrue = [
        [phrase_similarity(phrases[[2 + row]], mask[[2 + row]], places[[row // 2]]) for row in (2 * i, 2 * i + 1)]
        for i in range(2)
    ]
    table = torch.stack([torch.cat(row) for row in untrue])
    expected = 0.5 * phrase_nce(phrases[:2], mask[:2], places, module.temperature, table)
    torch.testing.assert_close(found, {"phrases": expected})


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        (PROMPTS[0].replace("red star", "red heart"), [0]),
        (PROMPTS[0].replace("the top left", "the bottom"), [0]),  # the object there has no box, or another one
        (PROMPTS[0].replace("left of", "right of"), [2]),
        (PROMPTS[0].replace("SALE", "TREE"), ["word"]),
        (PROMPTS[0].replace('"SALE" at the top', '"SALE" on the left'), ["word"]),
        (PROMPTS[0].replace("blue ring", "pink ring").replace("pink heart", "blue heart"), [2, 3]),
        (PROMPTS[0] + " left", ["word"]),  # no difference before the end
        (PROMPTS[0].replace("heart, with", "heart; with"), [3]),  # the difference starts at the end of the phrase
        ("", []),
    ],
)
def test_an_edit_marks_the_phrases_that_no_longer_match_their_box(text: str, slots: list[int | str]) -> None:
    module, batch = small_module(), a_batch(PROMPTS[:1])
    batch.word_mask[0, 0] = True
    batch.object_mask[0, [0, 2, 3]] = True
    terms = AlignmentTerms(edits=1, region_weight=1.0)
    said = module.prompt_encoder([PROMPTS[0], text])
    seen = VisionStates(torch.zeros(1, tiny.WIDTH), torch.randn(1, 4, 4, tiny.WIDTH))
    negatives = terms.contrasted(module.prompt_encoder.parser, batch, [text])
    loss = terms.losses(negatives, seen, said, module.temperature)["regions"]
    known = [1, 5, 7, 8]
    negatives = [1 if slot == "word" else 5 + int(slot) for slot in slots]
    expected = region_nce(
        said.phrases[0, known],
        seen.patches.flatten(1, 2),
        torch.zeros(4, dtype=torch.long),
        torch.zeros(4, dtype=torch.long),
        module.temperature,
        said.phrases[1, negatives],
    )
    torch.testing.assert_close(loss, expected)


def test_everything_trains_and_is_logged_and_unread_weights_are_frozen(posters: Path) -> None:
    module = small_module()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    trainer = tiny.trainer(3)
    trainer.fit(module, datamodule=tiny.data(posters))
    assert {"train/loss", "train/phrases", "train/regions", "train/temperature"} <= set(trainer.callback_metrics)
    still = {name for name, value in module.named_parameters() if torch.equal(value, before[name])}
    assert all(".composition.read." in name for name in still), still
    assert still == {name for name, value in module.named_parameters() if not value.requires_grad}


class Watch(Callback):
    """Records the inputs of each step and its logged values."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, dict[str, float]]] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any) -> None:
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.steps.append((outputs["loss"].item(), logged))


def test_the_loss_is_the_sum_of_its_terms_and_edits_make_eq_3_harder(posters: Path) -> None:
    watched = []
    for terms in (replace(ALL, edits=0), ALL):
        watch = Watch()
        tiny.trainer(1, callbacks=[watch]).fit(small_module(terms), datamodule=tiny.data(posters))
        ((loss, logged),) = watch.steps
        assert loss == pytest.approx(sum(logged[f"train/{name}"] for name in ("loss", "phrases", "regions")))
        watched.append(logged)
    plain, edited = watched
    for name in ("loss", "phrases"):  # the same pairs, each image among more texts
        assert edited[f"train/{name}"] > plain[f"train/{name}"] + 1e-3


def test_each_step_has_different_edits(posters: Path) -> None:
    steps: list[int] = []

    class Recorded(AlignmentTerms):
        def edited(self, batch: Batch, step: int, words: Sequence[str]) -> list[str]:
            steps.append(step)
            return super().edited(batch, step, words)

    tiny.trainer(3).fit(small_module(Recorded(edits=1)), datamodule=tiny.data(posters))
    assert steps == [0, 1, 2]


def test_scores_are_cosines_plus_the_local_terms(posters: Path) -> None:
    batch = next(iter(tiny.data(posters).val_dataloader()))
    plain, local = (small_module(terms).eval() for terms in (AlignmentTerms(), ALL))
    with torch.no_grad():
        pooled = plain.image_encoder(batch.images), plain.prompt_encoder(batch.prompts).pooled
        cosines = torch.cosine_similarity(*pooled)
        torch.testing.assert_close(plain.score(batch.images, batch.prompts), cosines)
        more = local.score(batch.images, batch.prompts) - cosines
        assert (more.abs() <= 1).all()
        assert more.abs().max() > 0
        crossed = plain.score(batch.images, batch.prompts[:3], [1, 1, 0])
        torch.testing.assert_close(crossed, torch.cosine_similarity(pooled[0][[1, 1, 0]], pooled[1][:3]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edits": -1}, r"edits is -1; it must be at least 0"),
        ({"phrase_weight": -0.1}, r"phrase_weight is -0\.1; it must be at least 0"),
        ({"kinds": ("mood",)}, rf"kinds has mood; allowed: {KINDS[0]}, "),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AlignmentTerms(**changes)  # type: ignore[arg-type]


def test_edits_without_their_direction_are_refused() -> None:
    with pytest.raises(ValueError, match=r"terms\.edits is 1"):
        tiny.alignment(symmetric=False, terms=AlignmentTerms(edits=1))
