from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlad_lightning.health import StepGuard
from vlad_lightning.lightning_internals import DispatchMode, overloads_of
from vlad_lightning.modules.optimization import Optimization


def test_frozen_parameters_are_left_out_and_vectors_are_not_decayed() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1).requires_grad_(False))
    groups = Optimization(weight_decay=0.1).configure(network.parameters(), 10)["optimizer"].param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]


def test_vectors_alone_make_one_group() -> None:
    groups = Optimization().configure(nn.LayerNorm(3).parameters(), 10)["optimizer"].param_groups
    assert [g["weight_decay"] for g in groups] == [0.0]


def test_warm_up_then_cosine_down_to_zero_each_step() -> None:
    made = Optimization(lr=1.0, warmup_steps=4).configure([nn.Parameter(torch.ones(1))], 12)
    assert made["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(13):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0}, "lr is 0; it must be above 0"),
        ({"encoder_lr": 0}, "encoder_lr is 0; it must be above 0"),
        ({"map_lr": -0.1}, "map_lr is -0.1; it must be above 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1; it must be at least 0"),
        ({"schedule": "cosinus"}, "schedule is 'cosinus'; allowed are linear, cosine"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimization(**arguments)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "constant_with_warmup", "polynomial"])
def test_schedules_of_diffusers_are_available(schedule: str) -> None:
    assert Optimization(schedule=schedule).configure([nn.Parameter(torch.ones(1))], 10)


def rates(optimization: Optimization, steps: int, batch: int | None = None) -> list[float]:
    made = optimization.configure([nn.Parameter(torch.ones(1))], steps, batch)
    found = []
    for _ in range(steps):
        found.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    return found


def test_settings_in_samples_mean_the_same_for_every_batch() -> None:
    """Seen by the number of samples, the rate is one curve."""
    optimization = Optimization(lr=1.0, warmup_samples=400, horizon_samples=2000)
    one, four = rates(optimization, 200, batch=10), rates(optimization, 50, batch=40)
    assert one[::4] == pytest.approx(four)
    assert one[40] == four[10] == 1
    longer = rates(optimization, 20, batch=40)  # the horizon is longer than the run
    assert longer == four[:20]


def test_samples_are_rounded_up_to_steps() -> None:
    assert rates(Optimization(lr=1.0, warmup_samples=9), 5, batch=4)[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(("rule", "expected"), [("none", 1e-4), ("linear", 4e-4), ("sqrt", 2e-4)])
def test_the_rate_scales_with_the_batch_by_its_rule(rule: Any, expected: float) -> None:
    stated = None if rule == "none" else 64
    optimization = Optimization(lr=1e-4, lr_batch=stated, lr_scaling=rule, schedule="constant")
    assert rates(optimization, 1, batch=256) == [pytest.approx(expected)]
    assert rates(optimization, 1, batch=64) == [pytest.approx(1e-4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup_samples": -1}, "warmup_samples is -1; it must be at least 0"),
        ({"horizon_samples": 0}, "horizon_samples is 0; it must be at least 1"),
        ({"lr_batch": 0}, "lr_batch is 0; it must be at least 1"),
        ({"lr_scaling": "root"}, "lr_scaling is 'root'; allowed are none, linear, sqrt"),
        ({"lr_scaling": "sqrt"}, "lr_scaling is 'sqrt'; lr_batch must say for which global batch lr is stated"),
    ],
)
def test_values_out_of_range_of_the_scaling_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimization(**arguments)


def test_run_that_outlasts_the_horizon_or_hides_its_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon_samples is 100: 10 steps of 10 samples"):
        Optimization(horizon_samples=100).configure([nn.Parameter(torch.ones(1))], 11, 10)
    for name, value in (("warmup_samples", 5), ("horizon_samples", 5)):
        with pytest.raises(ValueError, match=f"{name} needs the batch size"):
            Optimization(**{name: value}).configure([nn.Parameter(torch.ones(1))], 1)


def two_parts() -> tuple[nn.Module, nn.Module]:
    """Build a network and the encoder in it."""
    network = nn.ModuleDict({"encoder": nn.Linear(2, 3), "rest": nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))})
    return network, network["encoder"]


