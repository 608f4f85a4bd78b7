"""Every shipped YAML parses as it is used, leaves no `{out}` unfilled, and builds.

To parse a stage takes jsonargparse about a second, and longer where it is traced. So most of these tests are
not: the others, tests/cli/test_fit.py and tests/cli/test_config_parser.py go the same ways.
"""

from __future__ import annotations

import contextlib
import io
import json
import pydoc
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import SD3Transformer2DModel
from lightning.pytorch.strategies import DDPStrategy

from vlad_lightning.cli import fit as cli
from vlad_lightning.cli.stages import read_pipeline
from vlad_lightning.data.requests import RequestDataModule
from vlad_lightning.diffusion.objective import DDPM, FlowMatching, objective_for
from vlad_lightning.files import configs_folder
from vlad_lightning.generation import LayoutGenerator
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.models.autoencoder import LinearAutoencoder
from vlad_lightning.modules import AlignmentModule, TLGModule, VFEModule
from vlad_lightning.strategies import ShardedStrategy

CONFIGS = configs_folder()
PIPELINES = sorted([*CONFIGS.rglob("pipeline_*.yaml"), *CONFIGS.glob("table*.yaml")])
Command = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Subcommand, configuration files, further arguments."""

FURTHER = 320 * 8 * 3 * 3
"""Columns of a published UNet's first layer that read the layout and the text."""
STAGES = ("stage0_align", "stage1_tlg", "stage2_vfe")
CLUSTER = ("ddp", "ddp_bf16", "fsdp", "hsdp")
BY_HAND: list[Command] = [
    ("fit", ("stage0_align.yaml",), ()),
    ("fit", ("stage1_tlg.yaml",), ()),
    ("fit", ("stage2_vfe.yaml",), ()),
    ("fit", ("stage2_vfe.yaml", "stage2_vfe_dit.yaml"), ()),
    ("fit", ("mini/stage2_vfe.yaml", "mini/stage2_vfe_dit.yaml"), ()),
    ("test", ("mini/stage2_vfe.yaml", "mini/stage2_vfe_dit.yaml", "mini/test.yaml"), ()),
    ("test", ("stage2_vfe.yaml", "test.yaml"), ()),
    ("fit", ("rich/distillation.yaml",), ()),
    ("test", ("rich/distillation.yaml", "mini/test.yaml"), ()),
    ("fit", ("baselines/sd.yaml",), ()),
    ("fit", ("baselines/sd.yaml", "baselines/sd_finetuned.yaml"), ()),
    ("test", ("baselines/sd.yaml", "baselines/sd_finetuned.yaml", "baselines/test.yaml"), ()),
    ("fit", ("baselines/artist_text.yaml",), ()),
    ("fit", ("baselines/artist.yaml",), ()),
    ("test", ("baselines/artist.yaml", "baselines/test.yaml"), ()),
    ("fit", ("baselines/deepfloyd.yaml",), ()),
    ("fit", ("baselines/paper/sd15_finetuned.yaml",), ()),
    ("test", ("baselines/deepfloyd.yaml", "baselines/test.yaml"), ()),
    ("fit", ("baselines/sd.yaml", "baselines/controlnet.yaml"), ()),
    *[
        ("test", ("baselines/sd.yaml", "baselines/controlnet.yaml", "baselines/test.yaml", *more), ())
        for more in ((), ("baselines/oracle_layouts.yaml",))
    ],
    *[("fit", (f"baselines/textdiffuser{part}.yaml",), ()) for part in ("_segmenter", "_layout", "")],
    ("test", ("baselines/textdiffuser.yaml", "baselines/test.yaml"), ()),
    *[
        ("fit", ("mini/stage2_vfe.yaml", f"ablations/latent_autoencoder/{fusion}.yaml"), ())
        for fusion in ("wide", "narrow")
    ],
    ("predict", ("stage2_vfe.yaml", "generate.yaml"), ()),
    *[("fit", (f"{size}/{name}.yaml",), ()) for size in ("sd21", "sdxl") for name in STAGES],
    *[("fit", (f"{size}stage1_tlg.yaml", "grounded/stage1_tlg.yaml"), ()) for size in ("", "sd21/", "sdxl/")],
    *[("fit", (f"{size}stage2_vfe.yaml", "grounded/stage2_vfe.yaml"), ()) for size in ("", "sd21/", "sdxl/")],
    ("test", ("stage2_vfe.yaml", "grounded/stage2_vfe.yaml", "test.yaml"), ()),
    *[("fit", (f"{n}.yaml", f"encoders/{e}/{n}.yaml"), ()) for e in ("siglip2", "qwen2_5_vl") for n in STAGES],
    ("predict", ("mini/stage2_vfe.yaml", "generate.yaml"), ("--data.file", "prompts.txt")),
    ("predict", ("mini/stage2_vfe.yaml", "template.yaml"), ("--data.file", "prompts.jsonl")),
    ("predict", ("mini/stage2_vfe.yaml", "mini/stage2_inpaint.yaml", "inpaint.yaml"), ("--data.file", "a.jsonl")),
    ("fit", ("stage2_vfe.yaml", "stage2_inpaint.yaml"), ()),
    *[("fit", (f"{stage}.yaml", f"cluster/{c}.yaml"), ()) for stage in STAGES for c in CLUSTER],
    ("predict", ("stage2_vfe.yaml", "stage2_inpaint.yaml", "inpaint.yaml"), ()),
    (
        "fit",
        (
            "mini/stage2_vfe.yaml",
            *(f"rich/{name}.yaml" for name in ("stage2_vfe", "stage2_joined", "finetune", "finetune_lora")),
        ),
        ("--data.root", "mine"),
    ),
]


