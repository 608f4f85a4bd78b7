"""Every shipped YAML parses, builds where it has to, and leaves no `{out}` unfilled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule

from vlad_lightning.cli import VLADCLI, fill, parser_options
from vlad_lightning.config_files import configs_folder
from vlad_lightning.modules import AlignmentModule, TLGModule, VFEModule
from vlad_lightning.stages import read_pipeline

CONFIGS = configs_folder()
STACKS = {  # what is laid over what; the first is a stage of its own
    "stage0_align": ("fit",),
    "stage1_tlg": ("fit",),
    "stage2_vfe": ("fit",),
    "mini/stage0_align": ("fit",),
    "mini/stage1_tlg": ("fit",),
    "mini/stage2_vfe": ("fit",),
    "mini/stage0_align mini/judge": ("fit",),
    "stage2_vfe test": ("test",),
    "mini/stage2_vfe mini/test": ("test",),
    "stage2_vfe generate": ("predict",),
    "mini/stage2_vfe generate": ("predict",),
}
