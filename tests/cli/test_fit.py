"""Run the stages by the command line on a few posters, in this process; test_run.py starts real processes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch
from checkpoint_reads import counted_reads
from huggingface_hub import ModelCard
from PIL import Image

from vlad_lightning.checkpoints.folder import digest
from vlad_lightning.cli import fit as cli
from vlad_lightning.cli.launcher import main
from vlad_lightning.files import configs_folder
from vlad_lightning.modules import AlignmentModule, VFEModule
from vlad_lightning.pipeline import VLADPipeline

CONFIGS = configs_folder()
STAGE2 = ("--config", str(CONFIGS / "mini/stage2_vfe.yaml"), "--config", str(CONFIGS / "mini/stage2_skip.yaml"))
SHORT = (
    *("--trainer.max_steps", 3, "--trainer.limit_val_batches", 1, "--trainer.limit_test_batches", 1),
    *("--trainer.val_check_interval", 2, "--data.batch_size", 4, "--model.sampler.steps", 2),
)


@pytest.fixture(scope="module")
def run(posters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the shipped pipeline on your own folder, a few steps per stage, without a process for each stage."""
    out = tmp_path_factory.mktemp("run") / "out"
    short = [part if isinstance(part, str) and part.startswith("--") else str(part) for part in SHORT[:-2]]
    few = [f"--{stage}.model.sampler.steps=2" for stage in ("stage1", "stage2", "test")]
    few += [f"--{stage}.model.layout_sampler.steps=2" for stage in ("stage2", "test")]
    few += ["--shipped.steps=2", "--stage2.model.text_probe=4", "--test.model.text_probe=4"]
    few += ["--test.data.test_share=0.4", "--test.data.batch_size=8"]  # enough for words and objects
    command = ("run", "--config", CONFIGS / "pipeline_mini.yaml", "--out", out, "--data", posters, *short, *few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlad_lightning.cli.run._execute", lambda command, log, threads: main(command[3:]))
        # it parses in a process of its own what the stages parse in this one; test_run.py starts it
        patch.setattr("vlad_lightning.cli.run.check_overrides", lambda before, after: None)
        assert main([*map(str, command)]) == 0
    return out


@pytest.mark.slow
@pytest.mark.timeout(900)  # nine stages, one after the other
def test_pipeline_leaves_checkpoints_logs_results_and_a_pipeline(run: Path) -> None:
    for stage in ("stage0", "stage1", "stage2_map", "stage2"):
        saved = torch.load(run / stage / "last.ckpt", weights_only=True)
        assert saved["global_step"] == 3
        assert (run / stage / "csv" / "metrics.csv").read_text().count("\n") > 1
    for stage in ("stage0", "stage1", "stage2"):
        assert list((run / stage).glob("events.out.tfevents.*"))
    results = json.loads((run / "results.json").read_text())["vlad"]
    assert {"word_accuracy", "layout_word_accuracy", "truth_word_accuracy", "clip_score_w1"} <= set(results)
    assert {"truth_object_presence", "alignment_probe_word_replaced", "text_probe_all_text"} <= set(results)
    assert {"human_word_accuracy", "human_overlap", "image_generator_probe_tokens_only"} <= set(results)
    assert {"value", "low", "high", "n"} <= set(results["word_accuracy"])
    assert results["word_accuracy"]["details"]["engine"].startswith("rapidocr")
    assert "fid" not in results
    assert "word_accuracy" in (run / "results.md").read_text()
    assert set(json.loads((run / "per_image.json").read_text())["vlad"]) <= set(results)
    for picture in ("shipped.png", "samples.png", "human_samples.png"):
        Image.open(run / picture).verify()
    assert (run / "pipeline" / "model_index.json").is_file()


@pytest.mark.slow
def test_exported_pipeline_holds_the_averaged_weights(run: Path) -> None:
    saved = torch.load(run / "stage2" / "last.ckpt", weights_only=True)
    pipe = VLADPipeline.from_pretrained(run / "pipeline")
    key = "conv_in.weight"
    assert torch.equal(pipe.unet.state_dict()[key], saved["state_dict"][f"image_generator.vfe.unet.{key}"])
    assert "current_model_state" in saved  # the EMA weights are the state_dict


@pytest.mark.slow
def test_the_exported_pipeline_has_a_card_with_its_test_results(run: Path) -> None:
    card = ModelCard.load(run / "pipeline" / "README.md")
    results = json.loads((run / "results.json").read_text())["vlad"]
    assert card.data.eval_results is not None
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == {
        k: f["value"] for k, f in results.items()
    }
    assert "Optimizer steps of stage 2: 3" in card.text
    assert "| `stage0` | AlignmentModule | " in card.text
    assert (run / "pipeline" / "images" / "samples.png").is_file()
    assert hashlib.sha256((run / "stage2" / "last.ckpt").read_bytes()).hexdigest() in card.text


@pytest.mark.slow
def test_generate_writes_an_image(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.png")
    assert main(["generate", "a poster that says 'HELLO'", f"--model={run}/pipeline", "--out", out, "--steps=2"]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert Image.open(out).size == (64, 64)


@pytest.mark.slow
def test_the_command_line_overrides_the_checkpoint(run: Path, posters: Path, tmp_path: Path) -> None:
    """Lightning lets a checkpoint's hyper-parameters override the command line; our checkpoints have none."""
    alone = tmp_path / "alone.ckpt"
    shutil.copy(run / "stage2" / "last.ckpt", alone)
    options = [
        *SHORT,
        "--data.root",
        posters,
        "--ckpt_path",
        alone,
        "--trainer.logger",
        "false",
        "--trainer.callbacks=[]",
    ]
    args = ["test", *STAGE2, *options, "--out", tmp_path / "elsewhere", "--trainer.default_root_dir", tmp_path]
    plain = cli.build([*map(str, args)], run=True).model
    guided = cli.build([*map(str, args), "--model.sampler.guidance_scale", "1.5"], run=True).model
    assert isinstance(plain, VFEModule)
    assert isinstance(guided, VFEModule)
    assert plain.sampler.guidance_scale == 3.0
    assert guided.sampler.guidance_scale == 1.5
    assert plain.sampler.steps == guided.sampler.steps == 2
    first, second = (dict(module.named_parameters()) for module in (plain, guided))
    saved = torch.load(alone, weights_only=True)["state_dict"]
    assert all(torch.equal(value, second[key]) and torch.equal(value, saved[key]) for key, value in first.items())
    with torch.no_grad():
        images = [module.draw(["'HI'"], ["k"]).images for module in (plain, guided)]
    assert not torch.equal(*images)


@pytest.mark.slow
def test_predict_writes_an_image_and_its_layout_for_each_prompt(run: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a poster that says 'HELLO'\na red circle\n")
    config = ("--config", str(CONFIGS / "generate.yaml"), "--data.file", str(prompts), "--model.sampler.steps", "2")
    checkpoint = ("--ckpt_path", str(run / "stage2" / "last.ckpt"))
    root = ("--trainer.default_root_dir", str(tmp_path))
    assert main(["predict", *STAGE2, *config, *checkpoint, *root, "--out", str(tmp_path / "out")]) == 0
    images = tmp_path / "out" / "images"
    assert sorted(path.name for path in images.iterdir()) == [
        f"prompt_0000{i}.{suffix}" for i in range(2) for suffix in ("json", "png")
    ]
    assert [word["text"] for word in json.loads((images / "prompt_00000.json").read_text())["words"]] == ["HELLO"]


def failing(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Return the error of a command that must end with code 2."""
    try:
        code = main([*map(str, args)])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    return capsys.readouterr().err


def test_empty_data_folder_is_refused_from_any_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    config = ("--config", "configs/mini/stage0_align.yaml", "--out", tmp_path / "out")
    error = failing(capsys, "fit", *config, "--data.root", tmp_path / "empty")
    assert str(tmp_path / "empty") in error
    assert "sample" in error
    error = failing(capsys, "fit", *config, "--data.root", tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in error


@pytest.fixture(scope="module")
def stage0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint of stage 0, and of the tiny shape."""
    path = tmp_path_factory.mktemp("other") / "stage0.ckpt"
    trainer = tiny.trainer()
    trainer.strategy.connect(tiny.alignment())
    trainer.save_checkpoint(path)
    return path


def test_checkpoint_of_another_stage_is_refused(
    posters: Path, stage0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--out", tmp_path, "--data.root", posters, "--ckpt_path", stage0, "--trainer.default_root_dir", tmp_path)
    error = failing(capsys, "test", *STAGE2, *rest)
    assert f"{stage0} does not fit VFEModule of this config; it is of another stage or shape" in error


def test_checkpoint_of_another_shape_is_refused(
    posters: Path, stage0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--out", tmp_path, "--data.root", posters, "--ckpt_path", stage0, "--trainer.default_root_dir", tmp_path)
    error = failing(capsys, "validate", "--config", CONFIGS / "mini/stage0_align.yaml", *rest)
    assert f"{stage0} does not fit AlignmentModule of this config" in error


def test_earlier_stage_that_is_missing_or_of_another_shape_is_refused(
    posters: Path, stage0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--data.root", posters, "--trainer.logger", "false", "--out", tmp_path)
    config = ("--config", CONFIGS / "mini/stage1_tlg.yaml")
    error = failing(capsys, "fit", *config, *rest)
    assert f"checkpoint='{tmp_path}/stage0/last.ckpt' does not exist; train the earlier stage first" in error
    (tmp_path / "stage0").mkdir()
    shutil.copy(stage0, tmp_path / "stage0" / "last.ckpt")
    error = failing(capsys, "fit", *config, *rest)
    assert "'prompt_encoder' does not fit 'generator.prompt_encoder' of this config" in error


def test_missing_checkpoint_is_refused(posters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ("--out", tmp_path, "--data.root", posters, "--ckpt_path", tmp_path / "no.ckpt")
    error = failing(capsys, "test", *STAGE2, *rest, "--trainer.logger", "false", "--trainer.default_root_dir", tmp_path)
    assert str(tmp_path / "no.ckpt") in error


FIT = ("fit", "--config", CONFIGS / "mini/stage0_align.yaml", "--trainer.limit_val_batches", 0, "--ckpt_path", "last")
QUIET = ("--trainer.logger", "false", "--trainer.callbacks=[]", "--trainer.enable_progress_bar", "false")


def fit_code(*args: object) -> int:
    try:
        return main([*map(str, args)])
    except SystemExit as ended:
        return int(str(ended.code))


@pytest.mark.no_cover
@pytest.mark.slow
def test_one_command_starts_and_resumes_and_refuses_differences(
    posters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "out", tmp_path / "out" / "stage0"
    root = shutil.copytree(posters, tmp_path / "posters")
    command = (
        *(*FIT, *QUIET, "--out", out, "--data.root", root, "--trainer.default_root_dir", tmp_path),
        *("--data.batch_size", 4, "--checkpoints.every_n_steps", 1, "--checkpoints.asynchronous", "true"),
    )

    def step() -> int:
        return int(torch.load(folder / "last.ckpt", weights_only=True)["global_step"])

    assert fit_code(*command, "--trainer.max_steps", 2) == 0  # no checkpoint: from the start
    assert step() == 2
    (tmp_path / "other" / "stage0").mkdir(parents=True)
    shutil.copy(folder / "last.ckpt", tmp_path / "other" / "stage0" / "last.ckpt")
    # resumed on a moved folder, with more steps: both may change
    out.rename(tmp_path / "moved")
    out, folder = tmp_path / "moved", tmp_path / "moved" / "stage0"
    moved = ("--out", out, "--trainer.max_steps")
    assert fit_code(*command, *moved, 3) == 0
    assert step() == 3
    assert sorted(path.name for path in folder.glob("*.ckpt")) == [
        *("last.ckpt", "step-000000002.ckpt", "step-000000003.ckpt")
    ]
    capsys.readouterr()
    assert fit_code(*command, *moved, 4, "--data.batch_size", 8, "--model.optimization.lr", 0.5, "--data.seed", 3) == 2
    error = capsys.readouterr().err
    assert [line.split() for line in error.splitlines()[-5:-1]][1] == ["data.batch_size", "4", "8"]
    assert "--resume.allow_changes '[data.batch_size, data.seed, model.optimization.lr]'" in error
    assert step() == 3
    allowed = ("--resume.allow_changes", "[data.batch_size, data.seed, 'model.optimization.*']")
    changed = ("--data.batch_size", 8, "--model.optimization.lr", 0.0005, "--data.seed", 3)
    assert fit_code(*command, *moved, 4, *changed, *allowed) == 0
    assert step() == 4
    # other captions, as long as the ones before
    captions = sorted(root.glob("*/*/caption.txt"))
    for caption in captions:
        caption.write_text(caption.read_text().swapcase())
    assert fit_code(*command, *moved, 5, *changed, *allowed) == 2
    assert "the caption.txt in " in (error := capsys.readouterr().err.splitlines()[-1])
    assert error.endswith("put them back, or allow it: --resume.allow_changes data.content")
    assert step() == 4
    for caption in captions:
        caption.write_text(caption.read_text().swapcase())
    # damaged: the earlier one is used, with the configuration that it had
    last = folder / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    with pytest.warns(UserWarning, match=r"last.ckpt is damaged.*step-000000003.ckpt is taken in its place"):
        assert fit_code(*command, *moved, 4) == 0
    assert step() == 4
    # the next stage starts from it, and resumes without it
    later = [CONFIGS / "mini/stage1_tlg.yaml" if part == FIT[2] else part for part in command]
    settings = {"part": "generator.prompt_encoder", "checkpoint": str(last), "source": "prompt_encoder"}
    start = [{"class_path": "vlad_lightning.callbacks.InitFrom", "init_args": settings}]
    later += ["--out", out, f"--trainer.callbacks={json.dumps(start)}", "--trainer.max_steps"]
    assert fit_code(*later, 1) == 0
    last.rename(tmp_path / "last.ckpt")
    assert fit_code(*later, 2) == 0
    (tmp_path / "last.ckpt").rename(last)
    kept = torch.load(out / "stage1" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 2
    assert kept["callbacks"]["InitFrom[generator.prompt_encoder]"]["sha256"] == digest(last)
    # of another run: not resumed, and not removed without permission
    another = (*command, *moved, 1, "--checkpoints.run", "another")
    capsys.readouterr()
    with pytest.warns(UserWarning, match="are of another run"):
        assert fit_code(*another) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{folder} holds checkpoints of an earlier fit, up to step 4" in error
    assert "--checkpoints.overwrite true" in error
    assert step() == 4
    with pytest.warns(UserWarning, match="are of another run"):
        assert fit_code(*another, "--checkpoints.overwrite", "true") == 0
    assert step() == 1


def test_a_resume_reads_its_checkpoint_no_more_than_needed(posters: Path, tmp_path: Path) -> None:
    command = (*FIT, *QUIET, "--data.root", posters, "--out", tmp_path, "--trainer.default_root_dir", tmp_path)
    assert fit_code(*command, "--trainer.max_steps", 1, "--data.batch_size", 4) == 0
    size = (tmp_path / "stage0" / "last.ckpt").stat().st_size
    with counted_reads() as reads:
        assert fit_code(*command, "--trainer.max_steps", 2, "--data.batch_size", 4) == 0
    assert reads.openings == 4  # once for the checksum, twice for the header, once for the whole file
    assert reads.size / size == pytest.approx(2.1, abs=0.1)


@pytest.mark.parametrize(("presses", "code"), [(1, 75), (2, 130)])
def test_ctrl_c_saves_and_says_how_to_go_on_and_a_second_one_ends_at_once(
    presses: int,
    code: int,
    posters: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def press(*_: Any) -> None:
        for number in [signal.SIGINT] * presses:
            signal.raise_signal(number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = (*FIT, *QUIET, "--data.root", posters, "--out", tmp_path, "--trainer.default_root_dir", tmp_path)
    few = ("--data.batch_size", 4, "--trainer.max_steps", 3)
    last = tmp_path / "stage0" / "last.ckpt"
    try:
        with monkeypatch.context() as pressed:
            pressed.setattr(AlignmentModule, "on_train_batch_start", press)
            assert fit_code(*command, *few) == code
    finally:
        signal.signal(signal.SIGINT, before)  # afterwards Lightning ignores it
    error = capsys.readouterr().err
    assert last.exists() == (presses == 1)
    if presses == 2:
        assert "vlad-cli fit: interrupted" in error
        return
    assert f"saved: {last}" in error
    pasted = shlex.split(error.split("to go on: vlad-cli ")[1].splitlines()[0])
    assert fit_code(*pasted) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 3


def test_fit_names_a_checkpoint_that_it_cannot_use(
    posters: Path, stage0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = (*QUIET, "--out", tmp_path, "--data.root", posters, "--trainer.default_root_dir", tmp_path, "--ckpt_path")
    config = ("--config", CONFIGS / "mini/stage0_align.yaml")
    assert f"checkpoint {tmp_path}/no.ckpt does not exist" in failing(capsys, "fit", *config, *rest, "{out}/no.ckpt")
    (tmp_path / "garbage.ckpt").write_bytes(b"not a checkpoint")
    assert "garbage.ckpt is damaged" in failing(capsys, "fit", *config, *rest, tmp_path / "garbage.ckpt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.ckpt")
    error = failing(capsys, "fit", *config, *rest, tmp_path / "foreign.ckpt")
    assert "foreign.ckpt is no checkpoint of Lightning" in error
    error = failing(capsys, "fit", "--config", CONFIGS / "mini/stage1_tlg.yaml", *rest, stage0)
    assert f"{stage0} does not fit TLGModule of this config; it is of another stage or shape" in error
    error = failing(capsys, "test", *config, *rest, "last")
    assert f"--ckpt_path last: there is no checkpoint in {tmp_path}/stage0" in error


def test_unknown_ocr_engine_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(
        "model: {init_args: {evaluation: {ocr_engine: "
        "{class_path: vlad_lightning.metrics.ocr_engine.build_ocr_engine, init_args: {name: tesserocr}}}}}"
    )
    error = failing(capsys, "test", *STAGE2, "--config", path)
    assert "tesserocr" in error
    assert "rapidocr" in error


def test_missing_weights_are_refused(posters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ("--config", CONFIGS / "mini/test.yaml", "--out", tmp_path, "--data.root", posters)
    lost = tmp_path / "lost.ckpt"
    error = failing(capsys, "test", *STAGE2, *rest, f"--model.evaluation.evaluation_encoder.checkpoint={lost}")
    assert f"checkpoint='{lost}' does not exist; it must be that of a stage-0 run" in error
    path = tmp_path / "inception.yaml"
    path.write_text(
        "model: {init_args: {evaluation: {ocr_engine: "
        "{class_path: vlad_lightning.metrics.ocr_engine.build_ocr_engine, init_args: {name: rapidocr}}, "
        "distance: {network: {class_path: vlad_lightning.metrics.fid.InceptionNetwork, "
        "init_args: {weights: nowhere.pth}}}}}}"
    )
    error = failing(capsys, "test", *STAGE2, "--config", path, "--data.root", posters)
    assert "weights='nowhere.pth' does not exist" in error


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_as_its_export_with_the_configuration_that_the_fit_wrote(
    run: Path, tmp_path: Path
) -> None:
    checkpoint, config = run / "stage2/last.ckpt", run / "stage2/config.yaml"
    words = ["export", "--config", config, "--checkpoint", checkpoint, "--folder", tmp_path / "pipeline"]
    words += ["--trainer.accelerator", "cuda", "--trainer.devices", 8]  # another machine's
    assert main([*map(str, words)]) == 0
    index = json.loads((tmp_path / "pipeline" / "model_index.json").read_text())
    assert index["nouns"] == []  # of folders, it is not known what they show
    (tmp_path / "prompts.txt").write_text("a poster that says 'HELLO'\na red star\n")
    for name, model in (("trained", checkpoint), ("exported", tmp_path / "pipeline")):
        words = ["evaluate", "generate", "--model", model, "--out", tmp_path / name, "--steps", 2]
        assert main([*map(str, words), "--prompts", str(tmp_path / "prompts.txt")]) == 0
    for image in ("0_0.png", "1_0.png"):
        trained, exported = (Image.open(tmp_path / name / "images" / image) for name in ("trained", "exported"))
        assert trained.tobytes() == exported.tobytes()
        assert trained.info["seed"] == exported.info["seed"]
    told = json.loads((tmp_path / "trained" / "generation.json").read_text())
    assert told["system"].endswith("stage2/last.ckpt")
    assert len(told["weights_sha256"]) == 64


def test_evaluate_refuses_a_checkpoint_that_it_cannot_open(
    stage0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("a red star\n")
    rest = ("--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "out")
    error = failing(capsys, "evaluate", "generate", "--model", tmp_path / "no.ckpt", *rest)
    assert f"--model {tmp_path / 'no.ckpt'} does not exist" in error
    (tmp_path / "alone.ckpt").write_bytes(b"x")
    error = failing(capsys, "evaluate", "generate", "--model", tmp_path / "alone.ckpt", *rest)
    assert "config.yaml does not exist; name the checkpoint's configuration by --config FILE" in error
    config = ("--config", CONFIGS / "mini/stage0_align.yaml")
    error = failing(capsys, "evaluate", "generate", "--model", stage0, *config, *rest)
    assert "the configuration builds AlignmentModule; allowed are systems that generate images" in error
    error = failing(capsys, "evaluate", "generate", "--model", stage0, *STAGE2, *rest)
    assert "does not fit VFEModule" in error
    error = failing(capsys, "evaluate", "generate", "--model", "vlad-mini", *STAGE2, *rest)
    assert "it belongs to a checkpoint, and --model is vlad-mini" in error
    error = failing(capsys, "export", "--checkpoint", stage0, "--folder", tmp_path / "new", *STAGE2, "--ckpt_path", "x")
    assert "--ckpt_path has no effect here" in error
    assert not (tmp_path / "out").exists()


def test_export_refuses_unusable_arguments(stage0: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ("--folder", tmp_path / "new")
    error = failing(capsys, "export", "--checkpoint", tmp_path / "no.ckpt", *folder, *STAGE2)
    assert f"--checkpoint {tmp_path / 'no.ckpt'} does not exist" in error
    error = failing(capsys, "export", "--checkpoint", stage0, *folder, *STAGE2)
    assert "does not fit VFEModule" in error
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"not a checkpoint")
    error = failing(capsys, "export", "--checkpoint", broken, *folder, *STAGE2)
    assert f"{broken} is damaged: truncated, or no checkpoint" in error
    config = ("--config", CONFIGS / "mini/stage0_align.yaml")
    error = failing(capsys, "export", "--checkpoint", stage0, *folder, *config)
    assert "the config builds AlignmentModule; export needs stage 2, VFEModule" in error
    error = failing(capsys, "export", "--checkpoint", stage0, *STAGE2)
    assert "nothing to write: name --folder or --lora-folder" in error
    error = failing(capsys, "export", "--checkpoint", stage0, "--lora-folder", tmp_path / "lora", *STAGE2)
    assert "--lora-folder: the config trains the whole unet, vfe.lora is null" in error
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("precious")
    error = failing(capsys, "export", "--checkpoint", stage0, "--folder", tmp_path / "mine", *STAGE2)
    assert "holds something else than an earlier export" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.ckpt", "mine"]


def test_interpolate_replaces_names_in_every_text() -> None:
    config = {"a": "{out}/x{stage}{other}", "b": ["{out}", 3, {"c": "y{out}"}], "d": ("{out}", None), "e": 1.5}
    assert cli.interpolate(config, {"out": "runs/z", "stage": "s{out}"}) == {
        "a": "runs/z/xs{out}{other}",
        "b": ["runs/z", 3, {"c": "yruns/z"}],
        "d": ("runs/z", None),
        "e": 1.5,
    }


def test_contradicting_settings_are_one_line(posters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--config", CONFIGS / "mini/stage0_align.yaml", "--out", tmp_path, "--data.root", posters)
    bar = '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.RichProgressBar"}]'
    error = failing(capsys, "fit", *config, bar, "--trainer.enable_progress_bar", "false")
    assert "enable_progress_bar=False" in error.splitlines()[-1]


def test_a_fit_without_checkpoints_writes_none(posters: Path, tmp_path: Path) -> None:
    config = ("--config", CONFIGS / "mini/stage0_align.yaml", "--data.root", posters, "--data.batch_size", 4)
    short = ("--trainer.max_steps", 1, "--trainer.limit_val_batches", 0, "--out", tmp_path)
    without = ("--trainer.enable_checkpointing", "false", "--trainer.enable_progress_bar", "false")
    assert main([*map(str, ("fit", *config, *short, *without))]) == 0
    assert (tmp_path / "stage0").is_dir()
    assert not list(tmp_path.rglob("*.ckpt"))
