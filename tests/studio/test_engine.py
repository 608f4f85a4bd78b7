from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from PIL import Image
from studio_server import tiny_engine

from vlad_lightning.cli.launcher import main
from vlad_lightning.pipeline.image_request import ImageRequest
from vlad_lightning.studio.engine import WORKER, Drawn, Engine, Preview
from vlad_lightning.studio.storage import Storage

PROMPT = "a red circle and 'HI'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine") / "tiny"


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return tiny_engine(folder)


def request(engine: Engine, steps: int = 10, **changes: Any) -> ImageRequest:
    return ImageRequest(PROMPT, 7, engine.sampler(steps, 2.0, 1.5), **changes)


def test_previews_come_before_the_image(engine: Engine) -> None:
    *previews, last = engine.draw(request(engine))
    assert [(p.step, p.steps) for p in previews if isinstance(p, Preview)] == [(step, 10) for step in range(1, 11)]
    pictured = [p for p in previews if isinstance(p, Preview) and p.image is not None]
    assert [p.step for p in pictured] == [2, 4, 6, 8]
    assert {p.image.size for p in pictured if p.image is not None} == {(tiny.SIZE, tiny.SIZE)}
    assert isinstance(last, Drawn)
    assert last.layout.layout.words == ("HI",)
    assert pictured[0].image != last.image


def test_the_command_makes_the_same_file(engine: Engine, folder: Path, tmp_path: Path) -> None:
    (first,) = (entry for entry in engine.draw(request(engine, 3)) if isinstance(entry, Drawn))
    stored = Storage(tmp_path / "images").image(first)
    common = ["--model", str(folder), "--device", "cpu"]
    settings = ["--steps", "3", "--seed", "7", "--guidance_scale", "2", "--layout_scale", "1.5"]
    assert main(["generate", PROMPT, *common, *settings, "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == stored.read_bytes()
    (second,) = (e for e in engine.draw(request(engine, 3, layout=first.layout)) if isinstance(e, Drawn))
    stored = Storage(tmp_path / "repainted").image(second)
    assert main(["generate", "--from", str(stored), *common, "--out", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "b.png").read_bytes() == stored.read_bytes()
    assert Image.open(stored).info["layout_origin"] == "given"


def test_a_request_gets_a_size(engine: Engine, folder: Path, tmp_path: Path) -> None:
    plain = request(engine, 2)
    assert engine.sized(plain, None, None) == engine.sized(plain, tiny.SIZE, float(tiny.SIZE)) == plain
    wide = engine.sized(plain, 48, None)
    assert (wide.width, wide.height) == (48, None)
    (drawn,) = (entry for entry in engine.draw(wide) if isinstance(entry, Drawn))
    assert drawn.image.size == (drawn.layout.width, drawn.layout.height) == (48, tiny.SIZE)
    stored = Storage(tmp_path / "images").image(drawn)
    again = ["generate", "--from", str(stored), "--model", str(folder), "--device", "cpu"]
    assert main([*again, "--out", str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == stored.read_bytes()


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (33, None, "width is 33; it must be a multiple of 2"),
        (None, 0, "height is 0; it must be a whole number from 1 to 128"),
        (130, None, "width is 130; it must be a whole number from 1 to 128"),
    ],
)
def test_wrong_sizes_are_refused(engine: Engine, width: Any, height: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.sized(request(engine), width, height)


def test_closing_ends_the_diffusion_and_the_next_request_is_served(engine: Engine) -> None:
    running = engine.draw(request(engine, 1000))
    assert isinstance(next(running), Preview)
    running.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == WORKER:
            thread.join(60)
            assert not thread.is_alive()
    assert engine.pipe.interrupt
    assert isinstance([*engine.draw(request(engine, 2))][-1], Drawn)


def test_a_stop_ends_the_diffusion_without_an_image(engine: Engine) -> None:
    asked: list[int] = []
    entries = [*engine.draw(request(engine, 1000), stop=lambda: asked.append(1) or len(asked) > 3)]  # type: ignore[func-returns-value]
    assert [entry.step for entry in entries if isinstance(entry, Preview)] == [1, 2]  # the first asking is before
    assert len(entries) == 2
    assert engine.pipe.interrupt
    assert list(engine.draw(request(engine), stop=lambda: True)) == []


def test_a_closed_engine_generates_no_more(folder: Path) -> None:
    engine = Engine.open(str(folder), folder, "cpu")
    running = engine.draw(request(engine, 1000))
    next(running)
    engine.close()
    assert engine.pipe.interrupt
    assert all(isinstance(entry, Preview) for entry in running)
    assert list(engine.draw(request(engine))) == []


def test_errors_of_the_pipeline_reach_the_caller(engine: Engine) -> None:
    with pytest.raises(ValueError, match="mask is empty"):
        list(engine.draw(request(engine, image=Image.new("RGB", (8, 8)), mask=Image.new("L", (8, 8)))))
    with pytest.raises(ValueError, match="steps is 0; it must be a whole number"):
        engine.sampler(0, 1.0, 1.0)


def test_two_callers_get_what_they_would_get_alone(engine: Engine) -> None:
    alone = {seed: _image(engine, seed) for seed in (1, 2)}
    together: dict[int, Image.Image] = {}
    threads = [threading.Thread(target=lambda s=seed: together.__setitem__(s, _image(engine, s))) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {seed: image.tobytes() for seed, image in together.items()} == {s: i.tobytes() for s, i in alone.items()}


def _image(engine: Engine, seed: int) -> Image.Image:
    last = [*engine.draw(ImageRequest(PROMPT, seed, engine.sampler(3, 1.0, 1.0)))][-1]
    assert isinstance(last, Drawn)
    return last.image


def test_the_oldest_files_are_removed(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlad_lightning.studio.storage._MOST_FILES", 3)
    storage = Storage(tmp_path / "images")
    paths = [storage.shown(Image.new("RGB", (2000, 1000))) for _ in range(5)]
    assert [path.exists() for path in paths] == [False, False, True, True, True]
    assert len(list((tmp_path / "images").iterdir())) == 3
    assert Image.open(paths[-1]).size == (1024, 512)
