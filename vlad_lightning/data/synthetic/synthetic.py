"""Synthetic posters as samples, and as a data set in MARIO's format."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from vlad_lightning.data.mario import encode_image, write_sample
from vlad_lightning.data.ocr_lines import OcrWord, format_word, parse_ocr
from vlad_lightning.data.processes import unordered
from vlad_lightning.data.scene_file import (
    ObjectFacts,
    SceneFacts,
    WordFacts,
    decode_scene,
    encode_scene,
    write_scene,
)
from vlad_lightning.data.source import RawSample, SampleTexts, no_image, quoted_caption
from vlad_lightning.data.synthetic.captions import Caption, describe, reads_back
from vlad_lightning.data.synthetic.composition import compose
from vlad_lightning.data.synthetic.literal import ODDS, shows_what_is_told
from vlad_lightning.data.synthetic.middle import in_the_middle, tells_a_place
from vlad_lightning.data.synthetic.poster import draw_charseg, draw_poster
from vlad_lightning.data.synthetic.scene import OF_SHAPES, WORLDS, PlacedWord, Scene, World
from vlad_lightning.data.synthetic.shading import with_shades
from vlad_lightning.files import new_folder

_CHUNK = 50  # posters per task: few enough to move the progress bar, enough to need little communication
_PER_SHELF = 10_000
_SIZES = (48, 4096)  # below, there is no room for words in the smallest readable letters
_WORDINGS = 4  # captions tried for a scene before another scene is composed
_WORLD_SEEDS: dict[World, list[int]] = {"plain": [], "rich": [1], "literal": [2], "wordless": [3]}
_MAX_SAMPLES = 10**9  # a sample's name has nine digits
_CARD = """# Synthetic posters

