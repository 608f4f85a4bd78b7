"""Properties of every parser of the data: whatever a file holds, it is read, or left out for a reason that is told."""

import contextlib
import io
import json
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlad_lightning.data.annotation import AnnotationSettings, annotate_picture
from vlad_lightning.data.charseg_data import CLASSES, read_charseg
from vlad_lightning.data.downloaded_pictures import DownloadedPictures
from vlad_lightning.data.index_file import read_index
from vlad_lightning.data.mario import CHARSEG_SIDE, UNKNOWN, read_texts
from vlad_lightning.data.ocr_lines import OcrWord, format_word, parse_ocr, quote_read_words
from vlad_lightning.data.own_pictures import METADATA, file_portions
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, prepare
from vlad_lightning.data.prepared_sample import PrepareSettings
from vlad_lightning.data.prepared_source import PreparedSource
from vlad_lightning.data.prompts import read_prompts
from vlad_lightning.data.requests import RequestDataModule
from vlad_lightning.data.scene_file import decode_scene, encode_scene
from vlad_lightning.data.source import SkipSample
from vlad_lightning.layout.prompt_parser import bare_word, drawn_words

SAID = st.sampled_from(["SALE", "sale!", '"Big', 'Sale"', "'50%'", "off", "a", "\u201cNEW\u201d", "-"])
repeatable = partial(settings, derandomize=True, deadline=None)  # a failure of CI is one of the change
BROKEN = ValueError, KeyError, TypeError, RecursionError
ODD = st.sampled_from(
    ["\ud83d", "\udc80", "\0", "\n", '"', "'", "\u202e", "\ufeff", "%"]
)  # halves of pairs, as in JSON, too
TEXTS = st.lists(st.text(max_size=8) | ODD, max_size=5).map("".join)
PLAIN = st.text(st.characters(codec="utf-8"), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0, 64, 128, 256, 384, 512])


def picture():
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(content, "PNG")
    return content.getvalue()


PICTURE = picture()
QUOTES = "\"'\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:  # a fixture would be one for all examples
        yield Path(name)


def ocr_lines():
    def line(parts):
        text, corners, confidence = parts
        return f"{text} {','.join(map(str, corners))} {confidence}"

    lines = st.tuples(PLAIN, st.lists(NUMBERS, min_size=7, max_size=9), st.floats(-1, 2) | PLAIN).map(line)
    return st.lists(lines | PLAIN, max_size=6).map("\n".join)


@given(ocr_lines(), st.floats(0, 1))
@repeatable()
def test_every_line_of_ocr_is_a_word_or_a_problem(text, min_confidence):
    words, problems = parse_ocr(text, min_confidence)
    assert len(words) + len(problems) == sum(bool(line.strip()) for line in text.splitlines())
    assert all(problems)
    for word in words:
        assert word.text.strip()
        assert word.quad.shape == (4, 2)
        assert np.isfinite(word.quad).all()
        assert min_confidence <= word.confidence <= 1


@given(ocr_lines())
@repeatable()
def test_words_that_were_written_are_read_again(text):
    words, _ = parse_ocr(text)
    lines = [format_word(word) for word in words]
    again, problems = parse_ocr("\n".join(lines))
    # corners are rounded to 1/512: a small box may become none
    assert len(again) + len(problems) == len(words)
    assert {word.text for word in again} <= {word.text for word in words}
    assert {format_word(word) for word in again} <= set(lines)


@given(
    st.lists(
        st.sampled_from(["SALE", "sale!", '"Big', 'Sale"', "'50%'", "off", "a", "\u201cNEW\u201d", "-"]) | PLAIN,
        max_size=8,
    ).map(" ".join),
    st.lists(st.sampled_from(["SALE", "Big Sale", "50%", "NEW"]) | PLAIN.filter(str.strip), max_size=4),
)
@repeatable()
def test_quotes_are_all_that_is_added_to_a_caption(caption, texts):
    quad = np.array([(0.1, 0.1), (0.9, 0.1), (0.9, 0.3), (0.1, 0.3)], dtype=np.float32)
    words = [OcrWord(text.strip(), quad + index) for index, text in enumerate(texts)]
    prompt = quote_read_words(caption, words)
    marks = str.maketrans("", "", QUOTES)
    assert "".join(prompt.translate(marks).split()) == "".join(caption.translate(marks).split())
    read = {bare_word(part) for text in texts for part in (text, *text.split())}
    assert {bare_word(word) for word in drawn_words(prompt)} <= read


@given(JSON | st.builds(lambda value: {"background": value, "words": value, "objects": value}, JSON))
@repeatable()
def test_a_scene_is_read_and_written_again_or_refused(content):
    try:
        facts = decode_scene(json.dumps(content))
    except BROKEN:
        return
    assert decode_scene(encode_scene(facts)) == facts


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
@repeatable()
def test_texts_of_any_bytes_are_read_or_skipped(caption, ocr, charseg):
    with folder() as root:
        for name, content in (("caption.txt", caption), ("ocr.txt", ocr), ("charseg.npy", charseg)):
            (root / name).write_bytes(content)
        with contextlib.suppress(SkipSample):
            texts = read_texts(root)
            assert texts.caption == " ".join(texts.caption.split()) != ""
            texts.caption.encode()
        assert read_charseg(root) is None


