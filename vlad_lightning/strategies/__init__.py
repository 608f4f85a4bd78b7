"""How a stage is trained on many devices, beside Lightning's own strategies."""

from vlad_lightning.strategies.sharded import ShardedStrategy, shard_module

__all__ = ["ShardedStrategy", "shard_module"]
