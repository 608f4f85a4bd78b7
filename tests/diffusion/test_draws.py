from __future__ import annotations

import pytest
import torch
from scipy import stats

from vlad_lightning.diffusion.generators import SampleGenerators

KEY = (0, "vfe", "train", 7)


def rows(first: int, last: int, size: int = 24, key: tuple[int | str, ...] = KEY) -> SampleGenerators:
    return SampleGenerators.of_rows("cpu", key, range(first, last), size)


def drawn(generators: SampleGenerators) -> list[torch.Tensor]:
    """Draw what a training step draws, in a similar order."""
    return [
        generators.strata(),
        generators.normal(3, 4, 4),
        generators.uniform(),
        generators.uniform(6),
        generators.normal(3, 1, 1),
    ]


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8, 24])
def test_parts_of_a_batch_draw_the_same_as_the_whole(parts: int) -> None:
    size = 24 // parts
    split = [drawn(rows(i * size, (i + 1) * size)) for i in range(parts)]
    for whole, pieces in zip(drawn(rows(0, 24)), zip(*split, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), whole)


def test_rows_steps_and_purposes_draw_different_numbers() -> None:
    keys: tuple[tuple[int | str, ...], ...] = (KEY, (0, "vfe", "train", 8), (0, "tlg"))
    found = [rows(0, 2, key=key).normal(5) for key in keys]
    together = torch.cat(found)
    assert len(together.unique(dim=0)) == 6


def test_a_row_does_not_depend_on_how_much_its_neighbours_draw() -> None:
    one, other = rows(0, 2), rows(0, 2)
    assert [len(row) for row in one.uniforms([3, 0])] == [3, 0]
    other.uniforms([5, 0])
    assert torch.equal(one.normal(4)[1], other.normal(4)[1])


def test_a_samples_draws_do_not_depend_on_its_neighbours() -> None:
    names = ("a", "b", "c", "d")
    whole = SampleGenerators.of_samples("cpu", (0, "val"), names).normal(5)
    assert torch.equal(SampleGenerators.of_samples("cpu", (0, "val"), names[2:]).normal(5), whole[2:])


def test_draws_are_normal_and_uniform() -> None:
    generators = rows(0, 2000, 2000)
    assert stats.kstest(generators.normal(10).flatten().numpy(), stats.norm.cdf).pvalue > 0.01
    assert stats.kstest(generators.uniform(10).flatten().numpy(), stats.uniform.cdf).pvalue > 0.01
    assert generators.uniform().shape == (2000,)
    assert generators.normal(2, 3).dtype == torch.float32


def test_strata_cover_the_whole_batch() -> None:
    parts = torch.cat([rows(0, 6).strata(), rows(6, 18).strata(), rows(18, 24).strata()])
    assert sorted((parts * 24).long().tolist()) == list(range(24))
    assert (parts * 24).long().tolist() != list(range(24))


def test_rows_outside_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="first is 20 with 6 rows"):
        rows(20, 26)
