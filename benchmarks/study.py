"""Measure the rating study's server with many raters at once, as Markdown: ``python benchmarks/study.py``.

Each rater is a thread with a connection of its own, which enrols, and then fetches each item's images and answers at
once, as no person could. Clients and server share the machine. The server is killed at the end (SIGKILL), and every
answer that it acknowledged is looked up in the file.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from markdown_table import table
from PIL import Image

from vlad_lightning.studio.study_answers import Answers
from vlad_lightning.studio.study_folder import read_study
from vlad_lightning.studio.study_make import Plan, make_study

_SIDE = 512  # pixels of the images
_SYSTEMS = 2


@dataclass
class Rater:
    """A rater's connection and what it measured.

    Attributes:
        connection: the connection.
        path: the rater's path.
        answer_ms: how long each answer took until it was acknowledged, in milliseconds.
        image_ms: the same of each image.
        saved: the acknowledged answers, by position.
    """

    connection: http.client.HTTPConnection
    path: str = ""
    answer_ms: list[float] = field(default_factory=list)
    image_ms: list[float] = field(default_factory=list)
    saved: list[list[int]] = field(default_factory=list)

    def ask(self, path: str, body: object = None) -> bytes:
        """Return the content of a successful response."""
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.connection.request("GET" if body is None else "POST", path, content, headers)
        reply = self.connection.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {data[:200]!r}")
        return data

    def rate(self) -> None:
        """Answer all items."""
        item = json.loads(self.ask(f"{self.path}/item"))
        while not item["done"]:
            for image in item["images"]:
                start = time.perf_counter()
                self.ask(image)
                self.image_ms.append(1000 * (time.perf_counter() - start))
            place = len(self.saved)
            value = [1 + place % 5, 1 + place % 3, 4] if item["kind"] == "rate" else [place % 2]
            start = time.perf_counter()
            data = self.ask(f"{self.path}/answer", {"position": place, "value": value, "seconds": 1.0})
            self.answer_ms.append(1000 * (time.perf_counter() - start))
            self.saved.append(value)
            item = json.loads(data)


def draw_study(folder: Path, items: int) -> Path:
    """Draw a study of images with as much detail as photographs have, and return its folder."""
    rng = np.random.default_rng(0)
    given = []
    for system in range(_SYSTEMS):
        (folder / str(system)).mkdir()
        for number in range(items):
            coarse = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(folder / str(system) / f"{number}.png")
        given.append(f"{system}={folder / str(system)}")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(f'{{"key": "{number}", "prompt": "prompt {number}"}}\n' for number in range(items)))
    rated = items // 3 * 2 // _SYSTEMS * _SYSTEMS
    make_study(given, folder / "study", Plan(items=rated, pairs=items - rated), prompts)
    return folder / "study"


def measure(study: Path, count: int) -> tuple[list[Rater], float]:
    """Let raters answer the whole study at once, kill the server, and return the raters and the seconds it took."""
    command = [sys.executable, "-m", "vlad_lightning", "study", "serve", str(study), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        join = urlsplit(server.stdout.readline().split()[-1])
        raters = [Rater(http.client.HTTPConnection(join.netloc, timeout=600)) for _ in range(count)]
        for rater in raters:
            rater.path = json.loads(rater.ask(join.path, {}))["path"]
        threads = [threading.Thread(target=rater.rate) for rater in raters]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        server.kill()
    return raters, seconds


def lost(study: Path, raters: list[Rater]) -> int:
    """Return how many acknowledged answers are not in the file, or differ from it."""
    store = Answers(study, read_study(study))
    stored = {(answer.rater, answer.position): list(answer.value) for answer in store.answers()}
    store.close()
    told = {(number, place): value for number, rater in enumerate(raters) for place, value in enumerate(rater.saved)}
    return sum(stored.get(key) != value for key, value in told.items())


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--items", type=int, default=30, help="items of each rater, without the attention checks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = draw_study(Path(folder), options.items)
        sizes = [path.stat().st_size for path in (study / "images").iterdir()]
        raters, seconds = measure(study, options.raters)
        missing = lost(study, raters)
    answers = [ms for rater in raters for ms in rater.answer_ms]
    images = [ms for rater in raters for ms in rater.image_ms]
    print(
        f"{date.today()}, {platform.machine()}, Python {platform.python_version()}: {options.raters} raters at once, "
        f"{len(answers)} answers, images of {np.mean(sizes) / 1000:.0f} kB\n"
    )
    table(
        ("", "a second", "p50", "p99"),
        [
            (name, f"{len(ms) / seconds:.1f}", *(f"{np.percentile(ms, share):.0f} ms" for share in (50, 99)))
            for name, ms in (("answers", answers), ("images", images))
        ],
    )
    print(f"\nacknowledged answers that are lost after SIGKILL: {missing} of {len(answers)}")
    if missing:
        sys.exit(1)


if __name__ == "__main__":
    main()
