from __future__ import annotations

from pathlib import Path

import pytest

from vlad_lightning.data.synthetic import write_posters


@pytest.fixture(scope="session")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 synthetic posters of 64 px in MARIO's format."""
    folder = tmp_path_factory.mktemp("posters") / "train"
    write_posters(folder, samples=40, size=64, seed=0, workers=1, charseg=False)
    return folder
