from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vlad_lightning.metrics.tesseract_engine import LANGUAGE, find_tessdata, lines_of_table

TABLE = """\
1\t1\t0\t0\t0\t0\t0\t0\t200\t100\t-1\t
4\t1\t1\t1\t1\t0\t10\t20\t180\t20\t-1\t
5\t1\t1\t1\t1\t1\t10\t20\t80\t20\t96.5\tBIG
5\t1\t1\t1\t1\t2\t110\t18\t80\t20\t50\tSALE
4\t1\t1\t1\t2\t0\t10\t60\t40\t20\t-1\t
5\t1\t1\t1\t2\t1\t10\t60\t40\t20\t12\t\x20
5\t1\t2\t1\t1\t1\t0\t50\t200\t50\t-0.5\ttoday
"""


def test_a_table_becomes_lines_of_words_with_corners_in_fractions() -> None:
    first, second = lines_of_table(TABLE, (100, 200))
    assert (first.text, second.text) == ("BIG SALE", "today")
    assert np.allclose(first.quad, [[0.05, 0.18], [0.95, 0.18], [0.95, 0.4], [0.05, 0.4]])
    big, sale = first.words
    assert (big.text, sale.text) == ("BIG", "SALE")
    assert np.allclose(big.quad, [[0.05, 0.2], [0.45, 0.2], [0.45, 0.4], [0.05, 0.4]])
    assert (big.confidence, sale.confidence, second.words[0].confidence) == (pytest.approx(0.965), 0.5, 0.0)
    assert list(lines_of_table("", (100, 200))) == []


def test_its_language_is_looked_for_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, prefix, package = tmp_path / "given", tmp_path / "prefix", tmp_path / "share" / "tessdata"
    for folder in (given, prefix, package):
        folder.mkdir(parents=True)
        (folder / LANGUAGE).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv("TESSDATA_PREFIX", raising=False)
    assert (find_tessdata(given), find_tessdata(None)) == (given, package)
    monkeypatch.setenv("TESSDATA_PREFIX", str(prefix))
    assert find_tessdata(None) == prefix
    with pytest.raises(FileNotFoundError, match=rf"finds no eng.traineddata in {tmp_path}: pip install"):
        find_tessdata(tmp_path)
