from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlad_lightning.cli import fit, key_help
from vlad_lightning.cli.launcher import main
from vlad_lightning.files import configs_folder


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["fit", "--help", *args]) == 0
    return capsys.readouterr().out


def names(text: str) -> set[str]:
    return {line.split()[0].removeprefix("--") for line in text.splitlines() if line.startswith("  --")}


def leaves(config: Any, name: str = "") -> set[str]:
    """Return the dotted names of a configuration's keys, as on a command line."""
    if not isinstance(config, dict):
        return {name}
    below = config.get("init_args", config) if "class_path" in config else config
    return {found for k, v in below.items() for found in leaves(v, f"{name}.{k}" if name else k)}


def test_help_shows_the_keys_of_model_and_data_with_their_values_and_descriptions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, "--config", "mini/stage1_tlg.yaml")
    assert "  --model.generator.prompt_encoder.text_encoder.max_words 6\n      N, the most words to draw" in text
    assert "  --data.batch_size 32\n      samples per batch and device." in text
    assert "  --trainer.max_steps 1000\n" in text
    assert "  --samples.prompts None\n" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("      ")) <= 80


def test_without_a_file_the_keys_of_every_fit_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    assert "model: name a --config FILE beside --help to see its keys\n" in text
    assert "  --trainer.max_steps -1\n" in text
    assert "  --watchdog.timeout" in text


def test_later_files_and_other_classes_replace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("data: {init_args: {batch_size: 5}}\nmodel: {class_path: vlad_lightning.modules.AlignmentModule}\n")
    text = shown(capsys, "--config", "mini/stage1_tlg.yaml", f"--config={over}")
    assert "  --data.batch_size 5\n" in text
    assert "  --model.image_encoder" in text
    assert "  --model.generator" not in text


@pytest.mark.parametrize("stage", ["stage0_align", "stage1_tlg", "stage2_vfe"])
def test_every_key_of_model_and_data_is_shown(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = names(shown(capsys, "--config", f"mini/{stage}.yaml"))
    with pytest.raises(SystemExit):
        main(["fit", "--config", f"mini/{stage}.yaml", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    for group in ("model", "data"):
        own = {name for name in leaves(config[group], group) if "schedule." not in name}  # diffusers' classes
        missing = {name for name in own if not any(name == n or name.startswith(f"{n}.") for n in text)}
        assert not missing


def test_the_groups_are_those_of_every_fit() -> None:
    found = {}
    for name, path in key_help.GROUPS.items():
        module, _, attribute = path.rpartition(".")
        found[name] = getattr(import_module(module), attribute)
    assert found == fit._OF_EVERY_FIT


def test_it_is_shown_without_importing_the_classes() -> None:
    file = str(configs_folder() / "mini" / "stage2_vfe.yaml")
    command = [sys.executable, "-X", "importtime", "-m", "vlad_lightning", "fit", "--help", "--config", file]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert imported.isdisjoint({"torch", "lightning", "jsonargparse", "diffusers"})
    assert "--model.image_generator.vfe.lora" in result.stdout


@pytest.mark.parametrize("content", ["[", "[1]"])
def test_a_file_that_is_no_configuration_is_refused_in_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    assert main(["fit", "--help", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"vlad-cli fit: --config {file}: ")
    assert error.count("\n") == 1


def test_a_class_without_source_has_no_keys() -> None:
    assert list(key_help.keys("nowhere.Thing", "model", {})) == []
    assert list(key_help.keys("vlad_lightning.nowhere.Thing", "model", {})) == []
