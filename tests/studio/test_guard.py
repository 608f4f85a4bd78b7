from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from vlad_lightning.studio.guard import Guard
from vlad_lightning.studio.uploads import UPLOAD_BYTES


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, as gradio would read it."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(body or b"nothing")(scope, receive, send)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.png").write_text("a picture")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "own" / "link.png").symlink_to(tmp_path / "secret.txt")
    return TestClient(Guard(echo, tmp_path / "own", ("127.0.0.1", "localhost")), base_url="http://127.0.0.1:7860")


def joined(client: TestClient, content: Any, **headers: str) -> httpx.Response:
    sent: httpx.Response = client.post(
        "/gradio_api/queue/join",
        content=content if isinstance(content, bytes) else json.dumps(content),
        headers=headers,
    )
    return sent


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/static/a.js", "/gradio_api/queue/data"])
def test_the_page_is_served_with_headers_that_keep_it_on_this_host(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (200, "nothing")
    assert answer.headers["content-security-policy"].startswith("default-src 'self'; script-src 'self' ")
    assert "http" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/vibe-code",
        "/gradio_api/stream/a/b/1/playlist.m3u8",
        "/gradio_api/info",
        "/monitoring",
        "/gradio_api/dev/reload",
        "/gradio_api/file/etc/passwd",
        "/custom_component/x",
    ],
)
def test_routes_that_the_page_does_not_use_are_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.post(path).status_code == 404


def test_only_files_of_the_folder_are_read(client: TestClient, tmp_path: Path) -> None:
    def read(name: str) -> int:
        return int(client.get(f"/gradio_api/file={name}").status_code)

    own = tmp_path / "own"
    assert read(f"{own}/a.png") == 200
    for name in (
        tmp_path / "secret.txt",
        own / "link.png",
        own,
        "/etc/passwd",
        f"{own}/../secret.txt",
        f"{own}/%2e%2e/secret.txt",
        f"{own}%2F..%2Fsecret.txt",
        f"{own}/a.png%00.txt",
        "pyproject.toml",
        "https://example.org/",
        "file:///etc/passwd",
        "a" * 5000,
    ):
        assert read(str(name)) == 403, name


def test_requests_that_name_other_files_or_addresses_are_refused(client: TestClient, tmp_path: Path) -> None:
    def file(path: object) -> dict[str, Any]:
        return {"data": [{"nested": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}], "fn_index": 0}

    own = file(str(tmp_path / "own" / "a.png"))
    answer = joined(client, own)
    assert (answer.status_code, answer.json()) == (200, own)
    for path in ("/etc/passwd", str(tmp_path / "secret.txt"), "https://example.org/a.png", 3, ["/etc/passwd"]):
        assert joined(client, file(path)).status_code == 400
    assert joined(client, b"{").status_code == 400
    assert joined(client, b"[" * 100_000).status_code == 400


def test_large_requests_are_refused_before_they_are_read(client: TestClient) -> None:
    assert joined(client, {"data": ["x" * 4_000_001]}).status_code == 400
    lengthy = {"content-length": str(UPLOAD_BYTES + 20_000)}
    assert client.post("/gradio_api/upload", content=b"", headers=lengthy).status_code == 413

    def endless() -> Any:
        yield b"x"

    assert client.post("/gradio_api/upload", content=endless()).status_code == 413  # it has no content-length


def test_other_sites_cannot_use_the_server(client: TestClient) -> None:
    assert joined(client, {}, origin="http://127.0.0.1:7860").status_code == 200
    assert joined(client, {}, origin="http://127.0.0.1:8000").status_code == 403
    assert joined(client, {}, origin="https://example.org").status_code == 403
    assert joined(client, {}, origin="null").status_code == 403
    assert client.get("/", headers={"host": "rebound.example.org"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:7860"}).status_code == 200


def test_without_a_list_every_name_is_answered(tmp_path: Path) -> None:
    client = TestClient(Guard(echo, tmp_path), base_url="http://studio.example.org")
    assert client.get("/").status_code == 200
    assert client.post("/", content=b"x").status_code == 404
