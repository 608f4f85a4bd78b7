"""What ends a generation: the Stop button, a closed page, and the end of the server, over HTTP as a browser asks."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_server import event, free_port, served, tiny_engine

from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.studio.engine import WORKER, Drawn, Engine
from vlad_lightning.studio.serving import application

ENDLESS = 100  # steps, times ten: no test waits for the last


class Counting(Engine):
    """An engine that counts the images that it has begun and finished, and takes ten steps for each of the page's."""

    begun = 0
    finished = 0

    def sampler(self, steps: int, guidance_scale: float, layout_scale: float) -> ImageSampler:
        return super().sampler(10 * steps, guidance_scale, layout_scale)

    def draw(self, *args: Any, **settings: Any) -> Iterator[Any]:
        self.begun += 1
        for entry in super().draw(*args, **settings):
            self.finished += isinstance(entry, Drawn)
            yield entry


def counting_engine(folder: Path) -> Counting:
    opened = tiny_engine(folder)
    return Counting(opened.pipe, opened.name, "0" * 64)


@pytest.fixture(scope="module")
def served_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Counting, str]]:
    engine, port = counting_engine(tmp_path_factory.mktemp("stopping") / "tiny"), free_port()
    with application(engine, "127.0.0.1", port) as app, served(app, port) as address:
        yield engine, address


@pytest.fixture
def engine(served_engine: tuple[Counting, str]) -> Counting:
    engine, _ = served_engine
    engine.begun = engine.finished = 0
    return engine


class Page:
    """A page of the studio: a session with its open connections."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.session = uuid.uuid4().hex
        self.said: list[dict[str, Any]] = []

    def ask(self, component: str, data: list[Any], path: str = "queue/join") -> httpx.Response:
        sent = {"data": data, "fn_index": event(self.client, component)["id"], "session_hash": self.session}
        return self.client.post(f"/gradio_api/{path}", json=sent)

    def generate(self, clicked: float, steps: int = ENDLESS, count: int = 1) -> None:
        assert (
            self.ask("generate", [clicked, count, None, None, 7, False, "'HI'", "", steps, 1.0, 1.0]).status_code == 200
        )

    def press(self, button: str, clicked: float) -> None:
        assert self.ask(button, [clicked], "run/predict").status_code == 200

    def answer(self) -> str:
        """Return all that the server says until the event is through."""
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                self.said.append(json.loads(line.removeprefix("data: "))) if line else None
                if "process_completed" in line:
                    return line
        return ""


@pytest.fixture
def page(served_engine: tuple[Counting, str]) -> Iterator[Callable[[], Page]]:
    with httpx.Client(base_url=served_engine[1], trust_env=False, timeout=60) as client:
        yield lambda: Page(client)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def working() -> bool:
    return WORKER in {thread.name for thread in threading.enumerate()}


@contextmanager
def connected(page: Page) -> Iterator[None]:
    """Hold the two connections that a browser has open while an image is generated."""
    session = {"session_hash": page.session}
    with (
        page.client.stream("GET", f"/gradio_api/heartbeat/{page.session}"),
        page.client.stream("GET", "/gradio_api/queue/data", params=session),
    ):
        yield


def test_stop_ends_all_images_and_the_event_as_any_other(engine: Counting, page: Callable[[], Page]) -> None:
    one = page()
    one.generate(100.0, count=3)
    wait_until(working)
    one.press("stop", 99.0)  # an earlier click, which came late
    one.press("layout_stop", 101.0)  # of another tab
    assert working()
    one.press("stop", 101.0)
    answer = one.answer()
    assert '"success":true' in answer
    assert "Stopped: 0 of 3 finished." in json.dumps(one.said)
    assert (engine.begun, engine.finished) == (1, 0)
    one.generate(102.0, steps=2)
    assert "Seed **7**, 20 steps" in one.answer()
    assert (engine.begun, engine.finished) == (2, 1)


def test_what_waits_is_stopped_before_it_begins(engine: Counting, page: Callable[[], Page]) -> None:
    first, second = page(), page()
    first.generate(1.0)
    wait_until(working)
    second.generate(1.0)
    second.press("stop", 2.0)
    assert working()
    first.press("stop", 2.0)
    second.answer()
    assert "Stopped: 0 of 1 finished." in json.dumps(second.said)
    assert engine.finished == 0
    assert not [said for said in second.said if said["msg"] == "progress"]


def test_a_closed_page_ends_its_generation_and_no_other(engine: Counting, page: Callable[[], Page]) -> None:
    one, other = page(), page()
    with connected(one):
        with connected(other):
            one.generate(1.0)
            wait_until(working)
        time.sleep(0.2)  # the server notices that the other page has gone
        assert working()
    wait_until(lambda: not working())
    assert engine.finished == 0
    other.generate(1.0, steps=2)  # the same page again: its connection was only lost
    other.answer()
    assert engine.finished == 1


def test_a_stopped_repainting_shows_the_picture_from_before(engine: Counting, page: Callable[[], Page]) -> None:
    one = page()
    box = {"kind": "word", "text": "HI", "x": 0.5, "y": 0.5, "w": 0.5, "h": 0.2, "angle": 0}
    value = {"width": 64, "height": 64, "picture": "data:,before", "boxes": [box]}
    assert one.ask("layout_start", [5.0, value, 7, False, "'HI'", "", ENDLESS, 1.0, 1.0]).status_code == 200
    wait_until(working)
    one.press("layout_stop", 6.0)
    one.answer()
    said = json.dumps(one.said)
    assert "Stopped." in said
    assert "data:,before" in said
    assert engine.finished == 0


def test_the_end_of_the_server_ends_the_generation(tmp_path: Path) -> None:
    engine, port = counting_engine(tmp_path / "tiny"), free_port()
    with application(engine, "127.0.0.1", port) as app:
        with served(app, port) as address, httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            one = Page(client)
            one.generate(1.0, count=8)
            wait_until(working)
        wait_until(lambda: not working())
    assert (engine.begun, engine.finished) == (1, 0)


def test_events_of_the_queue_cannot_be_asked_for_beside_it(page: Callable[[], Page], engine: Counting) -> None:
    refused = page().ask("generate", [1.0, 1, 7, False, "'HI'", "", 2, 1.0, 1.0], "run/predict")
    assert refused.status_code == 404
    assert engine.begun == 0
