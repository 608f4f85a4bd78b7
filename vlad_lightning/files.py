"""Reading and writing files: atomic writes, and reads that accept only regular files of a reasonable size.

A path given by a user may lead to a pipe that never ends, a link to a device, a sparse file of many gigabytes, an
image of a billion pixels or a text in another encoding. Each is refused by name before it costs time or memory.
"""

from __future__ import annotations

import codecs
import errno
import io
import itertools
import json
import os
import re
import shutil
import stat
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""The suffixes of pictures that commands and the studio read, in any case."""

TEXT_BYTES = 1_000_000
"""The largest size of a text about one image, such as its caption."""

LIST_BYTES = 1_000_000_000
"""The largest size of a list, such as a list of prompts or the index of a data set."""

NOTE_BYTES = 100_000_000
"""The largest size of a file of settings or results, such as a manifest, a stamp or a tokenizer."""

PICTURE_BYTES = 256_000_000
PICTURE_PIXELS = 50_000_000
"""The most pixels of an image: a phone's have 12 to 50 million, a page at 300 dpi 9 million, MARIO's 0.26 million."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""The accepted image formats. Pillow reads more, but it executes the program in an EPS file, and the header of an icon
can give another size than the image inside has."""

_ROWS = 256  # rows of an image that are processed at a time, so that memory does not hold several copies of a large one
_PIECE = 2**20  # bytes that are read at a time
_POINTER = b"version https://git-lfs"
_BOMS = (  # UTF-32 before UTF-16: the little-endian mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARKS = "“”„‘’‚‹›«»…–—•™®©°·¡¿€\xa0\xad"  # noqa: RUF001 -- characters of Windows-1252 that may follow each other
_SIGNS = "¢-¨¬¯±-³¶¸¹¼-¿"  # noqa: RUF001
_NOT_WESTERN = re.compile(rf"[^\x00-\x7f{_MARKS}]{{3}}|[^\W\d_][{_SIGNS}][^\W\d_]")
"""Matches text that was in an encoding other than Windows-1252 (``Ïðèâåò`` was Cyrillic, ``Wa³êsa`` Polish): Western
languages have no three accented letters in a row, and none of these signs between two letters."""

_PACKAGE = Path(__file__).resolve().parent


class UnusableFileError(ValueError):
    """The error of a path that is not a readable file, or of a file beyond a limit.

    Attributes:
        reason: the reason in short, without the file's name.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def printable(path: Path | str) -> str:
    r"""Return a path as text that can be written anywhere: bytes that are not UTF-8 are escaped as ``\xff``.

    Example:
        >>> printable(os.fsdecode(b"caf\xe9/0"))
        'caf\\xe9/0'
    """
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def public_path(path: str) -> str:
    """Return the last two parts of an absolute path, to keep the others private; a hub id is returned unchanged."""
    return "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else path


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: let ``write`` write a temporary file beside ``path``, then rename it to ``path``.

    Args:
        path: the target; its folder is created.
        write: receives the temporary path, which has the target's suffix, and writes the file there.

    Raises:
        UnusableFileError: if ``path`` is a device, a pipe or the like.
    """
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _check_replaceable(path: Path) -> None:
    """Refuse a device or a pipe: to root, a rename would replace /dev/null by a file, for all programs."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnusableFileError(path, "neither a regular file nor a folder; it cannot be written to")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, atomically as :func:`write_file` does."""
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``; it replaces ``path`` on success and is removed on an error.

    Args:
        path: the target; its parent is created. An existing target stays until it is replaced.

    Raises:
        UnusableFileError: if ``path`` is a device, a pipe or the like.
    """
    path = path.absolute()
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    before = beside.with_suffix(".old")
    beside.mkdir()
    try:
        yield beside
        if path.exists():
            path.replace(before)
        beside.replace(path)
    finally:
        if before.exists() and not path.exists():
            before.replace(path)
        for left in (beside, before):
            shutil.rmtree(left, ignore_errors=True)


def check_file(path: Path, most_bytes: int) -> None:
    """Check a file without opening it, since opening a pipe would wait for a writer.

    Raises:
        OSError: if its status cannot be read; FileNotFoundError if it does not exist, IsADirectoryError for a folder.
        UnusableFileError: if it is neither a regular file nor a link to one, or has more than ``most_bytes``.
    """
    try:
        status = path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnusableFileError(path, "a link to itself") from error
        raise
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFileError(path, "no regular file")
    if status.st_size > most_bytes:
        raise UnusableFileError(path, f"larger than {most_bytes:,} bytes")


@contextmanager
def open_file(path: Path, most_bytes: int) -> Iterator[BinaryIO]:
    """Open a file for reading after :func:`check_file`, which documents what is raised."""
    check_file(path, most_bytes)
    with path.open("rb") as file:
        yield file


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Read the content of a file.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`.
    """
    with open_file(path, most_bytes) as file:
        content = b"".join(_pieces(file, most_bytes + 1))  # a limit for files that grow or report no size
    if len(content) > most_bytes:
        raise UnusableFileError(path, f"larger than {most_bytes:,} bytes")
    return content


