from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlad_lightning.diffusion.guidance import Branch, HierarchicalGuidance

SCALES = st.floats(0, 20, width=32)


def predictions(guidance: HierarchicalGuidance, known: dict[tuple[bool, bool], torch.Tensor]) -> list[torch.Tensor]:
    return [known[b.text, b.layout] for b in guidance.branches]


@given(SCALES, SCALES)
def test_the_weights_sum_to_one_and_none_is_zero(text: float, layout: float) -> None:
    guidance_weights = [b.guidance_weight for b in HierarchicalGuidance(text, layout).branches]
    assert sum(guidance_weights) == pytest.approx(1, abs=1e-5)
    assert 0 not in guidance_weights


@given(SCALES, SCALES)
def test_combine_equals_the_formula(text: float, layout: float) -> None:
    generator = torch.Generator().manual_seed(0)
    full, blind, bare = torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64)
    guidance = HierarchicalGuidance(text, layout)
    known = {(True, True): full, (False, True): blind, (False, False): bare}
    expected = bare + layout * (blind - bare) + text * (full - blind)
    torch.testing.assert_close(guidance.combine(predictions(guidance, known)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "layout", "seen"),
    [
        (1, 1, [(True, True)]),
        (0, 1, [(False, True)]),
        (0, 0, [(False, False)]),
        (2.5, 1, [(True, True), (False, True)]),
        (1, 0, [(True, True), (False, True), (False, False)]),
        (2, 2, [(True, True), (False, False)]),
        (7.5, 3, [(True, True), (False, True), (False, False)]),
    ],
)
def test_only_needed_branches_are_evaluated(text: float, layout: float, seen: list[tuple[bool, bool]]) -> None:
    assert [(b.text, b.layout) for b in HierarchicalGuidance(text, layout).branches] == seen


def test_without_guidance_the_result_is_the_networks_bit_for_bit() -> None:
    guidance = HierarchicalGuidance()
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert guidance.branches == (Branch(text=True, layout=True, guidance_weight=1.0),)
    assert torch.equal(guidance.combine([x]), x)


def test_equal_predictions_are_a_fixed_point() -> None:
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    guidance = HierarchicalGuidance(6.0, 2.0)
    torch.testing.assert_close(guidance.combine([x] * 3), x, rtol=1e-6, atol=1e-6)


def test_the_dtype_of_the_predictions_is_kept() -> None:
    assert HierarchicalGuidance(3.0).combine([torch.ones(2, 2, dtype=torch.bfloat16)] * 2).dtype == torch.bfloat16
