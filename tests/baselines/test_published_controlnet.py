"""A tiny random ControlNet and Stable Diffusion in the folders in which they are published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import published_folders
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UniPCMultistepScheduler

from vlad_lightning.baselines.controlnet import canny_edges
from vlad_lightning.evaluation.systems import SystemSettings, open_system
from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.types import Layout

SETTINGS = SystemSettings(steps=2, guidance_scale=2.0, device="cpu")
LAYOUT = Layout(("HI",), torch.tensor([[0.5, 0.5, 0.9, 0.6, 0.0]]))
PROMPT = 'a sign that says "HI"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    published_folders.stable_diffusion_1(folder / "sd")
    torch.manual_seed(0)
    copy = ControlNetModel.from_unet(published_folders.unet(), conditioning_embedding_out_channels=(4, 8))
    for conv in (*copy.controlnet_down_blocks, copy.controlnet_mid_block, copy.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(conv.weight, std=0.5)
    copy.save_pretrained(folder / "canny")
    return folder


def steered(controlnet: Path | None, layouts: str = "vlad-mini") -> SystemSettings:
    return replace(SETTINGS, controlnet=controlnet and str(controlnet), layouts=layouts)


def test_it_generates_what_diffusers_generates_from_the_edges(folder: Path) -> None:
    opened = open_system(str(folder / "sd"), steered(folder / "canny"))
    opened.check(PROMPT)
    generated = opened.system.generate([PROMPT] * 2, [LAYOUT, None], opened.sampling, opened.generators([5, 5], []))
    assert generated.layouts[0] is LAYOUT
    assert generated.layouts[1].words == ("HI",)
    side = generated.images.shape[-1]
    copy = ControlNetModel.from_pretrained(folder / "canny")
    pipe = StableDiffusionControlNetPipeline.from_pretrained(folder / "sd", controlnet=copy, safety_checker=None)
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    edges = canny_edges(glyph_images(opened.system.rasterizer(LAYOUT, (side, side))[None]))
    assert edges.any()
    call = {"num_inference_steps": 2, "guidance_scale": 2.0, "generator": torch.Generator().manual_seed(5)}
    expected = pipe(PROMPT, image=edges, output_type="pt", **call).images
    assert torch.allclose(generated.images[0], expected[0] * 2 - 1, atol=1e-4)
    assert opened.shown["layouts"] == "vlad-mini"


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"--controlnet is None and --layouts vlad-mini; both are needed"):
        steered(None)
    with pytest.raises(FileNotFoundError, match=r"nowhere has no config\.json; it must be a folder as diffusers publ"):
        open_system(str(folder / "sd"), steered(folder / "nowhere"))
    with pytest.raises(ValueError, match=r"--layouts is .*sd; it must be a system of this project"):
        open_system(str(folder / "sd"), steered(folder / "canny", str(folder / "sd")))
    with pytest.raises(ValueError, match="vlad-mini is no Stable Diffusion; leave it out"):
        open_system("vlad-mini", steered(folder / "canny"))
