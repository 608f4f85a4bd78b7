"""The page in a real browser: these tests find what no test of the server can."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.models.painter.vfe import VFE

pytestmark = [pytest.mark.browser, pytest.mark.no_cover]

_FINISHED = re.compile(r"Seed \d+, \d+ steps, ")
PHONE = {"viewport": {"width": 400, "height": 800}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
LAYOUT = {
    "width": 100,
    "height": 100,
    "prompt": "a sign 'UP'",
    "words": [
        {"text": "UP", "quad": [[10.0, 10.0], [60.0, 10.0], [60.0, 30.0], [10.0, 30.0]], "colour": "red"},
        {"text": "ON", "quad": [[20.0, 60.0], [80.0, 60.0], [80.0, 80.0], [20.0, 80.0]], "font": "serif"},
    ],
}


def set_slider(page: Any, name: str, value: int) -> None:
    """Type a number, again until the slider beside it has it: a part that was just opened may not listen yet."""
    number = page.locator(f"#{name} input[type=number]")
    for _ in range(100):
        number.fill(str(value))
        number.press("Tab")
        if page.locator(f"#{name} input[type=range]").input_value() == str(value):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{name} does not become {value}")


def prepared(page: Any, prompt: str = "a red circle and 'HI'", steps: int = 4, seed: int = 7) -> None:
    page.locator("#prompt textarea").fill(prompt)
    page.get_by_text("Settings", exact=True).click()
    set_slider(page, "steps", steps)
    page.locator("#playground_seed input").fill(str(seed))
    page.locator("#playground_random input").uncheck()


def generated(page: Any, **settings: Any) -> None:
    prepared(page, **settings)
    page.locator("#generate").click()
    page.locator("#playground_status", has_text=_FINISHED).wait_for()


def opened(page: Any, **settings: Any) -> None:
    """Generate an image, and open it in the layout editor."""
    generated(page, **settings)
    page.locator("#edit").click()
    page.locator("#layout .box").first.wait_for()


def loaded(page: Any, tmp_path: Path, layout: dict[str, Any] = LAYOUT) -> None:
    """Load a layout into the layout editor."""
    prepared(page)
    page.get_by_role("tab", name="Layout").click()
    (tmp_path / "mine.json").write_text(json.dumps(layout))
    with page.expect_file_chooser() as chooser:
        page.locator("#layout_load").click()
    chooser.value.set_files(tmp_path / "mine.json")
    page.locator("#layout_status", has_text="Layout loaded").wait_for()


def corners(page: Any, text: str) -> np.ndarray:
    """Return the corners of a box as they are drawn, (4, 2), in fractions of the frame."""
    drawn = page.locator("#layout .box", has_text=text).locator(".edge").get_attribute("points")
    return np.array([float(number) for number in drawn.split(",") for number in number.split()]).reshape(4, 2) / 1000


def on_screen(page: Any, point: Any) -> tuple[float, float]:
    frame = page.locator("#layout svg").bounding_box()
    return frame["x"] + point[0] * frame["width"], frame["y"] + point[1] * frame["height"]


def by(across: float, down: float) -> np.ndarray:
    return np.array([across, down])


def downloaded(page: Any, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.locator(button).click()
    return Path(waiting.value.path()).read_bytes()


def repainted(page: Any) -> LayoutFile:
    """Repaint the picture, and return the layout that its file tells."""
    before = page.locator("#layout .picture").get_attribute("href")
    page.locator("#layout_start").click()
    page.wait_for_function(
        "before => { const now = document.querySelector('#layout .picture').getAttribute('href');"
        " return now && now !== before && !now.startsWith('data:'); }",
        arg=before,
    )
    page.locator("#layout_status", has_text=_FINISHED).wait_for()
    return LayoutFile.from_json(Image.open(io.BytesIO(downloaded(page, "#layout_download"))).info["layout"])


def quads(layout: LayoutFile) -> np.ndarray:
    return layout.layout.quads().numpy()


def test_an_image_is_generated_and_its_file_tells_how(page: Any) -> None:
    generated(page)
    address = page.locator("#drawn img").first.get_attribute("src")
    told = Image.open(io.BytesIO(page.request.get(address).body())).info
    assert (told["prompt"], told["seed"], told["steps"]) == ("a red circle and 'HI'", "7", "4")
    assert told["layout_origin"] == "generated"
    page.locator("#prompt textarea").fill("a giraffe under a red circle")
    page.locator("#generate").click()
    page.locator("#playground_status", has_text="The prompt has no words to draw").wait_for()
    told = page.locator("#playground_status").inner_text()
    assert "This model has not learned to draw 'a giraffe'; its model card lists" in told


def test_a_wide_image_is_generated_and_repainted_as_wide(page: Any) -> None:
    prepared(page)
    page.locator("#drawn_Width input").fill("48")
    page.locator("#generate").click()
    page.locator("#playground_status", has_text=_FINISHED).wait_for()
    address = page.locator("#drawn img").first.get_attribute("src")
    assert Image.open(io.BytesIO(page.request.get(address).body())).size == (48, 32)
    page.locator("#edit").click()
    layout = repainted(page)
    assert (layout.width, layout.height) == (48, 32)
    assert Image.open(io.BytesIO(downloaded(page, "#layout_download"))).size == (48, 32)


def test_a_dragged_box_is_repainted_where_it_was_dropped(page: Any, tmp_path: Path) -> None:
    loaded(page, tmp_path)
    start = corners(page, "ON")
    page.mouse.move(*on_screen(page, start.mean(0)))
    page.mouse.down()
    page.mouse.move(*on_screen(page, start.mean(0) + by(0.05, 0.05)))
    page.mouse.move(*on_screen(page, start.mean(0) + by(0.1, -0.2)))
    page.mouse.up()
    moved = corners(page, "ON")
    np.testing.assert_allclose(moved, start + by(0.1, -0.2), atol=0.005)
    page.mouse.move(*on_screen(page, moved[2]))  # the lower right corner: the upper left one stays
    page.mouse.down()
    page.mouse.move(*on_screen(page, moved[2] + by(0.08, 0.06)))
    page.mouse.up()
    resized = corners(page, "ON")
    np.testing.assert_allclose(resized[2], moved[2] + by(0.08, 0.06), atol=0.005)
    np.testing.assert_allclose(resized[0], moved[0], atol=1e-6)
    grip = page.locator("#layout .reach.rotate").bounding_box()
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.mouse.down()
    page.mouse.move(*on_screen(page, resized.mean(0) + by(0.3, -0.3)))
    page.mouse.up()
    turned = corners(page, "ON")
    across = turned[1] - turned[0]
    np.testing.assert_allclose(np.arctan2(across[1], across[0]), np.pi / 4, atol=0.02)
    layout = repainted(page)
    assert layout.layout.words == ("UP", "ON")
    assert (layout.layout.colours, layout.layout.fonts) == (("red", None), (None, "serif"))
    np.testing.assert_allclose(quads(layout)[1], turned, atol=1e-5)
    np.testing.assert_allclose(quads(layout)[0], np.array(LAYOUT["words"][0]["quad"]) / 100, atol=1e-5)
    np.testing.assert_allclose(corners(page, "ON"), turned)  # the boxes stay where they are


def test_the_keyboard_moves_resizes_turns_and_removes_and_undo_takes_it_back(page: Any, tmp_path: Path) -> None:
    loaded(page, tmp_path)
    start = corners(page, "UP")
    page.locator("#layout .box").first.focus()
    focused = "() => document.activeElement.textContent"
    names = [page.evaluate(focused)]
    page.keyboard.press("Tab")
    names.append(page.evaluate(focused))
    assert sorted(names) == ["ON", "UP"]
    if names[1] != "UP":
        page.keyboard.press("Shift+Tab")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    np.testing.assert_allclose(corners(page, "UP"), start + by(0.02, 0.01), atol=1e-6)
    page.keyboard.press("Shift+ArrowRight")
    np.testing.assert_allclose(np.ptp(corners(page, "UP"), axis=0), np.ptp(start, axis=0) + by(0.01, 0), atol=1e-6)
    page.keyboard.press("r")
    across = corners(page, "UP")[1] - corners(page, "UP")[0]
    np.testing.assert_allclose(np.degrees(np.arctan2(across[1], across[0])), 5, atol=1e-3)
    page.keyboard.press("Shift+R")
    page.keyboard.press("Delete")
    assert page.locator("#layout .box").count() == 1
    page.keyboard.press("Control+z")
    assert page.locator("#layout .box").count() == 2
    for _ in range(6):
        page.locator("#layout [data-do=undo]").click()
    np.testing.assert_allclose(corners(page, "UP"), start, atol=1e-6)
    page.locator("#layout [data-do=redo]").click()
    np.testing.assert_allclose(corners(page, "UP"), start + by(0.01, 0), atol=1e-6)


def test_boxes_are_added_and_retyped_and_saved_as_a_layout_file(page: Any, tmp_path: Path) -> None:
    loaded(page, tmp_path)
    page.locator("#layout [data-do=word]").click()
    page.keyboard.type("NEW")  # the field has the focus and its text is selected
    page.locator("#layout [name=font]").select_option("hand")
    page.locator("#layout [name=colour]").select_option("blue")
    page.locator("#layout [data-do=object]").click()
    page.keyboard.type("a red circle")
    saved = json.loads(downloaded(page, "#layout_save"))
    assert saved["prompt"] == "a sign 'UP'"
    assert [(w["text"], w.get("font"), w.get("colour")) for w in saved["words"]] == [
        ("UP", None, "red"),
        ("ON", "serif", None),
        ("NEW", "hand", "blue"),
    ]
    assert [thing["phrase"] for thing in saved["objects"]] == ["a red circle"]
    side = saved["width"] / 100
    expected = np.array([word["quad"] for word in LAYOUT["words"]]) * side
    np.testing.assert_allclose(np.array([word["quad"] for word in saved["words"][:2]]), expected, atol=0.01)
    again = json.loads(json.dumps(saved))
    page.locator("#layout [name=text]").fill("red circle star and")
    page.locator("#layout_save").click()
    page.get_by_text("it must be one phrase of a prompt").wait_for()
    loaded_again = LayoutFile.from_json(json.dumps(again))
    assert loaded_again.layout.words == ("UP", "ON", "NEW")


def test_the_boxes_of_a_generated_image_are_shown_over_it(page: Any) -> None:
    opened(page)
    assert page.locator("#layout .box.word", has_text="HI").count() == 1
    assert "/images/" in page.locator("#layout .picture").get_attribute("href")
    told = Image.open(io.BytesIO(downloaded(page, "#layout_download"))).info
    (index,) = (i for i, word in enumerate(LayoutFile.from_json(told["layout"]).layout.words) if word == "HI")
    np.testing.assert_allclose(corners(page, "HI"), quads(LayoutFile.from_json(told["layout"]))[index], atol=1e-5)
    assert page.locator("#layout_seed input").input_value() == "7"


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_finger_drags_a_box_on_a_phone(page: Any, tmp_path: Path) -> None:
    loaded(page, tmp_path)
    start = corners(page, "UP")
    page.locator("#layout svg").scroll_into_view_if_needed()
    touch = page.context.new_cdp_session(page)

    def touched(kind: str, *points: Any) -> None:
        places = [dict(zip("xy", on_screen(page, point), strict=True)) for point in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touched("touchStart", start.mean(0))
    touched("touchMove", start.mean(0) + by(0.1, 0.1))
    touched("touchMove", start.mean(0) + by(0.2, 0.3))
    touched("touchEnd")
    np.testing.assert_allclose(corners(page, "UP"), start + by(0.2, 0.3), atol=0.01)
    overflow = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0


def test_a_picture_is_inpainted_inside_its_region_only(page: Any, picture: Path) -> None:
    prepared(page, prompt="a sign 'HI'")
    page.get_by_role("tab", name="Inpainting").click()
    with page.expect_file_chooser() as chooser:
        page.locator("#inpainting_upload").click()
    chooser.value.set_files(picture)
    page.locator("#inpainting_status", has_text="Picture loaded").wait_for()
    page.locator("#inpainting [data-do=region]").click()
    page.locator("#inpainting_start").click()
    page.locator("#inpainting_status", has_text=_FINISHED).wait_for()
    before = np.asarray(Image.open(picture))
    after = np.asarray(Image.open(io.BytesIO(downloaded(page, "#inpainting_download"))))
    changed = (before != after).any(-1)
    mask = np.asarray(Image.open(io.BytesIO(downloaded(page, "#inpainting_mask")))) > 0
    assert changed.any()
    assert not changed[~mask].any()
    assert before.shape == (32, 48, 3)


def test_a_stopped_generation_frees_the_page_and_the_model(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*args: Any) -> Any:
        time.sleep(0.05)  # so that the browser, which may be slow, is in time
        return denoise(*args)

    denoise = VFE.forward
    monkeypatch.setattr(VFE, "forward", slowly)
    prepared(page, steps=100)
    set_slider(page, "count", 8)
    page.locator("#generate").click()
    page.locator("#drawn img").first.wait_for()
    page.locator("#stop").click()
    page.locator("#playground_status", has_text="of 8 finished").wait_for()
    page.locator("#playground_status [data-testid=status-tracker].hide").wait_for(state="attached")
    set_slider(page, "count", 1)
    set_slider(page, "steps", 2)
    page.locator("#generate").click()
    page.locator("#playground_status", has_text="Seed 7, 2 steps").wait_for()
