"""What a result was computed with: versions and the kind of machine, without names of people, machines or folders."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from vlad_lightning import __version__

_PACKAGES = (
    *("torch", "numpy", "scipy", "Pillow", "torchmetrics", "torch-fidelity", "transformers", "diffusers"),
    *("rapidocr", "onnxruntime", "paddleocr", "pytesseract", "easyocr"),
)


def environment() -> dict[str, dict[str, str]]:
    """Return the versions of the packages that results depend on, and the kind of machine."""
    versions = {"vlad-lightning": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    machine = {"system": platform.platform(), "processor": _processor(), "cores": str(os.cpu_count()), "gpu": _gpu()}
    return {"versions": versions, "machine": machine}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"{count} x {torch.cuda.get_device_name(0)}" if count else "none"
