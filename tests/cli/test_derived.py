"""A value given once in a configuration is used wherever it is needed; contradicting values are refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

from vlad_lightning.cli import fit as cli
from vlad_lightning.cli.derived import complete
from vlad_lightning.cli.launcher import main
from vlad_lightning.files import configs_folder

CONFIGS = configs_folder()
STAGES = [
    *(f"{size}{name}.yaml" for size in ("", "sd21/", "sdxl/", "mini/") for name in ("stage0_align", "stage1_tlg")),
    *(f"{size}stage2_vfe.yaml" for size in ("", "sd21/", "sdxl/", "mini/")),
]


def files(*names: str) -> list[str]:
    return [part for name in names for part in ("--config", str(CONFIGS / name))]


def built(*args: str) -> Any:
    with torch.device("meta"):
        return cli.build([*args], run=False)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_gives_widths_and_numbers_of_words_once(name: str) -> None:
    text = (CONFIGS / name).read_text()
    assert text.count("max_words:") == 1
    said = set(keys(yaml.safe_load(text)))
    ours = said - {key for key in said if ".unet." in key or ".tower." in key}  # these are published values
    assert not [key for key in ours if key.endswith((".text_width", ".max_phrases", ".character_encoder.width"))]
    assert len([key for key in ours if key.endswith((".image_size", ".init_args.size"))]) == 1


def keys(value: Any, above: str = "") -> Iterator[str]:
    yield above
    for key, part in value.items() if isinstance(value, dict) else ():
        yield from keys(part, f"{above}.{key}")


TEXT = "model.image_generator.prompt_encoder.text_encoder"


def test_one_key_changes_all_derived_values_of_the_built_stage() -> None:
    own = [
        f"--{TEXT}.max_words=5",
        f"--{TEXT}.tower.width=64",
        "--model.image_generator.vfe.unet.cross_attention_dim=64",
    ]
    image = ["--model.image_generator.image_size=32", "--model.image_encoder.width=64"]
    layouts = ["--model.layout_generator.prompt_encoder.text_encoder.max_words=5"]
    system = built(*files("mini/stage2_vfe.yaml"), *own, *image, *layouts)
    image_generator, generator, data = system.model.image_generator, system.model.layout_generator, system.datamodule
    assert (data.size, data.max_words) == (32, 5)
    assert image_generator.prompt_encoder.text_encoder.character_encoder.config.width == 64
    composition = image_generator.prompt_encoder.composition.config
    assert (composition.width, composition.max_phrases) == (64, 5 + 12)
    assert image_generator.vfe.fusion.config.text_width == image_generator.vfe.phrase_map.config.text_width == 64
    layout = generator.tlg.config
    assert (layout.text_width, layout.max_words) == (128, 5)  # it has a separate encoder


@pytest.mark.parametrize(
    ("name", "words", "size"),
    [
        ("mini/stage0_align.yaml", 6, 64),
        ("mini/stage1_tlg.yaml", 6, 64),
        ("stage0_align.yaml", 8, 512),
        ("mini/object_detector.yaml", 4, 64),
    ],
)
def test_the_data_get_the_models_number_of_words(name: str, words: int, size: int) -> None:
    data = built(*files(name)).datamodule
    assert (data.max_words, data.size) == (words, size)


def test_a_detectors_size_is_its_datas() -> None:
    assert built(*files("mini/object_detector.yaml"), "--model.detector.size=32").datamodule.size == 32


def shown(capsys: pytest.CaptureFixture[str], command: str, *args: str) -> dict[str, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.build([command, *args, "--print_config"], run=True)
    return dict(yaml.safe_load(capsys.readouterr().out))


def test_the_printed_configuration_has_the_derived_values(capsys: pytest.CaptureFixture[str]) -> None:
    config = shown(capsys, "test", *files("mini/stage2_vfe.yaml", "mini/test.yaml"), f"--{TEXT}.max_words=5")
    assert config["data"]["init_args"]["max_words"] == 5
    evaluation_encoder = config["model"]["init_args"]["evaluation"]["init_args"]["evaluation_encoder"]["init_args"][
        "prompt_encoder"
    ]
    composition = evaluation_encoder["init_args"]["composition"]["init_args"]
    assert (composition["width"], composition["max_phrases"]) == (
        128,
        6 + 12,
    )  # the evaluation encoder reads six words


def test_other_compositions_and_towers_get_only_the_arguments_they_have(capsys: pytest.CaptureFixture[str]) -> None:
    layouts, text = "model.generator.prompt_encoder", "model.generator.prompt_encoder.text_encoder"
    tower = {"class_path": "transformers.CLIPTextModelWithProjection", "init_args": {"config": CLIP}}
    plain = "vlad_lightning.models.text.ccm.IdentityComposition"
    letters = f"--{text}.character_encoder.max_letters=12"
    own = [f"--{text}.tower={json.dumps(tower)}", f"--{layouts}.composition={plain}", letters]
    model = built(*files("mini/stage1_tlg.yaml"), *own).model
    character_encoder = model.generator.prompt_encoder.text_encoder.character_encoder.config
    assert (character_encoder.width, character_encoder.max_letters) == (64, 12)
    assert model.generator.tlg.config.text_width == 64


CLIP = {
    "class_path": "transformers.CLIPTextConfig",
    "init_args": {"hidden_size": 64, "projection_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 4},
}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("model.generator.tlg.text_width", 64, "tlg.text_width is 64; the encoder's width is 128"),
        ("model.generator.tlg.max_words", 4, "tlg.max_words is 4; the text encoder's is 6"),
        (
            "model.generator.prompt_encoder.composition.max_phrases",
            4,
            "the CCM has width=128, max_phrases=4; the text encoder needs width=128, max_phrases=18",
        ),
        (
            "model.generator.prompt_encoder.text_encoder.character_encoder.width",
            64,
            "tower, its projection and spelling must have one width; got [64, 128]",
        ),
        ("data.max_words", 5, "data.max_words is 5 and model.generator.tlg.max_words is 6; they must be the same"),
    ],
)
def test_contradicting_values_are_refused_by_name(
    key: str, value: int, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], posters: Path
) -> None:
    settings = [
        "--trainer.callbacks=null",
        "--trainer.logger=false",
        "--out",
        str(tmp_path),
        "--data.root",
        str(posters),
    ]
    assert main(["fit", *files("mini/stage1_tlg.yaml"), *settings, f"--{key}={value}"]) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]


def test_values_without_a_source_stay_unset() -> None:
    config = Namespace(model=Namespace(class_path="A"), data=Namespace(class_path="B", init_args=Namespace(size=None)))
    complete(config)
    assert config.data.init_args.size is None
    complete(Namespace())
