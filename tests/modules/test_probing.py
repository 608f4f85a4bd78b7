from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from vlad_lightning.diffusion.noising import add_noise, implied_prediction, predicted_x0
from vlad_lightning.diffusion.objective import FlowMatching
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.probing import PROBES, TextProbe
from vlad_lightning.types import Layout

PROMPTS = [
    "a red circle at the top left and a blue star on a green background, "
    'with "HELLO" at the bottom in gray serif letters',
    "nothing told",
]
BOXES = torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.0], [0.7, 0.4, 0.2, 0.2, 0.0]])
LAYOUT = Layout(("HELLO",), torch.tensor([[0.5, 0.8, 0.8, 0.2, 0.0]]), (), ("a red circle", "a blue star"), BOXES)
LAYOUTS = (LAYOUT, Layout.empty())
KEYS = ("a", "b")


def image_generator(hears: bool):
    """Build an image generator whose fusion uses the pooled t and the layout, or neither."""
    torch.manual_seed(0)
    made = tiny.image_generator()
    if hears:
        torch.nn.init.normal_(made.vfe.fusion.weight, std=0.3)
    return made


def changes(probe: TextProbe, prompts=PROMPTS, layouts=LAYOUTS, keys=KEYS):
    heard = probe(prompts, layouts, keys)
    return {
        name: heard.changes[:, i][heard.known[:, i]] for i, name in enumerate(PROBES) if heard.known[:, i].any()
    }, heard


def test_an_image_generator_that_uses_the_text_reacts_to_every_kind_of_change() -> None:
    found, heard = changes(TextProbe(image_generator(True), None))
    assert set(found) == set(PROBES)
    assert heard.known.tolist()[1] == [name in ("all_text", "tokens_only") for name in PROBES]
    assert all((value > 0).all() for value in found.values())
    assert not heard.changes[1, :-2].any()


def test_an_image_generator_with_inpainting_is_probed_on_whole_pictures(posters: Path) -> None:
    module = tiny.stage("vfe", inpaints=True, text_probe=5, layout_sampler=Sampler(steps=1))
    found = tiny.trainer(limit_val_batches=1).validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert found["val/image_generator_probe_all_text"] > 0


def test_an_objects_phrase_acts_only_in_its_box() -> None:
    """With the other paths of the text disabled, an edit of an object acts through its stamp in the layout's latent."""
    deaf = image_generator(False)
    fusion = deaf.vfe.fusion
    start = fusion.config.latent_channels + tiny.LATENT
    with torch.no_grad():
        fusion.weight[:, start : start + deaf.vfe.phrase_map.out_channels].normal_(std=0.3)
        for block in deaf.vfe.unet.modules():  # no attention to the tokens
            if hasattr(block, "attn2") and block.attn2 is not None:
                block.attn2.to_out[0].weight.zero_()
                block.attn2.to_out[0].bias.zero_()
    found, _ = changes(TextProbe(deaf, None))
    assert found["object_shape"].min() > 1e-4
    bare = replace(LAYOUT, objects=(), object_boxes=torch.zeros(0, 5))
    without, _ = changes(TextProbe(deaf, None), layouts=(bare, Layout.empty()))
    assert without["object_shape"].max() < 1e-5  # rounding of batches of other sizes


def test_the_whole_system_is_probed_with_generated_layouts() -> None:
    torch.manual_seed(1)
    generator = tiny.layout_generator().eval()
    probe = TextProbe(image_generator(True), generator, ImageSampler(steps=2))
    found, heard = changes(probe)
    assert found["word_replaced"].min() > 0
    again = probe(PROMPTS, (Layout.empty(),) * 2, KEYS)  # the given layouts do not matter
    assert torch.equal(again.changes, heard.changes)
    alone = probe(PROMPTS[:1], (Layout.empty(),), KEYS[:1])  # nor do the other prompts of the batch
    torch.testing.assert_close(alone.changes[0], heard.changes[0], rtol=1e-3, atol=1e-4)


def test_stage_2_logs_the_text_probe(posters: Path) -> None:
    module = tiny.stage("vfe", text_probe=5, layout_sampler=Sampler(steps=1))
    assert isinstance(module, VFEModule)
    found = tiny.trainer(limit_val_batches=2).validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert {"val/text_probe_all_text", "val/image_generator_probe_tokens_only"} <= set(found)
    again = tiny.trainer(limit_val_batches=2).validate(module, datamodule=tiny.data(posters), verbose=False)[0]
    assert again == found
    silent = tiny.stage("vfe", text_probe=0)
    found = tiny.trainer(limit_val_batches=1).validate(silent, datamodule=tiny.data(posters), verbose=False)[0]
    assert not any("probe" in name for name in found)
    with pytest.raises(ValueError, match="text_probe is -1"):
        tiny.stage("vfe", text_probe=-1)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_x0_is_recovered_from_the_target(kind: str) -> None:
    scheduler = DDPMScheduler(prediction_type=kind)
    x0, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([10, 500, 900])
    noised = add_noise(scheduler, x0, noise, t)
    torch.testing.assert_close(predicted_x0(scheduler, noised.target, noised.x_t, t), x0, rtol=1e-3, atol=1e-3)
    implied = implied_prediction(scheduler, x0, noised.x_t, t)
    torch.testing.assert_close(implied, noised.target, rtol=1e-3, atol=1e-3)


def test_x0_is_recovered_from_the_velocity() -> None:
    flow = FlowMatching(FlowMatchEulerDiscreteScheduler())
    x0, noise = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([10.0, 500.0, 1000.0])
    noised = flow.noised(x0, noise, t)
    torch.testing.assert_close(flow.x0_of(noised.target, noised.x_t, t), x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flow.prediction_of(x0, noised.x_t, t), noised.target, rtol=1e-3, atol=1e-3)
    assert flow.last_timesteps(2).tolist() == [1000.0, 1000.0]
