from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import published_folders as published
import pytest
import torch
from torch import Tensor, nn

from vlad_lightning.baselines.textdiffuser_published import is_textdiffuser, open_textdiffuser, textdiffuser_hash
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.evaluation.systems import SystemSettings, open_system
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling
from vlad_lightning.types import Layout

WIDTH = 32
PROMPT = "A sign that says 'Hi you'"


class PublishedLayout(nn.Module):
    """The published layout transformer's parts by their names, and what it computes, at a width of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_layer = nn.TransformerEncoderLayer(WIDTH, 8, 48)
        self.transformer = nn.TransformerEncoder(self.encoder_layer, 2)
        self.decoder_layer = nn.TransformerDecoderLayer(WIDTH, 8, 48)
        self.decoder_transformer = nn.TransformerDecoder(self.decoder_layer, 2)
        for name in ("length", "width", "position", "state", "match", "encoder_target"):
            setattr(self, f"{name}_embedding", nn.Embedding(256, WIDTH))
        for name in "xywh":
            setattr(self, f"{name}_embedding", nn.Embedding(512, WIDTH))
        self.mask_embedding = nn.Embedding(2, WIDTH)
        self.input_layer = nn.Sequential(nn.Linear(published.WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.output_layer = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, 4))

    def boxes(self, states: Tensor, widths: Tensor, marked: Tensor) -> Tensor:
        """Predict 8 boxes one by one for one prompt, (8, 4)."""
        place = self.position_embedding.weight  # type: ignore[attr-defined]
        told = self.width_embedding(widths) + self.encoder_target_embedding(marked)  # type: ignore[operator]
        memory = self.transformer((self.input_layer(states) + told + place[: states.shape[1]]).transpose(0, 1))
        given = torch.zeros(9, 4)  # that before the first is zero
        for i in range(8):
            bins = (given[:8] * 512).long().clamp(0, 511)
            read = sum(getattr(self, f"{n}_embedding")(bins[:, j]) for j, n in enumerate("xywh")) + place[:8]
            mask = nn.Transformer.generate_square_subsequent_mask(8)
            hidden = self.decoder_transformer(read[:, None], memory, tgt_mask=mask)
            given[i + 1] = self.output_layer(hidden[i, 0]).clamp(0, 1)
        return given[1:]


class Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embedding = nn.Embedding(128, 8)
        blocks = [
            [nn.Conv2d(a, b, 3, 1, 1), nn.ReLU(), nn.BatchNorm2d(b), nn.MaxPool2d(2, 2)] for a, b in ((8, 32), (32, 64))
        ]
        self.segmap_conv = nn.Sequential(*blocks[0], *blocks[1], nn.Conv2d(64, 8, 3, 1, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the archive with random weights, and Stable Diffusion 1.5 in it."""
    root = tmp_path_factory.mktemp("textdiffuser-ckpt")
    published.stable_diffusion_1(root / "stable-diffusion-v1-5")
    torch.manual_seed(1)
    unet, features = published.unet(in_channels=17), Features()
    nn.init.uniform_(features.segmap_conv[2].running_mean)
    unet.save_config(root / "diffusion_backbone" / "unet")
    state = unet.state_dict() | features.state_dict()
    torch.save(state, root / "diffusion_backbone" / "unet" / "diffusion_pytorch_model.bin")
    torch.save(PublishedLayout().state_dict(), root / "layout_transformer.pth")
    return root


