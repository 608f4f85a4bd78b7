"""Every settings field has an effect wherever it is accepted, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_system as tiny
import torch
from lightning.pytorch import seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.masking import Masking
from vlad_lightning.health.loss_spikes import LossWindow, SpikeRule
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.object_augmentation import NUMBERS, ObjectAugmentation, palette_colours
from vlad_lightning.modules import AlignmentModule, VFEModule
from vlad_lightning.modules.alignment_terms import AlignmentTerms
from vlad_lightning.modules.optimization import Optimization
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.types import Batch, Layout

Outcome = Callable[[Any, str, Path], Any]

PROMPT = 'a red circle at the top left and a green star, with the text "HI"'
LAYOUT = Layout(
    ("HI",),
    torch.tensor([[0.5, 0.8, 0.6, 0.2, 0.0]]),
    objects=("a red circle",),
    object_boxes=torch.tensor([[0.3, 0.3, 0.5, 0.5, 0.0]]),
)


@cache
def batch_of(posters: Path) -> Batch:
    return next(iter(tiny.data(posters, batch_size=4).val_dataloader()))


def system(kind: str, **changes: Any) -> VFEModule:
    """Build a stage 2 in which all inputs have an effect, for each kind of image generator."""
    seed_everything(0)
    if kind == "flow":
        image_generator: Any = tiny.flow_image_generator()
        module = VFEModule(image_generator, tiny.image_encoder(), optimization=tiny.FAST, text_probe=0, **changes)
    else:
        module = tiny.vfe(hierarchical=kind == "layouts", map_channels=tiny.LATENT, lora=None, text_probe=0, **changes)
    seed_everything(1)
    for name, value in module.named_parameters():
        if name.endswith("fusion.weight") or not value.any():
            nn.init.normal_(value, std=0.2)
    return module


def generated(sampler: ImageSampler, kind: str, posters: Path) -> Tensor:
    module = system(kind, sampler=sampler)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        return module.image_generator.generate([PROMPT], [LAYOUT], module.sampler, [generator]).images


def laid_out(sampler: Sampler, kind: str, posters: Path) -> Tensor:
    seed_everything(0)
    with torch.no_grad():
        return tiny.tlg(sampler=sampler).draw([PROMPT], ["a"])[0].boxes


def generated_over_layouts(sampler: Sampler, kind: str, posters: Path) -> Tensor:
    with torch.no_grad():
        return system(kind, layout_sampler=sampler, sampler=ImageSampler(steps=2)).draw([PROMPT], ["a"]).images


def loss(training: LossSettings, kind: str, posters: Path) -> float:
    loader: DataLoader[Any] = DataLoader([batch_of(posters)], batch_size=None)  # type: ignore[arg-type]
    (told,) = tiny.trainer(limit_val_batches=1).validate(system(kind, training=training), loader, verbose=False)
    return told["val/loss"]


def aligned(terms: AlignmentTerms, kind: str, posters: Path) -> dict[str, float]:
    seed_everything(0)
    module = AlignmentModule(tiny.prompt_encoder(), tiny.image_encoder(), tiny.FAST, terms=terms)
    trainer = tiny.trainer(1)
    trainer.fit(module, datamodule=tiny.data(posters, batch_size=4))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def rates(optimization: Optimization, kind: str, posters: Path) -> list[float]:
    """Return weights and learning rates of four steps."""
    seed_everything(0)
    network, encoder, mapped = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    parts = [network, encoder, mapped]
    apart = (encoder.parameters(), mapped.parameters()) if kind == "parts" else ()
    told = optimization.configure([p for part in parts for p in part.parameters()], 4, 8, *apart)
    optimizer, schedule = told["optimizer"], told["lr_scheduler"]["scheduler"]
    seen = []
    for _ in range(4):
        optimizer.zero_grad()
        sum(part(torch.ones(2, 3)).square().sum() for part in parts).backward()
        optimizer.step()
        seen += [group["lr"] for group in optimizer.param_groups]
        schedule.step()
    return seen + [float(p.sum()) for part in parts for p in part.parameters()]


def masks(masking: Masking, kind: str, posters: Path) -> Tensor:
    layouts = [Layout(("A", "B"), torch.tensor([[0.3, 0.3, 0.2, 0.1, 0.0], [0.7, 0.7, 0.2, 0.1, 0.0]]))] * 24
    return masking.draw(layouts, (32, 32), SampleGenerators.of_rows("cpu", (0,), range(24), 24))


def adapted(lora: Lora, kind: str, posters: Path) -> Tensor:
    seed_everything(0)
    network = nn.ModuleDict({"q_proj": nn.Linear(4, 4), "v_proj": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    lora.inject(network)
    for name, value in network.named_parameters():
        if "lora" in name:
            nn.init.normal_(value)
    return torch.cat([layer(torch.ones(1, 4)) for layer in network.values()]).detach()


def augmented(augmentation: ObjectAugmentation, kind: str, posters: Path) -> Tensor:
    generators = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 16, 16, generator=generators) * 2 - 1
    noise, drawn = torch.randn(images.shape, generator=generators), torch.rand(8, NUMBERS, generator=generators)
    return augmentation(images, torch.zeros(8, 1, 7), drawn, noise, palette_colours())[0]


def spikes(rule: SpikeRule, kind: str, posters: Path) -> list[bool]:
    window = LossWindow(rule)
    calm = np.random.default_rng(0).normal(1, 0.1, 20).tolist()
    losses = [*calm[:9], 2.5, *calm[9:], 1.6]
    return [window.add(x) for x in losses]


RATES: dict[str, Any] = {
    "lr": 1e-2,
    "weight_decay": 0.5,
    "betas": (0.5, 0.9),
    "warmup_steps": 2,
    "schedule": "linear",
    "warmup_samples": 24,
    "horizon_samples": 64,
    "lr_batch": 2,
    "lr_scaling": "sqrt",
    "encoder_lr": 1e-2,
    "map_lr": 1e-2,
}
IMAGE_GENERATORS = ("layouts", "plain", "flow")
CASES: list[tuple[Outcome, tuple[str, ...], Any, Mapping[str, Any]]] = [
    (
        generated,
        IMAGE_GENERATORS,
        ImageSampler(steps=3),
        {
            "steps": 4,
            "guidance_scale": 2.0,
            "layout_scale": 2.0,
            "augmentation": 0.5,
            "eta": 1.0,
            "solver": "dpmsolver++",
            "cache_interval": 2,
            "guidance_interval": (0.5, 1.0),
            "guidance_rescale": 0.7,
        },
    ),
    (
        generated,
        IMAGE_GENERATORS,
        ImageSampler(steps=3, guidance_scale=2.0),
        {"guidance_interval": (0.5, 1.0), "guidance_rescale": 0.7},
    ),
    (laid_out, ("tlg",), Sampler(steps=3), {"steps": 4, "eta": 1.0, "solver": "dpmsolver++"}),
    (generated_over_layouts, IMAGE_GENERATORS, Sampler(), {"steps": 4, "eta": 1.0, "solver": "dpmsolver++"}),
    (
        loss,
        IMAGE_GENERATORS,
        LossSettings(timestep_density="uniform"),  # None is the objective's default
        {
            "diffusion_weight": 2.0,
            "caption_dropout": 0.9,
            "layout_dropout": 0.85,
            "pooled_dropout": 0.9,
            "box_dropout": 0.9,
            "augmentation": 1.0,
            "text_weight": 3.0,
            "object_weight": 3.0,
            "map_weight": 1.0,
            "snr_gamma": 1.0,
            "timestep_shift": 1.0,
            "offset_noise": 0.3,
            "timestep_density": "logit_normal",
        },
    ),
    *(
        (
            aligned,
            ("stage 0",),
            base,
            {"edits": 3, "phrase_weight": 2.0, "region_weight": 2.0, "kinds": kinds, "seed": 1},
        )
        for base, kinds in [
            (AlignmentTerms(), ("object_colour",)),
            (AlignmentTerms(edits=2), ("object_colour",)),
            (AlignmentTerms(edits=2), ()),
        ]
    ),
    *(
        (rates, ("parts", "whole"), base, RATES | changes)
        for base, changes in [
            (Optimization(warmup_steps=1), {}),
            # warmup_samples replaces warmup_steps, whatever an earlier configuration has
            (Optimization(warmup_steps=1, horizon_samples=48), {}),
            (Optimization(warmup_samples=8, lr_batch=4, lr_scaling="linear"), {"warmup_steps": -1}),
            # there it ends no schedule, but refuses a longer run
            (Optimization(schedule="constant"), {"horizon_samples": 16}),
            (Optimization(warmup_steps=1, schedule="constant_with_warmup"), {"horizon_samples": 16}),
        ]
    ),
    *(
        (masks, ("",), base, {"share": 0.9, "word_share": 0.9, "margin": 2.0, "min_side": 0.5, "max_side": 0.5})
        for base in [Masking(), Masking(share=0), Masking(word_share=0)]
    ),
    (adapted, ("",), Lora(), {"rank": 2, "alpha": 2, "targets": ("other",)}),
    (adapted, ("",), Lora(), {"alpha": 0}),
    (augmented, ("",), ObjectAugmentation(), {"blobs": 0.0, "noise": 0.9, "blur": 1.0}),
    (spikes, ("",), SpikeRule(window=8), {"window": 12, "deviations": 3.0}),
]
ELSEWHERE = {
    # they change how fast a picture is made, not which: test_image_generator.py, test_optimization.py
    (generated, "fuse_qkv"),
    (rates, "fused"),
    # the optimizer's class: test_optimization.py
    (rates, "optimizer"),
    # the action on a spike: health/test_step_guard.py, health/test_roll_back.py
    (spikes, "action"),
}
SOME = {(generated_over_layouts, name) for name in ("guidance_scale", "layout_scale", "augmentation", "cache_interval")}
SOME |= {(generated_over_layouts, "fuse_qkv")}  # refused as laid_out refuses them: test_vfe.py


@cache
def unchanged(case: int, kind: str, posters: Path) -> Any:
    outcome, _, base, _ = CASES[case]
    return outcome(base, kind, posters)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("case", "kind", "name", "value"),
    [
        pytest.param(case, kind, name, value, id=f"{outcome.__name__} {kind} {case} {name}")
        for case, (outcome, kinds, _, changes) in enumerate(CASES)
        for kind in kinds
        for name, value in changes.items()
    ],
)
def test_a_field_has_an_effect_or_is_refused(case: int, kind: str, name: str, value: Any, posters: Path) -> None:
    outcome, _, base, _ = CASES[case]
    refused = None
    try:
        changed = outcome(replace(base, **{name: value}), kind, posters)
    except ValueError as error:
        refused = str(error)
    if refused is not None:
        assert name in refused
        return
    before = unchanged(case, kind, posters)
    same = torch.equal(before, changed) if isinstance(before, Tensor) else before == changed
    assert not same


def test_every_field_is_tested() -> None:
    for outcome in {case[0] for case in CASES}:
        told = {name for made, _, _, changes in CASES if made is outcome for name in changes}
        (settings,) = {type(base) for made, _, base, _ in CASES if made is outcome}
        left = {field.name for field in fields(settings)} - told
        assert {(outcome, name) for name in left} <= ELSEWHERE | SOME
