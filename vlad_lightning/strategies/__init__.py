"""Strategies for training on many devices, in addition to Lightning's."""

from vlad_lightning.strategies.sharded import ShardedStrategy, shard_module

__all__ = ["ShardedStrategy", "shard_module"]
