from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor

from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.layout_skip import LayoutSkip
from vlad_lightning.models.painter.phrase_map import Grounding, PhraseMap
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.text.ccm import CCM
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.types import Conditioning

WIDTH = 16
PROMPTS = ['a red circle with the text "HELLO"', "a blue square"]
TOKENIZER = train_tokenizer(PROMPTS * 20, 300)
STEPS = torch.tensor([3, 999])


def unet(in_channels: int = 4) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def prompt_encoder() -> PromptEncoder:
    torch.manual_seed(1)
    tower = build_text_tower(WIDTH, layers=1, heads=2, vocabulary=300, context=40)
    encoder = TextEncoder(tower, CharacterEncoder(WIDTH), max_words=2, max_objects=3)
    encoder.tokenizer = TOKENIZER
    return PromptEncoder(encoder, CCM(WIDTH, max_phrases=5, layers=1, heads=2)).eval()


def latents() -> tuple[Tensor, Tensor]:
    x_t, z_t = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    return x_t, z_t


@torch.no_grad()
def test_stage_2_starts_exactly_as_the_pretrained_image_generator() -> None:
    """With fusion, CCM and layout, the output is still the UNet's for the tower's token states."""
    image_generator, encoder = unet(), prompt_encoder()
    x_t, z_t = latents()
    predicted = VFE(LatentFusion(4, 4, WIDTH), image_generator)(x_t, STEPS, z_t, encoder(PROMPTS))
    ids = TOKENIZER(PROMPTS, padding="max_length", max_length=40, return_tensors="pt")["input_ids"]
    states = encoder.text_encoder.tower(input_ids=ids).last_hidden_state
    assert torch.equal(predicted, image_generator(x_t, STEPS, encoder_hidden_states=states).sample)


@torch.no_grad()
@pytest.mark.parametrize("lora", [None, Lora(2)], ids=["whole", "lora"])
def test_a_grounded_stage_2_starts_exactly_as_the_pretrained_image_generator(lora: Lora | None) -> None:
    """This holds with a phrase map in z_t and an image generator widened for it."""
    image_generator, encoder = unet(), prompt_encoder()
    x_t, z_t = latents()
    told = encoder(PROMPTS)
    expected = image_generator(x_t, STEPS, encoder_hidden_states=told.tokens).sample
    drawn = PhraseMap(WIDTH, channels=3, side=4, width=8)
    boxes, mask = torch.full((2, 3, 5), 0.4), torch.ones(2, 3, dtype=torch.bool)
    layout = torch.cat([z_t, drawn(Grounding(told.objects, boxes, mask), (8, 8))], dim=1)
    fusion = LatentFusion(4, 4 + drawn.out_channels, WIDTH, out_channels=12)
    module = VFE(fusion, image_generator, lora=lora, phrase_map=drawn)
    assert torch.equal(module(x_t, STEPS, layout, told), expected)


def test_layout_and_pooled_text_are_read_once_the_fusion_opens() -> None:
    x_t, z_t = latents()
    fusion = LatentFusion(4, 4, WIDTH, out_channels=6)
    with torch.no_grad():
        fusion.weight.normal_(generator=torch.Generator().manual_seed(3))
    module, told = VFE(fusion, unet(6)), prompt_encoder()(PROMPTS)
    before = module(x_t, STEPS, z_t, told)
    assert before.shape == x_t.shape
    assert not torch.allclose(module(x_t, STEPS, -z_t, told), before, atol=1e-4)
    other = Conditioning(**{**{n: getattr(told, n) for n in told.__dataclass_fields__}, "pooled": -told.pooled})
    assert not torch.allclose(module(x_t, STEPS, z_t, other), before, atol=1e-4)


