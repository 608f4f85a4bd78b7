"""A small regression whose data are poisoned at chosen rows: NaN, infinity, or an outlier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

NAN, INF = float("nan"), float("inf")


class Rows(Dataset[Tensor]):
    """``size`` rows of four numbers that are a function of the index, and values that replace some of them."""

    def __init__(self, size: int, poison: Mapping[int, float] | None = None) -> None:
        self.values = torch.randn(size, 4, generator=torch.Generator().manual_seed(4))
        for index, value in (poison or {}).items():
            self.values[index] = value

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Tensor:
        return self.values[index]


def loader(size: int = 64, poison: Mapping[int, float] | None = None, batch_size: int = 2) -> DataLoader[Tensor]:
    return DataLoader(Rows(size, poison), batch_size=batch_size, shuffle=False)


class Regression(LightningModule):
    """Two layers, AdamW with decay and a schedule that changes each step; it records its batches."""

    def __init__(self, schedule: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 1)
        self.schedule = schedule
        self.seen: list[Tensor] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.clone())
        return self.head(self.body(batch).tanh()).sub(batch.sum(1, keepdim=True)).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05, weight_decay=0.1)
        if not self.schedule:
            return optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def weights(module: LightningModule) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}
