from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vlad_lightning.cli.stages import read_pipeline


def content(**changes: Any) -> dict[str, Any]:
    return {
        "out": "runs/x",
        "data": {"train": "{out}/data/train", "test": "{out}/data/test"},
        "stages": [
            {"name": "train_posters", "command": "synth", "args": ["--out", "{data}", "--samples", 4]},
            {"name": "test_posters", "command": "synth", "args": ["--out={test_data}", "--samples", 2]},
            {
                "name": "stage0",
                "command": "fit",
                "config": "stage0.yaml",
                "args": ["--data.root={data}", "--data.test_root={test_data}", "--trainer.enable_progress_bar", False],
                "inputs": ["{data}"],
                "outputs": "{out}/stage0/last.ckpt",
            },
        ],
        **changes,
    }


def write(folder: Path, value: Any) -> Path:
    (folder / "stage0.yaml").write_text("{}")
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def test_placeholders_and_paths_are_filled_in(tmp_path: Path) -> None:
    pipeline = read_pipeline(write(tmp_path, content()))
    assert (pipeline.out, pipeline.data) == (Path("runs/x"), Path("runs/x/data/train"))
    assert pipeline.test_data == Path("runs/x/data/test")
    assert [stage.name for stage in pipeline.stages] == ["train_posters", "test_posters", "stage0"]
    posters, _, stage0 = pipeline.stages
    assert posters.command_line == ("synth", "--out", "runs/x/data/train", "--samples", "4")
    assert stage0.command_line == (
        *("fit", "--config", str(tmp_path / "stage0.yaml")),
        *("--data.root=runs/x/data/train", "--data.test_root=runs/x/data/test"),
        *("--trainer.enable_progress_bar", "false"),
    )
    assert stage0.inputs == (Path("runs/x/data/train"),)
    assert stage0.outputs == (Path("runs/x/stage0/last.ckpt"),)


def test_the_callers_out_reaches_the_data_folders(tmp_path: Path) -> None:
    pipeline = read_pipeline(write(tmp_path, content()), out=Path("elsewhere"))
    assert pipeline.stages[0].args[1] == "elsewhere/data/train"


def test_own_data_skip_all_synthesis(tmp_path: Path) -> None:
    pipeline = read_pipeline(write(tmp_path, content()), data=tmp_path / "mine")
    assert [stage.name for stage in pipeline.stages] == ["stage0"]
    assert pipeline.test_data is None
    assert pipeline.stages[0].args[:2] == (f"--data.root={tmp_path / 'mine'}", "--data.test_root=null")


def test_own_test_data_skip_only_the_test_posters(tmp_path: Path) -> None:
    pipeline = read_pipeline(write(tmp_path, content()), test_data=tmp_path / "mine")
    assert [stage.name for stage in pipeline.stages] == ["train_posters", "stage0"]
    assert (pipeline.data, pipeline.test_data) == (Path("runs/x/data/train"), tmp_path / "mine")


def test_configurations_are_found_next_to_the_file_and_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "away").mkdir()
    (tmp_path / "here.yaml").write_text("{}")
    stages = [{"name": "a", "command": "fit", "config": ["stage0.yaml", "here.yaml"]}]
    pipeline = read_pipeline(write(tmp_path / "away", content(stages=stages)))
    assert pipeline.stages[0].config == (tmp_path / "away" / "stage0.yaml", tmp_path / "here.yaml")


def stage(**entries: Any) -> dict[str, Any]:
    return content(stages=[{"name": "a", "command": "fit", **entries}])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a"], r"pipeline\.yaml: must be a mapping with the keys data, out, stages; got \['a'\]"),
        (content(stage=[]), r"unknown key 'stage'; allowed are data, out, stages"),
        ({"data": {"train": "x"}}, r"missing key 'stages'"),
        (content(data={"test": "x"}), r"data: missing key 'train'"),
        (content(data="x"), r"data: must be a mapping .* got 'x'"),
        (content(stages={}), r"stages: must be a list; got {}"),
        (content(stages=[]), r"stages is empty"),
        (stage(comand="fit"), r"stages\[0\]: unknown key 'comand'"),
        (stage(command="train"), r"command is 'train'; allowed are synth, fit, validate, test, predict"),
        (stage(args=["{root}"]), r"unknown placeholder {root}; allowed are {out}, {data}, {test_data}"),
        (stage(args=[["x"]]), r"stages\[0\]\.args: must be a text or a number; got \['x'\]"),
        (stage(name="../x"), r"stage name is '\.\./x'; allowed are letters"),
        (stage(name="model"), r"stage name is 'model'; allowed .* but not data, model"),
        (content(stages=[{"name": "a", "command": "fit"}] * 2), r"two stages are named 'a'"),
    ],
)
def test_malformed_files_are_refused(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pipeline(write(tmp_path, value))


def test_invalid_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("stages: [")
    with pytest.raises(ValueError, match="not a YAML file"):
        read_pipeline(path)


def test_missing_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        read_pipeline(write(tmp_path, stage(config="nowhere.yaml")))


def test_stages_may_read_no_folder_of_posters(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        yaml.safe_dump({"out": "runs/x", "stages": [{"name": "one", "command": "synth", "args": ["{out}"]}]})
    )
    pipeline = read_pipeline(path)
    assert (pipeline.data, pipeline.test_data, pipeline.stages[0].args) == (None, None, ("runs/x",))
    for own in ({"data": tmp_path}, {"test_data": tmp_path}):
        with pytest.raises(
            ValueError, match=r"--data or --test-data is given; the stages of .* read no folder of posters"
        ):
            read_pipeline(path, **own)
