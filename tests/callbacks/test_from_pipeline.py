from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_system as tiny
import torch
from torch import Tensor, nn

from vlad_lightning.callbacks import FromPipeline
from vlad_lightning.callbacks.init_from import provenance
from vlad_lightning.cli.launcher import main
from vlad_lightning.files import configs_folder
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.modules import VFEModule
from vlad_lightning.pipeline import VLADPipeline

PROMPT = "a red circle and 'HI'"


def module(seed: int, lora: Lora | None = None, layouts: bool = True, **changes: object) -> VFEModule:
    """Build a system without an image encoder whose weights come from ``seed``, those that start at zero too."""
    torch.manual_seed(seed)
    image_generator = tiny.image_generator(**changes)  # type: ignore[arg-type]
    built = VFEModule(image_generator, None, tiny.layout_generator() if layouts else None, optimization=tiny.FAST)
    for weight in built.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    if lora:
        vfe = image_generator.vfe
        image_generator.vfe = VFE(vfe.fusion, vfe.unet, lora=lora, phrase_map=vfe.phrase_map)
    return built


def image(pipe: VLADPipeline) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    found = pipe(PROMPT, generator=generator, num_inference_steps=2, output_type="pt").images
    assert isinstance(found, Tensor)
    return found


def fill(part: VFEModule, source: Path | str, stage: str = "fit") -> None:
    FromPipeline(str(source)).setup(tiny.trainer(), part, stage)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline")
    VLADPipeline.from_module(module(1)).save_pretrained(path)
    return path


@pytest.fixture
def broken(tmp_path: Path, folder: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "broken"))


@pytest.mark.parametrize("lora", [None, tiny.LORA], ids=["whole", "lora"])
def test_a_filled_module_generates_what_the_folder_does(lora: Lora | None, folder: Path) -> None:
    other = module(2, lora)
    before = image(VLADPipeline.from_module(other))
    fill(other, folder)
    expected = image(VLADPipeline.from_pretrained(str(folder)))
    assert not torch.equal(before, expected)
    assert torch.equal(image(VLADPipeline.from_module(other)), expected)


def test_a_module_without_layouts_leaves_those_of_the_folder_out(folder: Path) -> None:
    other = module(2, layouts=False)
    fill(other, folder)
    unet = VLADPipeline.from_pretrained(str(folder)).unet
    torch.testing.assert_close(other.image_generator.vfe.unet.state_dict(), unet.state_dict(), rtol=0, atol=0)


def test_only_a_fit_from_no_checkpoint_loads(folder: Path) -> None:
    other, trainer = module(2), tiny.trainer()
    before = {key: value.clone() for key, value in other.state_dict().items() if isinstance(value, Tensor)}
    fill(other, folder, "test")
    trainer.ckpt_path = "last.ckpt"
    FromPipeline(str(folder)).setup(trainer, other, "fit")
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items() if key in before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word_colours": True}, r"has word_colours False; this config has True$"),
        ({"size": 64}, r"has image_size 32; this config has 64$"),
        (
            {"grounded": False},
            r"has a PhraseMap as phrase_map; this config has none \(image_generator",
        ),
        ({"ccm": False}, r"has a CCM as composition; this config has a IdentityComposition"),
        ({"map_channels": 8}, r"does not fit 'image_generator.vfe.fusion': layout_channels is 19 there; .* has 23$"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_system_is_refused_in_one_line(changes: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        fill(module(2, **changes), folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["scheduler", "layout_scheduler"])
def test_another_schedule_is_refused(name: str, broken: Path) -> None:
    path = broken / name / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(ValueError, match=rf"{name} does not fit '\w+.schedule': prediction_type is 'v_"):
        fill(module(2), broken)


def test_a_flow_matching_schedule_is_compared_as_one(tmp_path: Path) -> None:
    torch.manual_seed(1)
    saved, other = (VFEModule(tiny.flow_image_generator(), None) for _ in range(2))
    VLADPipeline.from_module(saved).save_pretrained(tmp_path)
    fill(other, tmp_path)
    other.image_generator.schedule = type(other.image_generator.schedule)(shift=3.0)
    with pytest.raises(ValueError, match=r"shift is 1\.0 there; this config has 3\.0"):
        fill(other, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nowhere",
            "source='.*nowhere' is no folder of a pipeline here: it has no model_index.json; `vlad",
        ),
        ("broken/unet", "it has no model_index.json"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_line(source: str, message: str, broken: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message) as refused:
        fill(module(2), broken.parent / source)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_index_is_named(content: str, broken: Path) -> None:
    (broken / "model_index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model_index\.json is damaged"):
        fill(module(2), broken)


def test_a_folder_that_lacks_a_weight_is_refused(broken: Path) -> None:
    (broken / "tlg" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"tlg has no \.safetensors file"):
        fill(module(2), broken)


def test_adapters_alone_need_adapters() -> None:
    with pytest.raises(ValueError, match=r"adapters_only is True; it needs adapters, image_generator\.vfe\.lora"):
        VFEModule(tiny.image_generator(), None, adapters_only=True)


@pytest.mark.parametrize("part", ["", "image_generator", "layout_generator.tlg"])
def test_the_checkpoint_names_the_source_of_every_part(part: str) -> None:
    callback = FromPipeline("vlad-mini")
    assert provenance({callback.state_key: callback.state_dict()}, part) == ("vlad-mini",)


@pytest.mark.slow
@pytest.mark.no_cover
def test_the_shipped_model_is_fine_tuned_and_exported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Adapters that were trained alone, loaded into the shipped model, are the exported pipeline."""
    names = ("mini/stage2_vfe", "rich/stage2_vfe", "rich/stage2_joined", "rich/finetune", "rich/finetune_lora")
    config = [part for name in names for part in ("--config", str(configs_folder() / f"{name}.yaml"))]
    data, out = tmp_path / "data", tmp_path / "out"
    synth = ["--samples", "12", "--size", "128", "--world", "rich", "--workers", "1", "--charseg", "false"]
    assert main(["synth", "--out", str(data), *synth]) == 0
    config += ["--data.root", str(data), "--data.val_share", "0.3", "--data.test_share", "0.3", "--out", str(out)]
    steps = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--trainer.num_sanity_val_steps", "0"]
    fast = ["--model.optimization.lr", "0.1", "--model.optimization.warmup_steps", "0", "--data.batch_size", "2"]
    assert main(["fit", *config, *steps, *fast]) == 0
    checkpoint = ["--checkpoint", str(out / "finetune_lora" / "last.ckpt")]
    folders = ["--folder", str(out / "pipeline"), "--lora-folder", str(out / "adapters")]
    assert main(["export", *config, *checkpoint, *folders]) == 0
    card = (out / "pipeline" / "README.md").read_text()
    assert all(text in card for text in ("Started from: `vlad-mini`\n", "Apache-2.0, as", "Font Awesome"))
    tuned, shipped = (VLADPipeline.from_pretrained(name) for name in (str(out / "pipeline"), "vlad-mini"))
    before = image(shipped)
    shipped.load_lora_weights(str(out / "adapters"))
    torch.testing.assert_close(image(tuned), image(shipped), rtol=0, atol=1e-3)
    assert (image(tuned) - before).abs().max() > 0.01
    capfd.readouterr()
    assert main(["fit", *config, "--trainer.callbacks.source", "nowhere", "--out", str(tmp_path / "other")]) == 2
    assert "source='nowhere' is no folder of a pipeline here" in capfd.readouterr().err.strip().splitlines()[-1]
