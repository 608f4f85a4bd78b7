from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import pytest
import torch
from torch import Tensor

from vlad_lightning.layout.caption_edits import KINDS
from vlad_lightning.metrics.alignment_probe import AlignmentProbe, preferred

PROMPTS = (
    "an orange star at the top left and a blue circle on a pink background, "
    'with the text "SALE" at the top in gray serif letters',
    "a red ring left of a white heart on a black background, "
    'with the word "now" in the middle in brown sans-serif letters',
    "a poster",
)
IMAGES = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 4, 4)


class Knows:
    """An encoder that knows the captions of some pictures; the first pixel is the number of the picture."""

    def __init__(self, known: Sequence[int] = (0, 1, 2), wrong: float = 0.0) -> None:
        self.known, self.wrong = known, wrong
        self.asked: list[str] = []

    def __call__(self, images: Tensor, texts: Sequence[str], of: Sequence[int]) -> Tensor:
        assert len(texts) == len(of)
        self.asked += texts
        pictures = [int(images[i].flatten()[0]) for i in of]
        own = [i in self.known and text == PROMPTS[i] for i, text in zip(pictures, texts, strict=True)]
        return torch.tensor([1.0 if x else self.wrong for x in own])


def probed(score: Knows, rows: Sequence[int] = (0, 1, 2), seed: int = 0) -> AlignmentProbe:
    probe = AlignmentProbe(score, seed)
    for row in rows:
        probe.update(IMAGES[row : row + 1], PROMPTS[row : row + 1], [f"key {row}"])
    return probe


def test_preferences_with_ties() -> None:
    true, edited = torch.tensor([2.0, 1.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])
    assert preferred(true, edited).tolist() == [1.0, 0.0, 0.5]


def test_a_perfect_and_an_ignorant_encoder_score_one_and_a_half() -> None:
    results = probed(Knows()).compute()
    assert set(results) == {f"alignment_probe_{kind}" for kind in KINDS}
    assert all(result.value == 1 for result in results.values())
    assert all(result.value == 0 for result in probed(Knows(wrong=2.0)).compute().values())
    assert all(result.value == 0.5 for result in probed(Knows(known=())).compute().values())


def test_a_share_is_over_the_captions_with_something_to_change() -> None:
    """The third caption has nothing to change; one of the other two is known, and the other scores a tie."""
    results = probed(Knows(known=(1,))).compute()
    assert results["alignment_probe_object_shape"].value == 0.75
    assert all(result.n == 2 for result in results.values())


@pytest.mark.parametrize("known", [(), (0,), (1,), (0, 1)])
def test_a_batch_gives_the_same_as_its_samples_one_by_one(known: tuple[int, ...]) -> None:
    probe = AlignmentProbe(Knows(known))
    probe.update(IMAGES, PROMPTS, [f"key {row}" for row in range(3)])
    results = probe.compute()
    assert results == probed(Knows(known)).compute()
    assert results["alignment_probe_object_shape"].value == 0.5 + len(known) / 4


def test_each_caption_and_its_edits_are_scored_with_their_own_picture() -> None:
    """An edit is nearer to its own caption than to another one."""
    asked: list[tuple[int, str]] = []

    def score(images: Tensor, texts: Sequence[str], of: Sequence[int]) -> Tensor:
        asked.extend((int(images[i].flatten()[0]), text) for i, text in zip(of, texts, strict=True))
        return torch.zeros(len(texts))

    AlignmentProbe(score).update(IMAGES, PROMPTS, ["a", "b", "c"])
    assert len(asked) > 10
    for picture, text in asked:
        alike = [SequenceMatcher(None, text, prompt).ratio() for prompt in PROMPTS]
        assert alike.index(max(alike)) == picture


def test_edits_depend_on_key_and_seed_and_not_on_the_rest_of_the_batch() -> None:
    apart, together, other = Knows(), Knows(), Knows()
    probed(apart)
    AlignmentProbe(together).update(IMAGES, PROMPTS, [f"key {row}" for row in range(3)])
    probed(other, seed=1)
    edits = [sorted(set(evaluation_encoder.asked) - set(PROMPTS)) for evaluation_encoder in (apart, together, other)]
    assert edits[0] == edits[1]
    assert edits[0] != edits[2]


def test_samples_with_the_same_caption_are_edited_differently() -> None:
    evaluation_encoder = Knows()
    AlignmentProbe(evaluation_encoder).update(
        IMAGES[:1].expand(8, -1, -1, -1), PROMPTS[:1] * 8, [f"key {i}" for i in range(8)]
    )
    edited = set(evaluation_encoder.asked) - set(PROMPTS)
    assert len(edited) > len(KINDS)


def test_each_kind_is_its_own_and_resampling_twice_gives_the_same() -> None:
    class NoShapes(Knows):
        def __call__(self, images: Tensor, texts: Sequence[str], of: Sequence[int]) -> Tensor:
            named = [("star" in t and "circle" in t) or ("ring" in t and "heart" in t) for t in texts]
            return super().__call__(images, texts, of) + torch.tensor([0.0 if x else 2.0 for x in named])

    probe = probed(NoShapes())
    results = probe.compute()
    assert results["alignment_probe_object_shape"].value == 0
    assert all(f.value == 1 for name, f in results.items() if "shape" not in name)
    assert probe.compute() == results
    probe.reset()
    assert probe.compute() == {}


def test_nothing_to_probe_gives_no_results() -> None:
    assert probed(Knows(), rows=(2,)).compute() == {}
    assert probed(Knows(), rows=()).compute() == {}


def test_the_probed_network_is_not_part_of_the_metric() -> None:
    class Network(torch.nn.Linear):
        def score(self, images: Tensor, texts: Sequence[str], of: Sequence[int]) -> Tensor:
            assert not torch.is_grad_enabled()
            return self.weight.sum().expand(len(texts))

    probe = AlignmentProbe(Network(2, 2).score)
    assert not list(probe.parameters())
    assert not probe.state_dict()
    probe.update(IMAGES, PROMPTS, ["a", "b", "c"])
    assert probe.compute()["alignment_probe_object_shape"].value == 0.5


def test_numbers_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 images, 2 prompts, 3 keys"):
        AlignmentProbe(Knows()).update(IMAGES, PROMPTS[:2], ["a", "b", "c"])