def test_without_a_separate_rate_an_encoder_changes_nothing() -> None:
    network, encoder = two_parts()

    def groups(**named: Any) -> list[dict[str, Any]]:
        return Optimization(lr=0.1).configure(network.parameters(), 10, **named)["optimizer"].param_groups

    for one, other in zip(groups(), groups(encoder=encoder.parameters()), strict=True):
        assert [id(p) for p in one.pop("params")] == [id(p) for p in other.pop("params")]
        assert one == other


def test_an_encoder_has_its_own_rate_under_the_same_schedule() -> None:
    """(matrices, vectors) of the rest, then of the encoder; warm-up over 4 of 12 steps, then a cosine: closed form."""
    network, encoder = two_parts()
    encoder.bias.requires_grad_(False)
    optimization = Optimization(lr=1.0, encoder_lr=0.1, weight_decay=0.3, warmup_steps=4)
    made = optimization.configure(network.parameters(), 12, encoder=encoder.parameters())
    optimizer = made["optimizer"]
    counted = [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups]
    assert counted == [(1, 0.3), (3, 0.0), (1, 0.3)]
    for step in range(12):
        factor = step / 4 if step < 4 else (1 + math.cos(math.pi * (step - 4) / 8)) / 2
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([factor, factor, 0.1 * factor])
        optimizer.step()
        made["lr_scheduler"]["scheduler"].step()


@pytest.mark.parametrize(("rule", "factor"), [("linear", 4.0), ("sqrt", 2.0)])
def test_both_rates_scale_with_the_batch(rule: Any, factor: float) -> None:
    network, encoder = two_parts()
    optimization = Optimization(lr=0.2, encoder_lr=0.05, lr_batch=16, lr_scaling=rule, schedule="constant")
    optimizer = optimization.configure(network.parameters(), 9, 64, encoder.parameters())["optimizer"]
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2 * factor] * 2 + [0.05 * factor] * 2)


def test_the_first_step_of_adam_has_the_length_of_each_rate() -> None:
    """Adam's first step is the sign of the gradient, times the rate."""
    network, encoder = two_parts()
    optimization = Optimization(lr=0.2, encoder_lr=0.05, weight_decay=0.0, warmup_steps=0, schedule="constant")
    optimizer = optimization.configure(network.parameters(), 9, encoder=encoder.parameters())["optimizer"]
    before = [p.detach().clone() for p in network.parameters()]
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for old, new in zip(before, network.parameters(), strict=True):
        rate = 0.05 if any(new is p for p in encoder.parameters()) else 0.2
        torch.testing.assert_close(old - new, torch.full_like(old, rate))


def test_encoder_and_phrase_map_have_rates_of_their_own() -> None:
    network, encoder = two_parts()
    phrase_map = nn.Linear(2, 2)
    trained = [*network.parameters(), *phrase_map.parameters()]
    optimization = Optimization(lr=0.2, encoder_lr=0.05, map_lr=0.6, schedule="constant")
    made = optimization.configure(trained, 9, None, encoder.parameters(), phrase_map.parameters())["optimizer"]
    assert [g["lr"] for g in made.param_groups] == pytest.approx([0.2] * 2 + [0.05] * 2 + [0.6] * 2)
    assert {id(p) for g in made.param_groups[-2:] for p in g["params"]} == {id(p) for p in phrase_map.parameters()}
    assert sum(len(g["params"]) for g in made.param_groups) == len(trained)


def test_a_rate_for_a_part_that_a_stage_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"map_lr is 0\.1"):
        Optimization(map_lr=0.1).configure([nn.Parameter(torch.ones(1))], 10)
    with pytest.raises(ValueError, match=r"encoder_lr is 0\.1"):
        Optimization(encoder_lr=0.1).configure([nn.Parameter(torch.ones(1))], 10)


class Line(LightningModule):
    """A loss whose gradient norm is far above the clipping limit, with a given optimization."""

    def __init__(self, optimization: Optimization) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.optimization = nn.Linear(2, 2), optimization
        self.norms: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return 100 * self.layer(batch).float().square().mean()

    def on_before_zero_grad(self, optimizer: Any) -> None:
        gradients = [p.grad.flatten() for p in self.parameters() if p.grad is not None]
        self.norms += [float(torch.cat(gradients).norm())] if gradients else []

    def configure_optimizers(self) -> Any:
        return self.optimization.of_module(self)


