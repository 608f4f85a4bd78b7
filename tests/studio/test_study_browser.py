from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raters import Server, draw_systems

from vlad_lightning.cli.launcher import main
from vlad_lightning.studio.study_answers import Answers
from vlad_lightning.studio.study_folder import read_study

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


@pytest.fixture
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def late(route: Any) -> None:
    """Hold an image back: keys that are pressed before it is there count for nothing."""
    time.sleep(0.2)
    route.continue_()


def test_a_person_rates_and_chooses_with_keys_and_taps(tmp_path: Path, page: Any) -> None:
    systems = draw_systems(tmp_path, ["zebrasystem", "quokkasystem"], 4)
    study = tmp_path / "study"
    command = ["study", "make", *systems, "--items", "2", "--pairs", "2", "--checks", "0", "--out", str(study)]
    assert main(command) == 0
    server = Server(study)
    from playwright.sync_api import expect  # the fixture has found it

    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.route("**/image/*", late)

    def reached(count: str) -> None:
        expect(page.locator("#count")).to_have_text(count, timeout=60_000)
        expect(page.locator("#item")).to_have_attribute("aria-busy", "false", timeout=60_000)  # the images are there

    page.goto(server.join)
    page.click("#agree")
    page.click("#start")
    reached("1 of 4")
    expect(page.locator("#next")).to_be_disabled()
    for key in ("3", "ArrowUp", "ArrowRight", "ArrowDown", "2", "3"):  # the first score, raised by one, then the others
        page.keyboard.press(key)
    checked = page.locator("#questions input:checked").evaluate_all("boxes => boxes.map(box => box.value)")
    assert checked == ["4", "2", "3"]
    page.keyboard.press("Enter")
    reached("2 of 4")
    for row, score in enumerate((1, 5, 5)):
        page.locator("fieldset").nth(row).locator("label").nth(score - 1).click()
    server.stop()  # the page keeps the answer and sends it when the server is back
    page.click("#next")
    expect(page.locator("#status")).to_contain_text("No connection", timeout=60_000)
    server = Server(study, port=int(server.base.rpartition(":")[2]))
    reached("3 of 4")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    reached("4 of 4")
    page.locator(".choice").nth(1).click()
    page.click("#back")
    reached("3 of 4")
    expect(page.locator(".choice").nth(0)).to_have_attribute("aria-pressed", "true")
    page.reload()  # goes on where it stopped, not where it looked
    reached("4 of 4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator(".choice").nth(1).click()
    page.click("#next")
    page.wait_for_selector("#done:not([hidden])")
    server.stop()

    store = Answers(study, read_study(study))
    assert [answer.value for answer in store.answers()] == [(4, 2, 3), (1, 5, 5), (0,), (1,)]
    assert all(0 < answer.seconds < 600 for answer in store.answers())
    store.close()
    assert {url.split("/")[2] for url in requests} == {server.base.removeprefix("http://")}