@given(
    st.sampled_from(["u1", "i1", "<i4", ">i8", "f4", "U3", "?"]),
    st.sampled_from([(CHARSEG_SIDE, CHARSEG_SIDE), (CHARSEG_SIDE,), (2, 3), ()]),
    st.integers(-3, 300),
)
@repeatable(max_examples=30)
def test_a_map_of_characters_has_classes_or_is_left_out(kind, shape, value):
    with folder() as root, contextlib.suppress(OverflowError):
        np.save(root / "charseg.npy", np.full(shape, value, dtype=kind))
        found = read_charseg(root)
        if found is None:
            assert shape != (CHARSEG_SIDE, CHARSEG_SIDE) or np.dtype(kind).kind not in "iu"
        else:
            assert found.dtype == np.uint8
            assert ((found < CLASSES) | (found == UNKNOWN)).all()


@given(st.binary(max_size=200) | PLAIN.map(str.encode))
@repeatable()
def test_an_index_of_any_bytes_is_read_or_refused(content):
    with folder() as root:
        (root / "index.txt").write_bytes(content)
        with contextlib.suppress(ValueError):
            names = list(read_index(root / "index.txt"))
            assert all(name == name.strip() != "" for _, name in names)
            assert [number for number, _ in names] == sorted({number for number, _ in names})


@given(st.lists(JSON | st.builds(lambda name, text: {"file_name": name, "text": text}, TEXTS, TEXTS), max_size=3))
@repeatable()
def test_metadata_of_any_json_are_read_or_refused(entries):
    with folder() as root:
        (root / METADATA).write_text("\n".join(json.dumps(entry) for entry in entries))
        with contextlib.suppress(ValueError):
            for portion in file_portions(root):
                for found in portion.read():
                    assert found.problem or found.content


@given(TEXTS)
@repeatable(max_examples=40)
def test_a_caption_of_any_text_becomes_a_sample_or_a_reason(caption):
    with folder() as root:
        (root / "mine").mkdir()
        (root / "mine" / "a.png").write_bytes(PICTURE)
        (root / "mine" / METADATA).write_text(json.dumps({"file_name": "a.png", "text": caption}))
        (own,) = (own for portion in file_portions(root / "mine") for own in portion.read())
        outcome = annotate_picture(own, root, AnnotationSettings(), Blind())
        assert bool(outcome.dropped) != bool(outcome.folder)
        if outcome.folder:
            read_texts(root / outcome.folder)


class Blind:
    name = "blind"

    def __call__(self, image):
        return []


@given(st.lists(JSON | st.builds(lambda url: {"url": url}, TEXTS) | st.binary(max_size=20), max_size=4))
@repeatable(max_examples=40)
def test_downloaded_pictures_with_any_json_are_indexed(entries):
    with folder() as root:
        (root / "images").mkdir()
        with tarfile.open(root / "images" / "0.tar", "w") as tar:
            for number, entry in enumerate([*entries, {"url": "https://a/good.jpg"}]):
                content = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
                for name, data in ((f"{number}.jpg", PICTURE), (f"{number}.json", content)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        pictures = DownloadedPictures(root / "images", root / "index", "url")
        assert pictures.build() >= 1
        assert pictures.find("https://a/good.jpg") == PICTURE


@pytest.mark.filterwarnings("ignore")
@given(st.lists(st.tuples(TEXTS | st.binary(max_size=30), ocr_lines(), JSON), min_size=1, max_size=3))
@repeatable(max_examples=20)
def test_a_folder_of_any_texts_is_prepared(samples):
    with folder() as root:
        for number, (caption, ocr, scene) in enumerate([*samples, ("a poster", "", {})]):
            sample = root / "posters" / "00000" / f"{number:09d}"
            sample.mkdir(parents=True)
            (sample / "image.jpg").write_bytes(PICTURE)
            (sample / "caption.txt").write_bytes(
                caption if isinstance(caption, bytes) else caption.encode("utf-8", "surrogatepass")
            )
            (sample / "ocr.txt").write_text(ocr, encoding="utf-8")
            (sample / "scene.json").write_text(json.dumps(scene))
        with contextlib.suppress(ValueError):  # too many that cannot be used
            portions = folder_portions(root / "posters")
            prepare(Preparation("posters", portions, root / "set", PrepareSettings(min_side=8)))
            source = PreparedSource(str(root / "set"))
            source.setup()
            assert all(source.read(index).caption for index in range(len(source)))


@given(st.lists(JSON | st.builds(lambda prompt: {"prompt": prompt}, TEXTS), max_size=3), st.binary(max_size=100))
@repeatable()
def test_requests_and_prompts_of_any_content_are_read_or_refused(entries, content):
    with folder() as root:
        (root / "requests.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
        data = RequestDataModule(str(root / "requests.jsonl"))
        with contextlib.suppress(ValueError):
            data.setup()
        for request in data.requests():
            request.prompt.encode()
        (root / "prompts.txt").write_bytes(content)
        with contextlib.suppress(ValueError):
            assert all(prompt.strip() for prompt in read_prompts(root / "prompts.txt"))
