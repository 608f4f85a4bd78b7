"""The studio's server: gradio's application behind a guard, on uvicorn, without analytics, share links or the hub."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad_lightning.studio.engine import Engine
    from vlad_lightning.studio.guard import Guard

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before a model is loaded.

    Raises:
        ValueError: naming the host or the port.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"--host {host} is no address of this machine: {error}") from error
    with socket.socket(family, kind) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError as error:
            raise ValueError(f"--port {port} on {host} cannot be used ({error.strerror}); give another one") from error


@contextlib.contextmanager
def application(engine: Engine, host: str, port: int) -> Iterator[Guard]:
    """Build the application, with a temporary folder of its own, which is removed at the end.

    Args:
        engine: the model.
        host: the address that will be listened on.
        port: likewise.
    """
    with (
        tempfile.TemporaryDirectory(prefix="vlad-studio-") as name,
        _environment(_SETTINGS | {"GRADIO_TEMP_DIR": name}),
    ):
        import fastapi
        import gradio

        from vlad_lightning.studio.guard import Guard
        from vlad_lightning.studio.page import CSS, HEAD, build_page, theme
        from vlad_lightning.studio.uploads import UPLOAD_BYTES

        @contextlib.asynccontextmanager
        async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
            yield
            engine.close()  # or the server would wait for a generation that nobody sees

        folder = Path(name).resolve()
        page = build_page(engine, folder)
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None, lifespan=lifespan),
            page,
            "/",
            server_name=host,
            server_port=port,
            footer_links=[],
            run_history=False,
            show_error=True,
            max_file_size=UPLOAD_BYTES,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=CSS,
            head=HEAD,
        )
        # as launch() does; without it, gradio would read any file of this machine that a client names
        page.has_launched = page.is_running = True
        yield Guard(app, folder, (*_LOOPBACK, host) if host in _LOOPBACK else None)


def serve(engine: Engine, host: str, port: int) -> None:
    """Serve the studio until the process is interrupted or terminated.

    Raises:
        SystemExit: when it is terminated (SIGTERM), with the shell's exit code, or could not start.
    """
    import uvicorn
    from uvicorn.main import STARTUP_FAILURE

    def end(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, end)  # uvicorn calls it when it has ended; by default, the folder would be left
    # uvicorn's own handler suppresses the interrupt only once it has started
    with application(engine, host, port) as app, contextlib.suppress(KeyboardInterrupt):
        shown = f"[{host}]" if ":" in host else host
        print(f"the studio is at http://{shown}:{port} (Ctrl+C ends it)", flush=True)
        # not uvicorn.run, for which an interrupt before it has started is a failure
        server = uvicorn.Server(
            uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
        )
        server.run()
        if not server.started:
            raise SystemExit(STARTUP_FAILURE)


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables within the context: gradio reads them when it is imported, and later."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
