import io
import json
import os
import sys

import pytest
from lightning.pytorch import LightningModule, Trainer

from vlad_lightning.data.prompts import PromptDataModule, read_prompts
from vlad_lightning.data.requests import RequestDataModule
from vlad_lightning.types import PromptBatch


def items(data):
    data.setup("predict")
    return [item for batch in data.predict_dataloader() for item in zip(batch.keys, batch.prompts, strict=True)]


def test_prompts_keep_their_order_and_get_keys():
    assert items(PromptDataModule(prompts=["a dog", " ", "", " a 'CAT'\n"], batch_size=1)) == [
        ("prompt_00000", "a dog"),
        ("prompt_00001", "a 'CAT'"),
    ]


def test_a_file_has_one_prompt_per_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa sign “HÉLLO”\r\n\n  \na dog\u2028barks".encode())
    assert items(PromptDataModule(file=str(path))) == [
        ("prompt_00000", "a sign “HÉLLO”"),
        ("prompt_00001", "a dog\u2028barks"),
    ]


def test_prompts_without_words_to_draw_are_reported_in_one_line(caplog):
    with caplog.at_level("INFO"):
        PromptDataModule(prompts=["a 'CAT'", "a dog", "a hen"]).setup()
        PromptDataModule(prompts=["a 'CAT'", "a \u00abDOG\u00bb", "a poster that says HEN"]).setup()
    (notice,) = [message for message in caplog.messages if "words to draw" in message]
    assert notice.startswith("notice: 2 of 3 prompts have no words to draw, prompt_00001 for one")
    assert "\n" not in notice


@pytest.mark.parametrize("module", [PromptDataModule, RequestDataModule])
def test_a_file_of_another_encoding_or_kind_is_refused(tmp_path, module):
    (tmp_path / "prompts.txt").write_bytes(b"a caf\xe9")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        module(file=str(tmp_path / "prompts.txt")).setup()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        module(file=str(tmp_path / "pipe"))


def test_standard_input_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo"))
    data = PromptDataModule(file="-")
    assert items(data) == items(data) == [("prompt_00000", "one"), ("prompt_00001", "two")]


def test_batches_have_the_requested_size():
    data = PromptDataModule(prompts=[str(i) for i in range(5)], batch_size=2)
    data.setup()
    found = list(data.predict_dataloader())
    assert all(isinstance(batch, PromptBatch) for batch in found)
    assert [len(batch) for batch in found] == [2, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither given"),
        ({"prompts": ["a"], "file": "-"}, "both given"),
        ({"prompts": ["a"], "batch_size": 10**9}, "batch_size is 1000000000; it must be .* from 1 to 65,536"),
        ({"prompts": ["a"], "batch_size": 0}, "batch_size is 0; it must be a whole number from 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PromptDataModule(**arguments)


def test_a_prompt_of_a_megabyte_is_refused_by_its_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a dog\n" + "a" * 1_000_000)
    message = r"has 1,000,000 characters; at most 10,000 are read"
    with pytest.raises(ValueError, match=message):
        PromptDataModule(file=str(path)).setup()
    with pytest.raises(ValueError, match=message):
        read_prompts(path)
    path.write_text(json.dumps({"prompt": "a" * 1_000_000}))
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        RequestDataModule(file=str(path)).setup()


@pytest.mark.parametrize("line", ["[" * 100_000, '{"prompt": ' + "9" * 5000 + "}"])
def test_a_line_that_json_cannot_parse_is_named(tmp_path, line):
    path = tmp_path / "requests.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match="line 1: not an object of JSON") as raised:
        RequestDataModule(file=str(path)).setup()
    assert len(str(raised.value)) < 500


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match=path.name):
            PromptDataModule(file=str(path))


def test_an_empty_list_of_prompts_is_refused(tmp_path):
    blank = tmp_path / "blank.txt"
    blank.write_text("\n \n")
    for data in (PromptDataModule(prompts=[]), PromptDataModule(prompts=[" "]), PromptDataModule(file=str(blank))):
        with pytest.raises(ValueError, match="holds no prompt"):
            data.setup()


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"picture.jpg.*UTF-8"):
        PromptDataModule(file=str(path)).setup()


class Echo(LightningModule):
    def predict_step(self, batch, _):
        return batch.keys, batch.prompts


def test_lightning_predicts_on_the_batches(tmp_path):
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(default_root_dir=tmp_path, **options)
    found = trainer.predict(Echo(), PromptDataModule(prompts=["a", "b", "c"], batch_size=2))
    assert found == [(("prompt_00000", "prompt_00001"), ("a", "b")), (("prompt_00002",), ("c",))]


def two(monkeypatch, rank):
    """Make a trainer of two processes for the given rank; it starts none."""
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    return Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)


def test_standard_input_cannot_be_shared(monkeypatch):
    data = PromptDataModule(file="-")
    data.trainer = two(monkeypatch, 0)
    with pytest.raises(ValueError, match=r"file='-' with 2 processes"):
        data.setup()


@pytest.mark.parametrize(("rank", "prompts"), [(0, ("a", "b")), (1, ("c",))])
def test_each_device_gets_neighbouring_batches(monkeypatch, rank, prompts):
    data = PromptDataModule(prompts=["a", "b", "c"], batch_size=2)
    data.setup()
    data.trainer = two(monkeypatch, rank)
    (batch,) = data.predict_dataloader()
    assert batch.prompts == prompts


def test_standard_input_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr("vlad_lightning.data.prompts.LIST_BYTES", 10)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a dog\n" * 1000))
    with pytest.raises(ValueError, match=r"file='-' has 10 characters or more"):
        PromptDataModule(file="-").setup()