def _pieces(file: BinaryIO, most_bytes: int) -> Iterator[bytes]:
    """Yield a file's content; reading with the limit at once would reserve as much memory."""
    while most_bytes > 0 and (piece := file.read(min(most_bytes, _PIECE))):
        yield piece
        most_bytes -= len(piece)


def read_utf8(path: Path, most_bytes: int) -> str:
    r"""Read a file in UTF-8, with or without a byte order mark; all line ends become ``\n``.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`.
        UnicodeDecodeError: if it is in another encoding.
    """
    return _lines_ended(read_bytes(path, most_bytes).decode("utf-8-sig"))


def whole_characters(text: str) -> str:
    r"""Leave out halves of surrogate pairs, which JSON may hold where a text was cut, and which no encoding can write.

    Example:
        >>> whole_characters("cut \ud83d"), whole_characters("\ud83d\ude00") == "\N{GRINNING FACE}"
        ('cut ', True)
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> tuple[str, bool]:
    """Read a text file in whatever encoding it has, and return the text and whether that encoding is not UTF-8.

    A byte order mark decides (UTF-8, UTF-16 or UTF-32). Without a mark, the file is read as UTF-8 if it decodes, else
    as Windows-1252 if the result may be a Western language.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`; the latter also if neither encoding fits, or if the text
            holds a NUL, as UTF-16 without a mark does.
    """
    content = read_bytes(path, most_bytes)
    marked = next((encoding for mark, encoding in _BOMS if content.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise UnusableFileError(path, "no text")
        if encoding != "cp1252" or not _NOT_WESTERN.search(text):
            return _lines_ended(text), not encoding.startswith("utf-8")
    raise UnusableFileError(path, "in an unknown encoding")


def set_aside(path: Path, why: object) -> None:
    """Rename a file that cannot be used to ``{name}.damaged``, with a warning, so that it can be made again.

    Args:
        path: the file; if an earlier damaged file exists, this one gets the next free number.
        why: what is wrong with it.

    Raises:
        OSError: if it cannot be renamed.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(target for name in names if not os.path.lexists(target := path.with_name(name)))
    path.rename(aside)
    warnings.warn(f"{path} is damaged: {why}. It is kept as {aside.name}, and made again", stacklevel=2)


def check_stored(folder: Path) -> None:
    """Refuse a folder of weights and settings in which a file is truncated or is only a git-LFS pointer.

    Only the headers of the weights are read; they say how long the file must be.

    Raises:
        ValueError: naming the file.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*")):
        try:
            if file.suffix == ".safetensors":
                check_file(file, sys.maxsize)
                with safe_open(file, "pt"):
                    pass
            elif file.suffix == ".json":
                json.loads(read_utf8(file, NOTE_BYTES))
        except UnusableFileError:
            raise
        except (SafetensorError, ValueError, RecursionError) as error:
            with file.open("rb") as opened:
                pointer = opened.read(len(_POINTER)) == _POINTER
            why = "it is git-LFS' pointer to the file; get it with `git lfs pull`" if pointer else error
            raise ValueError(f"{file} cannot be read: {why}") from error


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Turn any error that a library raises about a file into a ValueError that names the file.

    Args:
        what: a file, a folder or a description of it.

    Raises:
        ValueError: for any error raised inside, except an OSError, which passes unchanged since it names its file.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be used: {shorten(str(error) or type(error).__name__, 400)}") from error


@contextmanager
def told_at(source: str) -> Iterator[None]:
    """Prefix errors about a user's input, such as a line of a list, with its source.

    Args:
        source: where the input is, such as a file and a line.

    Raises:
        FileNotFoundError, ValueError: if raised inside, with the prefix.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{source}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def read_picture(path: Path) -> Image.Image:
    """Read and decode an image, and turn it upright as its EXIF block says.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an image, is damaged, or has more than :data:`PICTURE_PIXELS`.
    """
    with _naming_picture(path), open_picture(path) as picture:
        return _upright(picture)


def pictures_below(folder: Path, key: Callable[[str], str] = str) -> dict[str, Path]:
    """Find the pictures below a folder, one for each name; hidden files and folders are skipped.

    Args:
        folder: the folder.
        key: the name of a picture, from its path relative to the folder, without suffix and with slashes.

    Returns:
        The files by name, in the order of their paths.

    Raises:
        FileNotFoundError: if there is no such folder, or no picture in it.
        ValueError: if two pictures have the same name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{printable(folder)} is no folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() not in PICTURE_SUFFIXES or any(part.startswith(".") for part in name.parts):
            continue
        other = found.setdefault(key(name.with_suffix("").as_posix()), path)
        if other is not path:
            raise ValueError(f"{printable(other)} and {printable(path)} are the same image of a prompt; keep one")
    if not found:
        raise FileNotFoundError(f"{printable(folder)} holds no image; allowed are {', '.join(PICTURE_SUFFIXES)}")
    return found


def save_picture(image: Image.Image, path: Path, told: Mapping[str, str], jpeg_quality: int | None = None) -> None:
    """Write an image atomically, in the format of its suffix.

    Args:
        image: the image.
        path: the target, as for :func:`write_file`.
        told: texts by keyword, such as a prompt; a PNG carries them, and other formats go without.
        jpeg_quality: quality of a JPEG; None is Pillow's default.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in told.items():
        info.add_text(keyword, text)
    given: dict[str, Any] = {"pnginfo": info} if path.suffix.lower() == ".png" else {}
    given |= {} if jpeg_quality is None else {"quality": jpeg_quality}
    write_file(path, lambda beside: image.save(beside, **given))


def picture_size(path: Path) -> tuple[int, int]:
    """Return the height and width of an image as stored, before its EXIF block turns it; only the header is read.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_picture`, as far as the header shows it.
    """
    with _naming_picture(path), open_picture(path) as picture:
        return picture.height, picture.width


@contextmanager
def _naming_picture(path: Path) -> Iterator[None]:
    from PIL import Image

    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        yield
    except UnusableFileError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no picture that can be read: {error}") from error


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open an image and read its header; the pixels are read when they are used.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`; the latter also beyond :data:`PICTURE_PIXELS`.
        OSError, SyntaxError, ValueError: if it is not an image.
    """
    with open_file(path, PICTURE_BYTES) as file:
        yield _opened_picture(file, path)


