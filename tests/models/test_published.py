from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ldm_layout
import published_folders as published
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from vlad_lightning.models.autoencoder import KLAutoencoder, build_kl_autoencoder
from vlad_lightning.models.published import Source


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every request to the hub fail."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)


def assert_loads(source: Source, like: nn.Module, expected: nn.Module) -> None:
    state, _ = source.load(like)
    torch.testing.assert_close(state, dict(expected.state_dict()), rtol=0, atol=0)


def kl_autoencoder(of: Any) -> KLAutoencoder:
    return build_kl_autoencoder((8, 16), 1, norm_num_groups=4, sample_size=16, scaling_factor=of.config.scaling_factor)


def single(folder: Path, *parts: dict[str, torch.Tensor]) -> str:
    path = folder / "model.safetensors"
    save_file({k: v.contiguous() for part in parts for k, v in part.items()}, path)
    return str(path)


def test_parts_of_stable_diffusion_1_load_from_one_file(tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path / "folder")
    clip = ldm_layout.openai_clip(of.text_encoder)
    file = single(tmp_path, ldm_layout.unet(of.unet), ldm_layout.autoencoder(of.vae), clip)
    config = str(tmp_path / "folder")
    assert_loads(Source(file, "unet", config=config), published.unet(), of.unet)
    assert_loads(Source(file, "vae", config=config), kl_autoencoder(of.vae), of.vae)
    assert_loads(Source(file, "text_encoder", config=config), CLIPTextModel(of.text_encoder.config), of.text_encoder)


def test_parts_of_stable_diffusion_2_load_from_one_file(tmp_path: Path) -> None:
    of = published.stable_diffusion_2(tmp_path / "folder")
    clip = ldm_layout.open_clip(of.text_encoder, "cond_stage_model.model.")
    file = single(tmp_path, ldm_layout.unet(of.unet), ldm_layout.autoencoder(of.vae), clip)
    config = str(tmp_path / "folder")
    assert_loads(Source(file, "unet", config=config), of.unet, of.unet)
    assert_loads(Source(file, "text_encoder", config=config), CLIPTextModel(of.text_encoder.config), of.text_encoder)


def test_parts_of_sdxl_load_from_one_file(tmp_path: Path) -> None:
    of = published.stable_diffusion_xl(tmp_path / "folder")
    first = ldm_layout.openai_clip(of.text_encoder, "conditioner.embedders.0.transformer.text_model.")
    second = ldm_layout.open_clip(of.text_encoder_2, "conditioner.embedders.1.model.")
    file = single(tmp_path, ldm_layout.unet(of.unet), ldm_layout.autoencoder(of.vae), first, second)
    config = str(tmp_path / "folder")
    assert_loads(Source(file, "unet", config=config), of.unet, of.unet)
    assert_loads(Source(file, "vae", config=config), kl_autoencoder(of.vae), of.vae)
    assert_loads(Source(file, "text_encoder", config=config), CLIPTextModel(of.text_encoder.config), of.text_encoder)
    other = CLIPTextModelWithProjection(of.text_encoder_2.config)
    assert_loads(Source(file, "text_encoder_2", config=config), other, of.text_encoder_2)


def test_a_file_without_the_part_is_refused(tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path / "folder")
    file, config = single(tmp_path, ldm_layout.autoencoder(of.vae)), str(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"it holds no UNet2DConditionModel like .*folder/unet"):
        Source(file, "unet", config=config).load(of.unet)
    with pytest.raises(ValueError, match="does not seem to contain a valid CLIP"):
        Source(file, "text_encoder", config=config).load(of.text_encoder)


def test_a_file_that_lacks_one_weight_is_refused(tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path / "folder")
    clip = ldm_layout.openai_clip(of.text_encoder)
    del clip["cond_stage_model.transformer.text_model.final_layer_norm.bias"]
    file = single(tmp_path, clip)
    with pytest.raises(ValueError, match=r"it lacks \['final_layer_norm.bias'\]"):
        Source(file, "text_encoder", config=str(tmp_path / "folder")).load(of.text_encoder)


