from __future__ import annotations

import math

import pytest
import torch

from vlad_lightning.metrics.text_probe import TextProbeMetric, rms_change


def test_change_is_the_root_of_the_mean_square_of_each_sample() -> None:
    before = torch.zeros(3, 2, 4, 5)
    after = before.clone()
    after[1] = -2.0
    after[2, :, 0, :2] = 1.0  # 4 of 40 values
    assert rms_change(before, after).tolist() == pytest.approx([0, 2, math.sqrt(0.1)])


def test_two_percent_of_the_picture_from_black_to_white() -> None:
    before = -torch.ones(1, 3, 10, 10)
    after = before.clone()
    after[:, :, 0, :2] = 1
    assert rms_change(before, after).item() == pytest.approx(0.28, abs=0.005)


def test_bfloat16_is_measured_in_float32() -> None:
    change = rms_change(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5, dtype=torch.bfloat16))
    assert change.dtype == torch.float32
    assert change.item() == 0.5


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"after has shape \(1, 3, 4, 4\)"):
        rms_change(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))


def test_results_are_means_over_the_prompts_with_something_to_change() -> None:
    metric = TextProbeMetric(("object_shape", "word_position", "all_text"))
    metric.update(torch.tensor([[0.1, 9.0, 1.0], [0.3, 9.0, 2.0]]), torch.tensor([[True, False, True]] * 2))
    metric.update(torch.tensor([[math.nan, 9.0, 3.0]]), torch.tensor([[False, False, True]]))
    results = metric.compute()
    assert {name: (result.value, result.n) for name, result in results.items()} == {
        "text_probe_object_shape": (pytest.approx(0.2), 2),
        "text_probe_all_text": (pytest.approx(2.0), 3),
    }
    low, high = results["text_probe_all_text"].low, results["text_probe_all_text"].high
    assert low is not None
    assert high is not None
    assert 1 <= low < 2 < high <= 3


def test_zero_change_has_no_interval() -> None:
    """A share would have Wilson's interval; a change is a length without an upper bound, so it has none."""
    metric = TextProbeMetric(("all_text",))
    metric.update(torch.zeros(10, 1), torch.ones(10, 1, dtype=torch.bool))
    result = metric.compute()["text_probe_all_text"]
    assert (result.value, result.low, result.high) == (0, None, None)


def test_two_metrics_do_not_share_their_columns() -> None:
    first, second = TextProbeMetric(("a",)), TextProbeMetric(("a", "b"))
    first.update(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert set(first.compute()) == {"text_probe_a"}
    assert second.compute() == {}


@pytest.mark.parametrize(("changes", "known"), [((2, 1), (2, 2)), ((2, 2), (1, 2)), ((2, 2), (2, 1))])
def test_other_shapes_are_refused(changes: tuple[int, int], known: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"has shape .*"):
        TextProbeMetric(("a", "b")).update(torch.zeros(changes), torch.zeros(known, dtype=torch.bool))
