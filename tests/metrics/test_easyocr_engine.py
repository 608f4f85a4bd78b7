from __future__ import annotations

import hashlib
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest

from vlad_lightning.metrics.easyocr_engine import FILES, EasyOCREngine

pytestmark = pytest.mark.skipif(find_spec("easyocr") is None, reason="easyocr is not installed")


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("published", [False, True])
def test_no_pickled_code_is_run(published: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even from files that have the MD5 which EasyOCR expects."""
    import easyocr.config

    marker = tmp_path / "marker"
    content = pickle.dumps(Trap(marker), protocol=2)  # that of torch
    pickle.loads(content)
    assert marker.exists()  # the trap works
    marker.unlink()
    for name in FILES:
        (tmp_path / name).write_bytes(content)
    if published:
        md5 = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(easyocr.config.detection_models["craft"], "md5sum", md5)
        monkeypatch.setitem(easyocr.config.recognition_models["gen2"]["english_g2"], "md5sum", md5)
    with pytest.raises((FileNotFoundError, ValueError), match="tensors" if published else "MD5 mismatch"):
        EasyOCREngine(tmp_path)
    assert not marker.exists()


def test_a_folder_without_its_files_is_named(tmp_path: Path) -> None:
    (tmp_path / FILES[0]).touch()
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}, which lacks english_g2.pth"):
        EasyOCREngine(tmp_path)
