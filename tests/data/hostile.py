"""Hostile and careless samples that a training may find in a folder, one kind after the other.

Each kind names its expected outcome: it is used, it is skipped for a reason, or it is used without its bad part.
:mod:`hostile_run` sends them through the commands, beside good samples.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import string
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.scan import scan
from vlad_lightning.data.scene_file import NAME
from vlad_lightning.layout.glyphs import Rasterizer

GIGABYTE = 1 << 30
USED = "used"
_RECODED = "read in UTF-16 or Windows-1252: not UTF-8"
QUAD = "128,64,384,64,384,128,128,128"
_LONG = "more than 1,500 bytes"  # including quotes around the words to draw
_MOST_PIXELS = (7_000, 7_000)  # 49 million, just below the limit


@dataclass(frozen=True)
class Kind:
    """A way to spoil a sample.

    Attributes:
        name: what is wrong with it.
        spoil: a function that spoils the folder of a good sample.
        skipped: why it is not used; empty if it is used.
        lost: the part left out of a used sample, as the report counts it.
        large: whether it takes seconds.
        sceneless: whether its scene is useless for an object detector, although the sample is good for other purposes.
    """

    name: str
    spoil: Callable[[Path], object]
    skipped: str = ""
    lost: str = ""
    large: bool = False
    sceneless: bool = False

    @property
    def for_detector(self) -> bool:
        """Whether an object detector can learn from the sample."""
        return not (self.skipped or self.lost == NAME or self.sceneless)

    @property
    def expected(self) -> str:
        """The expected outcome in words."""
        return f"skipped: {self.skipped}" if self.skipped else f"{USED}, without: {self.lost}" if self.lost else USED


def write_hostile(root: Path, good: Path, kinds: tuple[Kind, ...]) -> dict[Path, Kind]:
    """Write a folder for each kind, in ``root/00001``.

    Args:
        root: root folder of the data set.
        good: the good sample that each kind starts from.
        kinds: the kinds to write.

    Returns:
        The kind of each sample.
    """
    made = {}
    for number, kind in enumerate(kinds):
        folder = root / "00001" / f"{number:09d}"
        shutil.copytree(good, folder)
        moved = kind.spoil(folder)
        made[moved if isinstance(moved, Path) else folder] = kind
    return made


def seen(root: Path, folder: Path) -> str:
    """Read a sample as for training; return its outcome in the words of :attr:`Kind.expected`."""
    usable, report = scan(str(root), [folder], min_confidence=0.3, max_words=6)
    if not usable:
        return f"skipped: {', '.join(report.skipped)}"
    source = MarioFolder(str(root))
    source.folders = usable
    sample = MarioDataset(source, 64, max_words=6, max_boxes=32, rasterizer=Rasterizer()).read(0)
    if sample is None:
        return "found usable, and then unreadable"
    if not all(x.isfinite().all() for x in (sample.image, sample.glyphs, sample.word_boxes, sample.object_boxes)):
        return "numbers that are not finite"
    lost = [*report.lines_left_out, *(f"{file} {_RECODED}" for file in report.texts_recoded)]
    lost += [NAME] * report.scenes_left_out
    return f"{USED}, without: {', '.join(lost)}" if lost else USED


def add_clutter(root: Path) -> None:
    """Add entries that are not samples and must not disturb: circular and broken links, files, an endless folder."""
    shelf = root / "00001"
    for place in (root, shelf):
        (place / "circle").symlink_to("circle")
        (place / "nothing").symlink_to("missing")
        (place / "a file").write_text("no sample")
        os.mkfifo(place / "a pipe")
    (root / "round").symlink_to(root)
    (root / "00002").symlink_to("00002")
    (root / "00003").write_text("no shelf")
    (root / "empty").mkdir()


# Contents of a file


def text(name: str, content: str | bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """Make a file with this content; large contents are made when the file is written."""

    def spoil(folder: Path) -> None:
        data = content() if callable(content) else content
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return spoil


def absent(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def linked(name: str, target: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to(target))


def a_folder(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def sparse(name: str) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, 20 * GIGABYTE)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def renamed(name: bytes) -> Callable[[Path], object]:
    def spoil(folder: Path) -> Path:
        return folder.rename(folder.parent / os.fsdecode(name))

    return spoil


# Pictures


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 64), **options: object) -> Callable[..., object]:
    """Make a plain picture of this format and mode."""

    def spoil(folder: Path) -> None:
        image = Image.new("RGB", size, "red").convert(mode) if mode in ("P", "CMYK") else Image.new(mode, size)
        image.save(folder / "image.jpg", kind, **options)

    return spoil


def png(size: tuple[int, int], colour: int = 0, depth: int = 8, chunks: bytes = b"", whole: bool = True) -> bytes:
    """Make a black PNG, which compresses well; only its header unless ``whole``."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + (size[0] * channels * depth + 7) // 8)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(size[1])) + packer.flush() if whole else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunks + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def icon_with_a_larger_picture() -> bytes:
    """Make an icon whose header gives 16 pixels; the picture inside has 169 million, just what Pillow accepts."""
    inside = png((13_000, 13_000), colour=6)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inside), 22) + inside


