"""What to tell a user whose prompts ask for objects that a pipeline has not learned to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlad_lightning.pipeline.pipeline import VLADPipeline

_MOST_NAMED = 5


def unlearned(pipe: VLADPipeline, prompts: Sequence[str]) -> str:
    """Return a sentence without its full stop that names these objects; empty if there are none.

    Args:
        pipe: the pipeline; one that does not know what its training data show has nothing to tell.
        prompts: any prompts.
    """
    unknown = list(dict.fromkeys(phrase for prompt in prompts for phrase in pipe.unknown_objects(prompt)))
    if not unknown:
        return ""
    named = ", ".join(map(repr, unknown[:_MOST_NAMED]))
    more = f" and {len(unknown) - _MOST_NAMED} others" if len(unknown) > _MOST_NAMED else ""
    return f"this model has not learned to draw {named}{more}; its model card lists what it has learned"
