"""Test the image generator with a region: trained for it or not, and after a tiny training."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from vlad_lightning.callbacks import InitFrom
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.diffusion.objective import objective_for
from vlad_lightning.diffusion.solvers import SolverName
from vlad_lightning.generation import ImageGenerator
from vlad_lightning.generation.controls import Controls
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.masking import Masking
from vlad_lightning.generation.prediction import check_inside, layout_in, masks_around
from vlad_lightning.models.painter.fusion import InpaintingFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.types import Batch, Layout, MaskedImages

LAYOUT = Layout(("HELLO",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]]))
PROMPT = 'a red circle and "HELLO"'


def mask(size: int = 1) -> Tensor:
    masks = torch.zeros(size, 1, tiny.SIZE, tiny.SIZE, dtype=torch.bool)
    masks[..., 10:21, 5:28] = True
    return masks


def image(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def opened(inpaints: bool = True) -> ImageGenerator:
    """Build one with random fusion weights, so that every input matters."""
    torch.manual_seed(0)
    image_generator = tiny.image_generator(inpaints=inpaints)
    torch.nn.init.normal_(image_generator.vfe.fusion.weight, std=0.5)
    if image_generator.vfe.inpainting is not None:
        torch.nn.init.normal_(image_generator.vfe.inpainting.weight, std=0.5)
    return image_generator


def generate(image_generator: ImageGenerator, region: MaskedImages | None, layout: Layout = LAYOUT) -> Tensor:
    with torch.no_grad():
        sampler, generators = (
            ImageSampler(steps=2, guidance_scale=2, layout_scale=1.5),
            torch.Generator().manual_seed(0),
        )
        return image_generator.generate([PROMPT], [layout], sampler, [generators], masked_images=region).images


def test_pixels_outside_the_region_stay_equal() -> None:
    generated = generate(opened(), MaskedImages(image(), mask()))
    outside = ~mask().expand(-1, 3, -1, -1)
    assert torch.equal(generated[outside], image()[outside])
    assert not torch.isclose(generated[~outside], image()[~outside]).any(dim=0).all()


def test_the_pixels_in_the_region_are_never_used() -> None:
    other = torch.where(mask(), image(1), image())
    assert torch.equal(
        generate(opened(), MaskedImages(image(), mask())), generate(opened(), MaskedImages(other, mask()))
    )


def test_the_pixels_around_the_region_are_used() -> None:
    other = torch.where(mask(), image(), image(1))
    first, second = (generate(opened(), MaskedImages(pixels, mask())) for pixels in (image(), other))
    inside = mask().expand(-1, 3, -1, -1)
    assert not torch.equal(first[inside], second[inside])


def test_words_outside_the_region_are_not_drawn() -> None:
    above = Layout(("HELLO", "UP"), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0], [0.5, 0.1, 0.4, 0.1, 0.0]]))
    region = MaskedImages(image(), mask())
    assert torch.equal(generate(opened(), region), generate(opened(), region, above))
    assert not torch.equal(generate(opened(), region), generate(opened(), region, Layout.empty()))


@pytest.mark.parametrize("inpaints", [True, False])
def test_without_a_region_the_whole_frame_is_generated(inpaints: bool) -> None:
    whole = MaskedImages(image(), torch.ones(1, 1, tiny.SIZE, tiny.SIZE, dtype=torch.bool))
    assert torch.equal(generate(opened(inpaints), None), generate(opened(inpaints), whole))


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
def test_a_network_without_inpainting_sees_the_noised_picture_around_the_region(solver: SolverName) -> None:
    image_generator, seen = opened(inpaints=False), []
    image_generator.vfe.register_forward_pre_hook(lambda _, args: seen.append((args[0].detach(), args[1])))
    region, sampler = MaskedImages(image(), mask()), ImageSampler(steps=5, solver=solver)
    layouts, noise = [LAYOUT], torch.randn(1, tiny.LATENT, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        generators, controls = [torch.Generator()], Controls(latents=noise)
        generated = image_generator.generate([PROMPT], layouts, sampler, generators, region, controls).images
        picture = image_generator.autoencoder.encode_images(image())
    outside = ~mask().view(1, 1, 16, 2, 16, 2).any(dim=5).any(dim=3).expand(-1, tiny.LATENT, -1, -1)
    objective = objective_for(image_generator.schedule)
    for x, t in seen:
        expected = objective.noised(picture, noise, t).x_t
        torch.testing.assert_close(x[outside], expected[outside], rtol=1e-3, atol=1e-3)
    assert torch.equal(generated[~mask().expand(-1, 3, -1, -1)], image()[~mask().expand(-1, 3, -1, -1)])
    assert not torch.equal(generated, generate(image_generator, MaskedImages(image(1), mask())))


def test_an_untrained_region_changes_nothing() -> None:
    plain, region = opened(inpaints=False), opened()
    assert region.vfe.inpainting is not None
    torch.nn.init.zeros_(region.vfe.inpainting.weight)
    shared = {key: value for key, value in region.state_dict().items() if not key.startswith("vfe.inpainting.")}
    plain.load_state_dict(shared, strict=True)  # without inpainting the weights have the same names
    assert torch.equal(generate(plain, None), generate(region, None))


def test_latents_that_the_mask_touches_belong_to_the_region() -> None:
    image_generator = opened()
    known = image_generator.encode_masked_images(MaskedImages(image(), mask()))
    assert known is not None
    assert known.shape == (1, 1 + tiny.LATENT, 16, 16)
    touched = mask().view(1, 16, 2, 16, 2).any(dim=4).any(dim=2)
    assert torch.equal(known[:, 0].bool(), touched)
    expected = torch.nn.functional.pixel_unshuffle(image().masked_fill(mask(), 0), 2)
    assert torch.equal(known[:, 1:], expected)
    assert opened(inpaints=False).encode_masked_images(MaskedImages(image(), mask())) is None


def test_parts_that_do_not_fit_are_refused() -> None:
    plain = opened(inpaints=False)
    with pytest.raises(ValueError, match="fusion gives 16 channels"):
        VFE(plain.vfe.fusion, plain.vfe.unet, inpainting=InpaintingFusion(12, 12))
    wrong = VFE(plain.vfe.fusion, plain.vfe.unet, inpainting=InpaintingFusion(4, 16), phrase_map=plain.vfe.phrase_map)
    with pytest.raises(ValueError, match="region has latent_channels=4"):
        ImageGenerator(plain.prompt_encoder, wrong, plain.autoencoder, plain.schedule)
    with pytest.raises(ValueError, match="masking is None"):
        tiny.vfe(inpaints=True, masking=None)
    with pytest.raises(ValueError, match=r"masking is Masking\(.*; it is needed where"):
        tiny.vfe(masking=Masking())
    with pytest.raises(ValueError, match=r"masks is torch\.float32 \(1, 1, 32, 32\)"):
        MaskedImages(image(), mask().float())
    conditioning = plain.prompt_encoder([PROMPT])
    with pytest.raises(ValueError, match="masked_latents is None"):
        opened().vfe(torch.zeros(1, 12, 16, 16), torch.tensor([1]), torch.zeros(1, 19, 16, 16), conditioning)


def test_words_of_a_prompt_are_placed_in_the_region() -> None:
    layout = layout_in(mask(), "a sign with 'BIG' and 'SALE'")
    assert " ".join(layout.words) == "BIG SALE"
    quads = layout.quads() * tiny.SIZE
    assert quads[..., 0].min() >= 5 - 1e-3
    assert quads[..., 0].max() <= 28 + 1e-3
    assert quads[..., 1].min() >= 10 - 1e-3
    assert quads[..., 1].max() <= 21 + 1e-3
    assert len(layout_in(mask(), "no words")) == 0


def test_the_region_around_words_holds_all_their_ink() -> None:
    image_generator = opened()
    masks = masks_around([LAYOUT], (tiny.SIZE, tiny.SIZE))
    ink = image_generator.draw_glyphs([LAYOUT]) > 0
    assert not (ink & ~masks).any()
    assert not masks.all()
    check_inside(image_generator, [LAYOUT, Layout.empty()], mask(2))
    with pytest.raises(ValueError, match="layouts has no word in the frame"):
        masks_around([LAYOUT, Layout.empty()], (tiny.SIZE, tiny.SIZE))
    below = Layout(("LOW",), torch.tensor([[0.5, 0.9, 0.5, 0.1, 0.0]]))
    with pytest.raises(ValueError, match="layouts has 'LOW' outside the mask"):
        check_inside(image_generator, [below], mask())


class Seen:
    """Records the network's inputs of each batch."""

    def __init__(self) -> None:
        self.layouts: list[Tensor] = []
        self.known: list[Tensor] = []

    def __call__(self, network: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        self.layouts.append(args[2].detach())
        self.known.append(args[4].detach())


def test_training_masks_a_share_of_samples_and_shows_only_their_known_pixels(posters: Path) -> None:
    settings = LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0)
    module, seen = tiny.stage("vfe", inpaints=True, training=settings), Seen()
    assert isinstance(module, VFEModule)
    module.image_generator.vfe.register_forward_pre_hook(seen)
    tiny.trainer(6).fit(module, datamodule=tiny.data(posters))
    known, layouts = torch.cat(seen.known), torch.cat(seen.layouts)
    masks = known[:, 0].bool()
    whole = masks.flatten(1).all(dim=1)
    assert 0.2 < whole.float().mean() < 0.8
    assert known[whole][:, 1:].eq(0).all()
    outside = ~masks[:, None].expand(-1, tiny.LATENT, -1, -1)
    glyphs = layouts[:, : tiny.LATENT]
    assert glyphs[outside].eq(-1).all()  # no letters outside the generated region
    assert glyphs[~outside].gt(-1).any()
    assert known[:, 1:][outside].ne(0).float().mean() > 0.9
    weights = module.image_generator.vfe.inpainting
    assert weights is not None
    assert weights.weight.abs().max() > 0