class TwoLines(Line):
    """The first layer is an encoder."""

    def __init__(self, optimization: Optimization) -> None:
        super().__init__(optimization)
        self.encoder = nn.Linear(2, 2)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return super().training_step(self.encoder(batch), batch_idx)

    def configure_optimizers(self) -> Any:
        return self.optimization.of_module(self, encoder=self.encoder)


def test_a_fit_has_both_rates_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    data: DataLoader[Any] = DataLoader(torch.randn(3, 2), batch_size=3)  # type: ignore[arg-type]
    optimization = Optimization(lr=0.1, encoder_lr=0.01, warmup_steps=2, schedule="constant_with_warmup")
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    trainer = tiny.trainer(4, callbacks=[saver], enable_checkpointing=True)
    whole, resumed = TwoLines(optimization), TwoLines(optimization)
    trainer.fit(whole, data)
    assert [g["lr"] for g in trainer.optimizers[0].param_groups] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    tiny.trainer(4).fit(resumed, data, ckpt_path=str(tmp_path / "step=2.ckpt"), weights_only=True)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "lr", "encoder_lr"),
    [
        ({"lr": 0.5}, 0.5, 0.01),
        ({"encoder_lr": 0.002}, 0.1, 0.002),
        ({"weight_decay": 0.3}, 0.1, 0.01),
        ({"betas": (0.5, 0.6)}, 0.1, 0.01),
        ({"lr_batch": 1, "lr_scaling": "linear"}, 0.3, 0.03),
        ({"schedule": "linear", "warmup_steps": 0}, 0.05, 0.005),  # half of the run is done
    ],
)
def test_allowed_changes_take_effect_in_a_resumed_fit(
    tmp_path: Path, changes: dict[str, Any], lr: float, encoder_lr: float
) -> None:
    """From its first step on, in the optimizer and in the next checkpoint."""
    data: DataLoader[Any] = DataLoader(torch.randn(3, 2), batch_size=3)  # type: ignore[arg-type]
    before = Optimization(lr=0.1, encoder_lr=0.01, warmup_steps=1, schedule="constant_with_warmup")
    now = replace(before, **changes)
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    tiny.trainer(2, callbacks=[saver], enable_checkpointing=True).fit(TwoLines(before), data)
    seen: list[list[dict[str, Any]]] = []

    class Watched(TwoLines):
        def optimizer_step(self, *args: Any, **named: Any) -> None:
            seen.append([{k: v for k, v in group.items() if k != "params"} for group in args[2].param_groups])
            super().optimizer_step(*args, **named)

    resumed = tiny.trainer(4, callbacks=[saver], enable_checkpointing=True)
    resumed.fit(Watched(now), data, ckpt_path=str(tmp_path / "step=2.ckpt"), weights_only=True)
    assert [group["lr"] for group in seen[0]] == pytest.approx([lr, lr, encoder_lr, encoder_lr])
    for group, decay in zip(seen[0], (now.weight_decay, 0.0) * 2, strict=True):
        assert (group["weight_decay"], group["betas"]) == (decay, now.betas)
    saved = torch.load(tmp_path / "step=4.ckpt", weights_only=True)
    scale = 3 if now.lr_scaling == "linear" else 1
    highest = [now.lr * scale] * 2 + [(now.encoder_lr or 0) * scale] * 2
    assert saved["lr_schedulers"][0]["base_lrs"] == pytest.approx(highest)
    assert [g["initial_lr"] for g in saved["optimizer_states"][0]["param_groups"]] == pytest.approx(highest)
    assert int(saved["optimizer_states"][0]["state"][0]["step"]) == 4  # the moments continued


def test_a_separate_rate_missing_in_the_checkpoint_is_refused_in_one_line() -> None:
    network, encoder = two_parts()

    def made(**rates: float) -> Any:
        return Optimization(**rates).configure(network.parameters(), 9, None, encoder.parameters())["optimizer"]

    message = r"the checkpoint's optimizer has groups of \[2, 4\] weights, this config's of \[1, 3, 1, 1\]; encoder_lr"
    with pytest.raises(ValueError, match=message):
        made(encoder_lr=0.1).load_state_dict(made().state_dict())


