import math
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from vlad_lightning.data.batches import BatchShard
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.dataset import MarioDataset, match_boxes, match_objects
from vlad_lightning.data.mario import key_of, read_sample, read_texts
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.scene_file import ObjectFacts, SceneFacts, write_scene
from vlad_lightning.data.splits import in_hash_order, positions_of, split
from vlad_lightning.data.synthetic.synthetic import write_posters
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.layout.prompt_parser import PromptDecomposer, drawn_words
from vlad_lightning.types import Batch, Layout

UPRIGHT = "{text} 128,64,384,64,384,128,128,128 {confidence}"  # centre (0.5, 0.1875), size (0.5, 0.125)
LOWER = "{text} 64,320,192,320,192,448,64,448 {confidence}"  # centre (0.25, 0.75), size (0.25, 0.25)


def write(root, number, caption="a poster with the text HELLO", ocr=None, size=(64, 64), colour=(255, 0, 0)):
    """Write one sample by hand, byte for byte in the format."""
    folder = root / f"{number // 100:05d}" / f"{number:09d}"
    folder.mkdir(parents=True)
    if caption is not None:
        (folder / "caption.txt").write_text(caption, encoding="utf-8")
    lines = [UPRIGHT.format(text="HELLO", confidence=0.98)] if ocr is None else ocr
    (folder / "ocr.txt").write_text("\n".join(lines), encoding="utf-8")
    Image.new("RGB", size, colour).save(folder / "image.jpg", quality=95)
    return folder


@pytest.fixture
def root(tmp_path):
    for number in range(12):
        write(tmp_path / "posters", number, colour=(20 * number, 0, 0))
    return tmp_path / "posters"


def folders_of(root):
    return [folder for shelf in sorted(root.iterdir()) for folder in sorted(shelf.iterdir())]


def folder_of(root):
    source = MarioFolder(str(root))
    source.setup()
    return source


def batches(data, name="train"):
    data.setup()
    return list(getattr(data, f"{name}_dataloader")())


def report_of(data):
    data.setup()
    return data.source.report


def keys(data, name):
    return [key for batch in batches(data, name) for key in batch.keys]


