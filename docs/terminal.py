"""Records a terminal: ``python docs/terminal.py --seconds 120 --out docs/images/demo -- make demo``.

The command runs in a pseudo-terminal; after the seconds it is interrupted. What it wrote goes to ``OUT.cast``, which
``asciinema play`` shows, and the last screen to ``OUT.png``. Needs ``pyte``, which the package does not.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time
from pathlib import Path

import matplotlib
import pyte
from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 110, 34
POINTS, MARGIN = 14, 10
COLOURS = {
    "default": "#d8d8d8",
    "black": "#7f7f7f",
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#d9b36c",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#d8d8d8",
}
BACKGROUND = "#1d1f21"


def record(command: list[str], seconds: float) -> list[tuple[float, str]]:
    """Run a command in a pseudo-terminal, and return what it wrote and when; Ctrl-C ends it after ``seconds``."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS=str(COLUMNS), LINES=str(ROWS), TERM="xterm-256color")
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    began, written, ended = time.monotonic(), list[tuple[float, str]](), False
    while not ended:
        if time.monotonic() - began > seconds:
            os.killpg(os.getpgid(child), signal.SIGINT)
            break
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                part = os.read(terminal, 65_536)
            except OSError:  # the command has closed its side
                part = b""
            ended = not part
            written.append((time.monotonic() - began, part.decode("utf-8", "replace")))
    return written


def draw(screen: pyte.Screen) -> Image.Image:
    """Draw a screen's characters in their colours."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    font = ImageFont.truetype(folder / "DejaVuSansMono.ttf", POINTS)
    across, down = font.getlength("M"), POINTS + 4
    size = (int(2 * MARGIN + across * screen.columns), 2 * MARGIN + down * screen.lines)
    image = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            colour = COLOURS.get(cell.fg) or (f"#{cell.fg}" if len(cell.fg) == 6 else COLOURS["default"])
            pen.text((MARGIN + across * column, MARGIN + down * row), cell.data, fill=colour, font=font)
    return image


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="path of the two files, without their endings")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    options = parser.parse_args()
    written = record([part for part in options.command if part != "--"], options.seconds)
    head = {"version": 2, "width": COLUMNS, "height": ROWS}
    lines = [json.dumps(head), *(json.dumps([round(when, 3), "o", part]) for when, part in written)]
    options.out.with_suffix(".cast").write_text("\n".join(lines) + "\n", encoding="utf-8")
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    for _, part in written:
        stream.feed(part)
    draw(screen).save(options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
