from __future__ import annotations

from pathlib import Path
from typing import Any

import published_folders as published
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLTextConfig,
    Qwen3VLTextModel,
    Siglip2TextConfig,
    Siglip2TextModel,
    SiglipConfig,
    SiglipModel,
)

from vlad_lightning.models.image_encoder import build_siglip_vision_tower
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.published import Source
from vlad_lightning.models.published_settings import compare_settings, compare_tokenizer
from vlad_lightning.models.text.ccm import CCM
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, train_tokenizer
from vlad_lightning.models.text.language_towers import (
    build_qwen2_5_vl_language_model,
    build_siglip_text_tower,
)
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.text.towers import reader_of

WIDTH, D, SIGLIP_CONTEXT = 16, 24, 64
PROMPTS = ['a red circle with the text "HELLO" at the top', "a square", ""]
LONG = "a red circle, " * 90 + 'with the text "HELLO"'


def siglip_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer like SigLIP's: an end token, no start token."""
    tokenizer = train_tokenizer(PROMPTS * 20, 300)
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[end])
    return tokenizer


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Make a tokenizer like Qwen's, which adds no tokens."""
    names = [*published.LETTERS, "<|endoftext|>", "<|im_end|>"]
    return Qwen2Tokenizer({t: i for i, t in enumerate(names)}, [], eos_token="<|im_end|>")


def siglip(**changes: Any) -> Any:
    return build_siglip_text_tower(WIDTH, 2, 2, 300, **changes)


def siglip_2() -> Siglip2TextModel:
    sizes: dict[str, Any] = {"vocab_size": 300, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2}
    return Siglip2TextModel(Siglip2TextConfig(num_attention_heads=2, projection_size=WIDTH, **sizes))


def qwen_2() -> Any:
    return build_qwen2_5_vl_language_model(32, 2, 2, 1, 48, 300, 4096, (2, 3, 3))


def qwen_3() -> Any:
    sizes: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    return Qwen3VLTextModel(
        Qwen3VLTextConfig(
            **sizes, **heads, max_position_embeddings=4096, rope_parameters=rope | {"mrope_interleaved": True}
        )
    )


def encoder(tower: Any, tokenizer: Any, **changes: Any) -> TextEncoder:
    torch.manual_seed(0)
    made = TextEncoder(
        tower(), CharacterEncoder(changes.get("width", tower().config.hidden_size)), 3, 4, **changes
    ).eval()
    for parameter in made.character_encoder.mix[-1].parameters():  # phrases are only the means
        nn.init.zeros_(parameter)
    made.tokenizer = tokenizer
    return made


@torch.no_grad()
def test_padding_is_only_cut_where_the_tower_ignores_it() -> None:
    parser = encoder(siglip(), siglip_tokenizer()).parser
    assert torch.equal(parser(["a red star"], cut_padding=True).ids, parser(["a red star"]).ids)


@pytest.mark.parametrize("tower", [siglip, siglip_2])
def test_siglip_reads_its_padding_and_its_last_position(tower: Any) -> None:
    of = encoder(tower, siglip_tokenizer())
    ids = of.tokenizer(PROMPTS, padding="max_length", max_length=SIGLIP_CONTEXT, return_tensors="pt")  # type: ignore[misc]
    said, states = of.tower(input_ids=ids["input_ids"]), of(PROMPTS)
    assert torch.equal(states.tokens, said.last_hidden_state)
    assert torch.equal(states.pooled, said.pooler_output)
    assert states.read_mask is None