def of_pipelines() -> list[Command]:
    """What the stages of the shipped pipelines parse."""
    stages = [stage for path in PIPELINES for stage in read_pipeline(path).stages if stage.config]
    found = [(s.command, tuple(str(path.relative_to(CONFIGS)) for path in s.config), s.args) for s in stages]
    return [command for command in found if command[0] != "export"]


COMMANDS = BY_HAND + of_pipelines()


def parsed(command: Command) -> dict[str, Any]:
    """The configuration as `--print_config` shows it; nothing is built."""
    return dict(yaml.safe_load(printed(command)))


@cache
def printed(command: Command) -> str:
    files = [part for name in command[1] for part in ("--config", str(CONFIGS / name))]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        cli.build([command[0], *files, *command[2], "--print_config"], run=True)
    assert ended.value.code == 0
    return out.getvalue()


def test_every_shipped_file_is_used() -> None:
    used = {CONFIGS / name for _, names, _ in COMMANDS for name in names} | set(PIPELINES) | {CONFIGS / "base.yaml"}
    assert used == set(CONFIGS.rglob("*.yaml"))


def test_samples_are_kept_where_they_are_read_again() -> None:
    joined = ("mini/stage2_vfe.yaml", "rich/stage2_vfe.yaml", "rich/stage2_joined.yaml")
    for files, kept in (
        (("mini/stage2_vfe.yaml",), 500),
        (joined, 0),  # posters are drawn as they are read, and hardly one comes twice
        ((*joined, "rich/finetune.yaml"), 500),
        (("stage2_vfe.yaml",), 0),
    ):
        assert parsed(("fit", files, ()))["data"]["init_args"]["keep_in_memory"] == kept


@pytest.mark.no_cover
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c[0]} {' '.join(c[1])}")
def test_every_command_parses(command: Command) -> None:
    config = parsed(command)
    assert config["trainer"]["precision"] == "bf16-mixed"  # configs/base.yaml lies beneath
    assert "{out}" in str(config)
    assert "{" not in str(strings(cli.interpolate(config, cli.names_of(config))))
    assert config["data"]["class_path"].startswith("vlad_lightning.data.")
    if command[0] == "fit":  # a stage's checkpoints lie beside its logs
        loggers = {f"{{out}}/{logger['init_args']['name']}" for logger in config["trainer"]["logger"]}
        assert loggers == {config["checkpoints"]["folder"]}
        assert config["checkpoints"]["every_n_steps"] < config["trainer"]["max_steps"]
        assert not [c for c in config["trainer"]["callbacks"] if "Checkpoint" in c["class_path"]]


