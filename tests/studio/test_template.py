from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont
from studio_server import answered, uploaded

from vlad_lightning.layout.layout_file import LayoutFile


@pytest.fixture
def client(studio: str) -> httpx.Client:
    return httpx.Client(base_url=studio, trust_env=False, timeout=60)


def written(path: Path) -> Path:
    """Write a picture of 320 x 160 pixels with a word on the left, below the middle."""
    picture = Image.new("RGB", (320, 160), "white")
    ImageDraw.Draw(picture).text((20, 90), "HELLO", "black", ImageFont.load_default(48))
    picture.save(path)
    return path


def data_of(said: str) -> list[Any]:
    """Return the values that an event has set."""
    messages = [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line.startswith("data: ")]
    (completed,) = [message for message in messages if message["msg"] == "process_completed"]
    return list(completed["output"]["data"])


def given(client: httpx.Client, path: Path) -> dict[str, Any]:
    """Upload a file, and return it as the page names it."""
    (stored,) = uploaded(client, path.name, path.read_bytes()).json()
    return {"path": stored, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def test_the_words_of_an_uploaded_picture_are_drawn_in_their_places(client: httpx.Client, tmp_path: Path) -> None:
    value, status = data_of(answered(client, "template_upload", [given(client, written(tmp_path / "a.png"))]))
    assert status == "1 lines were read."
    assert (value["width"], value["height"]) == (320, 160)
    (box,) = value["boxes"]
    assert (box["kind"], box["text"]) == ("word", "HELLO")
    assert 0.25 <= box["x"] <= 0.35
    assert 0.65 <= box["y"] <= 0.85
    assert client.get(f"/{value['picture']}").status_code == 200
    said = answered(client, "template_start", [1.0, value, 7, False, "a poster", "", 2, 1.0, 1.0])
    assert "Seed **7**, 2 steps" in said
    address = next(part for part in said.split('"') if part.startswith("gradio_api/file=") and "seed_7" in part)
    (tmp_path / "made.png").write_bytes(client.get(f"/{address}").content)
    made = Image.open(tmp_path / "made.png")
    assert made.size == (46, 22)  # the picture's proportions, in the area of the model's images
    told = made.info
    assert told["layout_origin"] == "given"
    assert LayoutFile.from_json(told["layout"]).layout.words == ("HELLO",)


def test_an_upload_that_is_no_picture_is_a_message(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    said = answered(client, "template_upload", [given(client, tmp_path / "a.png")])
    assert "a.png is no picture that can be read" in said
    assert str(tmp_path) not in said
