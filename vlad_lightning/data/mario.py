"""Reading and writing MARIO's format on disk: one folder per sample.

A folder holds ``image.jpg``, ``caption.txt``, ``ocr.txt`` and, in most cases, ``charseg.npy`` and ``info.json``.

Real folders are uneven: files are missing or cut off, images come in various sizes and modes, words lie partly outside
the frame. The reader trusts only the files themselves (never ``info.json``): it skips unusable samples, with a short
reason that can be counted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vlad_lightning.data.index_file import read_index
from vlad_lightning.data.ocr_lines import format_word, parse_ocr
from vlad_lightning.data.scene_file import NAME, read_scene
from vlad_lightning.data.source import RawSample, SampleTexts, SkipSample, no_image, quoted_caption
from vlad_lightning.files import (
    UnusableFileError,
    as_rgb,
    open_picture,
    printable,
    read_text,
)

CHARSEG_SIDE = 256
CHARACTERS = string.digits + string.ascii_lowercase + string.ascii_uppercase + string.punctuation + " "
"""The characters of ``charseg.npy``, in the order of their classes 1 to 95; class 0 is the background."""
UNKNOWN = 255
"""The class of pixels of which the data do not say what they show."""

_MOST_LINES = 1_000  # of an ocr.txt: no picture shows that many words, and matching takes quadratic time
_MIN_SIDE = 8  # pixels: a smaller image is a tracking pixel, not a picture
SHELF = re.compile(r"\d{5}")
SAMPLE = re.compile(r"\d{9}")
_INDEX_LINE = re.compile(r"(\d{5})_(\d{9})")
FILES = ("image.jpg", "caption.txt", "ocr.txt")
"""The files that every sample needs."""


def list_samples(root: Path, index: Path | None = None) -> list[Path]:
    """Return the sample folders of a data set, sorted.

    Args:
        root: holds ``{5 digits}/{sample}/`` folders as MARIO does, or the sample folders themselves.
        index: a file with a line ``{5 digits}_{9 digits}`` for each sample; only these are returned, whether or not
            they exist.

    Raises:
        FileNotFoundError: if ``root`` or ``index`` does not exist.
        ValueError: if ``root`` is not a folder, holds no sample, or ``index`` is empty or has a malformed line.
    """
    if not root.exists():
        raise FileNotFoundError(f"root is {str(root)!r}, which does not exist; it must be a folder in MARIO's format")
    if not root.is_dir():
        raise ValueError(f"root is {str(root)!r}, which is a file; it must be a folder in MARIO's format")
    samples = sorted(set(_walk(root) if index is None else _indexed(root, index)))
    if not samples:
        where = f"root {str(root)!r}" if index is None else f"index {str(index)!r}"
        raise ValueError(f"{where} holds no sample; expected folders like 00000/000000000 with {', '.join(FILES)}")
    return samples


def read_sample(folder: Path, min_confidence: float = 0.0, with_image: bool = True) -> RawSample:
    """Read one sample.

    Args:
        folder: the sample's folder.
        min_confidence: words with a lower confidence are left out and counted among the problems.
        with_image: False leaves the image unread.

    Raises:
        SkipSample: if the image, the caption or ``ocr.txt`` is missing or cannot be used, or the system fails to read
            ``scene.json``. An image without words can be used.
    """
    texts = read_texts(folder, min_confidence)
    try:
        scene, trouble = read_scene(folder)
    except OSError as error:
        raise SkipSample(f"unreadable {NAME}", folder) from error
    problems = (*texts.problems, trouble) if trouble else texts.problems
    image = _read_image(folder) if with_image else no_image()
    return RawSample(key_of(folder), image, texts.caption, texts.words, problems, scene, texts.prompt)


def read_texts(folder: Path, min_confidence: float = 0.0) -> SampleTexts:
    """Read a sample's caption, its words, and why other lines of ``ocr.txt`` are left out; no image is read.

    Files in another encoding than UTF-8 are read as :func:`~vlad_lightning.files.read_text` says.

    Raises:
        SkipSample: if a file is missing, not text or far too long, or the caption is empty.
    """
    caption, caption_recoded = _read_text(folder, "caption.txt")
    ocr, ocr_recoded = _read_text(folder, "ocr.txt")
    caption = " ".join(caption.split())
    if not caption:
        raise SkipSample("empty caption", folder)
    if len(ocr.splitlines()) > _MOST_LINES:
        raise SkipSample(f"ocr.txt: more than {_MOST_LINES:,} lines", folder)
    words, problems = parse_ocr(ocr, min_confidence)
    prompt = quoted_caption(caption, words, folder)
    recoded = [name for name, was in (("caption.txt", caption_recoded), ("ocr.txt", ocr_recoded)) if was]
    return SampleTexts(caption, tuple(words), tuple(problems), tuple(recoded), prompt)


def check_header(folder: Path) -> None:
    """Check an image without decoding it.

    Raises:
        SkipSample: if it is missing, another kind of file, too small or too large.
    """
    with _opened(folder):
        pass


def write_sample(folder: Path, sample: RawSample, charseg: np.ndarray | None = None) -> None:
    """Write one sample in MARIO's format.

    Args:
        folder: the folder to create; must not exist.
        sample: its key, image, caption and words are written; corners are rounded to integers.
        charseg: (256, 256) int64, or None for a sample without it.
    """
    folder.mkdir(parents=True)
    encoded = encode_image(sample.image)
    (folder / "image.jpg").write_bytes(encoded)
    (folder / "caption.txt").write_text(sample.caption, encoding="utf-8")
    lines = [f"{format_word(word)}\n" for word in sample.words]
    (folder / "ocr.txt").write_text("".join(lines), encoding="utf-8")
    if charseg is not None:
        _save_sparse(folder / "charseg.npy", charseg)
    entries = _info(sample, hashlib.sha256(encoded).hexdigest())
    (folder / "info.json").write_text(json.dumps(entries), encoding="utf-8")


def encode_image(image: Image.Image) -> bytes:
    """Encode an image as :func:`write_sample` does."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=95, subsampling=0)
    return encoded.getvalue()


