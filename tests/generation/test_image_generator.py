from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest
import tiny_system as tiny
import torch

from vlad_lightning.diffusion.sampler import Denoiser, Sampler
from vlad_lightning.diffusion.solvers import SolverName
from vlad_lightning.generation import ImageGenerator
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_generator import drawn_positions, on_its_picture, told_positions
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.layout.lettering_requests import with_lettering
from vlad_lightning.layout.masks import FRAME
from vlad_lightning.layout.patterns import PATTERNS
from vlad_lightning.models.autoencoder import SpaceToDepth
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.types import Conditioning, GeneratedImages, Layout

LAYOUT = Layout(("HELLO",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]]))
PROMPT = 'a red circle and "HELLO"'


def draw(
    image_generator: ImageGenerator, sampler: Sampler, layout: Layout = LAYOUT, prompt: str = PROMPT, seed: int = 0
) -> torch.Tensor:
    with torch.no_grad():
        return image_generator.generate([prompt], [layout], sampler, [torch.Generator().manual_seed(seed)]).images


@pytest.fixture(scope="module")
def image_generator() -> ImageGenerator:
    """Build one with random fusion weights, so that text and layout matter."""
    torch.manual_seed(0)
    image_generator = tiny.image_generator()
    torch.nn.init.normal_(image_generator.vfe.fusion.weight, std=0.5)
    return image_generator


def test_the_result_holds_the_request(image_generator: ImageGenerator) -> None:
    with torch.no_grad():
        generated = image_generator.generate([PROMPT], [LAYOUT], ImageSampler(steps=2), [torch.Generator()])
    assert generated.images.shape == generated.glyphs.shape == (1, 3, tiny.SIZE, tiny.SIZE)
    assert generated.images.dtype == torch.float32
    assert generated.layouts == (LAYOUT,)
    assert generated.prompts == (PROMPT,)
    assert generated.glyphs.max() == 1
    assert generated.glyphs.min() == -1


def test_the_generator_determines_the_image(image_generator: ImageGenerator) -> None:
    assert torch.equal(draw(image_generator, ImageSampler(steps=2)), draw(image_generator, ImageSampler(steps=2)))
    assert not torch.equal(
        draw(image_generator, ImageSampler(steps=2)), draw(image_generator, ImageSampler(steps=2), seed=1)
    )


def test_scale_of_zero_ignores_its_condition(image_generator: ImageGenerator) -> None:
    one_step = ImageSampler(steps=2, guidance_scale=0, layout_scale=1)
    assert torch.equal(draw(image_generator, one_step), draw(image_generator, one_step, prompt="something else"))
    assert not torch.equal(draw(image_generator, one_step), draw(image_generator, one_step, Layout.empty()))
    neither = ImageSampler(steps=2, guidance_scale=0, layout_scale=0)
    assert torch.equal(draw(image_generator, neither), draw(image_generator, neither, Layout.empty(), "something else"))


