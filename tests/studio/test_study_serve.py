from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from raters import Client, ScriptedRater, Server, draw_systems

from vlad_lightning.cli.launcher import main
from vlad_lightning.studio.study_answers import Answers
from vlad_lightning.studio.study_folder import Study, read_study

NAMES = ["zebrasystem", "quokkasystem"]  # the second is better: its images are redder
PAPER = 200  # an attention check's images are brighter than any system's


def make(folder: Path, *options: str) -> Study:
    """Draw a study of 20 items and two attention checks."""
    systems = draw_systems(folder, NAMES, 20)
    made = ["study", "make", *systems, "--items", "12", "--pairs", "8", "--checks", "2", "--out", str(folder / "study")]
    assert main([*made, *options]) == 0
    return read_study(folder / "study")


class Judge:
    """Answers by the images; attention checks from the design, as a person reads them off the image."""

    def __init__(self, study: Study, scores: tuple[int, int]) -> None:
        self.right = {check.images[0]: check.answer for check in study.checks}
        self.scores = scores
        self.turn = 0

    def __call__(self, kind: str, reds: list[int], paths: list[str]) -> list[int]:
        tokens = [path.rpartition("/")[2] for path in paths]
        self.turn += 1
        if kind == "rate":
            score = self.right[tokens[0]] if reds[0] > PAPER else self.scores[reds[0] // 40]
            return [score, score, score if reds[0] > PAPER else min(5, score + self.turn % 2)]
        if reds[0] > PAPER:
            return [next(place for place, token in enumerate(tokens) if token in self.right)]
        return [reds.index(max(reds)) if self.turn % 5 else reds.index(min(reds))]


def careless(kind: str, reds: list[int], paths: list[str]) -> list[int]:
    return [4, 4, 4] if kind == "rate" else [0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return make(folder)


def test_raters_answer_a_study_over_a_kill_and_its_report_finds_the_careless_one(
    folder: Path, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    served = folder / "study"
    server = Server(served, "--raters", "3")
    paths = [line.removeprefix(server.base) for line in (served / "links.txt").read_text().split()]
    judges = [Judge(study, (2, 4)), Judge(study, (1, 4)), careless]
    first = ScriptedRater(server.base, paths[0], judges[0]).start()

    # Kill the server while the first rater answers: what was acknowledged, and only that, is asked no more.
    told = threading.Event()

    def rate() -> None:
        with contextlib.suppress(OSError, HTTPException):  # the connection breaks
            first.rate(told=told)

    thread = threading.Thread(target=rate)
    thread.start()
    assert told.wait(120)
    server.stop()
    thread.join(120)
    acknowledged = list(first.saved)
    server = Server(served, "--raters", "3")
    assert [line.removeprefix(server.base) for line in (served / "links.txt").read_text().split()] == paths
    raters = [ScriptedRater(server.base, path, judge).start() for path, judge in zip(paths, judges, strict=True)]
    answered = raters[0].client.told(f"{paths[0]}/item")["position"]
    assert answered in (len(acknowledged), len(acknowledged) + 1)  # one may have been saved, but not acknowledged
    assert [rater.rate() for rater in raters] == [22, 22, 22]
    seen = b"".join(data for rater in [first, *raters] for data in rater.client.seen)
    results = Client(server.base)
    status, page = results.ask(server.results.removeprefix(server.base))
    assert status == 200
    assert b"66 answers of 3 raters, 3 of whom are done" in page
    assert server.interrupt().endswith(f"stopped; the answers are in {served}\n")

    store = Answers(served, study)
    stored = [list(answer.value) for answer in store.answers() if answer.rater == 0]
    store.close()
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) == 22

    # No response holds a system's name, a file's name, or the kind of an attention check.
    assert len(seen) > 10_000
    for secret in [*NAMES, *(prompt.key for prompt in study.rated), "check_", "quokka", "zebra"]:
        assert secret.encode() not in seen + page

    report_and_check(served, folder / "report", capsys)


def report_and_check(served: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check the report: the third rater failed at least one of two checks and gave always the same answer."""
    capsys.readouterr()
    assert main(["study", "report", str(served), "--out", str(out), "--least_seconds", "0", "--resamples", "200"]) == 0
    assert "rater 3 is excluded: failed" in capsys.readouterr().out
    told = json.loads((out / "results.json").read_text())
    results, provenance = told["results"], told["provenance"]
    assert list(results["raters"]["excluded"]) == ["3"]
    assert "gave the score 4 in 36 of 36 scores" in results["raters"]["excluded"]["3"]
    assert results["raters"]["counted"] == 2
    for criterion in ("Image quality", "Semantic alignment"):
        assert results["means"]["zebrasystem"][criterion]["value"] == pytest.approx(1.5)  # half by each rater
        assert results["means"]["quokkasystem"][criterion]["value"] == 4
        assert results["means"]["quokkasystem"][criterion]["n"] == 12
    assert results["wins"]["quokkasystem"]["zebrasystem"] > results["wins"]["zebrasystem"]["quokkasystem"] > 0
    strength = results["bradley_terry"]["quokkasystem"]
    assert strength["value"] > 0
    assert strength["low"] < strength["value"] < strength["high"]
    assert provenance["answers"] == 66
    assert provenance["limits"]["least_seconds"] == 0
    page = (out / "report.md").read_text()
    assert "| system | Image quality | Semantic alignment | Text rendering |" in page
    assert page.index("| zebrasystem | 1.50 [") < page.index("| quokkasystem | 4.00 [")
    table = (out / "table.tex").read_text()
    assert r"Method & Image quality & Semantic alignment & Text rendering \\" in table
    assert r"quokkasystem & \textbf{4.00}" in table


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve another study to anyone with its key."""
    folder = tmp_path_factory.mktemp("opened")
    make(folder)
    server = Server(folder / "study")
    yield server
    server.stop()


def enrol(server: Server) -> tuple[Client, str]:
    client = Client(server.base)
    return client, client.told(server.join.removeprefix(server.base), {})["path"]


def test_whoever_has_the_key_enrols_and_goes_on_later(opened: Server) -> None:
    client, path = enrol(opened)
    assert client.ask(opened.join.removeprefix(opened.base))[0] == 200  # a preview of the link enrols nobody
    _, other = enrol(opened)
    assert path != other
    item = client.told(f"{path}/item")
    assert (item["position"], item["total"]) == (0, 22)
    answer = {"position": 0, "value": [1, 2, 3], "seconds": 9}
    assert client.told(f"{path}/answer", answer)["position"] == 1
    later = Client(opened.base)
    assert later.told(f"{path}/item")["position"] == 1
    assert later.told(f"{path}/item?position=0") == item | {"value": [1, 2, 3]}
    assert later.told(f"{path}/answer", answer | {"value": [5, 5, 5]})["position"] == 1  # a changed mind
    assert later.told(f"{path}/item?position=0")["value"] == [5, 5, 5]


def test_whoever_withdraws_leaves_no_answer(opened: Server) -> None:
    client, path = enrol(opened)
    client.told(f"{path}/answer", {"position": 0, "value": [1, 2, 3], "seconds": 9})
    client.told(f"{path}/withdraw", {})
    assert client.told(f"{path}/texts")["answered"] == 0
    assert client.ask(f"{path}/answer", {"position": 0, "value": [1, 2, 3], "seconds": 9})[0] == 403
    assert b"<td>withdrawn</td><td>0 of 22</td>" in client.ask(opened.results.removeprefix(opened.base))[1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"position": 1, "value": [1, 2, 3], "seconds": 1}, "position is 1; it must be a whole number from 0 to 0"),
        ({"position": True, "value": [1, 2, 3], "seconds": 1}, "position must be a whole number"),
        ({"position": -1, "value": [1, 2, 3], "seconds": 1}, "position is -1"),
        ({"position": 0, "value": [1, 2], "seconds": 1}, "value is [1, 2]; it must be 3 numbers from 1 to 5"),
        ({"position": 0, "value": [1, 2, 6], "seconds": 1}, "value is [1, 2, 6]"),
        ({"position": 0, "value": [1, 2, 2.5], "seconds": 1}, "value is [1, 2, 2.5]"),
        ({"position": 0, "value": [1, 2, True], "seconds": 1}, "value is [1, 2, True]"),
        ({"position": 0, "value": "123", "seconds": 1}, "value a list"),
        ({"position": 0, "value": [1, 2, 3], "seconds": -1}, "seconds must be a number from 0"),
        ({"position": 0, "value": [1, 2, 3], "seconds": float("nan")}, "seconds must be a number from 0"),
        ({"position": 0, "value": [1, 2, 3]}, "the keys position, value, seconds"),
        ([1], "an object with the keys"),
    ],
)
def test_an_answer_that_is_none_is_refused(opened: Server, body: object, message: str) -> None:
    client, path = enrol(opened)
    status, told = client.ask(f"{path}/answer", body)
    assert status == 400
    assert message in json.loads(told)["error"]
    assert client.told(f"{path}/item")["position"] == 0


