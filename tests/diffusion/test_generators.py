from __future__ import annotations

import pytest
import torch

from vlad_lightning.diffusion.generators import generator_for, numbered, sampling_generators, split_generator


def test_only_the_key_determines_the_draws() -> None:
    first = torch.rand(5, generator=generator_for("cpu", 0, "tlg", "train", 3))
    torch.manual_seed(123)
    torch.rand(9)
    assert torch.equal(torch.rand(5, generator=generator_for("cpu", 0, "tlg", "train", 3)), first)


def test_the_global_state_is_not_changed() -> None:
    before = torch.get_rng_state()
    torch.rand(5, generator=generator_for("cpu", 0, "x"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "other", [(0, "tlg", 4), (1, "tlg", 3), (0, "vfe", 3), (0, "tlg", "3"), (0, "tlg", 3, 0), (0,)]
)
def test_any_other_key_gives_another_stream(other: tuple[int | str, ...]) -> None:
    same, different = (torch.rand(8, generator=generator_for("cpu", *key)) for key in [(0, "tlg", 3), other])
    assert not torch.isclose(same, different).any()


def test_every_process_seeds_alike() -> None:
    """Python's hash of a string differs from process to process."""
    assert generator_for("cpu", 7, "generate", "00001_000000002").initial_seed() == 5_024_795_259_641_964_859


def test_equal_prompts_get_different_noise_at_any_position() -> None:
    names = numbered(["a cat", "a dog", "a cat"])
    assert len(set(names)) == 3
    assert numbered(["a dog", "a cat"]) == [names[1], names[0]]
    generators = [torch.rand((), generator=one).item() for one in sampling_generators(0, names)]
    assert len(set(generators)) == 3
    assert generators != [torch.rand((), generator=one).item() for one in sampling_generators(1, names)]


def test_a_generator_is_split_into_one_per_prompt() -> None:
    few, many = (split_generator(torch.Generator().manual_seed(7), count) for count in (1, 3))
    generators = [torch.rand((), generator=one).item() for one in many]
    assert len(set(generators)) == 3
    assert torch.rand((), generator=few[0]).item() == generators[0]
