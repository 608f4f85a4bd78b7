"""Several sources in one: exact shares, every sample in its own split, the same samples for every number of devices."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlad_lightning.cli import fit as cli
from vlad_lightning.data.content import NAMES
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mixed_source import MixedSource, mixture_counts
from vlad_lightning.data.order import SampleOrder
from vlad_lightning.data.source import RawSample, SampleSource
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.files import configs_folder
from vlad_lightning.layout.nouns import SHAPES, THINGS


class Plain(SampleSource):
    """White squares named by a letter and a number."""

    def __init__(self, letter: str, length: int, digest: str = "") -> None:
        self.letter = letter
        self.length = length
        self.digest = digest

    def __len__(self) -> int:
        return self.length

    @property
    def keys(self) -> list[str]:
        return [f"{self.letter}{i}" for i in range(self.length)]

    def read(self, index: int) -> RawSample:
        return RawSample(self.keys[index], Image.new("RGB", (8, 8), "white"), f"square {self.keys[index]}", ())

    def content(self) -> dict[str, str]:
        return {NAMES: f"{self.length}", "files": self.digest} if self.digest else {}


def mixed(*lengths: int, weights: list[float], samples: int | None = None) -> MixedSource:
    sources: list[SampleSource] = [Plain(letter, n) for letter, n in zip("abc", lengths, strict=False)]
    source = MixedSource(sources, weights, samples)
    source.setup()
    return source


def occurrences(source: MixedSource) -> Counter[str]:
    return Counter(key.partition("-")[2] for key in source.keys)


@pytest.mark.parametrize(
    ("lengths", "weights", "samples", "counts"),
    [
        ((10, 10), [1.0, 1.0], None, [10, 10]),
        ((30, 10), [0.5, 0.5], None, [30, 30]),
        ((30, 10), [0.7, 0.3], None, [30, 13]),  # 30 / 0.7 is 42.86: 43 samples, of which 30.1 and 12.9
        ((7, 7, 7), [0.2, 0.2, 0.6], None, [7, 7, 21]),
        ((1000, 1000), [3, 1], 10, [8, 2]),  # the larger rest of equal ones is the first's
        ((1, 10_000_000), [1e-7, 1.0], None, [1, 10_000_000]),
    ],
)
def test_the_counts_have_the_shares_of_the_weights(
    lengths: tuple[int, ...], weights: list[float], samples: int | None, counts: list[int]
) -> None:
    assert mixture_counts(lengths, weights, samples) == counts


def test_every_sample_occurs_and_none_twice_more_often_than_another() -> None:
    source = mixed(30, 10, 4, weights=[0.5, 0.4, 0.1])
    found = occurrences(source)
    assert len(set(source.keys)) == len(source) == sum(found.values()) == 60
    by_letter = {letter: [found[key] for key in found if key[0] == letter] for letter in "abc"}
    assert (len(by_letter["a"]), set(by_letter["a"])) == (30, {1})
    assert (len(by_letter["b"]), set(by_letter["b"])) == (10, {2, 3})
    assert (len(by_letter["c"]), set(by_letter["c"])) == (4, {1, 2})


def test_a_part_of_a_source_is_spread_evenly_over_it() -> None:
    source = mixed(1000, 10, weights=[1, 1], samples=200)
    used = sorted(int(key[1:]) for key in occurrences(source) if key[0] == "a")
    assert len(used) == 100
    assert used == list(range(0, 1000, 10))


def test_reading_gives_the_sample_of_its_name_and_a_copy_reads_the_same() -> None:
    source = mixed(30, 10, weights=[0.5, 0.5])
    copy = pickle.loads(pickle.dumps(source))
    for number in (0, 29, 30, 41, 59):
        key = source.keys[number]
        assert source.read(number).key == key
        assert source.read(number).caption == copy.read_texts(number).caption == f"square {key.partition('-')[2]}"
    assert source.keys[-1] == source.keys[59:][0] == "1.2-b9"
    assert mixed(10, 4, weights=[1, 0.6]).keys[10:] == ["1.0-b0", "1.0-b1", "1.0-b2", "1.0-b3", "1.1-b0", "1.1-b2"]
    with pytest.raises(IndexError):
        source.read(60)


def test_a_sample_is_in_the_split_that_it_has_without_the_mixture() -> None:
    alone: dict[str, set[str]] = {}
    for letter, length in (("a", 300), ("b", 100)):
        module = MarioDataModule(source=Plain(letter, length), size=8, val_share=0.2, test_share=0.1)
        for name, found in split_keys(module).items():
            alone.setdefault(name, set()).update(found)
    module = MarioDataModule(source=mixed(300, 100, weights=[0.4, 0.6]), size=8, val_share=0.2, test_share=0.1)
    for name, found in split_keys(module).items():
        assert {key.partition("-")[2] for key in found} == alone[name]


def split_keys(module: MarioDataModule) -> dict[str, list[str]]:
    module.setup()
    sets = {name: module._sets[name] for name in ("train", "val", "test")}
    return {name: [data.source.keys[i] for i in data.indices.tolist()] for name, data in sets.items()}


@pytest.mark.parametrize("world", [2, 4])
def test_a_step_has_the_same_samples_for_every_number_of_devices_and_after_a_resume(world: int) -> None:
    source = mixed(30, 10, weights=[0.5, 0.5])
    one = SampleOrder(len(source), batch_size=8)
    several = SampleOrder(len(source), batch_size=8 // world, world_size=world)
    steps = [named(source, batch) for batch in one.batches(0)]
    ranks = [[named(source, batch) for batch in several.batches(0, rank)] for rank in range(world)]
    assert steps == [sorted(key for batch in batches for key in batch) for batches in zip(*ranks, strict=True)]
    assert [named(source, batch) for batch in one.batches(one.after(0, 3))] == steps[3:]


def named(source: MixedSource, batch: list[Any]) -> list[str]:
    return sorted(source.keys[draw[0]] for draw in batch)


def test_its_nouns_are_those_of_all_sources() -> None:
    plain, rich = (SyntheticSource(4, world=world) for world in ("plain", "rich"))
    assert MixedSource([plain, rich], [1, 1]).nouns == (*SHAPES, *THINGS)
    assert MixedSource([plain, plain], [1, 1]).nouns == SHAPES
    assert MixedSource([rich, Plain("a", 4)], [1, 1]).nouns == ()  # nobody knows what those show


def test_a_changed_source_is_named_in_the_fingerprint() -> None:
    def content(digests: tuple[str, str], weights: tuple[float, float] = (1, 1)) -> dict[str, str]:
        source = MixedSource([Plain("a", 3, digests[0]), Plain("b", 3, digests[1])], list(weights))
        source.setup()
        return dict(source.content())

    first, second = content(("x", "y")), content(("x", "z"))
    assert {kind for kind in first if first[kind] != second[kind]} == {"files of source 1"}
    assert content(("x", "y"), (1, 2))[NAMES] != first[NAMES]
    assert content(("x", "")) == {}


@pytest.mark.parametrize(
    ("sources", "weights", "samples", "message"),
    [
        ([], [], None, r"sources is \[\]; it must list at least one"),
        ([Plain("a", 3)], [1, 2], None, r"weights is \[1, 2\]; it must have one number for each of 1 sources"),
        ([Plain("a", 3)], [0.0], None, r"weights is \[0.0\]; each must be a number above 0"),
        ([Plain("a", 3)], [float("nan")], None, "each must be a number above 0"),
        ([Plain("a", 3)], [1.0], 0, "samples is 0; it must be a whole number from 1"),
        ([Plain("a", 0)], [1.0], None, "Plain holds no sample"),
        ([Plain("a", 99), Plain("b", 9)], [1e-9, 1], None, r"weights is \[1e-09, 1\]; .* set samples, to at most"),
    ],
)
def test_bad_arguments_are_refused_by_name(sources: Any, weights: Any, samples: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixedSource(sources, weights, samples).setup()


def test_a_configuration_lists_the_sources_and_a_batch_is_mixed(tmp_path: Path) -> None:
    overlay = tmp_path / "mixed.yaml"
    posters = f"{SyntheticSource.__module__}.{SyntheticSource.__qualname__}"
    overlay.write_text(
        f"""
data:
  init_args:
    root: null
    source:
      class_path: {MixedSource.__module__}.{MixedSource.__qualname__}
      init_args:
        weights: [0.75, 0.25]
        sources:
        - class_path: {posters}
          init_args: {{samples: 90, size: 64, world: literal}}
        - class_path: {posters}
          init_args: {{samples: 20, size: 64, seed: 5}}
""",
        encoding="utf-8",
    )
    config = str(configs_folder() / "mini/stage1_tlg.yaml")
    built = cli.build(["--config", config, "--config", str(overlay), "--out", str(tmp_path)], run=False)
    module = built.datamodule
    assert isinstance(module, MarioDataModule)
    assert isinstance(module.source, MixedSource)
    module.setup()
    assert len(module.source) == 120
    batch = next(iter(module.train_dataloader()))
    assert {key[0] for key in batch.keys} == {"0", "1"}
    assert batch.images.shape[1:] == (3, module.size, module.size)
