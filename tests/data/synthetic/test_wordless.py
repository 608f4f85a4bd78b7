"""The wordless world: the plain one without words, for systems that are first trained on pictures alone."""

from __future__ import annotations

from pathlib import Path

from vlad_lightning.cli import synth
from vlad_lightning.data.mario import list_samples, read_sample
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.layout.nouns import SHAPES
from vlad_lightning.layout.prompt_parser import drawn_words

POSTERS = [make_scene(index, 64, seed=0, heldout=False, world="wordless") for index in range(200)]


def test_no_poster_has_words_and_most_have_shapes() -> None:
    assert not any(scene.words for scene, _ in POSTERS)
    shapes = {thing.shape for scene, _ in POSTERS for thing in scene.objects}
    assert shapes == set(SHAPES)
    assert 0.02 < sum(not scene.objects for scene, _ in POSTERS) / len(POSTERS) < 0.2
    assert max(len(scene.objects) for scene, _ in POSTERS) <= 6


def test_no_prompt_asks_for_words() -> None:
    source = SyntheticSource(40, size=64, world="wordless")
    prompts = [source.read_texts(index).prompt for index in range(40)]
    assert len(set(prompts)) > 30
    assert not any(drawn_words(prompt) for prompt in prompts)


def test_the_command_draws_it(tmp_path: Path) -> None:
    arguments = ["--samples", "3", "--size", "64", "--workers", "1", "--charseg", "false"]
    synth.main(["--out", str(tmp_path / "out"), "--world", "wordless", *arguments])
    samples = [read_sample(folder) for folder in list_samples(tmp_path / "out")]
    assert [sample.caption for sample in samples] == [caption.text for _, caption in POSTERS[:3]]
    assert not any(sample.words for sample in samples)
