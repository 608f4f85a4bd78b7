"""The studio's server in a thread of this process, with a tiny pipeline."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import tiny_system as tiny
import torch

from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.studio.engine import Engine


def tiny_engine(folder: Path, **changes: Any) -> Engine:
    """Open a tiny pipeline that is saved to ``folder``."""
    module: Any = tiny.stage("vfe", **changes)
    vfe = module.image_generator.vfe
    for part in (vfe.fusion, vfe.inpainting):
        if part is not None:
            torch.nn.init.normal_(part.weight, std=0.3)
    VLADPipeline.from_module(module, nouns=("circle",)).save_pretrained(folder)
    return Engine.open(str(folder), folder, "cpu")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def served(app: Any, port: int) -> Iterator[str]:
    """Serve an application on 127.0.0.1, and yield its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server has ended"
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def event(client: httpx.Client, component: str) -> dict[str, Any]:
    """Return gradio's description of the event of a component, by the component's id on the page."""
    config = client.get("/config").json()
    (target,) = [part["id"] for part in config["components"] if part["props"].get("elem_id") == component]
    (found,) = [one for one in config["dependencies"] if any(aim[0] == target for aim in one["targets"])]
    return dict(found)


def uploaded(client: httpx.Client, name: str, content: bytes) -> httpx.Response:
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def answered(client: httpx.Client, component: str, data: list[Any]) -> str:
    """Return what the server says to an event with this data, until it is through."""
    session = uuid.uuid4().hex
    sent = {"data": data, "fn_index": event(client, component)["id"], "session_hash": session}
    joined = client.post("/gradio_api/queue/join", json=sent)
    if joined.status_code != 200:
        return f"refused with {joined.status_code}"
    lines = []
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if "process_completed" in line or "close_stream" in line:
                break
    return "\n".join(lines)