Drawn by `vlad-cli synth --world rich` of VLAD-Lightning. The things on them are icons of Font Awesome Free 6
(https://fontawesome.com) by Fonticons, Inc., under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), in other
colours and turned by a few degrees. Whoever passes these pictures on has to say so.
"""


def write_posters(
    out: Path,
    samples: int,
    size: int = 64,
    seed: int = 0,
    heldout: bool = False,
    workers: int = 2,
    charseg: bool = True,
    scene: bool = True,
    world: World = "plain",
) -> None:
    """Draw posters and write them in MARIO's format.

    A poster is a function of its number, ``size``, ``seed``, ``heldout`` and ``world`` alone: the files are the same,
    byte for byte, for any number of workers. They are written into a hidden folder beside ``out`` that is renamed to
    ``out`` at the end, so ``out`` is either whole or does not exist.

    Args:
        out: folder to write; it may exist only if it is empty.
        samples: number of posters, at least 1.
        size: side of the square images in pixels, 48 to 4096.
        seed: seed of the posters, at least 0.
        heldout: draw only words that are kept for evaluation, and in the rich world mostly combinations that are
            (:mod:`~vlad_lightning.data.synthetic.combinations`); otherwise none of them.
        workers: number of processes, at least 1; with 1, this process draws all posters.
        charseg: write ``charseg.npy`` too; half a megabyte per poster.
        scene: write ``scene.json`` too, with the words, objects and their positions.
        world: ``plain`` has shapes alone, ``rich`` also things, more fonts and more backgrounds; ``literal`` is
            ``rich`` without what the captions leave out; ``wordless`` is ``plain`` without words. A ``README.md`` in
            the folder names the authors of the icons that the things are drawn with, as their licence asks.

    Raises:
        ValueError: if a number is out of its range, or ``world`` is unknown.
        FileExistsError: if ``out`` is a file, or a folder that is not empty.
    """
    check_posters(samples, size, seed, world)
    _check("workers", workers, 1, 1024)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"out is {str(out)!r}, which is a file or is not empty; name a new or an empty folder")
    with new_folder(out) as partial_out:
        write = partial(_write_chunk, partial_out, size, seed, heldout, charseg, scene, world)
        chunks = [range(start, min(start + _CHUNK, samples)) for start in range(0, samples, _CHUNK)]
        bar = track(
            unordered(write, chunks, workers),
            description=f"posters in {out.name}",
            total=len(chunks),
            console=Console(stderr=True),
        )
        for _ in bar:
            pass
        if world not in OF_SHAPES:
            (partial_out / "README.md").write_text(_CARD, encoding="utf-8")


def make_scene(index: int, size: int, seed: int, heldout: bool, world: World = "plain") -> tuple[Scene, Caption]:
    """Return the scene of poster ``index``, and a caption from which its phrases and objects can be parsed again."""
    rng = np.random.default_rng([seed, index, size, int(heldout), *_WORLD_SEEDS[world]])
    while True:
        scene = compose(rng, size, heldout, world)
        for _ in range(_WORDINGS):
            shown = _described(scene, rng, heldout, world)
            if shown is not None and reads_back(*shown):
                return shown


def _described(scene: Scene, rng: np.random.Generator, heldout: bool, world: World) -> tuple[Scene, Caption] | None:
    """Return a scene and its caption; None if the caption leaves out what the literal world cannot leave out."""
    if world != "literal":
        return scene, describe(scene, rng)
    shaded = with_shades(scene, rng)
    shown = shows_what_is_told(shaded, describe(shaded, rng, ODDS), heldout)
    if shown is None or tells_a_place(shown[1].text):
        return shown
    return in_the_middle(*shown, rng), shown[1]


def check_posters(samples: int, size: int, seed: int, world: str) -> None:
    """Check the arguments of :func:`write_posters` that say which posters there are.

    Raises:
        ValueError: if one is out of its range.
    """
    _check("samples", samples, 1, _MAX_SAMPLES)
    _check("size", size, *_SIZES)
    _check("seed", seed, 0, 2**63 - 1)
    if world not in WORLDS:
        raise ValueError(f"world is {world!r}; allowed: {', '.join(WORLDS)}")


def poster_key(index: int) -> str:
    """Return the name of a poster, as a sample in MARIO's format."""
    return f"{index // _PER_SHELF:05d}_{index:09d}"


def draw_sample(index: int, size: int, seed: int, heldout: bool, world: World = "plain") -> RawSample:
    """Draw poster ``index`` with its caption, words and scene, all as exact as they are drawn."""
    scene, caption = make_scene(index, size, seed, heldout, world)
    return _sample(index, scene, caption, draw_poster(scene, size))


def undrawn_sample(index: int, size: int, seed: int, heldout: bool, world: World = "plain") -> RawSample:
    """Return poster ``index`` as :func:`draw_sample` does, without drawing the image."""
    return _sample(index, *make_scene(index, size, seed, heldout, world), no_image())


def as_stored(sample: RawSample) -> RawSample:
    """Return a drawn poster as it is read from its files: with JPEG's losses and rounded positions."""
    image = Image.open(io.BytesIO(encode_image(sample.image)))
    image.load()
    return facts_as_stored(replace(sample, image=image))


def facts_as_stored(sample: RawSample) -> RawSample:
    """Return a poster with its texts and positions as they are read from its files; its image stays as it is."""
    assert sample.scene is not None
    texts = _texts_as_stored(sample)
    scene = decode_scene(encode_scene(sample.scene))
    return replace(sample, words=texts.words, scene=scene, prompt=texts.prompt)


def texts_as_stored(index: int, size: int, seed: int, heldout: bool, world: World = "plain") -> SampleTexts:
    """Return the texts of poster ``index`` as they are read from its files; the image is not drawn."""
    return _texts_as_stored(undrawn_sample(index, size, seed, heldout, world))


def _texts_as_stored(sample: RawSample) -> SampleTexts:
    words, _ = parse_ocr("\n".join(map(format_word, sample.words)))
    prompt = quoted_caption(sample.caption, words, sample.key)
    return SampleTexts(sample.caption, tuple(words), prompt=prompt)


def _sample(index: int, scene: Scene, caption: Caption, image: Image.Image) -> RawSample:
    words = tuple(OcrWord(word.text, word.quad()) for word in scene.words)
    return RawSample(poster_key(index), image, caption.text, words, scene=_facts(scene, caption))


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; allowed: {low} to {high}")


def _write_chunk(
    out: Path, size: int, seed: int, heldout: bool, charseg: bool, with_scene: bool, world: World, indices: range
) -> None:
    for index in indices:
        scene, caption = make_scene(index, size, seed, heldout, world)
        folder = out.joinpath(*poster_key(index).split("_"))
        sample = _sample(index, scene, caption, draw_poster(scene, size))
        write_sample(folder, sample, draw_charseg(scene, size) if charseg else None)
        if with_scene:
            assert sample.scene is not None
            write_scene(folder, sample.scene)


def _facts(scene: Scene, caption: Caption) -> SceneFacts:
    """Return the poster's facts for ``scene.json``."""
    words = [
        WordFacts(word.text, _corners(word), phrase.region, word.colour, word.font, word.group, word.style)
        for phrase in scene.phrases
        for word in phrase.words
    ]
    objects = [
        ObjectFacts(placed.shape, placed.colour, placed.box, placed.region, phrase)
        for placed, phrase in zip(scene.objects, caption.phrases, strict=True)
    ]
    ground = scene.background
    return SceneFacts(ground.colour, ground.kind, caption.background, tuple(words), tuple(objects), ground.accent)


def _corners(word: PlacedWord) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in word.quad().tolist())
