from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vlad_lightning.models.lora import Lora
from vlad_lightning.models.text.encoder import (
    CharacterEncoder,
    TextEncoder,
    build_text_tower,
    tokenizer_from_text,
    tokenizer_to_text,
    train_tokenizer,
)

WIDTH, CONTEXT = 16, 48
CAPTIONS = [
    'a red circle left of a blue square, with the text "HELLO"',
    "a poster of a café on a green background",
] * 30
TOKENIZER = train_tokenizer(CAPTIONS, 400)
PROMPT = 'a red circle on a green background, with the text "HELLO wide" and "WORLD"'


def encoder(max_words: int = 4, max_objects: int = 8, lora: Lora | None = None, seed: int = 0) -> TextEncoder:
    torch.manual_seed(seed)
    tower = build_text_tower(WIDTH, layers=2, heads=2, vocabulary=400, context=CONTEXT)
    made = TextEncoder(tower, CharacterEncoder(WIDTH, max_letters=8), max_words, max_objects, lora).eval()
    made.tokenizer = TOKENIZER
    return made


def silent(of: TextEncoder) -> TextEncoder:
    """Build the encoder with a zero spelling embedding, so that phrases are only the means."""
    last = of.character_encoder.mix[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return of


def mean_of_span(tokens: Tensor, prompt: str, start: int, end: int) -> Tensor:
    """Average the tokens that share a character with the span."""
    coded = TOKENIZER(prompt, return_offsets_mapping=True)
    total, count = torch.zeros(WIDTH), 0
    for place, (first, last) in enumerate(coded["offset_mapping"]):
        if set(range(first, last)) & set(range(start, end)):
            total, count = total + tokens[place], count + 1
    assert count > 0
    return total / count


def test_phrases_are_the_means_of_their_spans() -> None:
    of = silent(encoder())  # a layer norm of zeros is zero, so of the objects too
    states = of([PROMPT])
    parts = of.decompose(PROMPT)
    assert [w.text for w in parts.words] == ["HELLO", "wide", "WORLD"]
    assert len(parts.objects) > 1
    for place, phrase in [*enumerate(parts.words), *enumerate(parts.objects, start=4)]:
        expected = mean_of_span(states.tokens[0], PROMPT, phrase.start, phrase.end)
        torch.testing.assert_close(states.phrases[0, place], expected, rtol=1e-5, atol=1e-6)
    places = [True] * 3 + [False] + [i < len(parts.objects) for i in range(8)]
    assert states.phrase_mask.tolist() == [places]
    assert not states.phrases[0, ~states.phrase_mask[0]].any()


def test_order_is_the_rank_in_the_prompt_and_absent_phrases_come_last() -> None:
    prompt = '"SALE" at the top, a red circle, "NOW" at the bottom'
    of = encoder(max_words=3, max_objects=4)
    parts, states = of.decompose(prompt), of([prompt, ""])
    starts = dict([*enumerate(w.start for w in parts.words), *enumerate((o.start for o in parts.objects), start=3)])
    ranked = sorted(starts, key=lambda place: starts[place])
    assert [states.order[0, place].item() for place in ranked] == list(range(len(ranked)))
    assert ranked != sorted(ranked)  # words come first in the slots, but not in this prompt
    assert sorted(states.order[0].tolist()) == sorted(states.order[1].tolist()) == list(range(7))


def test_words_and_phrases_with_words_add_the_character_encoding() -> None:
    of = encoder()
    spelt = of([PROMPT]).phrases
    letters = of.character_encoder(["HELLO", "wide", "WORLD"])
    things = [
        F.layer_norm(sum(of.character_encoder([word])[0] for word in thing.text.lower().split()), (WIDTH,))
        for thing in of.decompose(PROMPT).objects
    ]
    plain = silent(of)([PROMPT]).phrases
    found = spelt[0] - plain[0]
    torch.testing.assert_close(found[:3], letters, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[4 : 4 + len(things)], torch.stack(things), rtol=1e-3, atol=1e-4)
    assert not found[3].any()
    assert not found[4 + len(things) :].any()


def test_states_equal_the_towers() -> None:
    of = encoder()
    states = of([PROMPT, "a café"])
    ids = TOKENIZER([PROMPT, "a café"], padding="max_length", max_length=CONTEXT, return_tensors="pt")
    said = of.tower(input_ids=ids["input_ids"])
    assert torch.equal(states.tokens, said.last_hidden_state)
    assert torch.equal(states.pooled, said.text_embeds)
    assert torch.equal(states.token_mask, ids["attention_mask"].bool())
    assert states.tokens.shape == (2, CONTEXT, WIDTH)


def test_t_g_is_read_at_the_end_of_the_prompt() -> None:
    """The state at <end>, which has read every token; transformers 5 pools elsewhere where eos_token_id is 2."""
    of = encoder()
    states = of([PROMPT])
    end = TOKENIZER(PROMPT)["input_ids"].index(TOKENIZER.eos_token_id)
    expected = of.tower.text_projection(states.tokens[:, end])
    torch.testing.assert_close(states.pooled, expected, rtol=1e-5, atol=1e-6)


def test_words_and_objects_beyond_the_maximum_are_left_out() -> None:
    of = encoder(max_words=2, max_objects=1)
    states = of([PROMPT])
    assert states.phrases.shape == (1, 3, WIDTH)
    assert states.phrase_mask.all()
    whole = encoder()([PROMPT]).phrases
    torch.testing.assert_close(states.phrases[0], whole[0, [0, 1, 4]], rtol=1e-5, atol=1e-6)


def test_the_empty_prompt_and_a_batch_without_words_are_encoded() -> None:
    states = encoder()(["", "a red circle"])
    assert not states.phrase_mask[0].any()
    assert not states.phrase_mask[1, :4].any()
    assert states.phrases.isfinite().all()


LONG = " ".join(["a red circle,"] * 80) + ' with the text "HELLO"'


def test_the_last_word_of_a_prompt_of_300_tokens_is_read() -> None:
    ids = TOKENIZER(LONG)["input_ids"]
    assert len(ids) > 300
    of = silent(encoder())
    states, room = of([LONG]), CONTEXT - 2
    count = -(-(len(ids) - 2) // room)
    assert states.tokens.shape == (1, count * CONTEXT, WIDTH)
    word = LONG.index("HELLO")
    offsets = TOKENIZER(LONG, return_offsets_mapping=True)["offset_mapping"][1:-1]
    places = [i for i, (a, b) in enumerate(offsets) if a < word + 5 and b > word]
    first = min(places[0], (count - 1) * room)  # a window starts here, so that none cuts the word
    start, end, pad = (getattr(TOKENIZER, f"{name}_token_id") for name in ("bos", "eos", "pad"))
    window = [start, *ids[1:-1][first:], end]
    last = of.tower(input_ids=torch.tensor([window + [pad] * (CONTEXT - len(window))])).last_hidden_state[0]
    torch.testing.assert_close(states.tokens[0, -CONTEXT:], last, rtol=1e-5, atol=1e-6)
    inside = [1 + i - first for i in places]
    torch.testing.assert_close(states.phrases[0, 0], last[inside].mean(dim=0), rtol=1e-5, atol=1e-6)
    assert states.phrases[0, 0].abs().max() > 0.01


def test_t_g_of_a_long_prompt_is_the_mean_over_its_windows() -> None:
    of = encoder()
    states = of([LONG])
    ends = states.tokens.view(-1, CONTEXT, WIDTH)
    last = states.token_mask.view(-1, CONTEXT).sum(dim=1) - 1
    expected = of.tower.text_projection(ends[torch.arange(len(ends)), last]).mean(dim=0)
    torch.testing.assert_close(states.pooled[0], expected, rtol=1e-5, atol=1e-6)


def test_a_long_neighbour_changes_no_unmasked_state() -> None:
    of = encoder()
    alone, beside = of([PROMPT]), of([PROMPT, LONG])
    assert alone.read_mask is None
    assert beside.read_mask is not None
    assert beside.read_mask[1].all()
    assert beside.read_mask[0].tolist() == [True] * CONTEXT + [False] * (beside.tokens.shape[1] - CONTEXT)
    torch.testing.assert_close(beside.tokens[:1, :CONTEXT], alone.tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(beside.pooled[:1], alone.pooled, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(beside.phrases[:1], alone.phrases, rtol=1e-5, atol=1e-6)
    assert not beside.token_mask[0, CONTEXT:].any()


@pytest.mark.parametrize("more", [0, 3, 40])
def test_padding_that_is_cut_changes_no_state_that_is_not_padding(more: int) -> None:
    of = encoder()
    prompts = ['a red circle, and "HELLO" at the top', "a green square " + "and a dog " * more]
    whole, cut = of.parser(prompts), of.parser(prompts, cut_padding=True)
    longest = int(whole.mask.sum(dim=1).max())
    length = min(of.context, 16 * -(-longest // 16))
    assert cut.mask.shape[1] == length
    assert (length < of.context) == (more < 40)
    with torch.no_grad():
        full, short = of(whole), of(cut)
    for name in ("pooled", "phrases"):
        torch.testing.assert_close(getattr(short, name), getattr(full, name), rtol=1e-5, atol=1e-5)
    kept = full.tokens.unflatten(1, (-1, of.context))[:, :, :length].flatten(1, 2)
    mask = short.token_mask
    assert int(mask.sum()) == int(full.token_mask.sum())
    torch.testing.assert_close(short.tokens[mask], kept[mask], rtol=1e-5, atol=1e-5)


def test_it_needs_a_tokenizer() -> None:
    of = encoder()
    of.tokenizer = None
    with pytest.raises(RuntimeError, match="no tokenizer: train one, load one, or load a checkpoint"):
        of(["a"])


@pytest.mark.parametrize(("projection", "character_encoder"), [(8, WIDTH), (WIDTH, 8)])
def test_widths_that_differ_are_refused(projection: int, character_encoder: int) -> None:
    tower = build_text_tower(WIDTH, layers=1, heads=2, projection=projection)
    with pytest.raises(ValueError, match=r"must have one width"):
        TextEncoder(tower, CharacterEncoder(character_encoder))


def test_the_state_dict_contains_the_tokenizer() -> None:
    of = encoder()
    file = io.BytesIO()
    torch.save(of.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = encoder(seed=1)
    other.tokenizer = None
    other.load_state_dict(state, strict=True)
    assert other.tokenizer is not None
    assert other.tokenizer(PROMPT)["input_ids"] == TOKENIZER(PROMPT)["input_ids"]
    assert torch.equal(other([PROMPT]).phrases, of([PROMPT]).phrases)


def test_the_state_dict_may_lack_a_tokenizer() -> None:
    of, other = encoder(), encoder()
    of.tokenizer = None
    other.load_state_dict(of.state_dict(), strict=True)
    assert other.tokenizer is None


def test_lora_freezes_the_tower_and_starts_as_a_no_op() -> None:
    plain, adapted = encoder(), encoder(lora=Lora(rank=2, alpha=6))
    assert torch.equal(adapted([PROMPT]).tokens, plain([PROMPT]).tokens)
    learning = {name for name, weight in adapted.tower.named_parameters() if weight.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    assert all(weight.requires_grad for weight in adapted.character_encoder.parameters())
    assert (plain.lora_scale, adapted.lora_scale) == (1.0, 3.0)
    assert adapted.width == WIDTH


def test_the_character_encoder_distinguishes_anagrams_and_reads_up_to_its_limit() -> None:
    torch.manual_seed(0)
    character_encoder = CharacterEncoder(WIDTH, max_letters=6)
    listen, silent_, again = character_encoder(["listen", "silent", "listen"])
    assert torch.equal(listen, again)
    assert (listen - silent_).abs().max() > 1e-4
    letters = character_encoder(["abcdef", "abcdefg", "abcdeX", "é"])
    assert torch.equal(letters[0], letters[1])
    assert not torch.allclose(letters[0], letters[2])
    alone = character_encoder(["é"])  # two bytes; the padding has no effect, whatever the other words
    torch.testing.assert_close(letters[3:], alone)


def test_words_have_their_quoted_span_and_their_rank_in_it() -> None:
    states = encoder()(['"one two" and "three four five"', "nothing"])
    assert states.word_groups is not None
    assert states.word_groups.tolist() == [[[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0]] * 4]


def test_character_encoder_is_the_sum_over_the_bytes() -> None:
    torch.manual_seed(0)
    character_encoder = CharacterEncoder(WIDTH, max_letters=9)
    expected = torch.zeros(WIDTH)
    for place, byte in enumerate("né!".encode()):
        expected += character_encoder.mix(
            character_encoder.bytes.weight[byte] + character_encoder.position_embedding[place]
        )
    torch.testing.assert_close(character_encoder(["né!"])[0], expected, rtol=1e-5, atol=1e-6)


def test_character_encoder_is_saved_and_loaded_completely(tmp_path: Path) -> None:
    character_encoder = CharacterEncoder(WIDTH, max_letters=6)
    character_encoder.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = CharacterEncoder.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), character_encoder.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(["word"]), character_encoder(["word"]))


@given(st.text(max_size=30))
def test_no_text_is_unknown(text: str) -> None:
    coded = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.unk_token_id not in coded[1:-1] or "<unk>" in text
    assert (coded[0], coded[-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)


def test_a_tokenizer_learns_from_captions_and_reads_any_case() -> None:
    assert len(TOKENIZER) <= 400
    assert len(TOKENIZER.tokenize("a green background")) < len("a green background") / 2
    assert TOKENIZER("A CAFÉ")["input_ids"] == TOKENIZER("a café")["input_ids"]
    assert TOKENIZER("cafe\u0301")["input_ids"] == TOKENIZER("café")["input_ids"]
    assert TOKENIZER.eos_token_id == 3  # never 2: transformers pools elsewhere then
    said = TOKENIZER.decode(TOKENIZER("naïve ☕")["input_ids"], skip_special_tokens=True)
    assert said == " naïve ☕"


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocabulary is 259; .* at least 260"):
        train_tokenizer(CAPTIONS, 259)
    assert len(train_tokenizer(CAPTIONS, 260)) == 260


@pytest.mark.parametrize("text", [PROMPT, "", "\u2018curly\u2019 and 日本語 ☕"])
def test_a_tokenizer_survives_as_json(text: str) -> None:
    back = tokenizer_from_text(tokenizer_to_text(TOKENIZER))
    assert isinstance(back, PreTrainedTokenizerFast)
    settings = {"padding": "max_length", "max_length": CONTEXT, "return_offsets_mapping": True}
    assert dict(back(text, **settings)) == dict(TOKENIZER(text, **settings))
    assert back.special_tokens_map == TOKENIZER.special_tokens_map
