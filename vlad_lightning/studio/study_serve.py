"""Runs the rating study's web server: enrols raters, prints the links, and listens until it is stopped."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from vlad_lightning.files import TEXT_BYTES, read_utf8
from vlad_lightning.limits import check_whole
from vlad_lightning.studio.study_answers import MOST_RATERS, Answers
from vlad_lightning.studio.study_folder import CONSENT, INSTRUCTIONS, LINKS, read_study
from vlad_lightning.studio.study_server import StudyServer

_MOST_CONNECTIONS = 1000
_MOST_PORT = 65_535
_KEPT_SECONDS = 75  # a connection without requests: longer than most items take


def serve(folder: Path, host: str, port: int, raters: int | None, address: str | None) -> None:
    """Serve a study until the process is interrupted or terminated.

    Args:
        folder: the study's folder.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        raters: number of personal links, which are written to ``links.txt``; None lets anyone with the study's key
            enrol.
        address: how the server is reached from outside, such as ``https://example.org``; None is host and port.

    Raises:
        OSError: if the port cannot be used, or a file cannot be read.
        ValueError: if an argument is out of its range, or the folder holds no study.
    """
    check_whole("--port", port, 0, _MOST_PORT)
    if raters is not None:
        check_whole("--raters", raters, 1, MOST_RATERS)
    if address is not None and not address.startswith(("http://", "https://")):
        raise ValueError(f"--address is {address!r}; it must begin with http:// or https://")
    study = read_study(folder)
    texts = {name: read_utf8(folder / name, TEXT_BYTES) for name in (CONSENT, INSTRUCTIONS)}
    with _listening(host, port) as listener:
        answers = Answers(folder, study)
        try:
            app = StudyServer(folder, study, answers, open_enrolment=raters is None).app()
            base = (address or _address(host, listener.getsockname()[1])).rstrip("/")
            lines = _links(folder, answers, base, raters)
            lines += [f"notice: {name} still has a place in [brackets] to fill" for name in _unfilled(texts)]
            print("\n".join(lines), flush=True)
            _run(app, listener)
            print(f"stopped; the answers are in {folder}", flush=True)
        finally:
            answers.close()


def _run(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until Ctrl-C, which ends the requests under way first."""
    config = uvicorn.Config(
        app,
        access_log=False,  # the addresses in it are the raters' tokens
        log_level="warning",
        lifespan="off",
        server_header=False,
        timeout_keep_alive=_KEPT_SECONDS,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after it has stopped
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        raise OSError(f"--host {host} --port {port} cannot be used: {error.strerror or error}") from error


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _links(folder: Path, answers: Answers, base: str, raters: int | None) -> list[str]:
    results = f"how far they are (keep this link to yourself): {base}/results/{answers.fact('results_token')}"
    if raters is None:
        return [f"raters enrol at {base}/join/{answers.fact('join_key')}", results]
    for _ in range(raters - len(answers.tokens())):
        answers.enrol()
    links = folder / LINKS
    links.touch(mode=0o600)
    links.write_text("".join(f"{base}/r/{token}\n" for token in answers.tokens()), encoding="utf-8")
    return [f"{len(answers.tokens())} personal links: {links}", results]


def _unfilled(texts: Mapping[str, str]) -> list[str]:
    return [name for name, text in texts.items() if "[" in text and "]" in text]