def only(root, **arguments):
    """Return the only batch of a folder with one sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (batch,) = batches(MarioDataModule(str(root), **arguments))
    return batch


def test_a_sample_becomes_tensors(tmp_path):
    ocr = [UPRIGHT.format(text="hello", confidence=0.98), LOWER.format(text="NOISE", confidence=0.9)]
    write(tmp_path, 7, "Say HELLO, world", ocr, size=(512, 300), colour=(0, 255, 0))
    batch = only(tmp_path, size=32, max_words=3)
    assert isinstance(batch, Batch)
    assert batch.keys == ("00000_000000007",)
    assert batch.prompts == ('Say "HELLO", world',)
    assert batch.images.shape == (1, 3, 32, 32)
    assert batch.images.dtype == torch.float32
    assert torch.allclose(batch.images.mean(dim=(0, 2, 3)), torch.tensor([-1.0, 1.0, -1.0]), atol=0.02)
    assert batch.layouts[0].words == ("hello", "NOISE")
    assert torch.allclose(
        batch.layouts[0].boxes[:, :4], torch.tensor([[0.5, 0.1875, 0.5, 0.125], [0.25, 0.75, 0.25, 0.25]])
    )
    assert torch.equal(batch.glyphs[0], Rasterizer()(batch.layouts[0], (32, 32)))
    assert batch.word_mask.tolist() == [[True, False, False]]
    assert torch.equal(batch.word_boxes[0, 0], batch.layouts[0].boxes[0])
    assert batch.word_boxes[0, 1:].eq(0).all()


def test_a_poster_without_words_has_an_empty_layout(tmp_path):
    write(tmp_path, 0, "a red circle", ocr=[])
    batch = only(tmp_path)
    assert batch.prompts == ("a red circle",)
    assert len(batch.layouts[0]) == 0
    assert not batch.glyphs.any()
    assert not batch.word_mask.any()


def test_words_read_with_low_confidence_are_left_out(tmp_path):
    ocr = [UPRIGHT.format(text="HELLO", confidence=0.2), LOWER.format(text="YOU", confidence=0.6)]
    write(tmp_path, 0, "HELLO YOU", ocr)
    assert only(tmp_path, min_confidence=0.5).prompts == ('HELLO "YOU"',)
    assert only(tmp_path, min_confidence=0.1).prompts == ('"HELLO" "YOU"',)


def test_only_the_largest_boxes_are_drawn_and_every_word_keeps_its_box(tmp_path):
    ocr = [UPRIGHT.format(text="SMALLER", confidence=0.9), LOWER.format(text="LARGER", confidence=0.9)]
    write(tmp_path, 0, "SMALLER LARGER", ocr)
    # 0.25 * 0.25 = 0.0625 is as large as 0.5 * 0.125: of equal boxes the first is kept.
    assert only(tmp_path, max_boxes=1).layouts[0].words == ("SMALLER",)
    (tmp_path / "00000" / "000000000" / "ocr.txt").write_text("\n".join([*ocr, "HUGE 0,0,512,0,512,512,0,512 0.9"]))
    batch = only(tmp_path, max_boxes=2)
    assert "HUGE" in batch.layouts[0].words
    assert len(batch.layouts[0]) == 2
    assert batch.word_mask[0, :2].all()


def test_each_box_serves_one_word():
    layout = Layout(("the", "THE", "cat"), torch.arange(15.0).reshape(3, 5))
    boxes, mask = match_boxes(["The", "dog", "the", "THE", "cat"], layout, 5)
    assert mask.tolist() == [True, False, True, False, True]
    assert boxes[[0, 2, 4]].equal(layout.boxes)
    boxes, mask = match_boxes(["The", "dog", "the"], layout, 2)
    assert boxes.shape == (2, 5)
    assert mask.tolist() == [True, False]
    assert match_boxes([], Layout.empty(), 3)[1].tolist() == [False] * 3


def test_images_are_stretched_with_antialiasing():
    stripes = np.zeros((60, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    image = from_pil(Image.fromarray(stripes), (16, 16))
    assert image.shape == (3, 16, 16)
    assert image.abs().max() < 0.1, "stripes finer than a pixel are grey"
    same = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    exact = from_pil(Image.fromarray(same.permute(1, 2, 0).numpy()), (16, 16))
    assert torch.allclose((exact + 1) * 127.5, same.float(), atol=1e-4)


def test_the_splits_are_disjoint_and_complete(root):
    data = MarioDataModule(str(root), val_share=0.2, test_share=0.3, batch_size=3)
    found = {name: keys(data, name) for name in ("train", "val", "test")}
    assert all(found.values())
    together = [key for part in found.values() for key in part]
    assert sorted(set(together)) == sorted(key_of(folder) for folder in folders_of(root))
    assert len(set(found["val"]) | set(found["test"])) == len(found["val"]) + len(found["test"])
    assert not set(found["train"]) & (set(found["val"]) | set(found["test"]))


def test_the_splits_depend_on_the_seed_only(root):
    arguments = {"val_share": 0.3, "test_share": 0.3}
    first = keys(MarioDataModule(str(root), **arguments), "test")
    assert first == keys(MarioDataModule(str(root), **arguments), "test")
    assert any(first != keys(MarioDataModule(str(root), seed=seed, **arguments), "test") for seed in (1, 2, 3))


def test_new_samples_do_not_change_the_splits_of_the_others():
    names = [f"00000_{i:09d}" for i in range(2000)]
    before = [[names[i] for i in part] for part in split(positions_of(names[:1000], 0), 0.1, 0.2)]
    names = names[1000:] + names[:1000]
    later = [[names[i] for i in part] for part in split(positions_of(names, 0), 0.1, 0.2)]
    for early, late in zip(before, later, strict=True):
        assert set(early) <= set(late)
    shares = [len(part) / 2000 for part in later]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


@pytest.mark.parametrize("number", [3, 4, 6, 7])
def test_every_split_of_a_handful_has_a_sample(number):
    for seed in range(20):
        parts = split(positions_of([f"{i:09d}" for i in range(number)], seed), 0.05, 0.05)
        assert all(map(len, parts))
        assert sorted(index for part in parts for index in part) == list(range(number))


@pytest.mark.parametrize("number", [1, 2])
def test_fewer_samples_than_splits_are_shared_with_a_warning(tmp_path, number):
    for i in range(number):
        write(tmp_path, i)
    data = MarioDataModule(str(tmp_path))
    with pytest.warns(UserWarning, match="share samples"):
        data.setup()
    assert all(len(keys(data, name)) == 1 for name in ("train", "val", "test"))


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.5), (0.5, 0.0)])
def test_a_split_with_share_zero_stays_empty(val, test):
    names = [f"{i:09d}" for i in range(40)]
    for number in (1, 2, 40):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, *parts = split(positions_of(names[:number], 0), val, test)
        assert [len(part) > 0 for part in parts] == [val > 0, test > 0]


def test_another_folder_replaces_the_test_split_in_full(root, tmp_path):
    for number in range(100, 105):
        write(tmp_path / "other", number)
    data = MarioDataModule(str(root), test_root=str(tmp_path / "other"), val_share=0.2)
    assert sorted(keys(data, "test")) == [f"00001_{number:09d}" for number in range(100, 105)]
    assert len(set(keys(data, "train")) | set(keys(data, "val"))) == 12
    assert data.test_source.report.usable == 5
    assert report_of(data).usable == 12


def test_the_test_split_can_be_limited(root):
    full = MarioDataModule(str(root), test_share=0.5)
    short = MarioDataModule(str(root), test_share=0.5, limit_test=2)
    assert keys(short, "test") == keys(full, "test")[:2]
    assert report_of(short).usable == 12


def test_an_index_picks_samples(root, tmp_path):
    index = tmp_path / "index.txt"
    index.write_text("00000_000000001\n00000_000000004\n00000_000000005\n00000_000000099\n")
    data = MarioDataModule(str(root), index=str(index))
    assert report_of(data).usable == 3
    assert report_of(data).skipped == {"no caption.txt": 1}


def test_the_training_order_depends_on_the_seed_and_changes_by_epoch(root):
    data = MarioDataModule(str(root), batch_size=4)
    loader = MarioDataModule(str(root), batch_size=4)
    data.setup()
    loader.setup()
    first, second = data.train_dataloader(), loader.train_dataloader()
    epochs = [[key for batch in first for key in batch.keys] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs == [[key for batch in second for key in batch.keys] for _ in range(2)]
    torch.manual_seed(99)
    assert epochs[0] == keys(data, "train"), "the global state is not asked"


@pytest.mark.parametrize(("batch_size", "lengths"), [(4, [4, 4]), (16, [10]), (10, [10])])
def test_a_partial_last_batch_is_dropped_unless_it_is_the_only_one(root, batch_size, lengths):
    data = MarioDataModule(str(root), batch_size=batch_size)
    assert [len(batch) for batch in batches(data)] == lengths


def test_worker_processes_read_the_same(root):
    alone = MarioDataModule(str(root), batch_size=4)
    helped = MarioDataModule(str(root), batch_size=4, num_workers=2)
    assert helped.val_dataloader().persistent_workers
    for a, b in zip(batches(alone), batches(helped), strict=True):
        assert a.keys == b.keys
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.glyphs, b.glyphs)


def spoil(folders):
    """Spoil samples in five ways, one per folder."""
    (folders[0] / "image.jpg").unlink()
    (folders[1] / "caption.txt").unlink()
    (folders[2] / "caption.txt").write_text(" \n")
    (folders[3] / "image.jpg").write_bytes(b"no image")
    (folders[4] / "ocr.txt").unlink()


def test_the_first_three_bad_samples_are_examples(root):
    folders = folders_of(root)[:5]
    for folder in folders:
        (folder / "image.jpg").unlink()
    assert report_of(MarioDataModule(str(root))).examples == {"no image.jpg": tuple(map(str, folders[:3]))}


def test_bad_samples_are_counted_reported_and_skipped(root, capfd):
    write(
        root,
        50,
        "HELLO ONE TWO THREE",
        [UPRIGHT.format(text=w, confidence=0.9) for w in ("HELLO", "ONE", "TWO", "THREE")],
    )
    write(root, 51, ocr=["HELLO 1,2,3 0.9", UPRIGHT.format(text="HELLO", confidence=0.1), ""])
    folders = folders_of(root)
    spoil(folders)
    data = MarioDataModule(str(root), max_words=3)
    report = report_of(data)
    assert report.usable == 9
    assert sum(report.skipped.values()) == 5
    assert report.skipped["no image.jpg"] == 1
    assert report.examples["no image.jpg"] == (str(folders[0]),)
    assert report.skipped["empty caption"] == 1
    assert report.skipped["broken image.jpg"] == 1
    assert report.lines_left_out == {"malformed quad": 1, "low confidence": 1}
    assert report.words_left_out == 1
    assert report.bad_share == pytest.approx(5 / 14)
    text = "\n".join(report.lines())
    assert "9 samples are usable, 5 are skipped" in text
    for reason in report.skipped:
        assert f"1 skipped: {reason}" in text
    read = [key for name in ("train", "val", "test") for key in keys(data, name)]
    assert sorted(read) == sorted(key_of(folder) for folder in folders[5:])


def test_too_large_a_share_of_bad_samples_is_refused(root):
    spoil(folders_of(root))
    with pytest.raises(ValueError, match=r"42% of the samples.*max_bad_share=40%(.|\n)*1 skipped: no image.jpg"):
        MarioDataModule(str(root), max_bad_share=0.4).setup()


def test_a_folder_without_a_usable_sample_is_refused(root):
    for folder in folders_of(root):
        (folder / "image.jpg").unlink()
    with pytest.raises(ValueError, match=r"posters.*image.jpg, caption.txt and ocr.txt(.|\n)*12 skipped: no image.jpg"):
        MarioDataModule(str(root), max_bad_share=1.0).setup()


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no sample.*image.jpg"):
        MarioDataModule(str(tmp_path)).setup()
    with pytest.raises(FileNotFoundError, match=r"nowhere"):
        MarioDataModule(str(tmp_path / "nowhere")).setup()


def truncate(folder):
    """Keep the header and cut the picture."""
    path = folder / "image.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:1500])


def test_a_truncated_image_in_a_small_folder_is_found_by_the_scan(root):
    for folder in folders_of(root)[:3]:
        truncate(folder)
    data = MarioDataModule(str(root))
    assert report_of(data).skipped == {"broken image.jpg": 3}
    read = [key for name in ("train", "val", "test") for key in keys(data, name)]
    assert sorted(read) == [key_of(folder) for folder in folders_of(root)[3:]]


def test_a_large_folder_is_scanned_by_headers_and_a_truncated_image_is_replaced(tmp_path):
    for number in range(201):
        write(tmp_path, number, size=(8, 8))
    truncate(folders_of(tmp_path)[0])
    (folders_of(tmp_path)[1] / "image.jpg").write_bytes(b"no image")
    (folders_of(tmp_path)[2] / "image.jpg").unlink()
    data = MarioDataModule(str(tmp_path), size=8)
    assert report_of(data).skipped == {"broken image.jpg": 1, "no image.jpg": 1}
    read = [key for name in ("train", "val", "test") for key in keys(data, name)]
    assert "00000_000000000" not in read
    assert data.broken == ("00000_000000000",)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_replaces_an_unreadable_image_by_one_of_another_step(root, num_workers):
    data = MarioDataModule(str(root), batch_size=4, num_workers=num_workers)
    data.setup()

    def epoch():
        return [batch.keys for batch in data.train_dataloader()]

    whole = epoch()
    bad = {whole[0][1], whole[0][2]}
    for folder in folders_of(root):
        if key_of(folder) in bad:
            truncate(folder)
    expected = [(whole[0][0], whole[1][1], whole[1][2], whole[0][3]), whole[1]]
    assert epoch() == expected
    assert epoch() == expected, "and so again"
    assert set(data.broken) == bad


def test_a_sample_repeats_in_a_batch_only_if_no_other_is_left(root):
    data = MarioDataModule(str(root), batch_size=9)
    data.setup()
    (whole,) = [batch.keys for batch in data.train_dataloader()]
    for folder in folders_of(root):
        if key_of(folder) in whole[:2]:
            truncate(folder)
    (read,) = [batch.keys for batch in data.train_dataloader()]
    assert set(whole[2:]) < set(read)
    assert len(set(read)) == 8


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_measurement_leaves_out_unreadable_samples_and_reports_them(root, name, num_workers, caplog):
    shares = {"val_share": 0.25, "test_share": 0.25} | {f"{name}_share": 0.6}
    data = MarioDataModule(str(root), batch_size=2, num_workers=num_workers, **shares)
    order = keys(data, name)
    bad = [order[1], order[2], order[3]]  # the second batch has no sample left
    data = MarioDataModule(str(root), batch_size=2, num_workers=num_workers, **shares)
    data.setup()
    for folder in folders_of(root):
        if key_of(folder) in bad:
            truncate(folder)
    read = batches(data, name)
    assert len(read) == math.ceil(len(order) / 2), "as many batches as before: other devices wait for each"
    assert [key for batch in read if not batch.spare for key in batch.keys] == [order[0], *order[4:]]
    assert [batch.spare for batch in read[:3]] == [False, True, False]
    data.teardown()
    assert f"3 of the {len(order)} samples of the {name} split could not be read" in caplog.text
    assert all(key in caplog.messages[-1] for key in bad)


def test_all_devices_of_a_measurement_count_each_good_sample_once(root):
    data = MarioDataModule(str(root), batch_size=2, test_share=0.6)
    order = keys(data, "test")
    for folder in folders_of(root):
        if key_of(folder) in order[:3]:
            truncate(folder)
    for world_size in (1, 2, 3):
        shards = [
            BatchShard(data.test_dataloader().dataset.items, 2, Batch.collate, world_size, r)
            for r in range(3)[:world_size]
        ]
        assert len({len(shard) for shard in shards}) == 1
        counted = [key for shard in shards for i in range(len(shard)) if not shard[i].spare for key in shard[i].keys]
        assert counted == order[3:]


def test_a_measurement_of_broken_images_alone_is_an_error(root):
    data = MarioDataModule(str(root))
    data.setup()
    for folder in folders_of(root):
        truncate(folder)
    with pytest.raises(ValueError, match=r"none of the \d+ samples can be read"):
        batches(data, "test")


class Hopeless(Rasterizer):
    """Fails on one poster with an unforeseen error."""

    def __call__(self, layout, size):
        if "BOO" in layout.words:
            raise RuntimeError("no such luck")
        return super().__call__(layout, size)


def test_any_error_while_building_a_sample_is_reported_with_its_name(tmp_path, caplog):
    for number in range(6):
        write(tmp_path, number, ocr=[UPRIGHT.format(text="BOO" if number == 2 else "HELLO", confidence=0.9)])
    samples = MarioDataset(folder_of(tmp_path), 16, 2, 8, Hopeless())
    assert samples.read(2) is None
    assert samples[2].key == "00000_000000003"
    assert samples.broken == ("00000_000000002",)
    assert "000000002: RuntimeError: no such luck" in caplog.text


def test_an_error_of_every_sample_ends_the_fit_and_is_named(tmp_path):
    write(tmp_path, 0, ocr=[UPRIGHT.format(text="BOO", confidence=0.9)])
    with pytest.raises(ValueError, match=r"none of the 1 samples can be read.*RuntimeError: no such luck"):
        MarioDataset(folder_of(tmp_path), 16, 2, 8, Hopeless())[0]


def test_hostile_samples_leave_finite_batches(root):
    folders = folders_of(root)
    (folders[0] / "ocr.txt").write_text("HELLO -1e7,0,1e7,0,1e7,1e7,-1e7,1e7 0.9\nHELLO 0,0,1e300,0,1e300,9,0,9 0.9\n")
    (folders[1] / "ocr.txt").write_text(f"{'A' * 900_000} 1,1,90,1,90,40,1,40 0.9\n")
    (folders[2] / "caption.txt").unlink()
    os.mkfifo(folders[2] / "caption.txt")
    (folders[3] / "caption.txt").write_bytes("caf\u00e9 HELLO".encode("cp1252"))
    data = MarioDataModule(str(root))
    assert report_of(data).skipped == {"caption.txt: no regular file": 1}
    assert report_of(data).lines_left_out == {"quad far outside the frame": 2, "text too long": 1}
    assert report_of(data).texts_recoded == {"caption.txt": 1}
    assert any("1 caption.txt read in" in line for line in report_of(data).lines())
    found = [batch for name in ("train", "val", "test") for batch in batches(data, name)]
    assert sum(map(len, found)) == 11
    assert all(layout.boxes.abs().le(10).all() for batch in found for layout in batch.layouts)
    assert any('caf\u00e9 "HELLO"' in batch.prompts for batch in found)


def test_a_split_of_broken_images_alone_is_an_error(root):
    data = MarioDataModule(str(root))
    data.setup()
    for folder in folders_of(root):
        truncate(folder)
    with pytest.raises(ValueError, match=r"none of the \d+ samples can be read"):
        batches(data)


def thing(phrase, left=0.1, name="star"):
    return ObjectFacts(name, "red", (left, 0.2, left + 0.2, 0.5), "left", phrase)


def scene(*things):
    return SceneFacts("blue", "solid", None, (), things)


def test_the_objects_of_scene_json_get_the_slots_of_their_phrases(tmp_path):
    folder = write(tmp_path, 3, "a red star at the top, a blue ring and the text HELLO, with a green heart")
    write_scene(folder, scene(thing("a green heart", 0.6), thing("a red star"), thing(None, 0.3)))
    batch = only(tmp_path, size=32, max_objects=6)
    assert batch.scene_known.tolist() == [True]
    assert batch.object_mask.tolist() == [[True, False, False, True, False, False]]
    assert torch.allclose(batch.object_boxes[0, 0], torch.tensor([0.2, 0.35, 0.2, 0.3, 0.0]))
    assert torch.allclose(batch.object_boxes[0, 3], torch.tensor([0.7, 0.35, 0.2, 0.3, 0.0]))
    assert batch.object_boxes[0, [1, 2, 4, 5]].eq(0).all()
    assert batch.layouts[0].objects == ("a red star", "a green heart")
    assert torch.equal(batch.layouts[0].object_boxes, batch.object_boxes[0, [0, 3]])
    assert batch.layouts[0].words == ("HELLO",)


def test_the_phrase_of_the_background_has_the_whole_frame(tmp_path):
    folder = write(tmp_path, 3, "a red star on a blue background")
    write_scene(folder, replace(scene(thing("a red star")), phrase="a blue background"))
    batch = only(tmp_path)
    assert batch.object_mask[0, :3].tolist() == [True, True, False]
    assert batch.object_boxes[0, 1].tolist() == [0.5, 0.5, 1.0, 1.0, 0.0]
    assert batch.layouts[0].objects == ("a red star", "a blue background")


def test_without_scene_json_objects_are_unknown(tmp_path):
    write(tmp_path, 3, "a red star and the text HELLO")
    batch = only(tmp_path)
    assert batch.scene_known.tolist() == [False]
    assert not batch.object_mask.any()
    assert batch.object_boxes.shape == (1, 12, 5)
    assert batch.layouts[0].objects == ()


def test_a_damaged_scene_json_is_counted_and_its_sample_is_used_without(root):
    for folder in folders_of(root)[:3]:
        (folder / "scene.json").write_text('{"objects": []}')
    data = MarioDataModule(str(root))
    assert report_of(data).usable == 12
    assert report_of(data).scenes_left_out == 3
    assert any("3 scene.json left out" in line for line in report_of(data).lines())
    assert not any(batch.scene_known.any() for batch in batches(data))


def test_match_objects_ignores_case_and_article_and_serves_each_phrase_once():
    chunks = ["The Red Star", "at the top", "red star", "a ring"]
    boxes, mask = match_objects(chunks, scene(thing("a red star"), thing("red star", 0.5), thing("A RED STAR")), 4)
    assert mask.tolist() == [True, False, True, False]
    assert torch.allclose(boxes[[0, 2], 0], torch.tensor([0.2, 0.6]))
    assert match_objects(chunks, scene(thing("a ring")), 3)[1].tolist() == [False] * 3
    assert match_objects(chunks, scene(thing("star"), thing("ring s")), 4)[1].tolist() == [False] * 4
    assert match_objects(chunks, None, 2)[1].tolist() == [False] * 2


def test_a_phrase_that_counts_gets_the_box_around_as_many_objects():
    shown = scene(
        thing("two red cars"), thing("two red cars", 0.5), thing("a red car", 0.3), thing("two red cars", 0.7)
    )
    boxes, mask = match_objects(["Two red cars", "a red car"], shown, 2)
    first, last = shown.objects[0].box, shown.objects[1].box
    assert mask.tolist() == [True, True]
    assert torch.allclose(boxes[0, [0, 2]], torch.tensor([(first[0] + last[2]) / 2, last[2] - first[0]]))


def test_every_named_object_gets_its_box_and_no_word_loses_its_box(tmp_path):
    write_posters(tmp_path / "posters", samples=150, seed=8, workers=1, charseg=False)
    folders = folders_of(tmp_path / "posters")
    samples = MarioDataset(folder_of(tmp_path / "posters"), 32, 6, 32, Rasterizer())
    told = 0
    for folder, found in zip(folders, (samples[i] for i in range(len(folders))), strict=True):
        sample = read_sample(folder)
        told += (expected := sum(thing.phrase is not None for thing in (*sample.scene.objects, sample.scene)))
        assert found.object_mask.sum() == expected
        assert found.word_mask.sum() == len(sample.scene.words)
        for box, word in zip(found.word_boxes, drawn_words(found.prompt), strict=False):
            (quad,) = [facts.quad for facts in sample.scene.words if facts.text == word]
            assert torch.allclose(box[:2], torch.tensor(quad).mean(dim=0), atol=2 / 512)
    assert told > 275


def test_the_phrases_of_posters_read_back_unchanged(tmp_path):
    write_posters(tmp_path / "posters", samples=100, seed=9, workers=1, charseg=False)
    for folder in folders_of(tmp_path / "posters"):
        words = read_sample(folder).scene.words
        parts = PromptDecomposer()(read_texts(folder, 0.3).prompt)
        spans = {
            frozenset(w.text for w, g in zip(parts.words, parts.groups, strict=True) if g == k) for k in parts.groups
        }
        assert spans == {frozenset(w.text for w in words if w.group == k) for k in {w.group for w in words}}


def test_captions_are_those_of_the_training_split_and_read_no_image(root):
    data = MarioDataModule(str(root), val_share=0.2)
    data.setup()
    for folder in folders_of(root):
        (folder / "image.jpg").unlink()
    captions = data.captions()
    assert captions == ['a poster with the text "HELLO"'] * len(captions)
    assert len(captions) == len(data.train_dataloader().dataset)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0; it must be a whole number from 1 to 4,096"),
        ({"size": 10**6}, "size is 1000000; it must be"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number from 1 to 65,536"),
        ({"batch_size": 10**9}, "batch_size is 1000000000; it must be"),
        ({"max_words": 10**9}, "max_words is 1000000000; it must be"),
        ({"max_words": 0}, "max_words is 0"),
        ({"max_objects": 0}, "max_objects is 0"),
        ({"max_boxes": -1}, "max_boxes is -1"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"limit_test": 0}, "limit_test=0"),
        ({"val_share": 0.0}, "val_share=0.0"),
        ({"test_share": 0.0}, "test_share=0.0"),
        ({"val_share": 1.5}, r"val_share=1.5: must lie in \[0, 1\]"),
        ({"val_share": 0.6, "test_share": 0.4}, "sum below 1"),
        ({"min_confidence": 1.1}, "min_confidence=1.1"),
        ({"max_bad_share": -0.1}, "max_bad_share=-0.1"),
        ({"max_outage": -1.0}, "max_outage=-1.0: must be at least 0"),
        ({"max_outage": math.nan}, "max_outage=nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MarioDataModule("posters", **arguments)


class Mean(LightningModule):
    """The smallest module that trains on batches."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch)
        return (batch.images - self.level).square().mean()

    def validation_step(self, batch, _):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_trains_on_the_batches(root, tmp_path):
    module, data = Mean(), MarioDataModule(str(root), batch_size=4)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=3, default_root_dir=tmp_path, num_sanity_val_steps=0, **options)
    trainer.fit(module, data)
    assert trainer.global_step == 3
    assert all(isinstance(batch, Batch) for batch in module.seen)
    assert module.level != 0
    assert isinstance(trainer.train_dataloader, DataLoader)


def test_a_batch_is_moved_and_a_gpu_copies_it_while_the_host_goes_on(root, monkeypatch):
    data = MarioDataModule(str(root), batch_size=2)
    batch = batches(data)[0]
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {moved.images.device.type, moved.glyphs.device.type, moved.word_mask.device.type} == {"meta"}
    assert (moved.prompts, moved.layouts) == (batch.prompts, batch.layouts)
    seen = []
    monkeypatch.setattr(Batch, "to", lambda self, device, non_blocking=False: seen.append((device.type, non_blocking)))
    for name in ("cpu", "cuda"):
        data.transfer_batch_to_device(batch, torch.device(name), 0)
    assert seen == [("cpu", False), ("cuda", True)]


def test_hash_order_does_not_depend_on_the_given_order():
    names = [f"{i:09d}" for i in range(12)]
    there, back = ([given[i] for i in in_hash_order(positions_of(given, 3))] for given in (names, names[::-1]))
    assert there == back
    assert there != [names[i] for i in in_hash_order(positions_of(names, 4))]