def picture_from_bytes(content: bytes, name: str) -> Image.Image:
    """Return the picture in a file's content, of which the header is read; the pixels are read when they are used.

    Args:
        content: what the file holds.
        name: its name, for errors.

    Raises:
        UnusableFileError: beyond :data:`PICTURE_PIXELS`, or beyond the size of a file that is read.
        OSError, SyntaxError, ValueError: if it is not an image.
    """
    if len(content) > PICTURE_BYTES:
        raise UnusableFileError(name, f"larger than {PICTURE_BYTES:,} bytes")
    return _opened_picture(io.BytesIO(content), name)


def _opened_picture(file: BinaryIO, name: Path | str) -> Image.Image:
    from PIL import Image

    Image.init()  # fills Image.OPEN with the formats that Pillow was built with
    formats = [kind for kind in _FORMATS if kind in Image.OPEN]
    try:
        picture = Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:  # Pillow's own limit, which is higher
        raise UnusableFileError(name, f"more than {PICTURE_PIXELS:,} pixels") from error
    if picture.width * picture.height > PICTURE_PIXELS:
        raise UnusableFileError(name, f"more than {PICTURE_PIXELS:,} pixels")
    return picture


def as_rgb(image: Image.Image, in_place: bool = False) -> Image.Image:
    """Convert an image of any mode to RGB, upright as its EXIF block says; transparent pixels become white.

    An image that needs no change is returned without a copy.

    Args:
        image: the image.
        in_place: turn the image itself, so that memory never holds three copies of it.
    """
    image = _eight_bits(_upright(image, in_place))
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy an RGB image