def _save_sparse(path: Path, array: np.ndarray) -> None:
    """Save an array as ``np.save`` does, but seek past rows of zeros: holes in the file cost neither time nor disk."""
    array = np.ascontiguousarray(array)
    edges = np.diff(array.any(axis=1).astype(np.int8), prepend=0, append=0)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        start = file.tell()
        for first, end in edges.nonzero()[0].reshape(-1, 2).tolist():  # from a row with letters to the next one without
            file.seek(start + first * array.strides[0])
            file.write(array[first:end].data)
        file.truncate(start + array.nbytes)


def character_class(character: str) -> int:
    """Return the class of a character in ``charseg.npy``, 1 to 95; 0, the background, if MARIO does not know it.

    Example:
        >>> character_class("0"), character_class("a"), character_class("A"), character_class("é")
        (1, 11, 37, 0)
    """
    return CHARACTERS.find(character) + 1


def key_of(folder: Path) -> str:
    """Return a sample's name: ``06269_062690093`` for ``06269/062690093``, else the folder's name; always printable."""
    return printable(f"{folder.parent.name}_{folder.name}" if SHELF.fullmatch(folder.parent.name) else folder.name)


def root_of(folder: Path) -> Path:
    """Return the data folder that contains a sample's folder."""
    return folder.parent.parent if SHELF.fullmatch(folder.parent.name) else folder.parent


def _walk(root: Path) -> Iterator[Path]:
    for entry in os.scandir(root):
        if not _is_folder(entry):
            continue
        if SHELF.fullmatch(entry.name):
            yield from (Path(inner) for inner in os.scandir(entry) if _is_folder(inner))
        elif SAMPLE.fullmatch(entry.name) or any(Path(entry, name).exists() for name in FILES):
            yield Path(entry)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a folder or a link to one; Path.is_dir does not raise for a link to itself."""
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()


def _indexed(root: Path, index: Path) -> Iterator[Path]:
    for number, line in read_index(index):
        match = _INDEX_LINE.fullmatch(line)
        if not match:
            raise ValueError(f"index {str(index)!r}, line {number}: {line!r}; a line must look like 06269_062690093")
        yield root / match[1] / match[2]


def _read_text(folder: Path, name: str) -> tuple[str, bool]:
    """Return a file's text, and whether it is in another encoding than UTF-8."""
    try:
        return read_text(folder / name)
    except FileNotFoundError as error:
        raise SkipSample(f"no {name}", folder) from error
    except UnusableFileError as error:
        raise SkipSample(f"{name}: {error.reason}", folder) from error
    except OSError as error:
        raise SkipSample(f"unreadable {name}", folder) from error


def _read_image(folder: Path) -> Image.Image:
    """Read the picture as RGB, upright; transparent pixels become white."""
    with _opened(folder) as image:
        return as_rgb(image, in_place=True)


@contextmanager
def _opened(folder: Path) -> Iterator[Image.Image]:
    try:
        with open_picture(folder / "image.jpg") as image:
            if min(image.size) < _MIN_SIDE:
                raise SkipSample("image too small", folder)
            yield image
    except FileNotFoundError as error:
        raise SkipSample("no image.jpg", folder) from error
    except UnusableFileError as error:
        raise SkipSample(f"image.jpg: {error.reason}", folder) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise SkipSample("broken image.jpg", folder) from error


def _info(sample: RawSample, sha256: str) -> dict[str, object]:
    """Return the entries of MARIO's own ``info.json`` files."""
    width, height = sample.image.size
    return {
        "caption": sample.caption,
        "url": "",
        "key": sample.key.rpartition("_")[2],
        "NSFW": "UNLIKELY",
        "similarity": None,
        "LICENSE": "?",
        "status": "success",
        "error_message": None,
        "width": width,
        "height": height,
        "original_width": width,
        "original_height": height,
        "exif": "{}",
        "sha256": sha256,
    }