def names(config: dict[str, Any], key: str) -> list[str]:
    return [part["class_path"].rpartition(".")[2] for part in config["trainer"][key]]


LOGGERS = ["PatientTensorBoardLogger", "PatientCSVLogger"]
WEIGHTS = ["FromPretrained", "FromPretrained"]
STARTS = ["InitFrom", "InitFrom", "InitFrom", "EMA", "SampleGrid"]


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("files", "stage", "callbacks"),
    [
        (("mini/stage0_align.yaml",), "stage0", []),
        (("mini/stage0_align.yaml", "mini/evaluation_encoder.yaml"), "evaluation_encoder", []),
        (("mini/object_detector.yaml",), "objects", []),
        (("mini/stage1_tlg.yaml",), "stage1", ["InitFrom", "EMA", "SampleGrid"]),
        (("mini/stage2_vfe.yaml",), "stage2", STARTS),
        (
            ("mini/stage2_vfe.yaml", "mini/stage2_map.yaml"),
            "stage2_map",
            ["InitFrom", "InitFrom", "EMA"],
        ),
        (
            ("mini/stage2_vfe.yaml", "mini/stage2_after_map.yaml"),
            "stage2",
            ["InitFrom", *STARTS],
        ),
        (("stage0_align.yaml",), "stage0", [*WEIGHTS, "TokenizerFromPretrained"]),
        (("sdxl/stage0_align.yaml",), "stage0", [*WEIGHTS, "FromPretrained", "TokenizerFromPretrained"]),
        (("stage1_tlg.yaml", "cluster/ddp.yaml"), "stage1", ["InitFrom", "EMA", "SampleGrid"]),
        (("stage2_vfe.yaml",), "stage2", [*WEIGHTS, "SameSchedule", *STARTS]),
    ],
)
def test_a_stage_gives_only_its_name_and_callbacks_and_base_the_rest(
    files: tuple[str, ...], stage: str, callbacks: list[str]
) -> None:
    config = parsed(("fit", files, ()))
    assert names(config, "callbacks") == ["LearningRateMonitor", *callbacks]
    assert names(config, "logger") == LOGGERS
    filled = cli.interpolate(config, cli.names_of(config))
    assert filled["checkpoints"]["folder"] == f"{config['out']}/{stage}"
    assert [logger["init_args"]["name"] for logger in filled["trainer"]["logger"]] == [stage, stage]


@pytest.mark.no_cover
def test_callbacks_and_loggers_of_ones_own_are_appended_or_take_the_place_of_the_shipped_ones(tmp_path: Path) -> None:
    def given(text: str, *more: str) -> dict[str, Any]:
        own = tmp_path / f"own_{len(list(tmp_path.iterdir()))}.yaml"
        own.write_text(text)
        return parsed(("fit", ("mini/stage1_tlg.yaml", str(own)), more))

    shipped, timer = ["LearningRateMonitor", "InitFrom", "EMA", "SampleGrid"], "lightning.pytorch.callbacks.Timer"
    own = given(f"trainer: {{callbacks+: [{{class_path: {timer}}}]}}", "--trainer.callbacks+", f"class_path: {timer}")
    assert names(own, "callbacks") == [*shipped, "Timer", "Timer"]
    own = given("trainer: {callbacks: [{class_path: vlad_lightning.health.EMA}]}", "--stage", "mine")
    assert names(own, "callbacks") == ["EMA"]
    assert own["stage"] == "mine"
    assert names(own, "logger") == LOGGERS
    logger = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: x}}"
    own = given(f"trainer: {{logger: {logger}, callbacks: null}}")
    assert own["trainer"]["logger"]["class_path"] == "lightning.pytorch.loggers.CSVLogger"
    assert own["trainer"]["callbacks"] is None


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "files",
    [
        ("stage2_vfe.yaml", "stage2_inpaint.yaml"),
        ("mini/stage2_vfe.yaml", "ablations/from_demo.yaml"),
        ("stage0_align.yaml", "encoders/siglip2/stage0_align.yaml"),
    ],
)
@pytest.mark.parametrize("typed", [False, True])
def test_callbacks_of_a_later_list_inherit_nothing_from_those_of_the_one_before(
    files: tuple[str, str], typed: bool, tmp_path: Path
) -> None:
    listed = yaml.safe_load((CONFIGS / files[1]).read_text())["trainer"]["callbacks"]
    later = f"--trainer.callbacks={json.dumps(listed)}"
    config = parsed(("fit", files[:1], (later,)) if typed else ("fit", files, ()))
    assert [callback["init_args"] for callback in config["trainer"]["callbacks"]] == [
        {**defaults(callback["class_path"]), **callback.get("init_args", {})} for callback in listed
    ]


