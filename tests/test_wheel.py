"""A wheel and an sdist that are built from this tree hold everything that an installation needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
import torch

import vlad_lightning
from vlad_lightning.pipeline import VLADPipeline

ROOT = Path(vlad_lightning.__file__).parent.parent
PARTS = ("vlad_lightning", "configs", "tests/human_prompts.txt", "pyproject.toml", "README.md", "LICENSE", ".gitignore")

USE = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"the network is used: {event} {args}")

sys.addaudithook(refuse)
from vlad_lightning.cli.launcher import main
from vlad_lightning.pipeline import VLADPipeline

VLADPipeline.from_pretrained("vlad-mini")
code = main(["generate", "a poster that says 'HI'", "--steps", "2", "--device", "cpu", "--out", "out.png"])
if "lightning" in sys.modules:
    raise RuntimeError("Lightning has been imported, which takes time and only training needs")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a copy of the tree that has a small shipped model, beside the weights that are there."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tree / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / part, tree / part)
    model = tree / "vlad_lightning" / "pretrained" / "vlad-mini"
    shutil.rmtree(model, ignore_errors=True)
    module: Any = tiny.stage("vfe")
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.3)
    VLADPipeline.from_module(module).save_pretrained(model)
    (model / "README.md").write_text("a card")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder / "dist")]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def shipped(tree: Path) -> set[str]:
    """Return the files of the shipped weights in the tree, as paths from its root."""
    folder = tree / "vlad_lightning" / "pretrained"
    return {str(file.relative_to(tree)) for file in folder.rglob("*") if file.is_file()}


def test_the_wheel_holds_the_shipped_weights_and_configurations(built: Path) -> None:
    (wheel,) = (built / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = shipped(built / "tree")
    assert "vlad_lightning/pretrained/vlad-mini/unet/diffusion_pytorch_model.safetensors" in wanted
    assert wanted - names == set()
    assert {"vlad_lightning/configs/pipeline_mini.yaml", "vlad_lightning/tests/human_prompts.txt"} - names == set()


def test_the_sdist_holds_the_shipped_weights(built: Path) -> None:
    (sdist,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert shipped(built / "tree") - names == set()


@pytest.mark.slow
def test_the_wheels_model_generates_without_a_checkout_and_without_network(built: Path, tmp_path: Path) -> None:
    (wheel,) = (built / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-P", "-c", USE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "wrote out.png (seed " in done.stdout
    assert (tmp_path / "out.png").is_file()
