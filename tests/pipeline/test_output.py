from __future__ import annotations

import torch

from vlad_lightning.pipeline.output import to_bytes


def test_bytes_are_the_nearest_ones_and_none_wraps_around() -> None:
    values = torch.tensor([-9.0, -1.3, -1.0, -1 + 0.9 / 127.5, 0.0, 1 - 0.9 / 127.5, 1.0, 1.3, 9.0])
    found = to_bytes(values.view(1, 1, 1, -1).expand(1, 3, 1, -1))
    assert found.dtype == torch.uint8
    assert found[0, 0, 0].tolist() == [0, 0, 0, 1, 128, 254, 255, 255, 255]
