from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection

from vlad_lightning.callbacks.pretrained import FromPretrained, TokenizerFromPretrained
from vlad_lightning.models.autoencoder import KLAutoencoder
from vlad_lightning.models.image_encoder import build_vision_tower
from vlad_lightning.models.lora import Lora, fold
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer

PROMPTS = ['a red circle with the text "HELLO"', "a blue square"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def unet(seed: int, width: int = 8) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(width,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def autoencoder(of: type[AutoencoderKL], seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    return of(block_out_channels=(8,), norm_num_groups=4, latent_channels=3)


def text_tower(seed: int) -> CLIPTextModelWithProjection:
    torch.manual_seed(seed)
    return build_text_tower(16, layers=1, heads=2, vocabulary=300, context=40)


class Stage(LightningModule):
    """A part, trained at rate zero."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.image_generator = nn.ModuleDict({"part": part})
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.weight * 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


def fit(part: nn.Module, callback: FromPretrained | TokenizerFromPretrained) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(Stage(part), DataLoader(TensorDataset(torch.zeros(1))))
    return trainer


def assert_same(part: nn.Module, published: nn.Module) -> None:
    torch.testing.assert_close(dict(part.state_dict()), dict(published.state_dict()), rtol=0, atol=0)


def test_a_unet_loads_from_a_subfolder(tmp_path: Path) -> None:
    published, part = unet(0), unet(1)
    published.save_pretrained(tmp_path / "unet")
    fit(part, FromPretrained("image_generator.part", str(tmp_path), "unet"))
    assert_same(part, published)


def test_a_text_tower_of_transformers_loads(tmp_path: Path) -> None:
    published, part = text_tower(0), text_tower(1)
    published.save_pretrained(tmp_path)
    fit(part, FromPretrained("image_generator.part", str(tmp_path)))
    assert_same(part, published)


def test_a_vision_tower_of_transformers_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published, part = (build_vision_tower(16, 8, 16, 1, 2, 16) for _ in range(2))
    published.save_pretrained(tmp_path)
    fit(part, FromPretrained("image_generator.part", str(tmp_path)))
    assert_same(part, published)


@torch.no_grad()
def test_each_tower_loads_from_a_whole_clip(tmp_path: Path) -> None:
    """CLIP is published as one folder for both towers; each part loads its own tower."""
    text, vision = text_tower(1), build_vision_tower(16, 8, 16, 1, 2, 16)
    config = CLIPConfig(text_config=text.config.to_dict(), vision_config=vision.config.to_dict(), projection_dim=16)
    published = CLIPModel(config).eval()
    published.save_pretrained(tmp_path)
    for part in (text, vision):
        with torch.enable_grad():
            fit(part, FromPretrained("image_generator.part", str(tmp_path)))
    ids, pixels = torch.tensor([[4, 9, 3]]), torch.ones(1, 3, 16, 16)
    said = published(input_ids=ids, pixel_values=pixels)
    alone = text.eval()(input_ids=ids).text_embeds, vision.eval()(pixel_values=pixels).image_embeds
    for whole, own in zip((said.text_embeds, said.image_embeds), alone, strict=True):
        torch.testing.assert_close(F.normalize(own, dim=-1), whole, rtol=1e-5, atol=1e-6)


def test_the_autoencoder_loads_from_a_plain_autoencoder(tmp_path: Path) -> None:
    published, part = autoencoder(AutoencoderKL, 0), autoencoder(KLAutoencoder, 1)
    published.save_pretrained(tmp_path / "vae")
    fit(part, FromPretrained("image_generator.part", str(tmp_path), "vae"))
    assert_same(part, published)


def test_adapters_stay_no_ops_when_a_part_loads(tmp_path: Path) -> None:
    published, part = text_tower(0), text_tower(1)
    published.save_pretrained(tmp_path)
    Lora(rank=2).inject(part)
    fit(part, FromPretrained("image_generator.part", str(tmp_path)))
    torch.testing.assert_close(fold(part.state_dict(), 1.0), dict(published.state_dict()), rtol=0, atol=0)


def test_half_precision_loads_as_float32(tmp_path: Path) -> None:
    part = unet(1)
    unet(0).half().save_pretrained(tmp_path)
    fit(part, FromPretrained("image_generator.part", str(tmp_path)))
    assert {weight.dtype for weight in part.parameters()} == {torch.float32}
    assert_same(part, unet(0).half().float())


def test_missing_weights_are_named_and_not_initialised(tmp_path: Path) -> None:
    unet(0).save_pretrained(tmp_path / "unet")
    state = load_file(tmp_path / "unet" / WEIGHTS)
    del state["conv_in.weight"]
    save_file(state, tmp_path / "unet" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"unet does not fill 'image_generator.part': it lacks \['conv_in.weight'\]"):
        fit(unet(1), FromPretrained("image_generator.part", str(tmp_path), "unet"))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    build_text_tower(32, layers=1, heads=2, vocabulary=300, context=40).save_pretrained(tmp_path / "tower")
    with pytest.raises(ValueError, match=r"(?s)does not fit 'image_generator.part'.*size mismatch"):
        fit(text_tower(1), FromPretrained("image_generator.part", str(tmp_path), "tower"))
    unet(0, width=12).save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match=r"block_out_channels is \S*12\S* there; this config has \S*8\S*$"):
        fit(unet(1), FromPretrained("image_generator.part", str(tmp_path), "unet"))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    unet(0).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(OSError, match="safetensors"):
        fit(unet(1), FromPretrained("image_generator.part", str(tmp_path)))


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        fit(unet(1), FromPretrained("image_generator.part", str(tmp_path / "missing")))


def test_the_checkpoint_records_the_source_of_its_part(tmp_path: Path) -> None:
    unet(0).save_pretrained(tmp_path / "unet")
    trainer = fit(unet(1), FromPretrained("image_generator.part", str(tmp_path), "unet", revision="main"))
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    kept: dict[str, Any] = torch.load(tmp_path / "new.ckpt", weights_only=True)["callbacks"]
    assert kept["FromPretrained[image_generator.part]"] == {
        "source": str(tmp_path),
        "subfolder": "unet",
        "revision": "main",
    }


def test_a_published_tokenizer_becomes_the_text_encoders(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(PROMPTS * 20, 300)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    encoder = TextEncoder(text_tower(0), CharacterEncoder(16)).eval()
    fit(encoder, TokenizerFromPretrained("image_generator.part", str(tmp_path), "tokenizer"))
    assert encoder.tokenizer is not None
    assert encoder.tokenizer(PROMPTS)["input_ids"] == tokenizer(PROMPTS)["input_ids"]
    other = TextEncoder(text_tower(0), CharacterEncoder(16))
    other.load_state_dict(encoder.state_dict(), strict=True)  # the checkpoint contains it
    assert other.tokenizer is not None
    assert other.tokenizer(PROMPTS)["input_ids"] == tokenizer(PROMPTS)["input_ids"]


def test_only_a_fit_loads(tmp_path: Path) -> None:
    trainer, stage = Trainer(accelerator="cpu", logger=False), Stage(unet(0))
    for callback in (FromPretrained, TokenizerFromPretrained):
        callback("image_generator.part", str(tmp_path / "missing")).setup(trainer, stage, "test")
    assert_same(stage.get_submodule("image_generator.part"), unet(0))


def test_two_parts_have_separate_states() -> None:
    keys = [c(part, "x").state_key for part in ("a", "b") for c in (FromPretrained, TokenizerFromPretrained)]
    assert len(set(keys)) == 4
