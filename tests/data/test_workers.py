from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from vlad_lightning.data.workers import start_worker
from vlad_lightning.models.text.encoder import train_tokenizer
from vlad_lightning.models.text.parser import PromptParser


class Signalled(Dataset[int]):
    """Its items are the worker's process id; another process sends it signals meanwhile, like a scheduler."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        for name in ("-USR1", "-TERM"):
            subprocess.run(["kill", name, str(os.getpid())], check=True)
        return os.getpid()


@pytest.mark.skipif(not Path("/proc").exists(), reason="signals with their sender are Linux's")
def test_a_worker_survives_a_schedulers_signals_and_ends_with_its_loader() -> None:
    seen = {int(pid) for pid in DataLoader(Signalled(), num_workers=1, worker_init_fn=start_worker)}
    (worker,) = seen
    assert worker != os.getpid()
    assert not Path(f"/proc/{worker}").exists()


class Parsed(Dataset[int]):
    """Its items are the numbers of parsed prompts."""

    def __init__(self, parser: PromptParser) -> None:
        self.parser = parser

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return len(self.parser(["a red circle"] * 64))


def test_a_worker_tokenizes_even_if_the_training_process_did_on_many_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    parser = PromptParser(3, 4, max_letters=8, context=40, pad_to_context=True, hides_padding=True)
    parser.tokenizer = train_tokenizer(["a red circle"] * 1000, 300)
    dataset, settings = Parsed(parser), {"multiprocessing_context": "fork", "timeout": 60}
    dataset[0]
    seen = [int(count) for count in DataLoader(dataset, num_workers=1, worker_init_fn=start_worker, **settings)]
    assert seen == [64, 64]


@pytest.mark.skipif(not Path("/proc").exists(), reason="signals with their sender are Linux's")
def test_without_the_worker_setup_the_training_process_fails() -> None:
    with pytest.raises(RuntimeError, match="worker"):
        list(DataLoader(Signalled(), num_workers=1))