def test_requests_are_bounded_and_strangers_see_nothing(opened: Server) -> None:
    client, path = enrol(opened)
    assert client.ask(f"{path}/answer", raw=b" " * 5000)[0] == 413
    client = Client(opened.base)
    assert client.ask(f"{path}/answer", raw=b"{", **{"Content-Length": "1"})[0] == 400
    assert client.ask(f"{path}/answer", raw=b"a=1", **{"Content-Type": "text/plain"})[0] == 415
    for stranger in (
        "/",
        "/study.json",
        "/image/../study.json",
        "/image/%2e%2e%2fstudy",
        f"/image/{'0' * 32}",
        f"/r/{'0' * 32}",
        "/r/%27%20OR%201=1%20--",
        f"/r/{'0' * 32}/item",
        f"/join/{'0' * 32}",
        f"/results/{'0' * 32}",
        "/results/%C3%A4",
    ):
        status, data = client.ask(stranger)
        assert status == 404, stranger
        assert len(data) < 200
    assert client.ask(f"{path}/item?position=1e3")[0] == 400
    headers = client.seen[-1].decode()
    assert "frame-ancestors 'none'" in headers
    assert "'referrer-policy', 'no-referrer'" in headers


def test_it_listens_on_this_machine_alone_unless_told_otherwise(opened: Server) -> None:
    assert opened.base.startswith("http://127.0.0.1:")


