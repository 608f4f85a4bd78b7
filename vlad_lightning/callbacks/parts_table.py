"""A table of a model's parts and their sizes, printed before a fit."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary import get_human_readable_count


class PartsTable(ModelSummary):
    """Lightning's model summary without empty parts and without FLOPs, which are 0 before the first batch.

    Its argument ``max_depth`` is Lightning's: how many levels of nested parts are shown; 0 prints no table.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Print the table."""
        columns = dict(summary_data)
        cells = [[cell.strip() for cell in columns[name]] for name in ("Name", "Type", "Params")]
        rows = [row for row in zip(*cells, strict=True) if row[2] != "0"]
        name, kind = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
        for row in rows:
            print(f"  {row[0]:<{name}}  {row[1]:<{kind}}  {row[2]:>6}")
        whole, trained = (get_human_readable_count(n).strip() for n in (total_parameters, trainable_parameters))
        print(f"{whole} parameters, {trained} of them trained", flush=True)
