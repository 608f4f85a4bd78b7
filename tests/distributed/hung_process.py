"""Hang in one of the ways that the watchdog handles: ``python hung_process.py HOW FOLDER``."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from pathlib import Path

from vlad_lightning.health.watchdog import Watch

Watch._BEHIND = 1.0
watch = Watch(Path(sys.argv[2]), rank=3, grace=2.5 if sys.argv[1] == "patient" else 0.1)
watch.feed(5.0, "in a training batch, after step 7")
watch.start()


def hang_here():
    if sys.argv[1] == "lock":
        ctypes.PyDLL(None).sleep(300)  # holds Python's lock
    threading.Event().wait()


for _ in range(6):
    time.sleep(1)
    watch.feed(5.0, "in a training batch, after step 7")
print("fed", flush=True)
time.sleep(2)  # the timer behind is set meanwhile
if sys.argv[1] == "away":
    watch.folder = Path("x" * 300)  # to look into it is an error
    for _ in range(8):  # longer than the timer behind waits
        watch.feed(5.0, "in a training batch, after step 7")
        time.sleep(1)
    watch.stop()
    print("still here", flush=True)
    sys.exit(0)
hang_here()