def test_the_gradient_reaches_the_fusion_and_the_output_layers_of_the_ccm() -> None:
    encoder, (x_t, z_t) = prompt_encoder(), latents()
    module = VFE(LatentFusion(4, 4, WIDTH), unet())
    module(x_t, STEPS, z_t, encoder(PROMPTS)).square().mean().backward()
    assert isinstance(encoder.composition, CCM)
    for weight in (module.fusion.weight, encoder.composition.read.out_proj.weight):
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_a_prediction_and_its_gradient_are_one_graph_for_a_compiler(kind: str) -> None:
    """No line of it waits for a value or leaves the graph, so that a GPU is never waited for."""
    (x_t, z_t), told = latents(), prompt_encoder()(PROMPTS)
    if kind == "unet":
        steps, network = STEPS, VFE(LatentFusion(4, 4, WIDTH), unet(), layout_skip=LayoutSkip(4, 4))
    else:
        steps, network = torch.tensor([3.25, 999.5]), VFE(LatentFusion(4, 4, WIDTH), transformer=transformer())
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    results: list[tuple[Tensor, list[Tensor]]] = []
    for predict in (network, compiled):
        network.zero_grad()
        predicted = predict(x_t, steps, z_t, told)
        predicted.square().mean().backward(retain_graph=True)
        results.append((predicted.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1])
    torch._dynamo.reset()


def test_it_works_without_hierarchical_guidance() -> None:
    x_t, _ = latents()
    assert VFE(LatentFusion(4, 0, WIDTH), unet())(x_t, STEPS, None, prompt_encoder()(PROMPTS)).shape == x_t.shape


def transformer(in_channels: int = 4) -> SD3Transformer2DModel:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=4,
    ).eval()


@torch.no_grad()
def test_a_transformer_can_replace_the_unet_and_starts_at_its_own_output() -> None:
    image_generator, told, (x_t, z_t) = transformer(), prompt_encoder()(PROMPTS), latents()
    times = torch.tensor([3.25, 999.5])
    predicted = VFE(LatentFusion(4, 4, WIDTH), transformer=image_generator)(x_t, times, z_t, told)
    expected = image_generator(x_t, told.tokens, told.pooled, times).sample
    assert predicted.shape == x_t.shape
    assert torch.equal(predicted, expected)


@torch.no_grad()
def test_a_transformer_reads_tokens_pooled_text_layout_and_time() -> None:
    fusion, told, (x_t, z_t) = LatentFusion(4, 4, WIDTH, out_channels=6), prompt_encoder()(PROMPTS), latents()
    fusion.weight.normal_(generator=torch.Generator().manual_seed(3))
    module = VFE(fusion, transformer=transformer(6))
    before = module(x_t, STEPS, z_t, told)
    for changed in (
        module(x_t, STEPS, z_t, replace(told, tokens=-told.tokens)),
        module(x_t, STEPS, z_t, replace(told, pooled=-told.pooled)),
        module(x_t, STEPS, -z_t, told),
        module(x_t, STEPS - 2, z_t, told),
    ):
        assert not torch.allclose(changed, before, atol=1e-4)


def test_reading_the_backbone_changes_nothing() -> None:
    network = transformer()
    module = VFE(LatentFusion(4, 4, WIDTH), transformer=network)
    network.set_attn_processor(JointAttnProcessor2_0())
    before = network.attn_processors
    assert module.backbone is module.backbone
    assert network.attn_processors == before
    copied = copy.deepcopy(module)
    assert copied.backbone.transformer is copied.transformer


def test_exactly_one_network_is_required() -> None:
    fusion = LatentFusion(4, 4, WIDTH)
    with pytest.raises(ValueError, match="both of unet and transformer given"):
        VFE(fusion, unet(), transformer())
    with pytest.raises(ValueError, match="neither of unet and transformer given"):
        VFE(fusion)
    with pytest.raises(ValueError, match="fusion gives 4 channels"):
        VFE(fusion, transformer=transformer(6))


def test_channels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="fusion gives 4 channels"):
        VFE(LatentFusion(4, 4, WIDTH), unet(6))