def as_grey(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8 bits of grey (``L``), upright as its EXIF block says."""
    return _eight_bits(_upright(image)).convert("L")


def _upright(image: Image.Image, in_place: bool = False) -> Image.Image:
    from PIL import ExifTags, ImageOps

    image.load()  # damaged pixels raise here; below only the EXIF block can fail
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:  # already upright: Pillow would make a copy
            return image
        if in_place:
            ImageOps.exif_transpose(image, in_place=True)
            return image
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged block can raise any kind of error, and the pixels are still good
        return image


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    page = Image.new("RGB", image.size)
    for box in _strips(image):
        layers = image.crop(box).convert("RGBA")
        page.paste(Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB"), box)
    return page


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, image.height, _ROWS):
        yield 0, top, image.width, min(top + _ROWS, image.height)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Round an image of 16 bits per pixel to 8; Pillow's conversion would clip all values above 255."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    page = Image.new("L", image.size)
    for box in _strips(image):
        values = np.nan_to_num(np.array(image.crop(box), dtype=np.float32)) / 257
        page.paste(Image.fromarray(values.round().clip(0, 255).astype(np.uint8)), box)
    return page


def _lines_ended(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def configs_folder() -> Path:
    """Return the absolute path of the folder of the shipped configurations."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config(path: str | Path, *folders: Path) -> Path:
    """Find a configuration file and return its resolved path; the first match counts.

    Args:
        path: absolute, or relative to one of the folders searched. ``configs/x.yaml`` and ``x.yaml`` both name the
            shipped file ``x.yaml``.
        folders: searched in this order, before the working directory and the shipped configurations.

    Raises:
        FileNotFoundError: if no such file exists; the message lists the folders searched.
    """
    shipped = configs_folder()
    candidates = [folder / path for folder in (*folders, Path.cwd(), shipped.parent, shipped)]  # absolute paths win
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    places = ", ".join(dict.fromkeys(str(candidate.parent) for candidate in candidates))
    raise FileNotFoundError(f"no configuration file {str(path)!r}; searched: {places}")


def read_prompt_lines(path: Path) -> list[str]:
    """Read the lines of a list of prompts in UTF-8, without blank ones: a file, or a shipped one by its name.

    Raises:
        OSError, UnusableFileError, UnicodeDecodeError: as :func:`find_config` and :func:`read_utf8`.
    """
    lines = read_utf8(path if path.exists() else find_config(path), LIST_BYTES).splitlines()
    return [line.strip() for line in lines if line.strip()]
