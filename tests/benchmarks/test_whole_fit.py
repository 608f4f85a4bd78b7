from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whole_fit
import yaml

from vlad_lightning.cli import fit
from vlad_lightning.files import configs_folder

START = Path("start")
ROWS = whole_fit.rows(START)


def parsed(config: str, *more: str) -> dict[str, Any]:
    options = [f"--config={configs_folder() / config}", *more, "--print_config"]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        fit.build(["fit", *options], run=True)
    assert ended.value.code == 0
    return dict(yaml.safe_load(out.getvalue()))


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_a_configuration(name: str, tmp_path: Path) -> None:
    config, overlay = ROWS[name]
    file = tmp_path / "overlay.yaml"
    file.write_text(yaml.safe_dump(overlay))
    found = parsed(config, f"--config={file}")
    kept = found["data"]["init_args"]["keep_in_memory"]
    assert kept == (500 if name.endswith("as shipped") else 0)
    if name.endswith(("all of stage 2", "as shipped")):
        assert found["model"] == parsed(config)["model"]


def test_later_mappings_are_joined_key_by_key() -> None:
    assert whole_fit.joined({"a": {"b": 1, "c": 2}}, {"a": {"c": None}, "d": {"e": 3}}) == {
        "a": {"b": 1, "c": None},
        "d": {"e": 3},
    }


def test_the_memory_and_the_failure_of_a_process_are_told() -> None:
    code = "import whole_fit; print(whole_fit.run(['-c', 'x = bytes(1) * 2**30'])[1])"
    # in a small process: the kernel counts that of the process which starts another as the other's, too
    beside = os.environ | {"PYTHONPATH": str(Path(whole_fit.__file__).parent)}
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=beside).stdout
    assert 1.0 < float(said) < 1.5
    with pytest.raises(SystemExit, match="no such thing"):
        whole_fit.run(["-c", "raise ValueError('no such thing')"])


def test_ratios_are_those_of_each_round_to_the_second_row(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = np.array([[0.4, 0.2, 0.3], [0.8, 0.4, 0.2]])
    memory = np.array([[1.0, 1.0, 1.5], [1.0, 1.0, 2.0]])
    whole_fit.report(["torch", "plain", "ours"], np.stack([seconds, memory], -1))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "| ours | 250 | 64.0 | 1.00 (0.75 to 1.25) | 2.00 |"
