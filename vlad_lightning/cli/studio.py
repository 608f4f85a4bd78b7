"""``vlad-cli studio``: the page in the browser."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from vlad_lightning.cli.arguments import Parser
from vlad_lightning.cli.generate import check_device, find_model
from vlad_lightning.limits import check_whole
from vlad_lightning.pretrained import SHIPPED_MODEL

_LAST_PORT = 65_535


def main(args: Sequence[str]) -> None:
    """Serve the studio until it is interrupted.

    Args:
        args: the arguments after ``studio`` on the command line.

    Raises:
        FileNotFoundError: if there is no pipeline folder.
        ValueError: if gradio is not installed, or an argument cannot be used.
    """
    options = _parser().parse_args(args)
    check_whole("--port", options.port, 1, _LAST_PORT)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("the studio needs gradio: pip install 'vlad-lightning[studio]', or '.[studio]' in a clone")
    folder = find_model(options.model)
    # imported here, so that wrong arguments are reported at once
    from vlad_lightning.studio.serving import check_address

    check_address(options.host, options.port)
    check_device(options.device)
    import torch

    from vlad_lightning.studio.engine import Engine
    from vlad_lightning.studio.serving import serve

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    serve(Engine.open(options.model, folder, device), options.host, options.port)


def _parser() -> Parser:
    parser = Parser("vlad-cli studio", description="Generate images and edit their layouts in the browser.")
    parser.add_argument(
        "--model", default=SHIPPED_MODEL, help="pipeline folder, or the name of a shipped one (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; with another than the default, everybody who reaches it can use the studio "
        "(default: %(default)s)",
    )
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser
