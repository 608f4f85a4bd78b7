from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vlad_lightning.data.mario import character_class, list_samples, read_sample
from vlad_lightning.data.synthetic.synthetic import make_scene, write_posters
from vlad_lightning.data.synthetic.vocabulary import is_held_out
from vlad_lightning.layout.prompt_parser import region_of


def contents(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "posters"
    write_posters(out, samples=60, seed=4, workers=1)
    return out


def test_the_files_are_the_same_for_any_number_of_workers(posters, tmp_path):
    write_posters(tmp_path / "two", samples=60, seed=4, workers=2)
    assert contents(tmp_path / "two") == contents(posters)
    assert len(contents(posters)) == 60 * 6


def test_a_poster_does_not_depend_on_how_many_there_are(posters, tmp_path):
    write_posters(tmp_path / "few", samples=3, seed=4, workers=1)
    assert contents(tmp_path / "few").items() <= contents(posters).items()


@pytest.mark.parametrize("change", [{"seed": 5}, {"size": 72}, {"heldout": True}])
def test_seed_size_and_split_change_the_posters(change):
    base = {"index": 0, "size": 64, "seed": 4, "heldout": False}
    assert make_scene(**base) == make_scene(**base)
    assert make_scene(**base | change) != make_scene(**base)


def test_every_sample_is_valid_and_scene_json_describes_it(posters):
    for index, folder in enumerate(list_samples(posters)):
        sample = read_sample(folder)
        scene, caption = make_scene(index, 64, 4, heldout=False)
        assert sample.problems == ()
        assert sample.image.size == (64, 64)
        assert sample.caption == caption.text
        facts = sample.scene
        assert (facts.colour, facts.kind) == (scene.background.colour, scene.background.kind)
        assert [(w.text, w.group, w.colour) for w in facts.words] == [(w.text, w.group, w.colour) for w in scene.words]
        assert [o.phrase for o in facts.objects] == list(caption.phrases)
        assert [(o.name, o.colour, o.region) for o in facts.objects] == [
            (o.shape, o.colour, o.region) for o in scene.objects
        ]
        assert np.allclose([o.box for o in facts.objects], [o.box for o in scene.objects], atol=1e-5)


def test_words_are_where_scene_json_says_and_phrases_in_their_regions(posters):
    for folder in list_samples(posters):
        sample = read_sample(folder)
        read = {word.text: word.quad for word in sample.words}
        assert set(read) == {word.text for word in sample.scene.words}
        groups = {}
        for word in sample.scene.words:
            assert np.allclose(np.sort(word.quad, axis=0), np.sort(read[word.text], axis=0), atol=1.01 / 512)
            groups.setdefault((word.group, word.region), []).append(word.quad)
        assert len(groups) == len({group for group, _ in groups})
        for (_, region), quads in groups.items():
            corners = np.concatenate(quads)
            assert region_of(*(corners.min(axis=0) + corners.max(axis=0)) / 2) == region


def test_charseg_shows_the_words_inside_their_quads(posters):
    for folder in list_samples(posters)[:20]:
        classes, words = np.load(folder / "charseg.npy"), read_sample(folder).words
        assert (classes.shape, classes.dtype) == ((256, 256), np.int64)
        assert set(np.unique(classes)) == {0, *(character_class(c) for word in words for c in word.text)}
        inside = np.zeros((256, 256), dtype=bool)
        for word in words:
            (left, top), (right, bottom) = (word.quad.min(0) * 256).astype(int), np.ceil(word.quad.max(0) * 256)
            inside[top - 1 : int(bottom) + 1, left - 1 : int(right) + 1] = True
        assert not classes[~inside].any()


def test_info_json_holds_the_hash_and_size_of_the_image(posters):
    folder = list_samples(posters)[7]
    info = json.loads((folder / "info.json").read_text())
    assert info["sha256"] == hashlib.sha256((folder / "image.jpg").read_bytes()).hexdigest()
    assert (info["width"], info["height"], info["key"]) == (64, 64, folder.name)
    assert info["caption"] == (folder / "caption.txt").read_text()


def test_no_word_is_drawn_in_both_splits():
    train = {w.text.casefold() for i in range(300) for w in make_scene(i, 64, 0, heldout=False)[0].words}
    heldout = {w.text.casefold() for i in range(300) for w in make_scene(i, 64, 0, heldout=True)[0].words}
    assert min(len(train), len(heldout)) > 200
    assert not train & heldout
    assert all(is_held_out(word) for word in heldout)
    assert not any(is_held_out(word) for word in train)


def test_charseg_and_scene_can_be_left_out_and_an_empty_folder_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    write_posters(tmp_path / "out", samples=2, size=96, workers=1, charseg=False, scene=False)
    assert {Path(name).name for name in contents(tmp_path / "out")} == {
        "image.jpg",
        "caption.txt",
        "ocr.txt",
        "info.json",
    }
    sample = read_sample(list_samples(tmp_path / "out")[0])
    assert sample.image.size == (96, 96)
    assert sample.scene is None


def test_a_folder_that_is_not_empty_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"out is .*not empty"):
        write_posters(tmp_path / "out", samples=1)
    with pytest.raises(FileExistsError, match="is a file"):
        write_posters(tmp_path / "out" / "mine.txt", samples=1)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("name", "value"),
    [("samples", 0), ("samples", -3), ("size", 47), ("size", 5000), ("seed", -1), ("workers", 0)],
)
def test_a_number_out_of_range_is_named_and_nothing_is_written(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; allowed:"):
        write_posters(tmp_path / "out", **{"samples": 1, name: value})
    assert not list(tmp_path.iterdir())


def _started_writer(out: Path) -> subprocess.Popen[bytes]:
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from vlad_lightning.data.synthetic.synthetic import write_posters\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs of a shell ignore the signal
        "write_posters(Path(sys.argv[1]), samples=100000, workers=1, charseg=False)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.parent.glob(".*/00000/000000000")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return writer


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_writer_leaves_no_partial_data_set(tmp_path, how):
    writer = _started_writer(tmp_path / "out")
    assert writer.poll() is None
    os.kill(writer.pid, how)
    assert writer.wait(timeout=60) != 0
    assert not (tmp_path / "out").exists()
    left = list(tmp_path.iterdir())
    assert all(path.name.startswith(".out.") for path in left)
    assert bool(left) == (how == signal.SIGKILL)


def test_drawing_does_not_load_torch():
    code = "import sys, vlad_lightning.data.synthetic.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
