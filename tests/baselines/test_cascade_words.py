from __future__ import annotations

import pytest
import torch

from vlad_lightning.baselines.cascade_words import WordEncoder, build_t5, train_word_tokenizer

CAPTIONS = ['a red circle with "SALE" on it', 'a blue square, and "HELLO"'] * 20 + ['a poster with "Ωrare"']


def encoder(min_frequency: int = 20) -> WordEncoder:
    torch.manual_seed(0)
    built = WordEncoder(build_t5(width=16, layers=1, heads=2, vocabulary=64), context=12, min_frequency=min_frequency)
    built.learn_words(CAPTIONS)
    return built.eval()


def test_words_are_whole_and_marks_are_separate() -> None:
    tokenizer = train_word_tokenizer(CAPTIONS, 64, 20)
    ids = tokenizer('a red "SALE", squares')["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "red", '"', "SALE", '"', ",", "<unk>", "</s>"]
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]  # as in T5


def test_the_vocabulary_holds_the_common_words_only() -> None:
    words = set(train_word_tokenizer(CAPTIONS, 64, 20).get_vocab())
    assert {"SALE", "HELLO", "circle"} <= words
    assert not words & {"Ωrare", "poster"}
    assert len(train_word_tokenizer(CAPTIONS, 8, 1)) == 8


def test_letters_of_unknown_words_cannot_be_read() -> None:
    blind = encoder()
    with torch.no_grad():
        states, mask = blind(['a red circle with "ABC"', 'a red circle with "XYZW"', 'a red circle with "SALE"'])
    assert bool(mask.all())
    assert torch.equal(states[0], states[1])
    assert not torch.allclose(states[0], states[2], atol=1e-3)


def test_padding_changes_nothing_and_long_texts_are_cut() -> None:
    blind = encoder()
    with torch.no_grad():
        alone, _ = blind(["a red circle"])
        states, mask = blind(["a red circle", "a red circle with a blue square and a red circle on it"])
    assert mask.sum(dim=1).tolist() == [4, 12]
    torch.testing.assert_close(states[0, :4], alone[0])


def test_the_tokenizer_travels_in_the_state() -> None:
    first, second = encoder(), WordEncoder(build_t5(width=16, layers=1, heads=2, vocabulary=64), context=12).eval()
    with pytest.raises(RuntimeError, match="has no tokenizer"):
        second(["a red circle"])
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(['a "SALE"'])[0], second(['a "SALE"'])[0])
    assert WordEncoder(build_t5(16, 1, 2, 64)).get_extra_state() == ""


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"text_encoder\.context is 0; it must be at least 1"):
        WordEncoder(build_t5(16, 1, 2, 64), context=0)
