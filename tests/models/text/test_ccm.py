from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlad_lightning.models.text.ccm import CCM, IdentityComposition, TextStates

WIDTH, PHRASES, TOKENS = 16, 5, 7


def states(size: int = 2, seed: int = 0) -> TextStates:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True, False, True, True, False], [False, False, True, False, False]])[:size]
    token_mask = torch.ones(size, TOKENS, dtype=torch.bool)
    token_mask[:, 5:] = False
    return TextStates(
        pooled=torch.randn(size, WIDTH, generator=generator),
        phrases=torch.randn(size, PHRASES, WIDTH, generator=generator),
        phrase_mask=mask,
        order=torch.tensor([[2, 3, 0, 1, 4], [1, 2, 0, 3, 4]])[:size],
        tokens=torch.randn(size, TOKENS, WIDTH, generator=generator),
        token_mask=token_mask,
    )


def changed(old: TextStates, name: str, value: Tensor) -> TextStates:
    return replace(old, **{name: value})


def ccm(opened: bool) -> CCM:
    torch.manual_seed(0)
    return CCM(WIDTH, PHRASES, layers=2, heads=2, starts_open=opened)


def outputs(module: CCM, of: TextStates) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pooled vector, the unmasked phrases with t_g, and the tokens."""
    composed = module(of)
    there = torch.cat([torch.ones(len(of.pooled), 1, dtype=torch.bool), of.phrase_mask], dim=1)
    return composed.pooled, composed.phrases[there], composed.tokens


def test_a_closed_ccm_changes_nothing_bit_for_bit() -> None:
    composed = ccm(opened=False)(states())
    assert torch.equal(composed.pooled, states().pooled)
    assert torch.equal(composed.tokens, states().tokens)
    assert composed.phrases.shape == (2, 1 + PHRASES, WIDTH)


@pytest.mark.parametrize("most", [None, 3, 4])
def test_absent_phrases_are_left_out_and_change_nothing(most: int | None) -> None:
    """Against the composition of all slots at their places, in float64, gradients of the weights included."""
    module, given = ccm(opened=True).double(), states()
    every = replace(given, pooled=given.pooled.double(), phrases=given.phrases.double(), tokens=given.tokens.double())
    phrases = module.phrase_norm(torch.cat([every.pooled[:, None], every.phrases], dim=1))
    row = torch.zeros_like(every.phrases)
    for b, k in every.phrase_mask.nonzero().tolist():
        row[b, every.order[b, k]] = phrases[b, 1 + k]
    heard = module.neighbours(row.mT).mT
    around = torch.stack([heard[b, every.order[b]] + module.order.weight[every.order[b]] for b in range(2)])
    around = torch.cat([torch.zeros_like(around[:, :1]), around], dim=1)
    absent = ~torch.cat([torch.ones(2, 1, dtype=torch.bool), every.phrase_mask], dim=1)
    tokens = module.token_norm(every.tokens)
    composed = module.transformer(
        phrases + module.position_embedding + around,
        tokens,
        tgt_key_padding_mask=absent,
        memory_key_padding_mask=~every.token_mask,
    )
    read = module.read(tokens, composed, composed, absent, need_weights=False)[0]
    expected = every.pooled + module.to_pooled(composed[:, 0]), (phrases + composed)[~absent], every.tokens + read
    found = outputs(module, replace(every, most_phrases=most))
    gradients = []
    for results in (expected, found):
        module.zero_grad()
        sum(result.square().sum() for result in results).backward(retain_graph=True)
        gradients.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_an_open_ccm_changes_phrases_and_tokens() -> None:
    composed = ccm(opened=True)(states())
    assert (composed.pooled - states().pooled).abs().mean() > 0.01
    assert (composed.tokens - states().tokens).abs().mean() > 0.01


@pytest.mark.parametrize("name", ["phrases", "tokens"])
def test_masked_states_have_no_influence(name: str) -> None:
    """Masked tokens keep their residual; nothing else may depend on them."""
    module, old = ccm(opened=True), states()
    mask = old.phrase_mask if name == "phrases" else old.token_mask
    noise = 50 * torch.randn(getattr(old, name).shape, generator=torch.Generator().manual_seed(5))
    new = changed(old, name, torch.where(mask[..., None], getattr(old, name), noise))
    for before, after in zip(outputs(module, old), outputs(module, new), strict=True):
        if before.shape == old.tokens.shape:
            before, after = before[old.token_mask], after[old.token_mask]
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["phrases", "tokens", "pooled"])
def test_unmasked_states_influence_everything(name: str) -> None:
    module, old = ccm(opened=True), states(1)
    value = getattr(old, name).clone()
    value[:, 0] += 3 * torch.randn(value[:, 0].shape, generator=torch.Generator().manual_seed(6))
    for before, after in zip(outputs(module, old), outputs(module, changed(old, name, value)), strict=True):
        assert not torch.allclose(before, after, atol=1e-4)


def test_a_prompt_does_not_depend_on_its_neighbours() -> None:
    module, both = ccm(opened=True), states()
    first = TextStates(**{f.name: v[:1] for f in fields(both) if (v := getattr(both, f.name)) is not None})
    alone, beside = module(first), module(both)
    torch.testing.assert_close(alone.phrases, beside.phrases[:1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alone.tokens, beside.tokens[:1], rtol=1e-5, atol=1e-6)


def test_phrases_are_distinguished_by_their_positions() -> None:
    module, old = ccm(opened=True), states(1)
    everyone = changed(old, "phrase_mask", torch.ones_like(old.phrase_mask))
    turned = changed(everyone, "phrases", everyone.phrases.flip(1))
    assert not torch.allclose(module(everyone).phrases[:, 1:].flip(1), module(turned).phrases[:, 1:], atol=1e-4)
    with torch.no_grad():
        module.position_embedding.zero_()
        module.order.weight.zero_()
        module.neighbours.weight.zero_()  # without all three, the phrases are an unordered set
    torch.testing.assert_close(
        module(everyone).phrases[:, 1:].flip(1), module(turned).phrases[:, 1:], rtol=1e-4, atol=1e-5
    )


def test_a_phrase_depends_only_on_its_neighbours_in_the_prompt() -> None:
    module = ccm(opened=True)
    old = changed(states(1), "order", torch.tensor([[2, 3, 0, 1, 4]]))  # phrase 2, 3, 0; the others are absent
    with torch.no_grad():
        for layer in module.transformer.layers:  # only the neighbours can have an influence
            for part in (layer.self_attn.out_proj, layer.multihead_attn.out_proj, layer.linear2):
                torch.nn.init.zeros_(part.weight)
    for moved, hearing in ((2, {2, 3}), (3, {2, 3, 0}), (0, {3, 0})):
        phrases = old.phrases.clone()
        phrases[:, moved] += torch.linspace(-1, 1, WIDTH)
        new = changed(old, "phrases", phrases)
        before, after = module(old).phrases[0, 1:], module(new).phrases[0, 1:]
        assert {i for i in (0, 2, 3) if not torch.allclose(before[i], after[i])} == hearing


def test_a_composed_phrase_keeps_itself() -> None:
    """With a transformer of zero output, the phrases are the encoder's, normalised."""
    module, old = ccm(opened=True), states()
    with torch.no_grad():
        module.transformer.norm.weight.zero_()
        module.transformer.norm.bias.zero_()
    given = torch.cat([old.pooled[:, None], old.phrases], dim=1)
    torch.testing.assert_close(module(old).phrases, torch.nn.functional.layer_norm(given, (WIDTH,)))