def defaults(class_path: str) -> dict[str, Any]:
    parameters = signature(pydoc.locate(class_path)).parameters  # type: ignore[arg-type]
    return {name: parameter.default for name, parameter in parameters.items()}


@pytest.mark.no_cover
@pytest.mark.parametrize("callbacks", ["null", "[]", "vlad_lightning.health.EMA", None])
def test_a_fit_without_a_logger_has_no_monitor_of_what_is_logged(callbacks: str | None, tmp_path: Path) -> None:
    config = ["--config", str(CONFIGS / "mini/stage0_align.yaml"), "--out", str(tmp_path), "--trainer.logger=false"]
    given = [] if callbacks is None else [f"--trainer.callbacks={callbacks}"]
    trainer = cli.build([*config, *given], run=False).trainer
    assert trainer.loggers == []
    kinds = {type(callback).__name__ for callback in trainer.callbacks}  # type: ignore[attr-defined]
    assert "LearningRateMonitor" not in kinds
    assert ("EMA" in kinds) == (callbacks == "vlad_lightning.health.EMA")
    assert "Checkpoints" in kinds


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.no_cover
@pytest.mark.slow
def test_overlays_change_only_the_expected_keys() -> None:
    plain = parsed(("fit", ("mini/stage2_vfe.yaml",), ()))
    for name, changed in (
        ("wo_ccm/stage2", "composition"),
        ("wo_hierarchical_guidance/stage2", "layout"),
        ("narrow_fusion/stage2", "fusion"),
        ("word_boxes_only/stage2", "phrase_map"),
        ("latent_autoencoder/wide", "LinearAutoencoder"),
        ("latent_autoencoder/narrow", "LinearAutoencoder"),
    ):
        other = parsed(("fit", ("mini/stage2_vfe.yaml", f"ablations/{name}.yaml"), ()))
        same = {key: value for key, value in plain["trainer"].items() if key != "callbacks"}
        assert {key: value for key, value in other["trainer"].items() if key != "callbacks"} == same
        assert other["data"] == plain["data"]
        expected = dict(plain["model"]["init_args"])
        if (
            other["model"]["init_args"]["image_generator"]["init_args"]["vfe"]["init_args"]["phrase_map"] is None
        ):  # nothing to be taught
            expected["training"] = {**expected["training"], "map_weight": 0.0, "box_dropout": 0.0}
            expected["optimization"] = {**expected["optimization"], "map_lr": None}
        if other["model"]["init_args"]["layout_generator"] is None:  # nothing to be guided by
            expected["sampler"] = {**expected["sampler"], "layout_scale": 1.0}
        for key, value in expected.items():
            if key not in ("image_generator", "layout_generator"):
                assert other["model"]["init_args"][key] == value
        assert other["model"] != plain["model"]
        assert changed in str(other["model"])


