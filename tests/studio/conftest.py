from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

collect_ignore = [] if importlib.util.find_spec("gradio") else ["test_guard.py", "test_serving.py", "test_browser.py"]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
_PATIENCE = 120_000  # milliseconds: the machine may be busy


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the studio with a tiny pipeline that inpaints; the address is yielded."""
    from studio_server import free_port, served, tiny_engine

    from vlad_lightning.studio.serving import application

    engine, port = tiny_engine(tmp_path_factory.mktemp("studio") / "tiny", inpaints=True), free_port()
    with application(engine, "127.0.0.1", port) as app, served(app, port) as address:
        yield address


@pytest.fixture(scope="module")  # two of playwright's loops cannot run in one thread
def chromium() -> Iterator[Any]:
    """Start a headless Chromium, if there is one."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=_FLAGS, timeout=_PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, studio: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open the studio's page; at the end, all its requests must have gone to its own server, and no script failed."""
    settings = getattr(request, "param", {"viewport": {"width": 1280, "height": 900}})
    context = chromium.new_context(accept_downloads=True, **settings)
    page = context.new_page()
    page.set_default_timeout(_PATIENCE)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda said: failed.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(studio)
    page.locator("#generate").wait_for()
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((studio, "data:", "blob:"))] == []
    assert failed == []


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Write a picture of 48 x 32 pixels."""
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(path)
    return path
