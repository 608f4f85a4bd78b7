"""The entry point of ``python -m vlad_lightning``, which is the same as ``vlad-cli``."""

from __future__ import annotations

import sys

from vlad_lightning.cli.launcher import main

if __name__ == "__main__":
    sys.exit(main())