@pytest.mark.no_cover
def test_stages_that_start_from_the_demo_are_trained_as_its_own() -> None:
    plain = parsed(("fit", ("mini/stage2_vfe.yaml",), ()))
    other = parsed(("fit", ("mini/stage2_vfe.yaml", "ablations/from_demo.yaml"), ()))
    assert str(plain.pop("trainer")).replace("{out}/stage0/", "runs/demo/stage0/").replace(
        "{out}/stage1/", "runs/demo/stage1/"
    ) == str(other.pop("trainer"))
    assert other == plain


@pytest.mark.no_cover
def test_cluster_overlays_change_the_strategy_and_its_kernel_and_nothing_else() -> None:
    plain = parsed(("fit", ("stage2_vfe.yaml",), ()))
    for name in CLUSTER:
        other = parsed(("fit", ("stage2_vfe.yaml", f"cluster/{name}.yaml"), ()))
        optimization = other["model"]["init_args"]["optimization"]
        assert optimization["fused"] == (True if name in ("fsdp", "hsdp") else None)
        optimization["fused"] = None
        assert other["trainer"].pop("strategy") != plain["trainer"]["strategy"]
        other["trainer"].pop("num_nodes")
        expected = {k: v for k, v in plain["trainer"].items() if k not in ("strategy", "num_nodes")}
        assert other == {**plain, "trainer": expected}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", CLUSTER)
def test_cluster_overlays_build_their_strategy(name: str) -> None:
    files = [part for n in ("mini/stage1_tlg.yaml", f"cluster/{name}.yaml") for part in ("--config", str(CONFIGS / n))]
    with torch.device("meta"):
        strategy = cli.build(files, run=False).trainer.strategy
    if name.startswith("ddp"):
        assert isinstance(strategy, DDPStrategy)
        assert strategy._ddp_kwargs["find_unused_parameters"]
        assert strategy._ddp_kwargs["gradient_as_bucket_view"]
        assert callable(strategy._ddp_comm_hook) == (name == "ddp_bf16")
    else:
        assert isinstance(strategy, ShardedStrategy)
        assert strategy.replicas == (2 if name == "hsdp" else 1)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("--model.init_args.optimization.lrr=1", "lrr"),
        ("--model.init_args.bogus=1", "bogus"),
        ("--trainer.max_stepz=1", "max_stepz"),
        ("--data.init_args.rooot=x", "rooot"),
    ],
)
def test_wrong_key_ends_with_code_2_and_is_named(wrong: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.build(["fit", "--config", str(CONFIGS / "mini/stage0_align.yaml"), wrong], run=True)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_wrong_key_in_a_file_ends_with_code_2_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("model: {init_args: {image_generator: {init_args: {image_sise: 64}}}}")
    with pytest.raises(SystemExit) as ended:
        cli.build(["fit", "--config", str(CONFIGS / "mini/stage2_vfe.yaml"), "--config", str(path)], run=True)
    assert ended.value.code == 2
    assert "image_sise" in capsys.readouterr().err


def test_class_from_elsewhere_is_refused_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil_module.py").write_text(
        "from pathlib import Path\n"
        "from vlad_lightning.modules import AlignmentModule\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n"
        "class Evil(AlignmentModule): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.yaml").write_text("model: {class_path: evil_module.Evil}")
    for args in (["--config", str(tmp_path / "evil.yaml")], ["--model", "evil_module.Evil"]):
        with pytest.raises(SystemExit) as ended:
            cli.build(["fit", *args], run=True)
        assert ended.value.code == 2
        assert "'evil_module.Evil' is not allowed" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


@cache
def built(*names: str) -> Any:
    """The module of a configuration, on the meta device: no memory, no numbers. It is only looked at."""
    files = [part for name in names for part in ("--config", str(CONFIGS / name))]
    with torch.device("meta"):
        return cli.build(files, run=False).model


def count(module: torch.nn.Module, trained: bool = False) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad or not trained)


def shapes(part: torch.nn.Module) -> dict[str, torch.Size]:
    """Of a part's tensors, by their names without adapters."""
    state = part.state_dict()
    return {
        k.replace(".base_layer.", "."): v.shape for k, v in state.items() if hasattr(v, "shape") and "lora_" not in k
    }