def test_guidance_combines_the_three_branches(image_generator: ImageGenerator) -> None:
    """One step: f(0,0) + layout_scale (f(0,z) - f(0,0)) + text_scale (f(t,z) - f(0,z)), before the clamp."""

    def predicted(text: float, layout: float) -> torch.Tensor:
        conditioning = image_generator.prompt_encoder([PROMPT])
        z = image_generator.encode_layout(glyph_images(image_generator.draw_glyphs([LAYOUT])))
        noise = torch.randn(1, tiny.LATENT, 16, 16, generator=torch.Generator().manual_seed(0))
        sampler = ImageSampler(steps=1, guidance_scale=text, layout_scale=layout)
        return image_generator.guided(conditioning, image_generator.uncond(len(conditioning)), z, sampler)(
            noise, torch.tensor([999])
        )

    with torch.no_grad():
        nothing, layout, both = predicted(0, 0), predicted(0, 1), predicted(1, 1)
        expected = nothing + 1.5 * (layout - nothing) + 3 * (both - layout)
        torch.testing.assert_close(predicted(3, 1.5), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(nothing, layout, atol=1e-3)
    assert not torch.allclose(layout, both, atol=1e-3)


def prepared(image_generator: ImageGenerator) -> tuple[Conditioning, torch.Tensor | None]:
    """Return t and z_t of the request."""
    cond = image_generator.prompt_encoder([PROMPT])
    grounding = image_generator.ground([PROMPT], [LAYOUT], cond) if image_generator.vfe.phrase_map is not None else None
    return cond, image_generator.encode_layout(glyph_images(image_generator.draw_glyphs([LAYOUT])), grounding)


def sampled(image_generator: ImageGenerator, denoiser: Denoiser, sampler: ImageSampler) -> torch.Tensor:
    """Generate the image of the request with a denoiser."""
    generators = [torch.Generator().manual_seed(0)]
    noise = torch.randn(1, tiny.LATENT, 16, 16, generator=generators[0])
    latents = sampler.draw(denoiser, noise, image_generator.schedule, generators)
    return image_generator.autoencoder.decode_latents(latents).float().clamp(-1, 1)


def test_without_interval_and_rescaling_images_are_those_of_the_formula_bit_for_bit(
    image_generator: ImageGenerator,
) -> None:
    sampler = ImageSampler(steps=4, guidance_scale=3.0, layout_scale=1.5)
    with torch.no_grad():
        cond, z = prepared(image_generator)
        assert z is not None
        blank = image_generator.encode_layout(torch.full((1, 3, tiny.SIZE, tiny.SIZE), -1.0))
        assert blank is not None
        nothing = image_generator.uncond(1)
        text, layout = Conditioning.cat([cond, nothing, nothing]), torch.cat([z, z, blank])

        def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            predicted = image_generator.vfe(x.repeat(3, 1, 1, 1), t.repeat(3), layout, text, None)
            return torch.einsum("k,k...->...", torch.tensor([3.0, -1.5, -0.5]), predicted.float().unflatten(0, (3, 1)))

        expected = sampled(image_generator, denoise, sampler)
    assert torch.equal(draw(image_generator, sampler), expected)
    always = replace(sampler, guidance_interval=(0.0, 1.0), guidance_rescale=0.0)
    assert torch.equal(draw(image_generator, always), expected)


@pytest.mark.parametrize(("flow", "cache_interval"), [(False, 1), (False, 2), (True, 1)], ids=["ddpm", "cache", "flow"])
@pytest.mark.parametrize("scales", [(3.0, 1.5), (3.0, 3.0), (0.0, 1.0)], ids=["three", "two", "one"])
def test_guidance_acts_in_its_interval_only(
    image_generator: ImageGenerator, scales: tuple[float, float], cache_interval: int, flow: bool
) -> None:
    """Compare with two denoisers in turn, each run of steps with a cache of its own."""
    torch.manual_seed(0)
    network = tiny.flow_image_generator() if flow else image_generator
    inside = ImageSampler(10, guidance_scale=scales[0], layout_scale=scales[1], cache_interval=cache_interval)
    steps: list[bool] = []
    with torch.no_grad(), ExitStack() as stack:
        cond, z = prepared(network)
        uncond = network.uncond(len(cond))
        denoisers = {on: network.guided(cond, uncond, z, inside if on else ImageSampler()) for on in (True, False)}

        def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            steps.append(2 < 10 - len(steps) <= 7)  # tenths of T, from 10 to 1
            if steps[-2:-1] != steps[-1:]:
                stack.close()
                stack.enter_context(network.vfe.backbone.sampling(cache_interval, False))
            return denoisers[steps[-1]](x, t)

        expected = sampled(network, denoise, inside)
    assert steps == [False] * 3 + [True] * 5 + [False] * 2
    part = replace(inside, guidance_interval=(0.2, 0.7))
    assert torch.equal(draw(network, part), expected)
    assert not torch.equal(draw(network, inside), expected)


def test_outside_the_interval_the_network_is_evaluated_once(image_generator: ImageGenerator) -> None:
    seen: list[int] = []
    handle = image_generator.vfe.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    draw(image_generator, ImageSampler(5, guidance_scale=3.0, layout_scale=1.5, guidance_interval=(0.4, 0.8)))
    handle.remove()
    assert seen == [1, 3, 3, 1, 1]


def test_rescaling_narrows_what_guidance_widens(image_generator: ImageGenerator) -> None:
    sampler = ImageSampler(steps=1, guidance_scale=6.0, layout_scale=6.0)
    with torch.no_grad():
        cond, z = prepared(image_generator)
        noise = torch.randn(1, tiny.LATENT, 16, 16, generator=torch.Generator().manual_seed(0))

        def deviation(settings: ImageSampler) -> float:
            return float(
                image_generator.guided(cond, image_generator.uncond(len(cond)), z, settings)(
                    noise, torch.tensor([999])
                ).std()
            )

        plain, half, full = (deviation(replace(sampler, guidance_rescale=phi)) for phi in (0.0, 0.5, 1.0))
        unguided = deviation(ImageSampler(steps=1))
    assert full == pytest.approx(unguided, rel=1e-4)
    assert half == pytest.approx((plain + full) / 2, rel=1e-4)
    assert plain != pytest.approx(full, rel=1e-2)


def test_letters_and_objects_are_drawn_and_the_rest_is_ground() -> None:
    objects, letters = torch.zeros(1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.bool)
    letters[:, 2:6], objects[:, 8:], objects[:, 7] = True, 1.0, 0.4
    expected = torch.zeros(16, dtype=torch.bool)
    expected[2:6], expected[8:] = True, True
    assert torch.equal(drawn_positions(objects, letters)[0], expected[:, None].expand(16, 16))


class Counted(SpaceToDepth):
    """Counts the encoded images."""

    encoded = 0

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded += len(images)
        return super().encode_images(images)


@pytest.mark.parametrize(
    ("hierarchical", "sampler", "encoded"),
    [
        (True, ImageSampler(steps=2), 3),  # the layouts
        (True, ImageSampler(steps=2, guidance_scale=2.0), 3),
        (True, ImageSampler(steps=2, guidance_scale=2.0, layout_scale=2.0), 6),  # and empty ones
        (False, ImageSampler(steps=2, guidance_scale=2.0), 1),  # for the latents' shape
    ],
)
def test_only_needed_images_are_encoded(hierarchical: bool, sampler: Sampler, encoded: int) -> None:
    image_generator = tiny.image_generator(hierarchical=hierarchical)
    image_generator.autoencoder = Counted(2)
    with torch.no_grad():
        image_generator.generate([PROMPT] * 3, [LAYOUT] * 3, sampler, [torch.Generator()] * 3)
    assert image_generator.autoencoder.encoded == encoded


def test_augmentation_adds_noise_of_its_deviation_to_the_layouts_latent(image_generator: ImageGenerator) -> None:
    glyphs = torch.zeros(4, 3, tiny.SIZE, tiny.SIZE)
    generators = [torch.Generator().manual_seed(row) for row in range(4)]
    latent = image_generator.encode_layout(glyphs, scale=0.5, generators=generators)
    assert latent is not None
    assert latent.std().item() == pytest.approx(0.5, rel=0.05)
    exact = image_generator.encode_layout(glyphs)
    assert exact is not None
    assert exact.eq(0).all()


def test_colours_of_words_are_the_last_channels_of_the_layouts_latent() -> None:
    image_generator = tiny.image_generator(word_colours=True)
    glyphs = glyph_images(image_generator.draw_glyphs([LAYOUT]))
    plain, red, black = (
        image_generator.encode_layout(glyphs, layouts=[replace(LAYOUT, colours=colours)])
        for colours in ((), ("red",), ("black",))
    )
    assert torch.equal(plain, image_generator.encode_layout(glyphs))
    assert not plain[:, -4:].any()
    for one in (red, black):
        assert torch.equal(one[:, :-4], plain[:, :-4])
        assert one[:, -1].max() == 1
    assert not torch.equal(red, black)


def test_letters_whose_colour_is_told_are_in_the_stamps_picture() -> None:
    """In the shape of the glyphs, and where nothing is told, or a word's colour is dropped, as without them."""
    image_generator = tiny.image_generator(coloured_letters=True)
    two = Layout(("HELLO", "YOU"), torch.tensor([[0.5, 0.3, 0.8, 0.3, 0.0], [0.5, 0.8, 0.5, 0.25, 0.2]]))
    glyphs = glyph_images(image_generator.draw_glyphs([two]))
    with torch.no_grad():
        plain, told, dropped = (
            image_generator.encode_layout(glyphs, layouts=[replace(two, colours=colours)], colourless=colourless)
            for colours, colourless in (((), None), (("red", None), None), (("red", None), torch.tensor([True])))
        )
    assert torch.equal(plain, image_generator.encode_layout(glyphs))
    assert torch.equal(plain, dropped)
    changed = (plain != told).flatten(2).any(dim=2)[0]
    assert changed[tiny.LATENT : 2 * tiny.LATENT].any()
    assert not changed[: tiny.LATENT].any()
    assert not changed[2 * tiny.LATENT :].any()
    picture = image_generator.autoencoder.decode_latents(told[:, tiny.LATENT : 2 * tiny.LATENT])[0]
    red = torch.tensor([v / 127.5 - 1 for v in PALETTE["red"]])
    full, upper = glyphs[0, 0] == 1, torch.arange(tiny.SIZE)[:, None] < tiny.SIZE // 2
    assert (full & upper).sum() > 8
    torch.testing.assert_close(picture[:, full & upper], red[:, None].expand(3, int((full & upper).sum())))
    assert not picture[:, ~upper.expand_as(full)].any()  # YOU has no colour of its own


def test_what_the_prompt_says_of_letters_fills_the_layout_and_changes_the_picture() -> None:
    torch.manual_seed(0)
    image_generator = tiny.image_generator(word_colours=True)
    torch.nn.init.normal_(image_generator.vfe.fusion.weight, std=0.5)

    def generated(prompt: str, layout: Layout = LAYOUT) -> GeneratedImages:
        sampler = ImageSampler(steps=2, guidance_scale=0, layout_scale=1)  # the text itself is not heard
        with torch.no_grad():
            return image_generator.generate([prompt], [layout], sampler, [torch.Generator().manual_seed(0)])

    plain, red, serif = (generated(f'"HELLO"{said}') for said in ("", " in red", " in serif letters"))
    assert [made.layouts[0].colours for made in (plain, red, serif)] == [(), ("red",), ()]
    assert [made.layouts[0].fonts for made in (plain, red, serif)] == [(), (), ("serif",)]
    assert torch.equal(plain.glyphs, red.glyphs)
    assert not torch.equal(plain.glyphs, serif.glyphs)
    for made in (red, serif):
        assert not torch.allclose(made.images, plain.images, atol=1e-3)
    own = generated('"HELLO" in red', replace(LAYOUT, colours=("blue",)))
    assert torch.equal(own.images, generated('"HELLO" in blue').images)


def test_channels_for_colours_are_asked_for_by_name() -> None:
    plain = tiny.image_generator()
    with pytest.raises(
        ValueError, match=r"fusion.layout_channels is 19; 23 are needed: 12 of the autoencoder and 11 of"
    ):
        ImageGenerator(plain.prompt_encoder, plain.vfe, plain.autoencoder, plain.schedule, tiny.SIZE, word_colours=True)


def test_without_hierarchical_guidance_layouts_do_not_matter() -> None:
    image_generator = tiny.image_generator(hierarchical=False)
    assert image_generator.encode_layout(torch.zeros(1, 3, tiny.SIZE, tiny.SIZE)) is None
    sampler = ImageSampler(steps=2, guidance_scale=2, layout_scale=2)
    assert torch.equal(draw(image_generator, sampler), draw(image_generator, sampler, Layout.empty()))


def test_the_autoencoder_is_frozen_and_in_evaluation_mode() -> None:
    image_generator = tiny.image_generator()
    assert not image_generator.autoencoder.training
    assert not any(value.requires_grad for value in image_generator.autoencoder.parameters())


def test_cached_features_change_the_picture_but_not_the_network(image_generator: ImageGenerator) -> None:
    plain = ImageSampler(steps=6, guidance_scale=2.0)
    exact = draw(image_generator, plain)
    cached = draw(image_generator, replace(plain, cache_interval=2))
    assert not torch.equal(cached, exact)
    assert (cached - exact).abs().mean() < 0.5 * (draw(image_generator, plain, seed=1) - exact).abs().mean()
    assert torch.equal(draw(image_generator, plain), exact)
    assert torch.equal(draw(image_generator, replace(plain, cache_interval=1)), exact)
    one_step = replace(plain, steps=1)
    assert torch.equal(draw(image_generator, replace(one_step, cache_interval=5)), draw(image_generator, one_step))


def test_fused_projections_generate_the_same_up_to_rounding(image_generator: ImageGenerator) -> None:
    plain = ImageSampler(steps=3, guidance_scale=2.0)
    keys = list(image_generator.state_dict())
    torch.testing.assert_close(
        draw(image_generator, replace(plain, fuse_qkv=True)), draw(image_generator, plain), rtol=0, atol=1e-4
    )
    assert list(image_generator.state_dict()) == keys
    both = replace(plain, fuse_qkv=True, cache_interval=2)
    torch.testing.assert_close(
        draw(image_generator, both), draw(image_generator, replace(both, fuse_qkv=False)), rtol=0, atol=1e-4
    )
    part = replace(both, steps=6, guidance_interval=(0.3, 0.7))
    torch.testing.assert_close(
        draw(image_generator, part), draw(image_generator, replace(part, fuse_qkv=False)), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
def test_a_transformer_generates_by_flow_matching(solver: SolverName) -> None:
    torch.manual_seed(0)
    image_generator, sampler = tiny.flow_image_generator(), ImageSampler(steps=3, guidance_scale=2.0, solver=solver)
    assert torch.equal(draw(image_generator, sampler), draw(image_generator, sampler))
    assert not torch.equal(draw(image_generator, sampler), draw(image_generator, sampler, prompt="something else"))
    with pytest.raises(ValueError, match="cache_interval is 2"):
        draw(image_generator, replace(sampler, cache_interval=2))


def test_an_image_too_large_for_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 1000000"):
        tiny.image_generator(size=10**6)


def test_parts_that_do_not_fit_are_refused() -> None:
    good = tiny.image_generator()
    with pytest.raises(ValueError, match=r"fusion\.latent_channels is 12"):
        ImageGenerator(good.prompt_encoder, good.vfe, SpaceToDepth(4), good.schedule)
    wide = VFE(LatentFusion(12, 12, 64, 16), tiny.unet(16))
    with pytest.raises(ValueError, match=r"fusion\.text_width is 64"):
        ImageGenerator(good.prompt_encoder, wide, good.autoencoder, good.schedule)


STAR = Layout(("HELLO",), LAYOUT.boxes, (), ("a red circle",), torch.tensor([[0.25, 0.75, 0.3, 0.3, 0.0]]))


def test_objects_are_generated_where_the_layout_has_them(image_generator: ImageGenerator) -> None:
    """The phrase map changes the picture in the box; a phrase without a box changes nothing."""
    sampler = ImageSampler(steps=2)
    assert not torch.equal(draw(image_generator, sampler, STAR), draw(image_generator, sampler))
    moved = replace(STAR, object_boxes=torch.tensor([[0.75, 0.75, 0.3, 0.3, 0.0]]))
    assert not torch.equal(draw(image_generator, sampler, STAR), draw(image_generator, sampler, moved))


def test_an_object_acts_through_its_phrase(image_generator: ImageGenerator) -> None:
    conditioning = image_generator.prompt_encoder(["a red circle, a blue star"])
    named = [
        replace(Layout.empty(), objects=(name,), object_boxes=STAR.object_boxes)
        for name in ("A RED circle", "blue star")
    ]
    with torch.no_grad():
        first, second = (
            image_generator.ground(["a red circle, a blue star"], [layout], conditioning) for layout in named
        )
    assert first.mask[0].nonzero().flatten().tolist() == [0]
    assert second.mask[0].nonzero().flatten().tolist() == [1]
    assert torch.equal(first.boxes[0, 0], STAR.object_boxes[0])
    assert torch.equal(first.phrases, conditioning.objects)


def test_the_colours_that_phrases_name_reach_the_layouts_latent() -> None:
    """With stamps that have a colour of their own, the prompt's name of it changes the map and nothing else of it."""
    image_generator = tiny.image_generator(named_colours=True)
    prompts, layouts = ["a gold circle and a cube"], [replace(STAR, objects=("a gold circle",))]
    with torch.no_grad():
        grounding = image_generator.ground(prompts, layouts, image_generator.prompt_encoder(prompts))
        assert grounding.colours is not None
        torch.testing.assert_close(grounding.colours[0, 0], torch.tensor([1.0, 215 / 127.5 - 1, -1.0, 1.0]))
        assert not grounding.colours[0, 1:].any()
        blank = glyph_images(image_generator.draw_glyphs(layouts))
        named, own = (
            image_generator.encode_layout(blank, told) for told in (grounding, replace(grounding, colours=None))
        )
    assert named is not None
    assert own is not None
    changed = (named != own).flatten(2).any(dim=2)[0]
    assert changed[tiny.LATENT : 2 * tiny.LATENT].any()  # of the stamps' picture
    assert not changed[: tiny.LATENT].any()
    assert not changed[2 * tiny.LATENT :].any()
    assert tiny.image_generator().named_colours(prompts) is None


def test_the_pattern_that_a_background_names_reaches_the_layouts_latent() -> None:
    image_generator = tiny.image_generator(named_patterns=True)
    prompts = ["a red circle on a striped blue background", "a red circle on a blue background"]
    frame = torch.tensor([[0.5, 0.5, 1.0, 1.0, 0.0]])
    grounds = ["a striped blue background", "a blue background"]
    layouts = [replace(STAR, objects=(name,), object_boxes=frame) for name in grounds]
    with torch.no_grad():
        conditioning = image_generator.prompt_encoder(prompts)
        grounding = image_generator.ground(prompts, layouts, conditioning)
        assert grounding.patterns is not None
        assert grounding.patterns[:, :2].tolist() == [[0, 1 + PATTERNS.index("striped")], [0, 0]]
        blank = glyph_images(image_generator.draw_glyphs(layouts))
        striped, even = (
            image_generator.encode_layout(blank, told) for told in (grounding, replace(grounding, patterns=None))
        )
    assert striped is not None
    assert even is not None
    changed = (striped != even).flatten(2).any(dim=2)
    assert changed[0, tiny.LATENT : 2 * tiny.LATENT].any()  # of the stamps' picture
    assert not changed[0, : tiny.LATENT].any()
    assert not changed[0, 2 * tiny.LATENT :].any()
    assert not changed[1].any()
    assert image_generator.named_patterns(prompts[1:]) is None
    assert tiny.image_generator().named_patterns(prompts) is None


def test_a_prompt_that_tells_no_ground_has_the_usual_one() -> None:
    """White, or black where a told colour could not be seen; none where a phrase fills the frame and has a colour."""
    image_generator = tiny.image_generator(named_colours=True, coloured_letters=True, usual_grounds=True)
    small = (0.3, 0.3, 0.2, 0.2, 0.0)
    cases = [
        ("a red circle", ["a red circle"], "white"),
        ("a white circle", ["a white circle"], "black"),
        ("a white circle", [], "white"),  # it has no box
        ("a red circle, 'HELLO' in yellow", ["a red circle"], "black"),
        ("a red circle on a blue background", ["a red circle", "a blue background"], None),
        ("a birthday card with a red circle", ["a birthday card", "a red circle"], "white"),  # a card of which colour?
        ("a blue sky with a red circle", ["a blue sky", "a red circle"], None),
    ]
    prompts = [prompt for prompt, _, _ in cases]
    layouts = []
    for prompt, names, _ in cases:
        boxes = torch.tensor([small if name.endswith("circle") else FRAME for name in names]).view(-1, 5)
        layouts.append(with_lettering(replace(STAR, objects=tuple(names), object_boxes=boxes), prompt))
    with torch.no_grad():
        grounding = image_generator.ground(prompts, layouts, image_generator.prompt_encoder(prompts))
        latents = image_generator.encode_layout(
            glyph_images(image_generator.draw_glyphs(layouts)), grounding, layouts=layouts
        )
    assert grounding.grounds is not None
    pictures = image_generator.autoencoder.decode_latents(latents[:, tiny.LATENT : 2 * tiny.LATENT])
    for (prompt, _, expected), ground, picture in zip(cases, grounding.grounds, pictures, strict=True):
        assert ground[3] == (expected is not None), prompt
        if expected:
            colour = torch.tensor([v / 127.5 - 1 for v in PALETTE[expected]])
            torch.testing.assert_close(ground[:3], colour)
            torch.testing.assert_close(picture[:, -1, -1], colour)
    assert grounding.mask[5].sum() == 1  # a card without a colour is not drawn
    assert tiny.image_generator().ground(prompts, layouts, image_generator.prompt_encoder(prompts)).grounds is None


def test_a_region_has_its_pictures_ground_and_not_the_usual_one() -> None:
    image_generator = tiny.image_generator(usual_grounds=True)
    prompts, boxes = ["a red circle", "a red circle"], torch.tensor([[0.3, 0.3, 0.2, 0.2, 0.0]])
    layouts = [replace(STAR, objects=("a red circle",), object_boxes=boxes)] * 2
    with torch.no_grad():
        grounding = image_generator.ground(prompts, layouts, image_generator.prompt_encoder(prompts))
    masks = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    masks[1, 0, 2] = False
    left = on_its_picture(grounding, masks).grounds
    assert left is not None
    assert grounding.grounds is not None
    assert torch.equal(left[0], grounding.grounds[0])
    assert left[0].any()
    assert not left[1].any()
    bare = replace(grounding, grounds=None)
    assert on_its_picture(bare, masks) is bare


def test_an_object_missing_from_the_prompt_is_refused(image_generator: ImageGenerator) -> None:
    green = replace(STAR, objects=("a green tree",))
    with pytest.raises(ValueError, match="the layout has the object 'a green tree'"):
        draw(image_generator, ImageSampler(steps=1), green)
    twice = replace(STAR, objects=STAR.objects * 2, object_boxes=STAR.object_boxes.repeat(2, 1))
    with pytest.raises(ValueError, match="the layout has the object 'a red circle'"):
        draw(image_generator, ImageSampler(steps=1), twice)


def test_an_image_generator_with_word_boxes_only_ignores_objects() -> None:
    torch.manual_seed(0)
    plain = tiny.image_generator(grounded=False)
    assert torch.equal(draw(plain, ImageSampler(steps=1), STAR), draw(plain, ImageSampler(steps=1)))


def test_a_fusion_without_room_for_the_map_is_refused() -> None:
    whole = tiny.image_generator()
    whole.vfe.fusion = LatentFusion(tiny.LATENT, tiny.LATENT, tiny.WIDTH, tiny.LATENT + 4)
    with pytest.raises(ValueError, match=r"fusion\.layout_channels is 12"):
        ImageGenerator(whole.prompt_encoder, whole.vfe, whole.autoencoder, whole.schedule, tiny.SIZE)


@pytest.mark.parametrize("size", [(tiny.SIZE, 2 * tiny.SIZE), (tiny.SIZE + 6, tiny.SIZE - 2)])
@pytest.mark.parametrize("inpaints", [False, True])
def test_other_sizes_are_generated(size: tuple[int, int], inpaints: bool) -> None:
    torch.manual_seed(0)
    made = tiny.image_generator(
        inpaints=inpaints, word_colours=True, named_colours=True, coloured_letters=True, skips=True
    )
    made.check_size(*size)
    layout = replace(LAYOUT, objects=("a red circle",), object_boxes=torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.0]]))
    sampler = ImageSampler(steps=2, guidance_scale=3.0, layout_scale=2.0, guidance_rescale=0.7)
    with torch.no_grad():
        generated = made.generate(
            [PROMPT], [layout], sampler, [torch.Generator().manual_seed(0)], controls=Controls(size=size)
        )
    assert generated.images.shape == generated.glyphs.shape == (1, 3, *size)
    assert generated.images.isfinite().all()
    assert torch.equal(generated.glyphs, glyph_images(made.rasterizer(layout, size)[None]))