@pytest.mark.parametrize("schedule", ["linear", "cosine", "cosine_with_restarts", "polynomial"])
def test_a_schedule_that_needs_an_end_is_refused_without_max_steps(schedule: str) -> None:
    message = (
        f"schedule is '{schedule}' and the run has no end; set trainer.max_steps or max_epochs, or take constant or"
    )
    with pytest.raises(ValueError, match=message):
        fit(Optimization(schedule=schedule), steps=-1, max_epochs=-1, max_time="00:00:01:00")
    with pytest.raises(ValueError, match="horizon_samples is 9: 3 steps of 3 samples"):
        fit(Optimization(schedule=schedule, horizon_samples=9), steps=-1, max_epochs=-1, max_time="00:00:01:00")


@pytest.mark.parametrize("schedule", ["constant", "constant_with_warmup"])
def test_constant_rates_train_in_a_run_limited_only_by_time(schedule: str) -> None:
    settings = Optimization(lr=0.1, schedule=schedule, warmup_steps=0)
    _, trainer = fit(settings, steps=-1, max_epochs=-1, max_time={"seconds": 1})
    assert trainer.global_step > 0
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)


def fit(optimization: Optimization, steps: int = 4, batch_size: int = 3, **changes: Any) -> tuple[Line, Trainer]:
    module, trainer = Line(optimization), tiny.trainer(steps, **changes)
    data: DataLoader[Any] = DataLoader(torch.randn(30, 2), batch_size=batch_size)  # type: ignore[arg-type]
    trainer.fit(module, data)
    return module, trainer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed with its scaler"])
def test_fused_steps_are_clipped_and_equal_plain_ones(precision: Any) -> None:
    def run(fused: bool) -> Line:
        settings: dict[str, Any] = {"precision": precision}
        if precision.startswith("16"):  # Lightning's own choice on a CPU is bfloat16
            scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
            settings = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
        return fit(Optimization(lr=0.1, warmup_steps=0, fused=fused), gradient_clip_val=1.0, **settings)[0]

    fused, plain = run(True), run(False)
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert max(fused.norms) == pytest.approx(1.0, abs=1e-3)


def test_global_batch_counts_devices_and_accumulated_batches() -> None:
    """3 a batch, 2 accumulated: the rate scales by 6 / 6, and the warm-up of 12 samples takes two steps."""
    optimization = Optimization(
        lr=0.5, lr_batch=6, lr_scaling="linear", warmup_samples=12, schedule="constant_with_warmup"
    )
    _, trainer = fit(optimization, steps=1, accumulate_grad_batches=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.25)
    _, trainer = fit(optimization, steps=2, accumulate_grad_batches=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5)


@pytest.mark.parametrize("sizes", [[(2, 3), (3,), ()], [(7, 5, 3, 3), (129,)]])
def test_on_a_cpu_the_kernel_is_the_fused_one_which_computes_the_same(sizes: list[tuple[int, ...]]) -> None:
    def stepped(fused: bool | None) -> tuple[list[nn.Parameter], bool | None]:
        generator = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(size, generator=generator)) for size in sizes]
        made = Optimization(lr=0.1, warmup_steps=2, weight_decay=0.1, fused=fused).configure(weights, 10)
        for _ in range(6):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            made["optimizer"].step()
            made["lr_scheduler"]["scheduler"].step()
        return weights, made["optimizer"].param_groups[0]["fused"]

    (plain, chosen), (default, own) = stepped(False), stepped(None)
    assert (chosen, own) == (None, True)
    for one, other in zip(default, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_elsewhere_torch_chooses_the_kernel() -> None:
    weight = nn.Parameter(torch.zeros(2, 3, device="meta"))
    assert Optimization().configure([weight], 10)["optimizer"].param_groups[0]["fused"] is None


@pytest.mark.parametrize("fused", [True, False])
def test_a_resumed_fit_uses_the_kernel_of_its_config(fused: bool) -> None:
    def stepped(fused: bool, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        weight = nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))
        optimizer = Optimization(lr=0.1, warmup_steps=0, fused=fused).configure([weight], 10)["optimizer"]
        if state is not None:
            optimizer.load_state_dict(copy.deepcopy(state))
        weight.grad = torch.arange(6.0).view(2, 3)
        optimizer.step()
        return weight.detach(), optimizer.state_dict()

    _, before = stepped(not fused)
    (found, after), (expected, _) = stepped(fused, before), stepped(not fused, before)
    # None and not False, with which torch takes no step over many tensors at once
    assert [group["fused"] for group in after["param_groups"]] == [True if fused else None]
    assert int(after["state"][0]["step"]) == 2
    torch.testing.assert_close(found, expected)