def test_paper_scale_stages_0_and_1_build() -> None:
    stage0, stage1 = built("stage0_align.yaml"), built("stage1_tlg.yaml")
    assert isinstance(stage0, AlignmentModule)
    assert isinstance(stage1, TLGModule)
    assert count(stage0.image_encoder) == 303_966_208  # OpenAI's ViT-L/14 with its projection
    assert count(stage0.image_encoder, trained=True) == 0
    assert (
        count(stage1.generator.prompt_encoder.text_encoder.tower) == 123_650_304
    )  # its text tower with its projection


def test_paper_scale_stage_2_builds_around_the_unet_of_stable_diffusion() -> None:
    module = built("stage2_vfe.yaml")
    assert isinstance(module, VFEModule)
    assert count(module.image_generator.vfe.unet) == 859_520_964 + FURTHER
    assert count(module.image_generator.autoencoder) == 83_653_863  # and its autoencoder
    assert module.image_generator.vfe.unet.device.type == "meta"
    assert count(module.image_encoder, trained=True) == 0


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("size", "unet", "text", "vision"),
    [
        ("sd21", 865_910_724, 354_032_640, 632_076_800),
        ("sdxl", 2_567_463_684, 123_060_480 + 694_659_840, 1_844_907_264),
    ],
)
def test_other_painters_have_the_published_sizes(size: str, unet: int, text: int, vision: int) -> None:
    module = built(f"{size}/stage2_vfe.yaml")
    assert isinstance(module, VFEModule)
    assert count(module.image_generator.vfe.unet) == unet + FURTHER
    assert count(module.image_generator.autoencoder) == 83_653_863
    assert count(module.image_encoder.tower) == vision
    assert module.layout_generator is not None
    assert count(module.layout_generator.prompt_encoder.text_encoder.tower) == text


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "files",
    [
        "{}.yaml",
        "sd21/{}.yaml",
        "sdxl/{}.yaml",
        "{}.yaml encoders/siglip2/{}.yaml",
        "{}.yaml encoders/qwen2_5_vl/{}.yaml",
    ],
)
def test_a_stage_starts_with_the_parts_of_those_before_it(files: str) -> None:
    stage0, stage1, stage2 = (built(*files.replace("{}", name).split()) for name in STAGES)
    assert shapes(stage1.generator.prompt_encoder) == shapes(stage0.prompt_encoder)
    assert shapes(stage2.image_generator.prompt_encoder) == shapes(stage0.prompt_encoder)
    assert shapes(stage2.image_encoder) == shapes(stage0.image_encoder)
    assert shapes(stage2.layout_generator) == shapes(stage1.generator)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("name", "tower", "size", "width"),
    [
        ("siglip2", "SiglipTextModel", 282_303_744, 768),
        ("qwen2_5_vl", "Qwen2_5_VLTextModel", 3_085_938_688, 768),  # the published language model
    ],
)
def test_other_encoders_have_the_width_the_image_generator_attends_to(
    name: str, tower: str, size: int, width: int
) -> None:
    module = built("stage2_vfe.yaml", f"encoders/{name}/stage2_vfe.yaml")
    assert isinstance(module, VFEModule)
    assert module.layout_generator is not None
    encoder = module.layout_generator.prompt_encoder.text_encoder
    assert type(encoder.tower).__name__ == tower
    assert count(encoder.tower) == size
    assert encoder.width == module.image_encoder.width == width


