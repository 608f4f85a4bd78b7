from __future__ import annotations

from pathlib import Path

import pytest

from vlad_lightning.cli.config_files import find_shipped, reset_lists
from vlad_lightning.files import configs_folder, find_config


def test_shipped_configurations_are_beside_the_package() -> None:
    assert configs_folder().name == "configs"
    assert configs_folder().is_dir()


def test_given_folders_come_before_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here, other):
        folder.mkdir()
        (folder / "x.yaml").write_text("a: 1")
    monkeypatch.chdir(here)
    assert find_config("x.yaml") == here / "x.yaml"
    assert find_config("x.yaml", other) == other / "x.yaml"
    assert find_config(here / "x.yaml", other) == here / "x.yaml"


@pytest.mark.parametrize("prefix", ["", "configs/"])
def test_shipped_files_are_found_from_anywhere(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = next(configs_folder().rglob("*.yaml"))
    name = prefix + str(shipped.relative_to(configs_folder()))
    assert find_config(name) == shipped


def test_a_missing_file_lists_the_searched_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no configuration file 'nowhere\.yaml'") as caught:
        find_config("nowhere.yaml", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(Path.cwd()) in str(caught.value)


def test_a_command_line_names_shipped_files_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.yaml").write_text("a: 1")
    shipped = configs_folder()
    given = [
        "fit",
        "--config",
        "configs/mini/test.yaml",
        "--config=stage2_vfe.yaml",
        "-c",
        "test.yaml",
        "--out",
        "test.yaml",
    ]
    first, second = str(shipped / "mini/test.yaml"), f"--config={shipped / 'stage2_vfe.yaml'}"
    assert find_shipped(given) == ["fit", "--config", first, second, *given[4:]]


@pytest.mark.parametrize("config", ["nowhere.yaml", "{a: 1.5}", "x" * 5000, ""])
def test_other_files_are_left_to_the_parser(config: str) -> None:
    assert find_shipped(["--config", config]) == ["--config", config]


def test_a_list_of_callbacks_or_loggers_begins_with_an_empty_one(tmp_path: Path) -> None:
    file, other, inline = tmp_path / "own.yaml", tmp_path / "other.yaml", "{trainer: {logger: [{class_path: A}]}}"
    file.write_text("trainer: {callbacks: [{class_path: A}], logger: false, plugins: [{class_path: B}]}")
    other.write_text("trainer: {callbacks+: [{class_path: A}]}")
    given = ["fit", "-c", str(file), f"--config={other}", "--config", inline, "--trainer.callbacks=[]", "--config"]
    assert reset_lists(given) == [
        *("fit", "--trainer.callbacks=[]", "--trainer.plugins=[]", "-c", str(file), f"--config={other}"),
        *("--trainer.logger=[]", "--config", inline, "--trainer.callbacks=[]", "--trainer.callbacks=[]", "--config"),
    ]


@pytest.mark.parametrize("config", ["nowhere.yaml", "{a: 1.5}", "a: [", "trainer: x", "x" * 5000, ""])
def test_invalid_configurations_are_left_to_the_parser(config: str) -> None:
    assert reset_lists(["fit", "--config", config]) == ["fit", "--config", config]