def test_a_single_file_needs_a_folder_that_describes_it(tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path / "folder")
    file = single(tmp_path, ldm_layout.autoencoder(of.vae))
    with pytest.raises(ValueError, match=r"is a single file: it needs config, .* vae/config.json"):
        Source(file, "vae").load(of.vae)
    with pytest.raises(FileNotFoundError, match=r"config='.*nowhere' is no folder"):
        Source(file, "vae", config=str(tmp_path / "nowhere")).load(of.vae)
    with pytest.raises(FileNotFoundError, match=r"other/config.json does not exist; .* has the folders .*unet, vae"):
        Source(file, "other", config=str(tmp_path / "folder")).load(of.vae)
    with pytest.raises(FileNotFoundError, match=r"source='.*gone.safetensors' does not exist"):
        Source(str(tmp_path / "gone.safetensors"), "vae", config=str(tmp_path)).load(of.vae)
    with pytest.raises(ValueError, match="may hold pickled code"):
        Source(str(tmp_path / "model.ckpt"), "vae", config=str(tmp_path)).load(of.vae)


def test_incomplete_folders_are_refused(tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"unett/config.json does not exist"):
        Source(str(tmp_path), "unett").load(of.unet)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"unet has no .safetensors file; .* It has \['config.json'\]"):
        Source(str(tmp_path), "unet").load(of.unet)
    with pytest.raises(FileNotFoundError, match=r"unet/tokenizer.json does not exist"):
        Source(str(tmp_path), "unet").load_tokenizer()
    shutil.rmtree(tmp_path / "scheduler")
    with pytest.raises(FileNotFoundError, match=r"scheduler/scheduler_config.json does not exist"):
        Source(str(tmp_path), "scheduler").load_schedule()


def test_a_hub_id_needs_a_pinned_revision(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source='someone/model' is no folder here"):
        Source("someone/model", "unet").load(published.unet())


def test_the_tokenizer_equals_the_pipelines(tmp_path: Path) -> None:
    of = published.stable_diffusion_2(tmp_path)
    loaded = Source(str(tmp_path), "tokenizer").load_tokenizer()
    prompts = ['a red "HELLO"', "Café!", ""]
    settings: dict[str, Any] = {"padding": "max_length", "max_length": published.CONTEXT}
    assert loaded(prompts, **settings)["input_ids"] == of.tokenizer(prompts, **settings)["input_ids"]
    assert loaded.pad_token_id == 0


def test_the_schedule_is_read_with_any_solver(tmp_path: Path) -> None:
    for write, prediction in (
        (published.stable_diffusion_1, "epsilon"),
        (published.stable_diffusion_2, "v_prediction"),
        (published.stable_diffusion_xl, "epsilon"),
    ):
        of = write(tmp_path / write.__name__)
        schedule = Source(str(tmp_path / write.__name__), "scheduler").load_schedule()
        assert schedule.config.prediction_type == prediction
        torch.testing.assert_close(schedule.alphas_cumprod, of.scheduler.alphas_cumprod)


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\n", "cut"])
@pytest.mark.parametrize("file", ["text_encoder/model.safetensors", "tokenizer/tokenizer.json"])
def test_a_damaged_file_is_named(file: str, content: str, tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path / "folder")
    path = tmp_path / "folder" / file
    path.write_bytes(path.read_bytes()[:60] if content == "cut" and path.exists() else content.encode())
    source = Source(str(tmp_path / "folder"), path.parent.name)
    with pytest.raises(ValueError, match=f"{path} cannot be read: {'' if content == 'cut' else 'it is git-LFS'}"):
        source.load_tokenizer() if path.parent.name == "tokenizer" else source.load(of.text_encoder)


def test_an_invalid_tokenizer_and_contradicting_sizes_are_named(tmp_path: Path) -> None:
    of = published.stable_diffusion_1(tmp_path / "folder")
    (tmp_path / "folder" / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="folder/tokenizer cannot be used: "):
        Source(str(tmp_path / "folder"), "tokenizer").load_tokenizer()
    config = tmp_path / "folder" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 7}))
    with pytest.raises(ValueError, match="folder/text_encoder cannot be used: "):
        Source(str(tmp_path / "folder"), "text_encoder").load(of.text_encoder)
