from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlad_lightning.cli.export import FORMATS
from vlad_lightning.models.number_format import DTYPES
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.precision import megabytes, store_as, stored_formats

PROMPTS = ["a red circle and 'HI'", "a blue square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = tiny.stage("vfe")
    assert isinstance(module, VFEModule)
    nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    folder = tmp_path_factory.mktemp("precision") / "pipeline"
    VLADPipeline.from_module(module).save_pretrained(folder)
    return folder


def formats(pipe: VLADPipeline) -> dict[str, set[torch.dtype]]:
    """Return the floating-point formats of each component's parameters and buffers."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    return {
        name: {value.dtype for value in (*part.parameters(), *part.buffers()) if value.is_floating_point()}
        for name, part in parts.items()
    }


def images(pipe: VLADPipeline) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(PROMPTS, num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert isinstance(drawn, torch.Tensor)
    return drawn


@pytest.mark.parametrize(("name", "most"), [("float16", 0.005), ("bfloat16", 0.04)])
def test_weights_of_16_bits_load_as_float32_and_draw_nearly_the_same(
    folder: Path, tmp_path: Path, name: str, most: float
) -> None:
    small = shutil.copytree(folder, tmp_path / "small")
    store_as(small, DTYPES[name])
    assert stored_formats(small) == [name]
    weights = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6
    assert megabytes(folder) - megabytes(small) == pytest.approx(weights / 2, rel=0.1)
    pipe = VLADPipeline.from_pretrained(small)
    found = formats(pipe)
    assert len(found) >= 9
    assert set().union(*found.values()) == {torch.float32}
    difference = (images(pipe) - images(VLADPipeline.from_pretrained(folder))).abs()
    assert 0 < difference.mean() <= most


@pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")
def test_another_format_is_loaded_where_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    small = shutil.copytree(folder, tmp_path / "small")
    store_as(small, torch.float16)
    found = formats(VLADPipeline.from_pretrained(small, torch_dtype=torch.bfloat16))
    assert set().union(*found.values()) == {torch.bfloat16}


def test_a_pipeline_saved_in_16_bits_by_diffusers_loads_as_float32(folder: Path, tmp_path: Path) -> None:
    VLADPipeline.from_pretrained(folder).to(torch.float16).save_pretrained(tmp_path / "half")
    assert stored_formats(tmp_path / "half") == ["float16"]
    found = formats(VLADPipeline.from_pretrained(tmp_path / "half"))
    assert set().union(*found.values()) == {torch.float32}


def test_integers_stay_and_values_beyond_the_range_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "unet" / "x.safetensors"
    file.parent.mkdir()
    save_file({"ids": torch.arange(3), "weight": torch.full((2,), 1e5)}, file, metadata={"format": "pt"})
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"unet/x\.safetensors: weight has a value of 1e\+05; torch\.float16 holds"):
        store_as(tmp_path, torch.float16)
    assert file.read_bytes() == before
    store_as(tmp_path, torch.bfloat16)
    assert {key: value.dtype for key, value in load_file(file).items()} == {
        "ids": torch.int64,
        "weight": torch.bfloat16,
    }


def test_the_command_offers_every_format() -> None:
    assert tuple(DTYPES) == FORMATS
