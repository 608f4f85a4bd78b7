from __future__ import annotations

from pathlib import Path

import pytest

from vlad_lightning.pretrained import SHIPPED_EVALUATION, SHIPPED_MODEL, SHIPPED_STUDENT, find_weights, shipped


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the package's folder of weights be an empty one, and the working directory another."""
    folder, here = tmp_path / "package", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.chdir(here)
    return folder


@pytest.mark.parametrize("name", [SHIPPED_MODEL, SHIPPED_STUDENT, SHIPPED_EVALUATION])
def test_a_shipped_name_is_the_packages_folder(package: Path, name: str) -> None:
    (package / name).mkdir()
    assert find_weights(name) == package / name


def test_a_folder_in_the_working_directory_wins(package: Path) -> None:
    (package / SHIPPED_MODEL).mkdir()
    Path(SHIPPED_MODEL).mkdir()
    assert find_weights(SHIPPED_MODEL) == Path(SHIPPED_MODEL)


@pytest.mark.parametrize("name", ["runs/demo/pipeline", "someone/model", "/nowhere/vlad-mini", "shipped.py"])
def test_other_names_and_paths_stay_as_they_are(package: Path, name: str) -> None:
    (package / SHIPPED_MODEL).mkdir()
    assert find_weights(name) == Path(name)


def test_missing_weights_are_told_in_one_line() -> None:
    with pytest.raises(FileNotFoundError, match=r"^'vlad-mini' is the name of weights that ship .* has none in .*$"):
        find_weights(SHIPPED_MODEL)