def test_it_starts_from_a_stage_2_without_inpainting(posters: Path, tmp_path: Path) -> None:
    trainer = tiny.trainer(2)
    trainer.fit(tiny.stage("vfe"), datamodule=tiny.data(posters))
    trainer.save_checkpoint(tmp_path / "old.ckpt")
    old = torch.load(tmp_path / "old.ckpt", weights_only=True)["state_dict"]
    module = tiny.stage("vfe", seed=1, inpaints=True)
    parts = (
        "image_generator.prompt_encoder",
        "image_generator.vfe.fusion",
        "image_generator.vfe.unet",
        "image_generator.vfe.phrase_map",
    )
    parts += ("image_encoder", "layout_generator")
    callbacks = [InitFrom(part, str(tmp_path / "old.ckpt")) for part in parts]
    tiny.trainer(1, callbacks=callbacks).fit(
        module, datamodule=tiny.data(posters)
    )  # the learning rate of the first step is zero
    state = module.state_dict()
    same = [k for k in old if "vfe.unet" in k or "vfe.fusion" in k or k.startswith(("image_encoder", "layout_gen"))]
    assert all(torch.equal(state[key], old[key]) for key in same if isinstance(old[key], Tensor))
    assert isinstance(module, VFEModule)
    assert module.image_generator.vfe.inpainting is not None
    assert module.image_generator.vfe.inpainting.weight.eq(0).all()


