"""Files of a known kind: written whole, beside the target first; read only where they are regular and of a sane size.

What people hand in may be anything: a pipe that never ends, a link to a device, a sparse file of many gigabytes, a
picture of a billion pixels, a text in another encoding. Each is refused by name before it costs time or memory.
"""

from __future__ import annotations

import codecs
import errno
import itertools
import json
import os
import re
import shutil
import stat
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

TEXT_BYTES = 1_000_000
"""No text about one picture, such as its caption, is longer."""

LIST_BYTES = 1_000_000_000
"""No list, such as one of prompts or an index of a data set, is longer."""

PICTURE_BYTES = 256_000_000
PICTURE_PIXELS = 50_000_000
"""No picture has more: a phone's have 12 to 50 million, a page at 300 dots an inch 9 million, MARIO's 0.26 million."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Of pictures. Pillow knows more: of an EPS it runs the program, and the head of an icon tells another size than the
picture inside has."""

_ROWS = 256  # of a picture that are worked on at a time, so that a large one is not in memory several times over
_POINTER = b"version https://git-lfs"
_BOMS = (  # the longer ones first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARKS = "“”„‘’‚‹›«»…–—•™®©°·¡¿€\xa0\xad"  # noqa: RUF001 -- of Windows-1252, of which several may follow each other
_SIGNS = "¢-¨¬¯±-³¶¸¹¼-¿"  # noqa: RUF001
_NOT_WESTERN = re.compile(rf"[^\x00-\x7f{_MARKS}]{{3}}|[^\W\d_][{_SIGNS}][^\W\d_]")
"""What shows that a text was in another encoding (``Ïðèâåò`` was Cyrillic, ``Wa³êsa`` Polish): in a Western language no
three letters with accents follow each other, and no such sign stands between letters."""

_PACKAGE = Path(__file__).resolve().parent


class UnusableFileError(ValueError):
    """Raised for what is no file that can be read, or one beyond a limit.

    Attributes:
        reason: in short, without the file's name.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def printable(path: Path | str) -> str:
    r"""A path as text that can be written anywhere: bytes of a name that is not UTF-8 stand as ``\xff``.

    Example:
        >>> printable(os.fsdecode(b"caf\xe9/0"))
        'caf\\xe9/0'
    """
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a neighbour of ``path``, then put it in its place.

    Args:
        path: the target; its folder is made.
        write: takes the path to write to, which has the target's suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, beside ``path`` first, as :func:`write_file` does."""
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path`` that takes its place if all goes well, and is removed otherwise.

    Args:
        path: the target; its parent is made. What was there before stays until then.
    """
    path = path.absolute()
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
    """Look at a file without opening it: a pipe would wait for a writer.

    Raises:
        OSError: where it cannot be looked at; FileNotFoundError where there is none, IsADirectoryError for a folder.
        UnusableFileError: where it is neither a regular file nor a link to one, or has more than ``most_bytes``.
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
    """A file that is open for reading, after :func:`check_file`, which says what is raised."""
    check_file(path, most_bytes)
    with path.open("rb") as file:
        yield file


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`.
    """
    with open_file(path, most_bytes) as file:
        content = file.read(most_bytes + 1)  # one that grows, or tells no size, ends here
    if len(content) > most_bytes:
        raise UnusableFileError(path, f"larger than {most_bytes:,} bytes")
    return content


def read_utf8(path: Path, most_bytes: int) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; line ends as Python has them.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`.
        UnicodeDecodeError: where it is in another encoding.
    """
    return _lines_ended(read_bytes(path, most_bytes).decode("utf-8-sig"))


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> tuple[str, bool]:
    """The text of a file in the encoding it is in, and whether that is another one than UTF-8.

    A byte order mark decides (UTF-8, UTF-16 or UTF-32). Without one, the text is in UTF-8 where it decodes as that,
    else in Windows-1252 where it decodes to what may be a Western language.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`; the latter also where it is in neither, or holds a NUL, as
            UTF-16 without a mark does.
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
        path: the file; an earlier one that was set aside is kept beside it, under the next number.
        why: what is wrong with it.

    Raises:
        OSError: where it cannot be renamed.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(place for name in names if not os.path.lexists(place := path.with_name(name)))
    path.rename(aside)
    warnings.warn(f"{path} is damaged: {why}. It is kept as {aside.name}, and made again", stacklevel=2)


def check_stored(folder: Path) -> None:
    """Refuse a folder of weights and settings with a file that is cut short, or is only git-LFS' pointer to one.

    Only the heads of the weights are read, which say how long the file has to be.

    Raises:
        ValueError: naming the file.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*")):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
        except (SafetensorError, ValueError, RecursionError) as error:
            with file.open("rb") as opened:
                pointer = opened.read(len(_POINTER)) == _POINTER
            why = "it is git-LFS' pointer to the file; get it with `git lfs pull`" if pointer else error
            raise ValueError(f"{file} cannot be read: {why}") from error


@contextmanager
def naming(what: object) -> Iterator[None]:
    """What libraries raise about files that they cannot use names no file, and is of any kind; this names it.

    Args:
        what: a file, a folder, or what was said of it.

    Raises:
        ValueError: for whatever is raised inside; an OSError, which tells of its file by itself, is let through.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be used: {shorten(str(error) or type(error).__name__, 400)}") from error


@contextmanager
def told_at(source: str) -> Iterator[None]:
    """Errors about what someone wrote, such as a line of a list, that begin with where it stands.

    Raises:
        FileNotFoundError, ValueError: those that are raised inside.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{source}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def read_picture(path: Path) -> Image.Image:
    """A picture, decoded and upright as its EXIF block says.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, a damaged one, or larger than :data:`PICTURE_PIXELS`.
    """
    with _naming_picture(path), open_picture(path) as picture:
        return _upright(picture)


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as they lie in its file: an EXIF block may turn it. Only the head is read.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_picture`, where the head tells.
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
    """A picture of which the header is read; its pixels follow as they are asked for.

    Raises:
        OSError, UnusableFileError: as :func:`check_file`; the latter also beyond :data:`PICTURE_PIXELS`.
        OSError, SyntaxError, ValueError: where it is no picture.
    """
    from PIL import Image

    Image.init()  # so that it knows which formats it was built with
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with open_file(path, PICTURE_BYTES) as file:
        try:
            picture = Image.open(file, formats=formats)
        except Image.DecompressionBombError as error:  # Pillow's own limit, which is higher
            raise UnusableFileError(path, f"more than {PICTURE_PIXELS:,} pixels") from error
        if picture.width * picture.height > PICTURE_PIXELS:
            raise UnusableFileError(path, f"more than {PICTURE_PIXELS:,} pixels")
        yield picture


def as_rgb(image: Image.Image, in_place: bool = False) -> Image.Image:
    """A picture of any mode as RGB, upright as its EXIF block says; what is transparent becomes white.

    One that is so already is returned itself, without a copy.

    Args:
        image: the picture.
        in_place: turn the picture itself, of which the memory then never holds three.
    """
    image = _eight_bits(_upright(image, in_place))
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def as_grey(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8 bits of grey (``L``), upright as its EXIF block says."""
    return _eight_bits(_upright(image)).convert("L")


def _upright(image: Image.Image, in_place: bool = False) -> Image.Image:
    from PIL import ExifTags, ImageOps

    image.load()  # so that what fails below is the EXIF block, not the pixels
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:  # of which Pillow would make a copy
            return image
        if in_place:
            ImageOps.exif_transpose(image, in_place=True)
            return image
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises whatever it stumbles on in a damaged block, and the pixels are sound
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
    """16 bits a pixel as the nearest 8: Pillow's conversion would cut off all that is above 255."""
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
    """The folder of the shipped configurations, absolute."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config(path: str | Path, *folders: Path) -> Path:
    """The first file that ``path`` names.

    Args:
        path: absolute, or relative to one of the folders searched. ``configs/x.yaml`` and ``x.yaml`` both name the
            shipped file ``x.yaml``.
        folders: searched in this order, before the working directory and the shipped configurations.

    Raises:
        FileNotFoundError: if no such file exists; the message lists the places searched.
    """
    shipped = configs_folder()
    candidates = [folder / path for folder in (*folders, Path.cwd(), shipped.parent, shipped)]  # absolute paths win
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    places = ", ".join(dict.fromkeys(str(candidate.parent) for candidate in candidates))
    raise FileNotFoundError(f"no configuration file {str(path)!r}; searched: {places}")
