"""Test batches in page-locked memory, and their copy to the GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_system as tiny
import torch

from vlad_lightning.layout.glyphs import glyph_images

pytestmark = pytest.mark.gpu


def test_a_loader_pins_its_batches_and_they_arrive_unchanged(posters: Path, device: torch.device) -> None:
    data = tiny.data(posters, batch_size=4, pin_memory=device.type == "cuda")
    batch = next(iter(data.val_dataloader()))
    assert batch.images.is_pinned() == (device.type == "cuda")
    moved = data.transfer_batch_to_device(batch, device, 0)
    if device.type == "cuda":
        torch.cuda.synchronize()
    for name in ("images", "glyphs", "word_boxes", "word_mask"):
        assert getattr(moved, name).device.type == device.type
        assert torch.equal(getattr(moved, name).cpu(), getattr(batch, name))
    assert torch.equal(glyph_images(moved.glyphs).cpu(), glyph_images(batch.glyphs)), "the same bits on every device"
    assert (moved.prompts, moved.keys) == (batch.prompts, batch.keys)
