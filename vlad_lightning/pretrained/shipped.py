"""Names of the shipped weights, and the folders they stand for."""

from __future__ import annotations

import os
from pathlib import Path

SHIPPED_MODEL = "vlad-mini"
"""The name of the shipped pipeline."""

SHIPPED_STUDENT = "vlad-mini-student"
"""The name of its student, a pipeline that is sampled without guidance in four steps."""

SHIPPED_EVALUATION = "vlad-mini-evaluation"
"""The name of the shipped evaluation encoder and object detector."""

FOLDER = Path(__file__).resolve().parent


def find_weights(name: str | os.PathLike[str]) -> Path:
    """Return the path that a name or a path of weights stands for; only shipped names are changed.

    A file or folder of that name in the working directory wins over a shipped name, as it wins over a name on the hub
    in transformers and diffusers.

    Raises:
        FileNotFoundError: for a shipped name whose weights are not in this installation.
    """
    path = Path(name)
    if str(name) not in (SHIPPED_MODEL, SHIPPED_STUDENT, SHIPPED_EVALUATION) or path.exists():
        return path
    folder = FOLDER / path
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{str(name)!r} is the name of weights that ship with vlad-lightning, but this installation has none in "
            f"{folder}; name a folder instead, such as one that `make demo` or `vlad-cli export` wrote"
        )
    return folder
