"""The rating study's web server: the page, a rater's next item, and the answers.

A rater is known by the token in the link alone. No response holds a system's name, an image's origin or the right
answer of a check; the page of results says how far the raters are, not what they answered.
"""

from __future__ import annotations

import html
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlad_lightning.files import TEXT_BYTES, read_utf8
from vlad_lightning.studio.study_answers import Answers, Rater
from vlad_lightning.studio.study_checks import PROMPT
from vlad_lightning.studio.study_design import Item
from vlad_lightning.studio.study_folder import CONSENT, IMAGES, INSTRUCTIONS, Study

MOST_BODY = 4096
"""The most bytes of a request's body; an answer has about 60."""

_MOST_SECONDS = 1e6  # eleven days: a page that was left open
_TOKEN = re.compile(r"[0-9a-f]{32}")
_HERE = Path(__file__).parent
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",  # the address is the rater's token
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
_FRESH = {"cache-control": "no-store"}


class StudyServer:
    """The server of one study.

    Args:
        folder: the study's folder.
        study: its design.
        answers: the store of its answers.
        open_enrolment: whether anyone with the study's key can enrol.
    """

    def __init__(self, folder: Path, study: Study, answers: Answers, open_enrolment: bool) -> None:
        self._folder = folder
        self._study = study
        self._answers = answers
        self._images = study.tokens()
        self._join_key = answers.fact("join_key") if open_enrolment else None
        self._results_token = answers.fact("results_token")
        self._texts = {
            "title": study.title,
            "consent": read_utf8(folder / CONSENT, TEXT_BYTES),
            "instructions": read_utf8(folder / INSTRUCTIONS, TEXT_BYTES),
            "criteria": [asdict(criterion) for criterion in study.criteria] if study.rated else [],
        }

    def app(self) -> ASGIApp:
        """Return the ASGI application."""
        files = {"study_page.js": "text/javascript", "study_page.css": "text/css"}
        routes = [
            Route("/", _nothing_here),
            Route("/favicon.ico", _no_icon),
            *(Route(f"/{name}", _static(name, kind)) for name, kind in files.items()),
            Route("/image/{token}", self._image),
            Route("/join/{key}", self._join_page),
            Route("/join/{key}/texts", self._join_texts),
            Route("/join/{key}", self._join, methods=["POST"]),
            Route("/r/{token}", self._rater_page),
            Route("/r/{token}/texts", self._rater_texts),
            Route("/r/{token}/item", self._item),
            Route("/r/{token}/consent", self._consent, methods=["POST"]),
            Route("/r/{token}/answer", self._answer, methods=["POST"]),
            Route("/r/{token}/withdraw", self._withdraw, methods=["POST"]),
            Route("/results/{token}", self._results),
        ]
        handlers: Mapping[Any, Callable[[Request, Exception], Response]] = {HTTPException: _refusal}
        return _Guarded(Starlette(routes=routes, exception_handlers=dict(handlers)))

    async def _image(self, request: Request) -> Response:
        token = request.path_params["token"]
        if token not in self._images:
            raise HTTPException(404, "there is no such image")
        content = await run_in_threadpool((self._folder / IMAGES / f"{token}.png").read_bytes)
        return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=86400, immutable"})

    def _check_key(self, request: Request) -> None:
        if self._join_key is None or not _same(request.path_params["key"], self._join_key):
            raise HTTPException(404, "there is no such study, or it is not open")

    async def _join_page(self, request: Request) -> Response:
        self._check_key(request)
        return _page()

    async def _join_texts(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse(self._texts, headers=_FRESH)

    async def _join(self, request: Request) -> Response:
        """Enrol a new rater; only the page's button sends this, so that programs that preview links do not."""
        self._check_key(request)
        await _read_object(request, ())
        try:
            token = await run_in_threadpool(self._answers.enrol, consented=True)
        except ValueError as error:
            raise HTTPException(403, str(error)) from error
        return JSONResponse({"path": f"/r/{token}"}, headers=_FRESH)

    async def _rater(self, request: Request) -> Rater:
        token = request.path_params["token"]
        rater = await run_in_threadpool(self._answers.rater, token) if _TOKEN.fullmatch(token) else None
        if rater is None:
            raise HTTPException(404, "there is no such link; please check that it is complete")
        return rater

    async def _active(self, request: Request) -> Rater:
        """Return the rater if the rater has agreed and has not withdrawn."""
        rater = await self._rater(request)
        if rater.withdrawn:
            raise HTTPException(403, "you have withdrawn, and your answers are deleted")
        if not rater.consented:
            raise HTTPException(403, "please agree to take part first")
        return rater

    async def _rater_page(self, request: Request) -> Response:
        await self._rater(request)
        return _page()

    async def _rater_texts(self, request: Request) -> Response:
        rater = await self._rater(request)
        told = {"consented": rater.consented, "withdrawn": rater.withdrawn, "answered": rater.answered}
        return JSONResponse(self._texts | told, headers=_FRESH)

    async def _consent(self, request: Request) -> Response:
        rater = await self._rater(request)
        await _read_object(request, ())
        await run_in_threadpool(self._answers.consent, rater)
        return JSONResponse({}, headers=_FRESH)

    async def _withdraw(self, request: Request) -> Response:
        rater = await self._rater(request)
        await _read_object(request, ())
        await run_in_threadpool(self._answers.withdraw, rater)
        return JSONResponse({}, headers=_FRESH)

    async def _item(self, request: Request) -> Response:
        """Return the next item, or that of ``position`` if it was reached before."""
        rater = await self._active(request)
        position = rater.answered
        if "position" in request.query_params:
            position = _whole(request.query_params["position"])
        return JSONResponse(await self._shown(rater, position), headers=_FRESH)

    async def _answer(self, request: Request) -> Response:
        """Save an answer, and return the item after it: what is acknowledged is on the disk."""
        rater = await self._active(request)
        told = await _read_object(request, ("position", "value", "seconds"))
        position, value, seconds = told["position"], told["value"], told["seconds"]
        if type(position) is not int or not isinstance(value, list):
            raise HTTPException(400, "position must be a whole number, and value a list of them")
        if type(seconds) not in (int, float) or not 0 <= seconds <= _MOST_SECONDS:
            raise HTTPException(400, f"seconds must be a number from 0 to {_MOST_SECONDS:.0f}")
        try:
            await run_in_threadpool(self._answers.save, rater, position, value, float(seconds))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        rater = await self._rater(request)
        return JSONResponse(await self._shown(rater, position + 1), headers=_FRESH)

    async def _shown(self, rater: Rater, position: int) -> dict[str, Any]:
        """Return what the page shows of an item; a check looks like any other item."""
        if position == rater.answered == rater.total:
            return {"done": True, "position": position, "total": rater.total}
        try:
            item, value = await run_in_threadpool(self._answers.item, rater, position)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        text, tokens = self._content(item)
        return {
            "done": False,
            "position": position,
            "total": rater.total,
            "kind": item.kind.removeprefix("check_"),
            "prompt": text,
            "images": [f"/image/{token}" for token in tokens],
            "value": value,
        }

    def _content(self, item: Item) -> tuple[str, Sequence[str]]:
        if item.kind in ("check_rate", "check_compare"):
            text, images = PROMPT, self._study.checks[item.number].images
        else:
            prompt = (self._study.rated if item.kind == "rate" else self._study.compared)[item.number]
            text, images = prompt.text, prompt.images
        return text, [images[place] for place in item.shown]

    async def _results(self, request: Request) -> Response:
        """Return how far each rater is; what they answered is read on the server, by ``vlad-cli study report``."""
        if not _same(request.path_params["token"], self._results_token):
            raise HTTPException(404, "there are no such results")
        raters = await run_in_threadpool(self._answers.raters)
        rows = "".join(
            f"<tr><td>{r.number + 1}</td><td>{_state(r)}</td><td>{r.answered} of {r.total}</td></tr>" for r in raters
        )
        text = (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>Results</title>"
            f'<meta name=viewport content="width=device-width"><link rel=stylesheet href=/study_page.css>'
            f"<main><h1>{html.escape(self._study.title)}</h1>"
            f"<p>{sum(r.answered for r in raters)} answers of {len(raters)} raters, "
            f"{sum(r.answered == r.total for r in raters)} of whom are done. The report is made on the server: "
            f"<code>vlad-cli study report</code>.</p>"
            f"<table><thead><tr><th>rater<th>state<th>answers</tr></thead><tbody>{rows}</tbody></table></main></html>"
        )
        return Response(text, media_type="text/html", headers=_FRESH)


class _Guarded:
    """Adds headers to every response that let the page load nothing from elsewhere, and keep its address to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self._app(scope, receive, with_headers)


async def _read_object(request: Request, keys: Sequence[str]) -> dict[str, Any]:
    """Read a bounded JSON object with the given keys from a request's body.

    JSON as the content type keeps other sites' forms from sending one.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > MOST_BODY:
                raise HTTPException(413, f"the body must have at most {MOST_BODY} bytes")
    except ClientDisconnect as error:
        raise HTTPException(400, "the body is incomplete") from error
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body must be JSON") from error
    if not isinstance(told, dict) or told.keys() != set(keys):
        raise HTTPException(400, f"the body must be an object with the keys {', '.join(keys) or '(none)'}")
    return told


def _same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise HTTPException(400, "position must be a whole number")
    return int(text)


def _state(rater: Rater) -> str:
    if rater.withdrawn:
        return "withdrawn"
    if not rater.consented:
        return "not started"
    return "done" if rater.answered == rater.total else "under way"


def _refusal(request: Request, error: Exception) -> Response:
    """Return an error as JSON to the page's script, and as text to a person."""
    status, why = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "error")
    if request.method == "POST" or request.url.path.endswith(("/texts", "/item")):
        return JSONResponse({"error": why}, status, headers=_FRESH)
    return PlainTextResponse(f"{why}\n", status, headers=_FRESH)


async def _nothing_here(request: Request) -> Response:
    raise HTTPException(404, "please use the link that you were given")


async def _no_icon(request: Request) -> Response:
    return Response(status_code=204)


def _static(name: str, kind: str) -> Callable[[Request], Any]:
    content = (_HERE / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


def _page() -> Response:
    return Response((_HERE / "study_page.html").read_bytes(), media_type="text/html", headers=_FRESH)