@pytest.mark.no_cover
@pytest.mark.parametrize("size", ["", "sd21/", "sdxl/"])
@pytest.mark.parametrize("lora", [False, True])
def test_published_painters_have_channels_of_the_layouts_own_and_are_guided_by_it(size: str, lora: bool) -> None:
    adapters = ("--model.image_generator.vfe.lora", "{rank: 16, alpha: 16}") if lora else ()
    with torch.device("meta"):
        module = cli.build(["--config", str(CONFIGS / f"{size}stage2_vfe.yaml"), *adapters], run=False).model
    assert isinstance(module, VFEModule)
    columns = module.image_generator.vfe.unet.conv_in
    assert columns.weight.requires_grad == (not lora)
    assert columns.further.requires_grad
    assert len(module.image_generator.vfe.fusion.weight) == module.image_generator.vfe.backbone.in_channels == 12
    assert 1 < module.sampler.layout_scale < module.sampler.guidance_scale


@pytest.mark.no_cover
@pytest.mark.parametrize("size", ["", "sd21/", "sdxl/"])
def test_grounded_phrases_fit_from_stage_to_stage_and_leave_the_published_unet_its_settings(size: str) -> None:
    stage1, stage2, plain = (
        built(f"{size}stage1_tlg.yaml", "grounded/stage1_tlg.yaml"),
        built(f"{size}stage2_vfe.yaml", "grounded/stage2_vfe.yaml"),
        built(f"{size}stage2_vfe.yaml"),
    )
    assert shapes(stage2.layout_generator) == shapes(stage1.generator)
    assert stage2.layout_generator.tlg.slots == 8 + 16
    vfe = stage2.image_generator.vfe
    assert (
        vfe.fusion.config.layout_channels
        == stage2.image_generator.autoencoder.latent_channels + vfe.phrase_map.out_channels
    )
    assert len(vfe.fusion.weight) == vfe.backbone.in_channels == 28
    published, further = vfe.unet.conv_in.weight, vfe.unet.conv_in.further
    assert published.shape == plain.image_generator.vfe.unet.conv_in.weight.shape
    assert (published.shape[1], further.shape[1]) == (4, 28 - 4)
    for stage in ("stage1_tlg.yaml", "stage2_vfe.yaml"):
        config = parsed(("fit", (f"{size}{stage}", f"grounded/{stage}"), ()))
        assert config["data"]["init_args"]["max_objects"] == 16


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "channels", "mapped"), [("narrow_fusion", 12, 19), ("word_boxes_only", 48, 0)])
def test_ablations_of_the_layouts_latent_lack_one_thing_each(name: str, channels: int, mapped: int) -> None:
    vfe = built("mini/stage2_vfe.yaml", f"ablations/{name}/stage2.yaml").image_generator.vfe
    assert len(vfe.fusion.weight) == vfe.backbone.in_channels == channels
    assert (0 if vfe.phrase_map is None else vfe.phrase_map.out_channels) == mapped
    assert vfe.fusion.config.layout_channels == 12 + mapped


def test_mini_stage_2_is_of_about_five_million_parameters() -> None:
    module = built("mini/stage2_vfe.yaml")
    assert isinstance(module, VFEModule)
    assert 3e6 < count(module.image_generator.vfe) < 7e6


@pytest.mark.no_cover
@pytest.mark.parametrize(("fusion", "channels"), [("wide", 12), ("narrow", 4)])
def test_a_latent_autoencoder_of_four_channels_meets_a_wide_and_a_narrow_fusion(fusion: str, channels: int) -> None:
    module, plain = (
        built("mini/stage2_vfe.yaml", *overlay) for overlay in ([f"ablations/latent_autoencoder/{fusion}.yaml"], [])
    )
    vfe = module.image_generator.vfe
    assert isinstance(module.image_generator.autoencoder, LinearAutoencoder)
    assert vfe.fusion.config.latent_channels == 4
    assert len(vfe.fusion.weight) == vfe.backbone.in_channels == channels
    assert count(vfe.unet.down_blocks) == count(plain.image_generator.vfe.unet.down_blocks)


def test_mini_transformer_is_of_the_unets_size_and_trained_by_flow_matching() -> None:
    module = built("mini/stage2_vfe.yaml", "mini/stage2_vfe_dit.yaml")
    assert isinstance(module, VFEModule)
    assert module.image_generator.vfe.unet is None
    assert 4e6 < count(module.image_generator.vfe) < 6e6
    assert isinstance(objective_for(module.image_generator.schedule), FlowMatching)
    assert isinstance(module.layout_generator, LayoutGenerator)
    assert isinstance(objective_for(module.layout_generator.schedule), DDPM)