def endless_postscript() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n%%EOF\n"


def photo(folder: Path) -> None:
    """Make a photo that is rotated by its EXIF block."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48), "red").save(folder / "image.jpg", "JPEG", exif=exif)


def damaged_exif(folder: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(folder / "image.jpg", "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")


def not_a_number(folder: Path) -> None:
    Image.fromarray(np.full((64, 64), np.nan, dtype=np.float32)).save(folder / "image.jpg", "TIFF")


def animation(folder: Path) -> None:
    frames = [Image.new("P", (64, 64), i) for i in range(200)]
    frames[0].save(folder / "image.jpg", "GIF", save_all=True, append_images=frames[1:])


def flipped(folder: Path) -> None:
    """Make a PNG with a wrong checksum in its pixels."""
    content = bytearray(png((64, 64)))
    content[60] ^= 255
    (folder / "image.jpg").write_bytes(bytes(content))


# scene.json, charseg.npy


def scene(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    """Change the content with ``change``, in place or by its return value."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / "scene.json").read_text())
        changed = change(content)
        (folder / "scene.json").write_text(json.dumps(content if changed is None else changed))

    return spoil


def objects(**changed: object) -> Callable[[dict[str, object]], object]:
    """Make a scene of one object with these entries."""
    thing = {"name": "star", "colour": "red", "box": [0.1, 0.1, 0.5, 0.5], "region": "center", "phrase": "a red star"}
    return lambda content: content.update(objects=[thing | changed])


def array(content: np.ndarray, pickled: bool = False) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / "charseg.npy", content, allow_pickle=pickled)


def bomb_header(folder: Path) -> None:
    """Make the header of an array of a million times a million entries."""
    with (folder / "charseg.npy").open("wb") as file:
        head = {"descr": "<i8", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
        np.lib.format.write_array_header_1_0(file, head)


def archive(folder: Path) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, np.zeros((256, 256), dtype=np.int64))
    (folder / "charseg.npy").write_bytes(content.getvalue())


