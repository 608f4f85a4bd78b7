from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_system as tiny
import torch
from tiny_baselines import SAMPLER, controlnet, module, stable_diffusion

from vlad_lightning.baselines.controlnet import ControlNet, CopyEncoder, control_features
from vlad_lightning.diffusion.generators import SampleGenerators, sampling_generators
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.types import Batch, Conditioning, Layout

LAYOUT = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]]))


@pytest.fixture(scope="module")
def batch(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=6).val_dataloader()))


def inputs(system: ControlNet, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    x_t = torch.randn(rows, tiny.LATENT, 16, 16, generator=torch.Generator().manual_seed(0))
    return x_t, torch.tensor([10, 700]), system.prompt_encoder(['a red circle and "HI"', "a star"])


def opened(system: ControlNet) -> ControlNet:
    """Give the zero convolutions other weights."""
    torch.manual_seed(1)
    for conv in (*system.controlnet.controlnet_down_blocks, system.controlnet.controlnet_mid_block):
        torch.nn.init.normal_(conv.weight, std=0.1)
    torch.nn.init.normal_(system.controlnet.controlnet_cond_embedding.conv_out.weight, std=0.1)
    return system


def test_an_untrained_controlnet_is_the_frozen_model_bit_for_bit() -> None:
    system = controlnet()
    x_t, steps, cond = inputs(system)
    hint = system.hint(system.draw_glyphs([LAYOUT, Layout.empty()]))
    assert hint.sum() > 0
    with torch.no_grad():
        bare = system.unet(x_t, steps, cond.tokens, encoder_attention_mask=cond.read_mask).sample
        assert torch.equal(system.predict(x_t, steps, cond, hint), bare)
        assert not torch.equal(opened(system).predict(x_t, steps, cond, hint), bare)


def test_the_copy_starts_as_the_encoder_of_the_unet() -> None:
    system = controlnet()
    with torch.no_grad():
        for weight in system.unet.parameters():
            weight.add_(1)
    system.copy_encoder()
    state = system.controlnet.state_dict()
    copied = {name: value for name, value in system.unet.state_dict().items() if name in state}
    assert len(copied) > 50
    assert all(torch.equal(state[name], value) for name, value in copied.items())


def test_features_are_those_of_diffusers_where_no_state_is_hidden() -> None:
    system = opened(controlnet())
    x_t, steps, cond = inputs(system)
    hint = system.hint(system.draw_glyphs([LAYOUT, Layout.empty()]))
    with torch.no_grad():
        down, middle = control_features(system.controlnet, x_t, steps, replace(cond, read_mask=None), hint)
        theirs = system.controlnet(x_t, steps, cond.tokens, hint, return_dict=False)
    assert all(map(torch.equal, (*down, middle), (*theirs[0], theirs[1])))


def test_hidden_states_change_nothing() -> None:
    system = opened(controlnet())
    x_t, steps, cond = inputs(system)
    hint = system.hint(system.draw_glyphs([LAYOUT, LAYOUT]))
    mask = torch.arange(cond.tokens.shape[1]).expand(2, -1) < 5
    other = torch.where(mask[..., None], cond.tokens, cond.tokens + 3)
    with torch.no_grad():
        first, second = (
            system.predict(x_t, steps, replace(cond, tokens=tokens, read_mask=mask), hint)
            for tokens in (cond.tokens, other)
        )
    assert torch.allclose(first, second, atol=1e-5)


def test_hints_are_canny_edges_of_the_printed_words() -> None:
    system = controlnet()
    glyphs = system.draw_glyphs([LAYOUT, Layout.empty()])
    hint = system.hint(glyphs)
    printed = system.rasterizer(LAYOUT, (tiny.SIZE, tiny.SIZE))[0].numpy()
    assert np.array_equal(hint[0, 0].numpy() * 255, cv2.Canny(printed, 100, 200))
    assert torch.equal(hint[0, 0], hint[0, 2])
    assert not hint[1].any()


def test_only_the_copy_trains(batch: Batch) -> None:
    system = controlnet()
    for _ in range(3):  # the zero convolutions open one after the other
        optimizer = torch.optim.SGD([p for p in system.parameters() if p.requires_grad], lr=0.1)
        system.losses(batch, SampleGenerators.of_samples("cpu", (0, "t"), batch.keys))["loss"].backward()
        optimizer.step()
    trained = {name for name, value in system.named_parameters() if value.requires_grad}
    assert all(name.startswith("controlnet.") for name in trained)
    assert not [n for n, v in system.named_parameters() if v.requires_grad and (v.grad is None or not v.grad.any())]


def test_layouts_are_followed_or_generated(batch: Batch) -> None:
    system = opened(controlnet(layout_generator=tiny.layout_generator())).eval()
    prompts, generators = ['a sign that says "HI"'] * 2, sampling_generators(0, [("a",), ("a",)])
    with torch.no_grad():
        generated = system.generate(prompts, [LAYOUT, None], SystemSampling(SAMPLER), generators)
    assert generated.layouts[0] is LAYOUT
    assert generated.layouts[1].words == ("HI",)
    assert not torch.equal(generated.images[0], generated.images[1])
    oracle = module(system, oracle_layouts=True)
    with torch.no_grad():
        tested = oracle.draw_batch(batch)
    assert tested.layouts == batch.layouts


def test_the_copy_is_made_when_a_fit_starts_but_not_when_it_resumes() -> None:
    system, trainer = controlnet(), tiny.trainer()
    torch.nn.init.ones_(system.unet.conv_in.weight)
    before = system.controlnet.conv_in.weight.detach().clone()
    trainer.ckpt_path = "stopped.ckpt"
    CopyEncoder().setup(trainer, module(system), "fit")
    trainer.ckpt_path = None
    CopyEncoder().setup(trainer, module(system), "test")
    assert torch.equal(system.controlnet.conv_in.weight, before)
    CopyEncoder().setup(trainer, module(system), "fit")
    assert system.controlnet.conv_in.weight.eq(1).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hint_channels is \(16, 32, 64\), which brings edges of 32 px to 8; "):
        controlnet(hint_channels=(16, 32, 64))
    with pytest.raises(TypeError, match=r"model\.baseline is a StableDiffusion"):
        CopyEncoder().setup(tiny.trainer(), module(stable_diffusion()), "fit")
