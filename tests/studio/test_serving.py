from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from studio_server import answered, free_port, served, tiny_engine, uploaded

from vlad_lightning.studio.serving import application
from vlad_lightning.studio.uploads import UPLOAD_BYTES


@pytest.fixture
def client(studio: str) -> httpx.Client:
    return httpx.Client(base_url=studio, trust_env=False, timeout=60)


def test_an_uploaded_file_can_be_read_and_no_other(client: httpx.Client) -> None:
    (path,) = uploaded(client, "a.txt", b"mine").json()
    assert client.get(f"/gradio_api/file={path}").text == "mine"
    outside = ["/etc/passwd", str(Path("pyproject.toml").resolve()), "pyproject.toml", f"{path}/../../../../etc/passwd"]
    for name in outside:
        answer = client.get(f"/gradio_api/file={name}")
        assert answer.status_code in (403, 404), name
        assert "root:" not in answer.text
    assert client.get("/gradio_api/file=http://127.0.0.1:1/").status_code == 403


def test_a_file_of_this_machine_cannot_be_named_as_an_upload(client: httpx.Client, tmp_path: Path) -> None:
    layout = {"size": 100, "words": [{"text": "HI", "quad": [[1, 1], [9, 1], [9, 5], [1, 5]]}]}
    (tmp_path / "mine.json").write_text(json.dumps(layout))

    def load(path: str) -> str:
        file = {"path": path, "orig_name": "a.json", "meta": {"_type": "gradio.FileData"}}
        return answered(client, "layout_load", [file, {"width": 9, "height": 9, "boxes": []}, ""])

    (own,) = uploaded(client, "a.json", (tmp_path / "mine.json").read_bytes()).json()
    assert '"text":"HI"' in load(own)
    assert load(str(tmp_path / "mine.json")) == "refused with 400"
    assert load("https://example.org/a.json") == "refused with 400"


def test_gradio_itself_refuses_a_file_that_was_not_uploaded(tmp_path: Path) -> None:
    # the second of two doors: a mounted gradio would read any file of this machine if it were not told otherwise
    (tmp_path / "mine.json").write_text("{}")
    engine, port = tiny_engine(tmp_path / "tiny"), free_port()
    file = {"path": str(tmp_path / "mine.json"), "orig_name": "a.json", "meta": {"_type": "gradio.FileData"}}
    with (
        application(engine, "127.0.0.1", port) as guard,
        served(guard.app, port) as address,
        httpx.Client(base_url=address, trust_env=False, timeout=60) as client,
    ):
        said = answered(client, "layout_load", [file, {"width": 9, "height": 9, "boxes": []}, ""])
        assert "it was not uploaded by a user" in said
        assert client.get(f"/gradio_api/file={tmp_path / 'mine.json'}").status_code == 403


def test_an_upload_has_a_limit(client: httpx.Client) -> None:
    assert uploaded(client, "a.png", bytes(UPLOAD_BYTES + 20_000)).status_code == 413
    assert uploaded(client, "a.png", bytes(100)).status_code == 200


def test_a_wrong_value_is_a_message_and_no_traceback(client: httpx.Client, capfd: pytest.CaptureFixture[str]) -> None:
    said = answered(client, "layout_start", [1, {"boxes": "x"}, 1, False, "a 'HI'", "", 2, 1.0, 1.0])
    assert "the editor's boxes are 'x'; they must be a list" in said
    said = answered(client, "generate", [1, 1, 33, None, 0.5, False, "a 'HI'", "", 2, 1.0, 1.0])
    assert "width is 33; it must be a multiple of 2" in said
    said = answered(client, "generate", [1, 1, None, None, 0.5, False, "", "", 2, 1.0, 1.0])
    assert "the prompt is empty; it must say what to draw" in said
    assert "Traceback" not in capfd.readouterr().err


def test_the_page_names_no_other_host(client: httpx.Client) -> None:
    page = client.get("/").text
    loaded = re.findall(r"""(?:src|href)=["'](https?:)?//[^"']+""", page)
    assert loaded == []
    assert "fonts.googleapis" not in client.get("/theme.css").text + page
    assert client.get("/config").json()["analytics_enabled"] is False