def test_the_order_in_the_prompt_matters() -> None:
    module, old = ccm(opened=True), states(1)
    swapped = changed(old, "order", torch.tensor([[0, 4, 3, 2, 1]]))  # phrases 0 and 2, which are both unmasked
    for before, after in zip(outputs(module, old), outputs(module, swapped), strict=True):
        assert not torch.allclose(before, after, atol=1e-5)


def test_a_prompt_without_phrases_is_finite() -> None:
    bare = changed(states(), "phrase_mask", torch.zeros(2, PHRASES, dtype=torch.bool))
    for value in outputs(ccm(opened=True), bare):
        assert value.isfinite().all()


def test_all_weights_of_a_closed_ccm_move_within_two_steps() -> None:
    module = ccm(opened=False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    target = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        optimizer.zero_grad()
        composed = module(states())
        ((composed.pooled - target).square().mean() + (composed.tokens - target).square().mean()).backward()
        optimizer.step()
    # a bias of all keys alike moves no attention: its gradient is zero but for rounding
    still = [name for name, p in module.named_parameters() if torch.equal(p, before[name])]
    assert still == []


def test_the_identity_passes_the_encoders_phrases_on() -> None:
    old = states()
    composed = IdentityComposition()(old)
    assert torch.equal(composed.pooled, old.pooled)
    assert torch.equal(composed.tokens, old.tokens)
    assert torch.equal(composed.phrases, torch.cat([old.pooled[:, None], old.phrases], dim=1))


def test_both_are_saved_and_loaded_completely(tmp_path: Path) -> None:
    module = ccm(opened=True)
    module.save_pretrained(tmp_path / "ccm")
    IdentityComposition().save_pretrained(tmp_path / "identity")
    assert (tmp_path / "ccm" / "diffusion_pytorch_model.safetensors").is_file()
    loaded = CCM.from_pretrained(tmp_path / "ccm")
    for before, after in zip(outputs(module, states()), outputs(loaded, states()), strict=True):
        torch.testing.assert_close(after, before)
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    same = IdentityComposition.from_pretrained(tmp_path / "identity")
    assert torch.equal(same(states()).tokens, states().tokens)