def test_paper_scale_transformer_is_of_stable_diffusion_3_mediums_size() -> None:
    module = built("stage2_vfe.yaml", "stage2_vfe_dit.yaml")
    assert isinstance(module, VFEModule)
    transformer = module.image_generator.vfe.transformer
    with torch.device("meta"):  # the transformer/config.json of stabilityai/stable-diffusion-3-medium-diffusers
        published = SD3Transformer2DModel(128, 2, 16, 24, 64, 24, 4096, 1536, 2048, 16, 192)
    assert count(transformer.transformer_blocks) == count(published.transformer_blocks)
    assert count(transformer) == pytest.approx(2.0e9, rel=0.05)
    assert transformer.device.type == "meta"
    assert module.image_generator.schedule.config.shift == 3.0


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("scale", "overlays", "region"), [("mini/", ("mini/stage2_skip.yaml",), (48, 13)), ("", (), (12, 5))]
)
def test_inpainting_is_stage_2_with_a_region(scale: str, overlays: tuple[str, ...], region: tuple[int, int]) -> None:
    files = (f"{scale}stage2_vfe.yaml", f"{scale}stage2_inpaint.yaml")
    module, plain = built(*files), built(f"{scale}stage2_vfe.yaml", *overlays)
    assert isinstance(module, VFEModule)
    assert module.image_generator.inpaints
    assert module.masking is not None
    shapes = {key: value.shape for key, value in module.named_parameters()}
    new = {key: shapes.pop(key) for key in list(shapes) if ".inpainting." in key}
    assert shapes == {key: value.shape for key, value in plain.named_parameters()}
    assert new["image_generator.vfe.inpainting.weight"] == region
    started = [
        c["init_args"]["part"]
        for c in parsed(("fit", files, ()))["trainer"]["callbacks"]
        if c["class_path"].endswith("InitFrom")
    ]
    begun = [key for key in module.state_dict() if any(key.startswith(f"{part}.") for part in started)]
    left = {key for key in module.state_dict() if key not in begun}
    assert all(
        key.startswith(("image_generator.vfe.inpainting.", "image_generator.autoencoder.scale")) for key in left
    )  # all else has a start


@pytest.mark.parametrize(("name", "reads_templates"), [("template.yaml", True), ("inpaint.yaml", False)])
def test_prompts_with_files_are_read_as_the_configs_say(name: str, reads_templates: bool, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a sign"}')
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": yaml.safe_load((CONFIGS / name).read_text())["data"]}))
    files = ["--config", str(CONFIGS / "mini/stage2_vfe.yaml"), "--config", str(tmp_path / "data.yaml")]
    with torch.device("meta"):
        data = cli.build([*files, "--data.file", str(prompts), "--out", str(tmp_path)], run=False).datamodule
    assert isinstance(data, RequestDataModule)
    assert isinstance(data.engine, RapidOCREngine) == reads_templates
    data.setup("predict")
    assert [batch.prompts for batch in data.predict_dataloader()] == [("a sign",)]


def test_out_fills_every_text_of_a_built_config() -> None:
    built_cli = cli.build(["--config", str(CONFIGS / "mini/stage1_tlg.yaml"), "--out", "runs/here"], run=False)
    assert built_cli.datamodule.root == "runs/here/data/train"
    callbacks = {type(callback).__name__: callback for callback in built_cli.trainer.callbacks}  # type: ignore[attr-defined]
    assert callbacks["InitFrom"].checkpoint == "runs/here/stage0/last.ckpt"
    assert str(callbacks["Checkpoints"].folder) == "runs/here/stage1"
    assert [logger.save_dir for logger in built_cli.trainer.loggers] == ["runs/here"] * 2
    assert built_cli.config.trainer.use_distributed_sampler is False  # the data modules deal to the devices