def parsed(optimizer: str) -> Optimization:
    """Parse YAML of an optimizer as a stage's configuration is parsed."""
    parser = ArgumentParser()
    parser.add_argument("--optimization", type=Optimization, default=Optimization())
    made: Optimization = parser.instantiate(parser.parse_args([f"--optimization={optimizer}"])).optimization
    return made


@pytest.mark.parametrize("name", ["Adafactor", "NAdam", "RAdam", "SGD", "RMSprop"])
def test_any_optimizer_of_torch_trains_at_the_rates_of_the_stage(name: str) -> None:
    settings = parsed(f"{{lr: 0.5, weight_decay: 0.1, warmup_steps: 0, optimizer: {{class_path: torch.optim.{name}}}}}")
    network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    made = replace(settings, encoder_lr=0.25).configure(network.parameters(), 10, None, network[2].parameters())
    optimizer = made["optimizer"]
    assert type(optimizer) is getattr(torch.optim, name)
    rates = [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert rates == [(0.5, 0.1), (0.5, 0.0), (0.25, 0.1), (0.25, 0.0)]
    before = copy.deepcopy(network.state_dict())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert all(not torch.equal(value, before[key]) for key, value in network.state_dict().items())
    made["lr_scheduler"]["scheduler"].step()
    assert optimizer.param_groups[0]["lr"] < 0.5


def test_an_optimizers_own_settings_are_kept_and_a_resume_keeps_its_moments() -> None:
    settings = parsed("{optimizer: {class_path: torch.optim.SGD, init_args: {momentum: 0.75}}}")
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = settings.configure([weight], 10)["optimizer"]
    assert optimizer.param_groups[0]["momentum"] == 0.75
    weight.sum().backward()
    optimizer.step()
    again = settings.configure([weight], 10)["optimizer"]
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(again.state[weight]["momentum_buffer"], optimizer.state[weight]["momentum_buffer"])


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "{fused: true, optimizer: {class_path: torch.optim.SGD}}",
            "fused is True; it must be None: they",
        ),
        ("{betas: [0.5, 0.9], optimizer: {class_path: torch.optim.SGD}}", r"betas is .*; it must be \(0.9, 0.999\)"),
    ],
)
def test_settings_of_adamw_are_refused_with_another_optimizer(yaml: str, message: str) -> None:
    with pytest.raises((ValueError, ArgumentError), match=message):
        parsed(yaml)


def test_weight_decay_is_refused_by_an_optimizer_without_it() -> None:
    settings = parsed("{optimizer: {class_path: torch.optim.Rprop}}")
    with pytest.raises(ValueError, match=r"weight_decay is 0\.01; it must be 0 for Rprop, which has none"):
        settings.configure([nn.Parameter(torch.ones(1))], 10)


class Norms(DispatchMode):
    """Counts how often the norms of many tensors are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += overloads_of(operator) is torch.ops.aten._foreach_norm
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, {"gradient_clip_algorithm": "value"}, {"accumulate_grad_batches": 2}])
def test_gradients_are_clipped_by_the_norm_that_the_guard_has_measured(settings: dict[str, Any], posters: Path) -> None:
    found = []
    for callbacks in ([], [StepGuard()]):
        module = tiny.stage("tlg")
        trainer = tiny.trainer(2, callbacks=callbacks, gradient_clip_val=0.02, **settings)
        with Norms() as norms:
            trainer.fit(module, tiny.data(posters, batch_size=4))
        found.append((dict(module.named_parameters()), norms.count))
    (plain, _), (guarded, count) = found
    assert all(torch.equal(value, plain[name]) for name, value in guarded.items())
    assert count == 2
