"""What to tell a user about a prompt: words without quotes, and objects that a pipeline has not learned to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.layout.unquoted_words import with_quotes

if TYPE_CHECKING:
    from vlad_lightning.pipeline.pipeline import VLADPipeline

_MOST_NAMED = 5


def unquoted(prompt: str) -> str:
    """Return a sentence without its full stop on a prompt without quotes; empty for one that has them."""
    if drawn_words(prompt):
        return ""
    words = " ".join(drawn_words(with_quotes(prompt)))
    if words:
        return f"nothing in the prompt is in quotes; it seems to ask for {words!r}, which is drawn"
    return "the prompt has no words to draw; put them in quotes, as in: a poster that says 'HELLO'"


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