def test_a_used_port_and_a_folder_without_a_study_are_one_line(
    opened: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    port = opened.base.rpartition(":")[2]
    for arguments, message in (
        ([str(tmp_path / "study"), "--port", port], f"--host 127.0.0.1 --port {port} cannot be used: "),
        ([str(tmp_path / "study"), "--port", "70000"], "--port is 70000; it must be a whole number from 0 to 65,535"),
        ([str(tmp_path / "study"), "--raters", "0"], "--raters is 0; it must be a whole number from 1 to 10,000"),
        ([str(tmp_path / "study"), "--address", "ftp://x"], "--address is 'ftp://x'; it must begin with http"),
        ([str(tmp_path)], f"STUDY is {tmp_path}; it must be a folder that `vlad-cli study make` wrote"),
    ):
        assert main(["study", "serve", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"vlad-cli study: {message}")
        assert told.count("\n") == 1
    assert main(["study", "report", str(tmp_path / "study"), "--out", str(tmp_path / "report")]) == 2
    assert "which has no answers yet" in capsys.readouterr().err


def test_a_missing_extra_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "vlad_lightning.studio.study_serve", raising=False)
    assert main(["study", "serve", str(tmp_path)]) == 2
    told = "vlad-cli study: uvicorn is not installed, and studies need it: pip install 'vlad-lightning[studio]'\n"
    assert capsys.readouterr().err == told


def test_a_study_that_changed_after_its_first_rater_is_refused(tmp_path: Path) -> None:
    study = make(tmp_path)
    Answers(tmp_path / "study", study).close()
    design = tmp_path / "study" / "study.json"
    design.write_text(design.read_text().replace("very good", "excellent"))
    edited = read_study(tmp_path / "study")
    store = Answers(tmp_path / "study", edited)  # nobody has enrolled: the owner may edit
    store.enrol()
    store.close()
    with pytest.raises(ValueError, match=r"study.json has changed since the first rater enrolled"):
        Answers(tmp_path / "study", study)


def test_what_a_withdrawn_rater_answered_is_in_no_file(tmp_path: Path) -> None:
    study = make(tmp_path)
    store = Answers(tmp_path / "study", study)
    token = store.enrol(consented=True)
    rater = store.rater(token)
    assert rater is not None
    store.save(rater, 0, [1, 5, 2], 4.0)

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in (tmp_path / "study").glob("answers.sqlite*"))

    assert b"[1, 5, 2]" in stored()
    store.withdraw(rater)
    assert b"[1, 5, 2]" not in stored()
    with pytest.raises(ValueError, match="the rater has withdrawn"):
        store.save(rater, 0, [1, 5, 2], 4.0)
    store.close()
    assert (tmp_path / "study" / "answers.sqlite").stat().st_mode & 0o077 == 0


def test_times_of_a_changed_answer_are_those_of_the_first(tmp_path: Path) -> None:
    study = make(tmp_path)
    store = Answers(tmp_path / "study", study)
    token = store.enrol(consented=True)
    before = time.time()
    for value, seconds in (([1, 1, 1], 4.0), ([2, 2, 2], 9.0)):
        rater = store.rater(token)
        assert rater is not None
        store.save(rater, 0, value, seconds)
    (answer,) = store.answers()
    store.close()
    assert (answer.value, answer.seconds) == ((2, 2, 2), 4.0)
    assert before <= answer.answered <= time.time()
