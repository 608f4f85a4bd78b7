"""Images of systems that differ in how good they are, and raters who talk to a study's server over HTTP."""

from __future__ import annotations

import http.client
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from PIL.PngImagePlugin import PngInfo

Reply = dict[str, Any]


def draw_systems(root: Path, names: list[str], prompts: int, side: int = 8) -> list[str]:
    """Draw one-coloured images, whose red tells the system: 0, 40, 80, ... Return the options of `study make`."""
    options = []
    for place, name in enumerate(names):
        (root / name / "part").mkdir(parents=True)
        for number in range(prompts):
            info = PngInfo()
            info.add_text("prompt", f"prompt number {number}")
            info.add_text("model", name)
            image = Image.new("RGB", (side, side), (40 * place, number, 99))
            image.save(root / name / "part" / f"{number:03d}.png", pnginfo=info)
        options += ["--system", f"{name}={root / name}"]
    return options


class Server:
    """A process of `vlad-cli study serve`; ``base`` is where it listens, ``lines`` what it printed."""

    def __init__(self, study: Path, *options: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "vlad_lightning", "study", "serve", str(study), "--port", str(port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines = []
        while not any("/results/" in line for line in self.lines):
            line = self.process.stdout.readline()
            assert line, self.process.communicate()
            self.lines.append(line.strip())
        address = urlsplit(self.results)
        self.base = f"{address.scheme}://{address.netloc}"

    @property
    def results(self) -> str:
        return next(line for line in self.lines if "/results/" in line).rpartition(" ")[2]

    @property
    def join(self) -> str:
        return next(line for line in self.lines if "/join/" in line).rpartition(" ")[2]

    def interrupt(self) -> str:
        """Send what Ctrl-C sends, and return the end of what the server printed."""
        self.process.send_signal(signal.SIGINT)
        told, errors = self.process.communicate(timeout=120)
        assert (self.process.returncode, errors) == (0, "")
        return told

    def stop(self) -> None:
        self.process.kill()  # SIGKILL: what was acknowledged must be on the disk
        self.process.communicate()


class Client:
    """A connection that keeps every byte of every response in ``seen``."""

    def __init__(self, base: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=120)
        self.seen: list[bytes] = []

    def ask(self, path: str, body: object = None, raw: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers} if content is not None else headers
        self.connection.request("GET" if content is None else "POST", path, content, headers)
        reply = self.connection.getresponse()
        data = reply.read()
        self.seen += [data, str(reply.getheaders()).encode()]
        return reply.status, data

    def told(self, path: str, body: object = None) -> Reply:
        status, data = self.ask(path, body)
        assert status == 200, (status, data)
        return dict(json.loads(data))


class ScriptedRater:
    """A rater who answers by what the images look like.

    Args:
        base: the server's address.
        path: the rater's path, ``/r/TOKEN``.
        answer: from an item's kind and the red of its images to an answer; red above 200 is an attention check's paper.
    """

    def __init__(self, base: str, path: str, answer: Callable[[str, list[int], list[str]], list[int]]) -> None:
        self.client = Client(base)
        self.path = path
        self.answer = answer
        self.saved: list[list[int]] = []

    def start(self) -> ScriptedRater:
        assert self.client.ask(self.path)[0] == 200
        if not self.client.told(f"{self.path}/texts")["consented"]:
            assert self.client.ask(f"{self.path}/item")[0] == 403
            self.client.told(f"{self.path}/consent", {})
        return self

    def rate(self, most: int = 1000, told: threading.Event | None = None) -> int:
        """Answer up to ``most`` items, and return how many are answered in all; ``told`` is set after eight of them."""
        item = self.client.told(f"{self.path}/item")
        for _ in range(most):
            if item["done"]:
                break
            reds = [self._red(image) for image in item["images"]]
            value = self.answer(item["kind"], reds, item["images"])
            body = {"position": item["position"], "value": value, "seconds": 3.5}
            item = self.client.told(f"{self.path}/answer", body)
            self.saved.append(value)
            if told is not None and len(self.saved) == 8:
                told.set()
        return int(item["position"])

    def _red(self, path: str) -> int:
        status, data = self.client.ask(path)
        assert status == 200
        image = Image.open(io.BytesIO(data))
        assert image.info == {}
        pixel = image.convert("RGB").getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return int(pixel[0])