@pytest.mark.no_cover
@pytest.mark.slow
def test_a_tiny_image_generator_learns_to_use_known_pixels() -> None:
    """Each image has one colour, which in the region follows only from the pixels around it."""
    torch.manual_seed(0)
    image_generator = tiny.image_generator(extra_channels=4, inpaints=True)
    assert isinstance(image_generator.vfe.unet, UNet2DConditionModel)
    settings = LossSettings(caption_dropout=0, layout_dropout=0, augmentation=0)
    masking = Masking(share=1.0, word_share=0.0, min_side=0.3, max_side=0.6)
    module = VFEModule(image_generator, tiny.image_encoder(), None, settings, tiny.FAST, masking=masking)
    data = torch.utils.data.DataLoader([colours(seed) for seed in range(160)], batch_size=None)  # type: ignore[arg-type]
    tiny.trainer(160).fit(module, data)
    image = colours(1000, size=8)
    region = MaskedImages(image.images, mask(8))
    with torch.no_grad():
        sampler, generators = ImageSampler(steps=4), sampling_generators(0, [(row,) for row in range(8)])
        empty = [Layout.empty()] * 8
        generated = image_generator.generate([""] * 8, empty, sampler, generators, masked_images=region).images
        blind = image_generator.generate(
            [""] * 8, [Layout.empty()] * 8, sampler, sampling_generators(0, [(row,) for row in range(8)])
        ).images
    inside = mask(8).expand(-1, 3, -1, -1)
    assert torch.equal(generated[~inside], image.images[~inside])
    error, without = ((found - image.images)[inside].square().mean() for found in (generated, blind))
    assert error < 0.25 * without


def colours(seed: int, size: int = 8) -> Batch:
    """Make images of one colour each, without words."""
    generators = torch.Generator().manual_seed(seed)
    images = (
        (torch.rand(size, 3, 1, 1, generator=generators) * 1.8 - 0.9).expand(-1, -1, tiny.SIZE, tiny.SIZE).contiguous()
    )
    blank = torch.zeros(size, 1, tiny.SIZE, tiny.SIZE, dtype=torch.uint8)
    boxes, none = torch.zeros(size, 4, 5), torch.zeros(size, 4, dtype=torch.bool)
    unknown = torch.zeros(size, 8, 5), torch.zeros(size, 8, dtype=torch.bool), torch.ones(size, 8, dtype=torch.int64)
    scenes = torch.zeros(size, dtype=torch.bool)
    return Batch(("x",) * size, images, ("",) * size, (Layout.empty(),) * size, blank, boxes, none, *unknown, scenes)