class _Harmful:
    """An object whose pickle writes a file when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch pickle-was-run",)


def words(*lines: str) -> Callable[[Path], object]:
    """Make ``ocr.txt`` of these lines."""
    return text("ocr.txt", "".join(f"{line}\n" for line in lines))


def _repeated(folder: Path) -> None:
    text("caption.txt", "HELLO " * 186)(folder)
    words(*[f"HELLO {QUAD} 1"] * 999)(folder)


def _quoted(folder: Path) -> None:
    text("caption.txt", "A " * 700)(folder)
    words(*[f"A {QUAD} 1"] * 999)(folder)


def _images() -> list[Kind]:
    name, broken = "image.jpg", "broken image.jpg"
    many = f"{name}: more than 50,000,000 pixels"
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
    spoilt = {
        "cut": cut(name),
        "empty": text(name, b""),
        "a web page": text(name, b"<html>404</html>"),
        "an SVG": text(name, b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        "a PostScript program without end": text(name, endless_postscript()),
        "an icon with a larger picture inside": text(name, icon_with_a_larger_picture),
        "a PNG with a text bomb": text(name, png((8, 8), chunks=bomb)),
        "a PNG with a wrong checksum": flipped,
        "a PNG without pixels": text(name, png((64, 64), whole=False)),
    }
    kinds = [Kind(f"image: {what}", spoil, broken, large="larger" in what) for what, spoil in spoilt.items()]
    kinds += [
        Kind("image: bomb of 100 million pixels", text(name, png((10_000, 10_000), whole=False)), many),
        Kind("image: bomb of 3.6 billion pixels", text(name, png((60_000, 60_000), whole=False)), many),
        Kind("image: one pixel", picture("PNG", size=(1, 1)), "image too small"),
        Kind("image: sparse, 20 GB", sparse(name), f"{name}: larger than 256,000,000 bytes"),
        *_in_its_place(name),
    ]
    modes = {
        "PNG": picture("PNG"),
        "GIF of 200 frames": animation,
        "WebP": picture("WEBP"),
        "BMP": picture("BMP"),
        "TIFF": picture("TIFF"),
        "16 bits": picture("PNG", "I;16"),
        "1 bit": picture("PNG", "1"),
        "CMYK": picture("JPEG", "CMYK"),
        "palette with alpha": text(name, png((64, 64), colour=3)),
        "grey with alpha": picture("PNG", "LA"),
        "floats that are no numbers": not_a_number,
        "turned by EXIF": photo,
        "a damaged EXIF block": damaged_exif,
        "8 x 20,000": picture("PNG", size=(8, 20_000)),
    }
    turned = chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    large = {
        "colour with alpha, turned by EXIF": partial(png, _MOST_PIXELS, colour=6, chunks=turned),
        "grey": partial(png, _MOST_PIXELS),
        "colour with alpha": partial(png, _MOST_PIXELS, colour=6),
        "palette with alpha": partial(png, _MOST_PIXELS, colour=3),
        "16 bits": partial(png, _MOST_PIXELS, depth=16),
    }
    kinds += [Kind(f"image: {what}", spoil) for what, spoil in modes.items()]
    return kinds + [Kind(f"image: 49 million pixels, {what}", text(name, x), large=True) for what, x in large.items()]


def _in_its_place(name: str) -> list[Kind]:
    """Replace a file by something that is not a regular file."""
    what = name.partition(".")[0].replace("jpg", "image")
    unreadable = "broken image.jpg" if name == "image.jpg" else f"unreadable {name}"
    return [
        Kind(f"{what}: absent", absent(name), f"no {name}"),
        Kind(f"{what}: a pipe", pipe(name), f"{name}: no regular file"),
        Kind(f"{what}: a link to /dev/zero", linked(name, "/dev/zero"), f"{name}: no regular file"),
        Kind(f"{what}: a folder", a_folder(name), unreadable),
        Kind(f"{what}: a link to nothing", linked(name, "missing"), f"no {name}"),
        Kind(f"{what}: a link to itself", linked(name, name), f"{name}: a link to itself"),
    ]


def _captions() -> list[Kind]:
    name = "caption.txt"
    no_text, unknown = (f"{name}: {why}" for why in ("no text", "in an unknown encoding"))
    many = f"caption of {_LONG}"
    recoded = f"{name} {_RECODED}"
    used = {
        "controls, right-to-left, zero-width": "\x01\x1b[2J a poster \u202e\u2066that\u2069 s\u200bay\u200ds \ufeffHI",
        "1,490 quotes": '"' * 1_490,
        "quotes without words": "a poster that says " + '"" ' * 490,
        "a word of 1,490 letters": "a" * 1_490,
        "1,490 letters of phrases": ("a red star on the left and " * 400)[:1_490],
        "1,490 dots": "." * 1_490 + "x",
        "marks upon marks": "a poster that says H" + "\u0301" * 735,
        "wide signs and faces": "\U0001f600\u6f22\u5b57 " * 136,
    }
    noise = random.Random(0)
    for number in range(3):  # each of its letters is a separate token
        used[f"1,490 letters of noise, {number}"] = "".join(noise.choices(string.ascii_letters, k=1_490))
    return [
        *_in_its_place(name),
        Kind("caption: empty", text(name, ""), "empty caption"),
        Kind("caption: blanks", text(name, " \n\t\u3000\n"), "empty caption"),
        Kind("caption: sparse, 20 GB", sparse(name), f"{name}: larger than 1,000,000 bytes"),
        Kind("caption: a word of a million letters", text(name, "a" * 1_000_000), many),
        Kind("caption: a word of 1,501 letters", text(name, "a" * 1_501), many),
        Kind("caption: single letters, each with quotes", _quoted, many),
        Kind("caption: Windows-1251", text(name, "плакат".encode("cp1251")), unknown),
        Kind("caption: NULs", text(name, "a poster\0that says"), no_text),
        Kind("caption: UTF-16 without a mark", text(name, "a poster".encode("utf-16-le")), no_text),
        Kind("caption: bytes of no encoding", text(name, b"a poster \x81\x8d"), unknown),
        Kind("caption: UTF-16", text(name, "a poster".encode("utf-16")), lost=recoded),
        Kind("caption: UTF-32", text(name, "a poster".encode("utf-32")), lost=recoded),
        Kind("caption: cp1252", text(name, "a café".encode("cp1252")), lost=recoded),
        *(Kind(f"caption: {what}", text(name, content)) for what, content in used.items()),
    ]


def _lines() -> list[Kind]:
    name = "ocr.txt"
    quads = {
        "NaN": "malformed quad",
        "inf": "malformed quad",
        "-inf": "malformed quad",
        "1e309": "malformed quad",
        "1e7": "quad far outside the frame",
        "1e38": "quad far outside the frame",
        "1e154": "quad far outside the frame",
        "1e308": "quad far outside the frame",
        "9" * 400: "malformed quad",
        "x": "malformed line",
    }
    shapes = {
        "of no area": ("100,100,100,100,100,100,100,100", "degenerate quad"),
        "a line": ("0,0,100,0,200,0,300,0", "degenerate quad"),
        "crossing itself": ("100,100,300,200,300,100,100,200", ""),
        "outside": ("600,600,700,600,700,700,600,700", "quad outside the frame"),
        "of three corners": ("1,1,9,1,9,9", "malformed quad"),
        "of a thousand corners": (",".join(["1"] * 2_000), "malformed quad"),
        "a fraction of a pixel": ("1e-300,0,1e-300,0,0,1e-300,0,0", "degenerate quad"),
    }
    kinds = [*_in_its_place(name), Kind("ocr: empty", text(name, ""))]
    for number, why in quads.items():
        short = number if len(number) < 9 else f"a number of {len(number)} digits"
        kinds.append(Kind(f"ocr: quad with {short}", words(f"HELLO {number},64,384,64,384,128,128,128 1"), lost=why))
    for what, (quad, why) in shapes.items():
        kinds.append(Kind(f"ocr: quad {what}", words(f"HELLO {quad} 1"), lost=why))
    too_many, line = f"{name}: more than 1,000 lines", f"A {QUAD} 1"
    odd = "".join(map(chr, (*range(1, 9), 0x7F, 0x200B, 0x200D, 0x202E, 0x2066, 0xFEFF)))
    return [
        *kinds,
        Kind("ocr: sparse, 20 GB", sparse(name), f"{name}: larger than 1,000,000 bytes"),
        Kind("ocr: a million lines", text(name, f"{line}\n" * 1_000_000), f"{name}: larger than 1,000,000 bytes"),
        Kind("ocr: 5,000 lines", text(name, f"{line}\n" * 5_000), too_many),
        Kind("ocr: 20,000 lines ended by form feeds", text(name, f"{line}\f" * 20_000), too_many),
        Kind("ocr: 20,000 lines ended by U+2028", text(name, f"{line}\u2028" * 20_000), too_many),
        Kind("ocr: 999 lines", words(*[line] * 999)),
        Kind("ocr: 999 times a word that the caption has 186 times", _repeated, large=True),
        Kind("ocr: a word of a million letters", words("a" * 900_000 + f" {QUAD} 1"), lost="text too long"),
        Kind("ocr: a word of 256 letters", words("W" * 256 + f" {QUAD} 1")),
        Kind("ocr: controls, right-to-left, zero-width", words(f"{odd} {QUAD} 1", f"HE\u200bL\u202eLO {QUAD} 1")),
        Kind("ocr: marks upon marks", words("H" + "\u0301" * 250 + f" {QUAD} 1")),
        Kind("ocr: confidence of NaN", words(f"HELLO {QUAD} nan"), lost="malformed confidence"),
        Kind("ocr: confidence of 1e308", words(f"HELLO {QUAD} 1e308"), lost="malformed confidence"),
        Kind("ocr: NULs", text(name, f"HE\0LLO {QUAD} 1"), f"{name}: no text"),
        Kind(
            "ocr: UTF-16",
            text(name, f"HELLO {QUAD} 1".encode("utf-16")),
            lost=f"{name} {_RECODED}",
        ),
        Kind("ocr: bytes of no encoding", text(name, b"\x81\x8d"), f"{name}: in an unknown encoding"),
    ]


def _scenes() -> list[Kind]:
    name = "scene.json"
    deep = "[" * 200_000 + "]" * 200_000
    left_out = "scene.json"
    broken = {
        "cut": cut(name),
        "empty": text(name, ""),
        "a list": text(name, "[]"),
        "nothing": text(name, "null"),
        "a background that is a list": scene(lambda content: content.update(background=[])),
        "words that are a text": scene(lambda content: content.update(words="HELLO")),
        "no objects": scene(lambda content: content.pop("objects") and None),
        "deep nesting": text(name, deep),
        "deep nesting in a box": scene(objects(box=json.loads("[" * 500 + "]" * 500))),
        "numbers of 400 digits": scene(objects(box=[10**400] * 4)),
        "numbers of 5,000 digits": text(name, '{"background": ' + "9" * 5_000 + "}"),
        "boxes of NaN": scene(objects(box=[float("nan")] * 4)),
        "boxes of 1e308": scene(objects(box=[-1e308, 0, 1e308, 1])),
        "a box turned round": scene(objects(box=[0.5, 0.5, 0.1, 0.1])),
        "a region that is a list": scene(objects(region=["top"])),
        "a name of blanks": scene(objects(name=" ")),
        "huge": text(name, "[" + "1," * 600_000 + "1]"),
        "sparse, 20 GB": sparse(name),
        "a pipe": pipe(name),
        "a link to /dev/zero": linked(name, "/dev/zero"),
        "a folder": a_folder(name),
        "a link to itself": linked(name, name),
        "UTF-16": text(name, "{}".encode("utf-16")),
    }
    star = {"name": "star", "colour": "red", "box": [0.1, 0.1, 0.5, 0.5], "region": "center", "phrase": "a red star"}
    sceneless = {
        "a link to nothing": linked(name, "missing"),
        "an unknown colour": scene(objects(colour="octarine")),
        "5,000 objects": scene(lambda content: content.update(objects=[star] * 5_000)),
    }
    used = {
        "half of a pair as a phrase": scene(objects(phrase="\ud800")),
        "no end of entries": scene(lambda content: content.update({str(i): i for i in range(50_000)})),
    }
    return [
        *(Kind(f"scene: {what}", spoil, lost=left_out) for what, spoil in broken.items()),
        *(Kind(f"scene: {what}", spoil, sceneless=True) for what, spoil in sceneless.items()),
        *(Kind(f"scene: {what}", spoil) for what, spoil in used.items()),
    ]


def _classes() -> list[Kind]:
    """Make ``charseg.npy``, which no training reads."""
    name = "charseg.npy"
    odd = {
        "another size": array(np.zeros((3, 3), dtype=np.int64)),
        "floats": array(np.zeros((256, 256))),
        "unknown classes": array(np.full((256, 256), 10**9)),
        "a pickle": lambda folder: (folder / name).write_bytes(pickle.dumps(_Harmful())),
        "a pickle in an array": array(np.array([_Harmful()], dtype=object), pickled=True),
        "a header of 8 terabytes": bomb_header,
        "an archive": archive,
        "cut": cut(name),
        "sparse, 20 GB": sparse(name),
        "a pipe": pipe(name),
        "a link to /dev/zero": linked(name, "/dev/zero"),
        "a folder": a_folder(name),
        "a link to itself": linked(name, name),
        "a link to nothing": linked(name, "missing"),
    }
    return [Kind(f"charseg: {what}", spoil) for what, spoil in odd.items()] + [
        Kind("info.json: a pipe", pipe("info.json")),
    ]


def _names() -> list[Kind]:
    names = {
        "not in UTF-8": b"caf\xe9 \xff",
        "with line ends": b"a\nb\r\nc",
        "with controls": b"\x1b[2J\x07",
        "of 255 bytes": b"n" * 255,
        "like an option": b"--help",
        "with braces": b"{out} %s {0} [red]",
    }
    return [
        *(Kind(f"name: {what}", renamed(name)) for what, name in names.items()),
        Kind("an empty folder", _emptied, "no caption.txt"),
        Kind("a link to a folder above", lambda f: (shutil.rmtree(f), f.symlink_to("..")), "no caption.txt"),
    ]


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


KINDS = (*_images(), *_captions(), *_lines(), *_scenes(), *_classes(), *_names())