def test_its_unet_computes_what_the_published_one_does(folder: Path) -> None:
    system = open_textdiffuser(folder)
    state = torch.load(folder / "diffusion_backbone/unet/diffusion_pytorch_model.bin", weights_only=True)
    unet, features = published.unet(in_channels=17).eval(), Features().eval()
    unet.load_state_dict({k: v for k, v in state.items() if k in unet.state_dict()})
    features.load_state_dict({k: v for k, v in state.items() if k in features.state_dict()})
    characters = torch.randint(0, 96, (2, 32, 32))
    x, masked, masks = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.rand(2, 1, 8, 8) > 0.5
    fine = masks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        cond = system.prompt_encoder([PROMPT, ""])
        found = system.predict(x, torch.tensor([7, 500]), cond, system.planes(characters, fine, masked))
        segmentation = features.segmap_conv(features.word_embedding(characters).permute(0, 3, 1, 2))
        fused = torch.cat([x, masks.float(), masked, segmentation], dim=1)
        expected = unet(fused, torch.tensor([7, 500]), cond.tokens).sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_its_layouts_are_those_of_the_published_transformer(folder: Path) -> None:
    system = open_textdiffuser(folder)
    assert system.word_layouts is not None
    network = PublishedLayout().eval()
    network.load_state_dict(torch.load(folder / "layout_transformer.pth", weights_only=True))
    tokens = system.word_layouts.tokens([PROMPT])
    with torch.no_grad():
        encoded = system.word_layouts.layout_transformer.encode(tokens)
        found = system.word_layouts.layout_transformer.decode(encoded, tokens.mask)[0]
        expected = network.boxes(tokens.states, tokens.words.widths[0], tokens.words.marked[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert system.word_layouts.sample([PROMPT])[0].words == ("Hi", "you")


def test_it_generates(folder: Path) -> None:
    system = open_textdiffuser(folder)
    settings = SystemSampling(ImageSampler(steps=2, guidance_scale=7.5, eta=1.0))
    system.check(settings.images)
    layout = Layout(("Hi", "you"), torch.tensor([[0.5, 0.3, 0.6, 0.3, 0.0], [0.5, 0.7, 0.6, 0.3, 0.0]]))
    with torch.no_grad():
        made = system.generate([PROMPT] * 2, [layout, None], settings, sampling_generators(0, [("a",), ("a",)]))
    assert made.images.shape == (2, 3, 16, 16)
    assert not torch.equal(made.images[0], made.images[1])


def test_a_wrong_folder_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert is_textdiffuser(copy)
    assert not is_textdiffuser(copy / "stable-diffusion-v1-5")
    (copy / "layout_transformer.pth").unlink()
    shutil.rmtree(copy / "stable-diffusion-v1-5" / "vae")
    with pytest.raises(FileNotFoundError, match=r"copy lacks layout_transformer\.pth, stable-diffusion-v1-5/vae; exp"):
        open_textdiffuser(copy)
    (copy / "diffusion_backbone/unet/diffusion_pytorch_model.bin").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks diffusion_backbone/unet/diffusion_pytorch_model\.safetensors or"
    ):
        open_textdiffuser(copy)


def test_no_pickled_code_is_run(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (copy / "harmed",)  # type: ignore[return-value]

    with (copy / "layout_transformer.pth").open("wb") as file:
        pickle.dump(Harm(), file)
    with pytest.raises(ValueError, match=r"layout_transformer\.pth"):
        open_textdiffuser(copy)
    assert not (copy / "harmed").exists()
    torch.save({"a": torch.zeros(1)}, copy / "layout_transformer.pth")
    with pytest.raises(ValueError, match=r"layout_transformer\.pth.*encoder_target_embedding"):
        open_textdiffuser(copy)


def test_evaluate_opens_it(folder: Path, tmp_path: Path) -> None:
    opened = open_system(str(folder), SystemSettings(steps=2, device="cpu"))
    assert opened.shown == {"steps": 2, "guidance_scale": 7.5, "system": "TextDiffuser"}
    assert opened.sampling.images.eta == 1.0
    made = opened.system.generate([PROMPT], None, opened.sampling, opened.generators([3], [PROMPT]))
    again = opened.system.generate([PROMPT], None, opened.sampling, opened.generators([3], [PROMPT]))
    assert torch.equal(made.images, again.images)
    with pytest.raises(ValueError, match="asks for 9 words"):
        opened.check("'a b c d e f g h i'")
    with pytest.raises(ValueError, match=r"--layout_scale is 2\.0, which .* does not have"):
        open_system(str(folder), SystemSettings(layout_scale=2.0, device="cpu"))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert textdiffuser_hash(copy) == opened.weights_sha256
    torch.save(PublishedLayout().state_dict(), copy / "layout_transformer.pth")
    assert textdiffuser_hash(copy) != opened.weights_sha256
