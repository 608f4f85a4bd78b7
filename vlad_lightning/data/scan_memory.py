"""The result of a scan, stored beside the samples, so that later stages do not scan an unchanged folder again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlad_lightning import __version__
from vlad_lightning.files import LIST_BYTES, read_bytes, set_aside, write_text

_NAME = ".scan.json"


def fingerprint(folders: Sequence[Path], names: Sequence[str], *settings: object) -> str:
    """Hash the settings, and the size and modification time of each sample's files (SHA-256); no file is read.

    Args:
        folders: the folders of the samples.
        names: the names of the files to include.
        settings: other values that affect the result.
    """
    digest = hashlib.sha256(repr((__version__, *settings)).encode())
    for folder in folders:
        for name in names:
            line = f"{folder.parent.name}/{folder.name}/{name} {_state(folder / name)}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def recall(root: Path, print_of_now: str) -> dict[str, Any] | None:
    """Return the result stored for this fingerprint; None if there is none, or it is of another state of the folder.

    A damaged file is set aside, with a warning.
    """
    try:
        kept = json.loads(read_bytes(root / _NAME, LIST_BYTES))
        if kept["fingerprint"] != print_of_now:
            return None
        if kept["sha256"] != _checksum(kept["found"]):
            raise ValueError("its checksum does not match")
        return dict(kept["found"])
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        with contextlib.suppress(OSError):  # the folder cannot be written to, or another process was first
            set_aside(root / _NAME, f"it holds no scan ({type(error).__name__}: {error})")
        return None


def keep(root: Path, print_of_now: str, found: dict[str, Any]) -> None:
    """Store the result of a scan, unless the folder cannot be written to."""
    text = json.dumps({"fingerprint": print_of_now, "sha256": _checksum(found), "found": found})
    with contextlib.suppress(OSError):
        write_text(root / _NAME, text)


def _checksum(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _state(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"
