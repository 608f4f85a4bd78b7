from __future__ import annotations

import numpy as np
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


@pytest.mark.parametrize(("time", "guided"), [(1.0, False), (0.81, False), (0.8, True), (0.31, True), (0.3, False)])
def test_guidance_acts_above_the_low_end_and_up_to_the_high_end(time: float, guided: bool) -> None:
    guidance = HierarchicalGuidance(3.0, 2.0, interval=(0.3, 0.8), rescale=0.5)
    assert guidance.at(time) == (guidance if guided else HierarchicalGuidance())


@pytest.mark.parametrize("time", [1e-5, 0.5, 1.0])
def test_the_whole_interval_always_guides(time: float) -> None:
    guidance = HierarchicalGuidance(3.0, 2.0, interval=(0.0, 1.0))
    assert guidance.at(time) is guidance


@given(st.floats(0.5, 20, width=32), SCALES, st.floats(0, 1, width=32))
def test_rescaling_equals_the_papers_formula(text: float, layout: float, phi: float) -> None:
    """Eq. 14 to 16 of arXiv 2305.08891, sample by sample."""
    generator = torch.Generator().manual_seed(3)
    full, blind, bare = 0.1 + torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64)
    known = {(True, True): full, (False, True): blind, (False, False): bare}
    guidance = HierarchicalGuidance(text, layout, rescale=phi)
    found = guidance.combine(predictions(guidance, known)).numpy()
    for row in range(2):
        positive, without, nothing = (x[row].numpy() for x in (full, blind, bare))
        guided = nothing + layout * (without - nothing) + text * (positive - without)
        rescaled = guided * np.std(positive, ddof=1) / np.std(guided, ddof=1)
        np.testing.assert_allclose(found[row], phi * rescaled + (1 - phi) * guided, rtol=1e-5, atol=1e-5)


def test_full_rescaling_keeps_the_deviation_of_the_prediction_with_both_conditions() -> None:
    full, bare = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    plain = HierarchicalGuidance(4.0, 4.0).combine([full, bare])
    rescaled = HierarchicalGuidance(4.0, 4.0, rescale=1.0).combine([full, bare])
    assert (plain.flatten(1).std(1) > 2 * full.flatten(1).std(1)).all()
    torch.testing.assert_close(rescaled.flatten(1).std(1), full.flatten(1).std(1))


def test_a_constant_prediction_is_rescaled_to_a_finite_one() -> None:
    full, bare = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    assert HierarchicalGuidance(3.0, 3.0, rescale=0.7).combine([full, bare]).isfinite().all()


@given(st.floats(0, 1, width=32))
def test_the_ground_is_not_rescaled_where_the_layout_says_what_is_drawn(phi: float) -> None:
    full, bare = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    drawn = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(9)) < 0.5
    plain = HierarchicalGuidance(3.0, 3.0).combine([full, bare])
    # only what is drawn is measured, too: torch.std over the numbers at these positions, sample by sample
    ratios = [a[:, here].std() / b[:, here].std() for a, b, here in zip(full, plain, drawn, strict=True)]
    factor = phi * torch.stack(ratios) + 1 - phi
    found = HierarchicalGuidance(3.0, 3.0, rescale=phi).combine([full, bare], drawn)
    expected = plain * torch.where(drawn, factor[:, None, None], torch.ones(()))[:, None]
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-5, atol=1e-6)


def test_a_layout_that_draws_nothing_leaves_the_guided_prediction() -> None:
    full, bare = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(10))
    plain = HierarchicalGuidance(3.0, 3.0).combine([full, bare])
    assert torch.equal(
        HierarchicalGuidance(3.0, 3.0, rescale=0.7).combine([full, bare], torch.zeros(5, 8, 8).bool()), plain
    )


def test_where_the_layout_tells_all_there_is_no_guidance() -> None:
    both, layout, bare = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    told = torch.zeros(2, 8, 8, dtype=torch.bool)
    told[0, :4] = True
    drawn = ~told & (torch.arange(8) < 2)
    for guidance in (HierarchicalGuidance(3.0, 2.0), HierarchicalGuidance(3.0, 2.0, rescale=0.7)):
        predicted = (both, layout, bare)
        found, plain = guidance.combine(predicted, drawn, told), guidance.combine(predicted, drawn)
        where = told[:, None].expand_as(both)
        assert torch.equal(found[where], both[where])
        assert torch.equal(found[~where], plain[~where])
    without_text = HierarchicalGuidance(0.0, 2.0)
    assert torch.equal(without_text.combine((layout, bare), drawn, told), without_text.combine((layout, bare)))
    everywhere = HierarchicalGuidance(3.0, 2.0, rescale=0.7).combine((both, layout, bare), told=told)
    assert torch.equal(everywhere[told[:, None].expand_as(both)], both[told[:, None].expand_as(both)])