@torch.no_grad()
@pytest.mark.parametrize("tower", [qwen_2, qwen_3])
def test_qwen_is_read_at_its_last_token_in_any_batch(tower: Any) -> None:
    of = encoder(tower, qwen_tokenizer())
    together = of(PROMPTS)
    assert together.read_mask is not None
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([[*of.tokenizer(prompt)["input_ids"], of.tokenizer.eos_token_id]])  # type: ignore[misc, union-attr]
        said = of.tower(input_ids=ids).last_hidden_state
        assert together.read_mask[row].sum() == ids.shape[1] == len(prompt) + 1
        torch.testing.assert_close(together.tokens[row][together.read_mask[row]], said[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.pooled[row], said[0, -1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("tower", "tokenizer"), [(siglip, siglip_tokenizer), (qwen_2, qwen_tokenizer), (qwen_3, qwen_tokenizer)]
)
def test_spans_are_the_means_of_their_tokens(tower: Any, tokenizer: Any) -> None:
    of = encoder(tower, tokenizer())
    states, prompt = of(PROMPTS), PROMPTS[0]
    start = prompt.index("HELLO")
    offsets = of.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]  # type: ignore[misc]
    inside = [i for i, (a, b) in enumerate(offsets) if a < start + 5 and b > start]
    assert inside
    torch.testing.assert_close(states.phrases[0, 0], states.tokens[0, inside].mean(dim=0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("tower", "tokenizer", "context"), [(siglip, siglip_tokenizer, None), (qwen_2, qwen_tokenizer, 128)]
)
def test_the_last_word_of_a_long_prompt_is_read(tower: Any, tokenizer: Any, context: int | None) -> None:
    of = encoder(tower, tokenizer(), context=context)
    assert len(of.tokenizer(LONG)["input_ids"]) > 300  # type: ignore[misc]
    states = of([LONG, "a"])
    assert states.phrases[0, 0].abs().max() > 0.01
    assert states.read_mask is not None
    torch.testing.assert_close(states.pooled[1], of(["a"]).pooled[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("tower", "tokenizer", "layers"), [(siglip, siglip_tokenizer, "encoder.layers"), (qwen_3, qwen_tokenizer, "layers")]
)
def test_leaving_out_layers_equals_a_tower_without_them(tower: Any, tokenizer: Any, layers: str) -> None:
    whole = encoder(tower, tokenizer(), skip_layers=1)
    short = encoder(tower, tokenizer())
    short.tower.load_state_dict(whole.tower.state_dict())
    del short.tower.get_submodule(layers)[-1]  # type: ignore[operator]
    short.tower.config.num_hidden_layers = 1
    torch.testing.assert_close(whole(PROMPTS).tokens, short(PROMPTS).tokens, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(whole(PROMPTS).pooled, short(PROMPTS).pooled, atol=1e-4)


@pytest.mark.parametrize(
    ("tower", "targets"),
    [(siglip, ("q_proj", "v_proj")), (qwen_2, ("q_proj", "k_proj", "v_proj", "o_proj"))],
)
def test_default_adapter_targets_fit_each_model_family(tower: Any, targets: tuple[str, ...]) -> None:
    of = encoder(tower, None, lora=Lora(2))
    adapted = {name.split(".")[-4] for name, p in of.tower.named_parameters() if p.requires_grad}
    assert adapted == set(targets)
    only = encoder(tower, None, lora=Lora(2, targets=("v_proj",)))
    assert {n.split(".")[-4] for n, p in only.tower.named_parameters() if p.requires_grad} == {"v_proj"}


@torch.no_grad()
def test_another_width_is_reached_by_a_learned_projection() -> None:
    of = encoder(qwen_2, qwen_tokenizer(), width=D, lora=Lora(2))
    states = of(PROMPTS)
    assert (states.tokens.shape[-1], states.pooled.shape[-1], states.phrases.shape[-1]) == (D, D, D)
    assert of.adapter is not None
    assert all(p.requires_grad for p in of.adapter.parameters())
    plain = encoder(qwen_2, qwen_tokenizer(), lora=Lora(2))(PROMPTS)
    torch.testing.assert_close(states.pooled, plain.pooled[:, :D])  # where it starts


@torch.no_grad()
def test_a_prompts_states_do_not_depend_on_its_neighbours() -> None:
    of = encoder(qwen_3, qwen_tokenizer(), width=D)
    prompts = PromptEncoder(of, CCM(D, max_phrases=7, layers=1, heads=2)).eval()
    vfe = VFE(LatentFusion(4, 4, D), published.unet(cross_attention_dim=D)).eval()
    x_t, z_t = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([3, 500, 999])
    together = vfe(x_t, steps, z_t, prompts(PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        one = slice(row, row + 1)
        alone = vfe(x_t[one], steps[one], z_t[one], prompts([prompt]))
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


def whole_siglip() -> Any:
    vision = build_siglip_vision_tower(16, 8, WIDTH, 1, 2).config.to_dict()
    return SiglipModel(SiglipConfig(text_config=siglip().config.to_dict(), vision_config=vision))


VISION: dict[str, Any] = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 32}


def whole_qwen_2() -> Any:
    config = Qwen2_5_VLConfig(text_config=qwen_2().config.to_dict(), vision_config=VISION)
    return Qwen2_5_VLForConditionalGeneration(config)


def whole_qwen_3() -> Any:
    vision = VISION | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=qwen_3().config.to_dict(), vision_config=vision))


def assert_loads(folder: Path, part: nn.Module, expected: dict[str, Tensor]) -> None:
    state, settings = Source(str(folder)).load(part)
    compare_settings(part, settings)
    torch.testing.assert_close(state, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("whole", "part"), [(whole_qwen_2, qwen_2), (whole_qwen_3, qwen_3)])
@pytest.mark.parametrize("names", ["model.", "model.language_model."])  # as Qwen2.5-VL and as Qwen3-VL are published
def test_a_language_model_loads_from_a_vision_language_model(tmp_path: Path, whole: Any, part: Any, names: str) -> None:
    of = whole()
    of.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    inner = {k.removeprefix("model.language_model."): v for k, v in load_file(path).items() if "visual" not in k}
    inner = {k.removeprefix("model."): v for k, v in inner.items()}
    save_file({k if k.startswith("lm_head") else names + k: v for k, v in inner.items()}, path, {"format": "pt"})
    assert_loads(tmp_path, part(), dict(of.model.language_model.state_dict()))


def test_both_towers_load_from_a_whole_siglip(tmp_path: Path) -> None:
    of = whole_siglip()
    of.save_pretrained(tmp_path)
    assert_loads(tmp_path, siglip(), dict(of.text_model.state_dict()))
    assert_loads(tmp_path, build_siglip_vision_tower(16, 8, WIDTH, 1, 2), dict(of.vision_model.state_dict()))


def test_a_language_model_with_another_rope_is_refused(tmp_path: Path) -> None:
    whole_qwen_2().save_pretrained(tmp_path)
    part = build_qwen2_5_vl_language_model(32, 2, 2, 1, 48, 300, 4096, (3, 3, 2))
    _, settings = Source(str(tmp_path)).load(part)
    with pytest.raises(ValueError, match=r"mrope_section is \[2, 3, 3\] there"):
        compare_settings(part, settings)


def test_tokenizers_are_compared_by_size_if_the_last_token_is_read() -> None:
    compare_tokenizer(siglip_tokenizer(), siglip())
    compare_tokenizer(qwen_tokenizer(), qwen_2())


def test_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"is a Linear"):
        reader_of(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"skip_layers": -1}, "skip_layers is -1; this SiglipTextModel allows 0 to 1"),
        ({"skip_layers": 2}, "skip_layers is 2; this SiglipTextModel allows 0 to 1"),
        ({"context": 65}, r"context is 65; it must be in \[3, 64\]"),
        ({"width": 8, "spelt": 16}, "spelling has the width 16; the text encoder's is 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TextEncoder(siglip(), CharacterEncoder(changes.pop("spelt", WIDTH)), **changes)
