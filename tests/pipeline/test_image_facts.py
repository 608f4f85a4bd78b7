from __future__ import annotations

from vlad_lightning.cli.generate_options import SAMPLER_OPTIONS
from vlad_lightning.pipeline.image_facts import TOLD_SETTINGS


def test_every_option_of_the_sampler_is_told() -> None:
    assert set(TOLD_SETTINGS) == set(SAMPLER_OPTIONS)