def test_the_own_size_changes_nothing(image_generator: ImageGenerator) -> None:
    sampler, generators = ImageSampler(steps=2), [torch.Generator().manual_seed(0)]
    with torch.no_grad():
        own = image_generator.generate(
            [PROMPT], [LAYOUT], sampler, generators, controls=Controls(size=(tiny.SIZE, tiny.SIZE))
        )
    assert torch.equal(own.images, draw(image_generator, sampler))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((33, 32), "height is 33; it must be a multiple of 2"),
        ((32, 0), "width is 0; it must be a whole number from 2 to 4,096"),
        ((32, 4098), "width is 4098; it must be a whole number from 2 to 4,096"),
    ],
)
def test_sizes_without_a_latent_are_refused(
    image_generator: ImageGenerator, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        image_generator.check_size(*size)


def test_a_transformer_has_sizes_of_whole_patches_with_embeddings() -> None:
    made = tiny.flow_image_generator()
    sampler, generators = ImageSampler(steps=2), [torch.Generator().manual_seed(0)]
    size = (tiny.SIZE, tiny.SIZE - 4)
    made.check_size(*size)
    with torch.no_grad():
        images = made.generate([PROMPT], [LAYOUT], sampler, generators, controls=Controls(size=size)).images
    assert images.shape == (1, 3, *size)
    with pytest.raises(ValueError, match="width is 30; it must be a multiple of 4"):
        made.check_size(32, 30)
    with pytest.raises(ValueError, match="height is 36; it must be a whole number from 4 to 32"):
        made.check_size(36, 32)


def test_the_ground_of_a_told_pattern_is_where_nothing_is_drawn() -> None:
    made = tiny.image_generator(named_colours=True, named_patterns=True)
    prompts = ["a striped red background and a ring", "a red background and a ring", "a striped sign and a ring"]
    placed = [(prompts[0][:24], FRAME), (prompts[1][:16], FRAME), ("a striped sign", (0.5, 0.5, 0.4, 0.4, 0.0))]
    layouts = [Layout((), torch.zeros(0, 5), (), (name,), torch.tensor([box])) for name, box in placed]
    with torch.no_grad():
        grounding = made.ground(prompts, layouts, made.prompt_encoder(prompts))
    drawn = torch.zeros(3, 4, 4, dtype=torch.bool)
    drawn[:, 0] = True
    told = told_positions(grounding, drawn)
    assert told is not None
    assert torch.equal(told[0], ~drawn[0])  # the second ground has no pattern, the third pattern is an object's
    assert not told[1:].any()
    assert told_positions(replace(grounding, patterns=None), drawn) is None
