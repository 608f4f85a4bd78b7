from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny_system as tiny
import torch
from torch import Tensor

from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling, VLADSystem, generate_named
from vlad_lightning.types import GeneratedImages, Layout, TextToImage

PROMPTS = ['a red circle and "HI"', "a blue square", 'a red circle and "HI"']
LAYOUT = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]]))
SETTINGS = SystemSampling(ImageSampler(2, eta=0.5, augmentation=0.3, guidance_scale=2.0), Sampler(2, eta=0.5))


@pytest.fixture(scope="module")
def system() -> VLADSystem:
    return VLADSystem(tiny.image_generator().eval(), tiny.layout_generator().eval())


class Noise:
    """Another system, which draws its noise and no words."""

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: float,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        images = torch.stack([torch.rand(3, 8, 8, generator=one) * settings for one in generators])
        return GeneratedImages(images, (Layout.empty(),) * len(prompts), torch.full_like(images, -1), tuple(prompts))


@torch.no_grad()
def images(system: VLADSystem, prompts: Sequence[str], layouts: Sequence[Layout | None] | None = None) -> Tensor:
    names = [(prompt, prompts[:i].count(prompt)) for i, prompt in enumerate(prompts)]
    return system.generate(prompts, layouts, SETTINGS, sampling_generators(3, names)).images


def test_an_image_depends_only_on_its_generator(system: VLADSystem) -> None:
    together, reversed_ = images(system, PROMPTS), images(system, PROMPTS[::-1])
    torch.testing.assert_close(images(system, PROMPTS[:1]), together[:1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(reversed_[1], together[1], rtol=1e-4, atol=1e-4)
    assert (together[0] - together[2]).abs().max() > 0.01


def test_words_without_quotes_are_read_and_the_prompt_is_returned_as_it_was(system: VLADSystem) -> None:
    prompts = ["a red circle that says HI", 'a red circle that says "HI"']
    with torch.no_grad():
        plain, quoted = (
            system.generate([prompt], None, SETTINGS, sampling_generators(3, [("a",)])) for prompt in prompts
        )
    assert plain.layouts[0].words == ("HI",)
    assert torch.equal(plain.images, quoted.images)
    assert [plain.prompts, quoted.prompts] == [(prompt,) for prompt in prompts]
    assert system.layout_generator is not None
    with pytest.raises(ValueError, match="asks for 5 words; the layout holds at most 4"):
        system.layout_generator.check(["a sign that says NO DOGS NO CATS HERE"])


def test_objects_that_the_training_data_do_not_show_get_no_box() -> None:
    generator = tiny.layout_generator()
    generator.tlg.taught_objects.fill_(True)
    torch.nn.init.zeros_(generator.tlg.box_out.weight)
    torch.nn.init.constant_(generator.tlg.box_out.bias, 0.4)  # every phrase has a box
    prompt, names = "a giraffe, a red circle and a blue background", []
    for nouns in ((), ("circle",)):
        generator.nouns = nouns
        with torch.no_grad():
            (layout,) = generator.sample([prompt], Sampler(2), sampling_generators(0, [("a",)]))
        names.append(layout.objects)
    assert names == [("a giraffe", "a red circle", "a blue background"), ("a red circle", "a blue background")]


@pytest.mark.parametrize("bias", [-0.9, 0.9])
def test_a_learned_object_always_has_a_box_that_is_not_the_frame(bias: float) -> None:
    """Whether it is sampled without a box, or as large as the frame; a background stays as it is sampled."""
    generator = tiny.layout_generator()
    generator.nouns = ("circle",)
    generator.tlg.taught_objects.fill_(True)
    torch.nn.init.zeros_(generator.tlg.box_out.weight)
    torch.nn.init.constant_(generator.tlg.box_out.bias, bias)
    prompt = "a red circle and a blue background, with a circle chart"
    with torch.no_grad():
        (layout,) = generator.sample([prompt], Sampler(2), sampling_generators(0, [("a",)]))
    assert layout.objects[0] == "a red circle"
    assert layout.objects[1:] == (() if bias < 0 else ("a blue background", "a circle chart"))
    assert layout.object_boxes[0, 2:4].tolist() == pytest.approx([0.4, 0.4], abs=0.1)


def test_given_layouts_are_kept_and_do_not_change_the_others(system: VLADSystem) -> None:
    with torch.no_grad():
        drawn = system.generate(PROMPTS, [None, None, LAYOUT], SETTINGS, sampling_generators(3, [(i,) for i in "abc"]))
        others = system.generate(PROMPTS[:2], None, SETTINGS, sampling_generators(3, [(i,) for i in "ab"]))
    assert drawn.layouts[2] is LAYOUT
    for one, other in zip(drawn.layouts[:2], others.layouts, strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn.images[:2], others.images, rtol=1e-4, atol=1e-4)


def test_other_numbers_of_generators_or_layouts_are_refused(system: VLADSystem) -> None:
    with pytest.raises(ValueError, match="generators has 1 entries"):
        system.generate(PROMPTS, None, SETTINGS, [torch.Generator()])
    with pytest.raises(ValueError, match="layouts has 1 entries"):
        system.generate(PROMPTS, [LAYOUT], SETTINGS, [torch.Generator()] * 3)


@pytest.mark.parametrize("keys", [(), ("a", "b", "c")])
def test_another_system_generates_through_the_same_interface(system: VLADSystem, keys: tuple[str, ...]) -> None:
    other: TextToImage[float] = Noise()
    ours: TextToImage[SystemSampling] = system
    first = generate_named(other, PROMPTS, keys, 0.5, seed=1)
    assert first.keys == keys
    assert torch.equal(generate_named(other, PROMPTS, keys, 0.5, seed=1).images, first.images)
    assert not torch.equal(generate_named(other, PROMPTS, keys, 0.5, seed=2).images, first.images)
    assert len(first.images.flatten(1).unique(dim=0)) == 3
    with torch.no_grad():
        assert len(generate_named(ours, PROMPTS, keys, SystemSampling(ImageSampler(1), Sampler(1)), 1).images) == 3
