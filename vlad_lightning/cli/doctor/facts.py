"""The facts that each process gathers on its node."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import vlad_lightning
from vlad_lightning.cli.doctor.check import Check
from vlad_lightning.cli.doctor.process import ProcessInfo

PACKAGES = ("torch", "lightning", "diffusers", "transformers")


@dataclass(frozen=True)
class Facts:
    """The facts of one process; plain values, to be sent as JSON.

    Attributes:
        rank: the rank of the process.
        local_rank: its rank on its node.
        world_size: the number of processes, as given to this process.
        node: the node's name.
        versions: versions of Python, the libraries, and this package with the hash of its source.
        device: the GPU's unique id; empty without a GPU.
        gpu: the GPU's name and memory; empty without a GPU.
        gpus: how many GPUs this process sees.
        driver: the version of the GPU driver.
        free_out: bytes free in the folder of the run.
        free_temporary: bytes free in the temporary folder.
        broken: folders that cannot be written to, with the reason.
        sources: what the configuration reads, as this node sees it.
    """

    rank: int
    local_rank: int
    world_size: int
    node: str
    versions: dict[str, str]
    device: str
    gpu: str
    gpus: int
    driver: str
    free_out: int
    free_temporary: int
    broken: dict[str, str]
    sources: tuple[Check, ...] = ()

    @property
    def name(self) -> str:
        """The process's name in reports."""
        return f"rank {self.rank} on {self.node}"


def facts_of(values: Mapping[str, Any]) -> Facts:
    """Build facts from decoded JSON."""
    return Facts(**dict(values) | {"sources": tuple(Check(**check) for check in values["sources"])})


def gather(process: ProcessInfo, out: Path, sources: Sequence[Check] = ()) -> Facts:
    """Gather this process's facts; this writes a small file into both folders and removes it."""
    temporary = Path(tempfile.gettempdir())
    broken = {}
    for folder in (out, temporary):
        if reason := try_writing(folder):
            broken[str(folder)] = reason
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device, gpu = _gpu(process.local_rank, gpus)
    return Facts(
        process.rank,
        process.local_rank,
        process.world_size,
        process.node,
        _versions(),
        device,
        gpu,
        gpus,
        _driver() if gpu else "",
        _free(out),
        _free(temporary),
        broken,
        tuple(sources),
    )


def try_writing(folder: Path) -> str:
    """Write, fsync, rename and read back a file, as a checkpoint needs; return what went wrong, or an empty string."""
    name = folder / f".doctor-{uuid.uuid4().hex}"
    renamed = name.with_suffix(".renamed")
    content = os.urandom(1 << 20)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with name.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        name.replace(renamed)
        return "" if renamed.read_bytes() == content else "what was written was not read back"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for path in (name, renamed):
            if folder.is_dir() and os.access(folder, os.W_OK):
                path.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found | {"vlad_lightning": f"{vlad_lightning.__version__} ({_source_hash()})"}


def _source_hash() -> str:
    """Return a hash of this package's Python files, as two checkouts can have the same version."""
    root = Path(vlad_lightning.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _gpu(local_rank: int, count: int) -> tuple[str, str]:
    """Return the GPU's unique id, and its name with its memory."""
    if not count:
        return "", ""
    index = 0 if count == 1 else local_rank  # a single GPU may be the one that srun bound to this task
    if index >= count:
        return "", f"none: the node shows {count} GPUs to local rank {local_rank}"
    seen = torch.cuda.get_device_properties(index)
    return str(seen.uuid), f"{seen.name}, {seen.total_memory / 2**30:.0f} GiB"


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
