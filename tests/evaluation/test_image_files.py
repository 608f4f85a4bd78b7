from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from signs import draw_sign

from vlad_lightning.evaluation.image_files import ImageFile, check_keys, find_images, seed_of_image
from vlad_lightning.evaluation.suite import Item, Suite


def suite(*keys: str) -> Suite:
    return Suite("test", tuple(Item(key, f"prompt {key}", "all", ()) for key in keys), ())


def fill(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def found(folder: Path, keys: Sequence[str], images: int | None = None) -> list[tuple[str, int, str]]:
    chosen = find_images(folder, suite(*keys), images)
    return [(image.item.key, image.number, image.path.relative_to(folder).as_posix()) for image in chosen]


def test_images_are_found_by_key_and_number_in_the_suites_order(tmp_path: Path) -> None:
    fill(tmp_path, ["b/1_0.PNG", "b/1_1.jpg", "a_0.webp", "a_1.jpeg", ".hidden.png", "notes.txt", ".x/a_0.png"])
    assert found(tmp_path, ["b/1", "a"]) == [
        ("b/1", 0, "b/1_0.PNG"),
        ("b/1", 1, "b/1_1.jpg"),
        ("a", 0, "a_0.webp"),
        ("a", 1, "a_1.jpeg"),
    ]


def test_one_image_needs_no_number_and_numbers_may_have_leading_zeros(tmp_path: Path) -> None:
    fill(tmp_path, ["00000.png", "00001.png", "poster_007_00.png"])
    names = [name for _, _, name in found(tmp_path, ["0", "1", "poster_7"])]
    assert names == ["00000.png", "00001.png", "poster_007_00.png"]


def test_numbers_keep_the_zeros_within_them(tmp_path: Path) -> None:
    keys = [str(number) for number in range(1_101)]  # 10, 100 and 1000 among them, and 11, 101 and 1001
    fill(tmp_path, [f"{number:05}_0.png" for number in range(1_101)])
    assert [(key, name) for key, _, name in found(tmp_path, keys)] == [(key, f"{int(key):05}_0.png") for key in keys]


def test_a_key_that_ends_in_a_number_is_not_another_prompts_image(tmp_path: Path) -> None:
    fill(tmp_path, ["a.png", "a_1.png"])
    assert found(tmp_path, ["a", "a_1"]) == [("a", 0, "a.png"), ("a_1", 0, "a_1.png")]


@pytest.mark.parametrize(
    ("names", "keys", "images", "message"),
    [
        ([], ["a"], None, "holds no image"),
        (["a.png"], ["a", "b", "c"], None, r"images of 1 of 3 prompts; there is none for b, c"),
        (["a.png", "b.png"], ["a"], None, "1 images that belong to no prompt: b.png"),
        (["a_0.png", "a_1.png", "b_0.png"], ["a", "b"], None, r"1 of 2 prompts do not have the images 0 to"),
        (["a_0.png", "a_2.png"], ["a"], None, r"1 of 1 prompts do not have the images 0 to 1: a; a has 2: 0, 2"),
        (["a_0.png"], ["a"], 4, r"images 0 to 3: a; a has 1: 0 \(--images_per_prompt is 4\)"),
        (["a_0.png", "a_0.jpg"], ["a"], None, "are the same image of a prompt"),
        (["a.png", "a_0.png"], ["a"], None, "are both images of a"),
    ],
)
def test_other_images_than_the_prompts_are_refused(
    tmp_path: Path, names: list[str], keys: list[str], images: int | None, message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        find_images(fill(tmp_path, names), suite(*keys), images)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_images(tmp_path / "none", suite("a"))


@pytest.mark.parametrize("key", ["../a", "/a", "a/", "a\\b", "a\nb", "", ".a", "a//b"])
def test_keys_that_cannot_name_files_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is no relative path"):
        check_keys(suite(key))


def test_keys_of_the_same_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'1' and '01' name the same files"):
        check_keys(suite("1", "01"))


def test_the_seed_is_that_of_the_text(tmp_path: Path) -> None:
    item = Item("a", "prompt a", "all", ())

    def seed(told: dict[str, str], name: str = "a.png") -> int | None:
        draw_sign(tmp_path / name, "A", told)
        return seed_of_image(ImageFile(item, 0, tmp_path / name))

    assert seed({"seed": "12"}) == 12
    assert seed({"parameters": "prompt a\nSteps: 20, Seed: 34, Size: 8x8"}) == 34
    assert seed({}) is None
    assert seed({"seed": "12"}, "a.jpg") is None
    with pytest.raises(ValueError, match="was made for the prompt 'other', and the prompt a is 'prompt a'"):
        seed({"Software": "vlad-lightning 1", "prompt": "other", "seed": "1"})
    (tmp_path / "b.png").write_bytes(b"no image")
    assert seed_of_image(ImageFile(item, 0, tmp_path / "b.png")) is None
    Image.new("L", (4, 4)).save(tmp_path / "c.webp")
    assert seed_of_image(ImageFile(item, 0, tmp_path / "c.webp")) is None
