"""Count what each strategy of configs/cluster keeps and sends, on the meta device; GB are 10^9 bytes.

    python benchmarks/sharding.py 2>/dev/null

DDP keeps everything on each GPU: all weights, and for the trained ones gradients, AdamW's two moments and the EMA, all
in float32. Sharding divides the trained part by the number of shards. Frozen weights stay whole. Gathered in bfloat16
are the root's weights, the largest unit and the next one, which is prefetched. A ring sends 2 (N - 1) / N of an
all-reduced tensor from each GPU, and (N - 1) / N of a gathered or reduce-scattered one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlad_lightning.cli import fit as cli
from vlad_lightning.files import configs_folder
from vlad_lightning.models.fsdp import blocks

CONFIGS = ("stage0_align.yaml", "stage1_tlg.yaml", "stage2_vfe.yaml", "sd21/stage2_vfe.yaml", "sdxl/stage2_vfe.yaml")
NODE = 8  # GPUs
SIZES = (8, 16, 64)


@dataclass(frozen=True)
class Network:
    """Numbers of parameters of a stage.

    Attributes:
        name: name of the configuration.
        trained: all that train.
        frozen: all that do not train.
        largest: those that train in the largest block.
        root: those that train outside of all blocks.
    """

    name: str
    trained: int
    frozen: int
    largest: int
    root: int

    def memory(self, shards: int) -> float:
        """Return GB per GPU, without activations: five copies of the trained part in shards, and gathered weights."""
        gathered = 2 * (2 * self.largest + self.root) if shards > 1 else 0
        return (4 * self.frozen + 5 * 4 * self.trained / shards + gathered) / 1e9

    def reduced(self, gpus: int, size: int = 4, part: int = 1) -> float:
        """Return GB that each GPU sends for an all-reduce of a ``part``-th of the gradients."""
        return 2 * (gpus - 1) / gpus * size * self.trained / part / 1e9

    def sharded(self, shards: int) -> float:
        """Return GB that each GPU sends to gather blocks twice and the root once (bfloat16) and scatter (float32)."""
        sent = 2 * 2 * (self.trained - self.root) + 2 * self.root + 4 * self.trained
        return (shards - 1) / shards * sent / 1e9


def counted(name: str) -> Network:
    """Build a configuration and count."""
    with torch.device("meta"):
        module = cli.build(["--config", str(configs_folder() / name)], run=False).model
    sizes = [sum(p.numel() for p in block.parameters() if p.requires_grad) for block in blocks(module)]
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    every = sum(p.numel() for p in module.parameters())
    return Network(name, trained, every - trained, max(sizes), trained - sum(sizes))


def main() -> None:
    """Count and print."""
    networks = [counted(name) for name in CONFIGS]
    print("| configuration | trained | frozen | largest block | outside of blocks |\n|---|---|---|---|---|")
    for n in networks:
        print(f"| `{n.name}` | {n.trained:,} | {n.frozen:,} | {n.largest:,} | {n.root:,} |")
    heads = "".join(f" FSDP, {size} |" for size in SIZES)
    print(f"\n| memory, GB per GPU | DDP | HSDP, {NODE} per node |{heads}\n|---|---|---|{'---|' * len(SIZES)}")
    for n in networks:
        cells = [n.memory(1), n.memory(NODE), *(n.memory(size) for size in SIZES)]
        print(f"| `{n.name}` |" + "".join(f" {cell:.2f} |" for cell in cells))
    columns = "DDP | DDP, bf16 | HSDP within the node | and between nodes | FSDP"
    print(f"\n| sent per step, GB per GPU, {2 * NODE} GPUs | {columns} |")
    print("|---|---|---|---|---|---|")
    for n in networks:
        between = n.reduced(2, part=NODE)
        cells = [n.reduced(2 * NODE), n.reduced(2 * NODE, size=2), n.sharded(NODE), between, n.sharded(2 * NODE)]
        print(f"| `{n.name}` |" + "".join(f" {cell:.2f} |" for cell in cells))


if __name__ == "__main__":
    main()
