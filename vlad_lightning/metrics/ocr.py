"""OCR metrics: how well the words in an image can be read, exactly as in MARIO-Eval and as users expect.

The two kinds use the OCR engine's output differently:

* MARIO-Eval's (``mario_*``): one entry per OCR line, stripped and lower-cased; a line with two words matches neither.
* ours: the words of :func:`readings`.

Both ignore case and respect punctuation. MARIO-Eval's compare code points; ours compare words in the form of
:func:`~vlad_lightning.layout.prompt_parser.comparable`, which unifies apostrophes and accents.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.text import edit_distance

from vlad_lightning.layout.prompt_parser import comparable, drawn_words, has_single_quotes
from vlad_lightning.metrics.bootstrap import bootstrap_result
from vlad_lightning.metrics.ocr_engine import OCREngine
from vlad_lightning.metrics.per_image import PerImageMetric, Share, share_results
from vlad_lightning.types import MetricResult

_MARIO_SPAN = re.compile(r"'(.*?)'")
_MARIO_EPSILON = 1e-8


def mario_keywords(prompt: str) -> list[str]:
    """Return MARIO-Eval's keywords: the words of every span in single ASCII quotes; an apostrophe counts as a quote.

    Example:
        >>> mario_keywords("A sign that says 'Hello World'")
        ['hello', 'world']
    """
    return " ".join(_MARIO_SPAN.findall(prompt.strip().lower())).split()


def mario_targets(prompt: str) -> list[str]:
    r"""Return the words that the ``mario_*`` results look for in the image of a prompt.

    If words to draw are in single quotes, these are exactly :func:`mario_keywords`. MARIO-Eval has no rule for other
    quotes, with which every apostrophe would count as a quote; for such prompts these are the words to draw.

    Example:
        >>> mario_targets("it says 'Hello World'"), mario_targets('mum\'s "Hello" beside dad\'s')
        (['hello', 'world'], ['Hello'])
    """
    return mario_keywords(prompt) if has_single_quotes(prompt) else list(drawn_words(prompt))


@dataclass(frozen=True)
class MarioScore:
    """MARIO-Eval's numbers of one image.

    Attributes:
        precision: matched entries / entries read, in [0, 1).
        recall: matched entries / words wanted, in [0, 1).
        accuracy: 1 if the entries of both, sorted and joined, are the same string; word boundaries do not count.
    """

    precision: float
    recall: float
    accuracy: int


def mario_score(lines: Sequence[str], words: Sequence[str]) -> MarioScore:
    """Compute MARIO-Eval's precision, recall and accuracy of one image.

    Args:
        lines: lines read, one entry per line; blank lines count.
        words: words wanted, as returned by :func:`mario_keywords`.
    """
    read = [line.strip().lower() for line in lines]
    wanted = [word.lower() for word in words]
    matched = common(read, wanted)
    return MarioScore(
        precision=matched / (len(read) + _MARIO_EPSILON),
        recall=matched / (len(wanted) + _MARIO_EPSILON),
        accuracy=int("".join(sorted(read)) == "".join(sorted(wanted))),
    )


def mario_f(precisions: NDArray[np.float64], recalls: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Compute MARIO-Eval's F, from the mean precision and the mean recall over images; it is not the mean of F."""
    precision, recall = precisions.mean(axis), recalls.mean(axis)
    return 2 * precision * recall / (precision + recall + _MARIO_EPSILON)


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the size of the multiset intersection."""
    return (Counter(first) & Counter(second)).total()


def tokens(lines: Sequence[str]) -> list[str]:
    """Split the lines at white space into words, in the form in which they are compared."""
    return [token for line in lines for token in _compared(line.split())]


def _compared(words: Sequence[str]) -> list[str]:
    """Return :func:`~vlad_lightning.layout.prompt_parser.comparable` words; words that become empty are left out."""
    return [word for word in map(comparable, words) if word]


def readings(lines: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the words read, with words that the engine split or joined restored if they are wanted.

    The readings of a line are its :func:`tokens`, unless (1) none of these is a wanted word that is still unread and
    (2) the line without its spaces spells a wanted word that is still unread, or several of them in any order. Then
    the readings are those words. The plain matches of all lines are taken first, so a word is never read twice.

    Example:
        >>> readings(["HEL LO", "catdog", "and more"], ["hello", "dog", "cat"])
        ['hello', 'cat', 'dog', 'and', 'more']
    """
    unread = Counter(_compared(words))
    split = [_compared(line.split()) for line in lines]
    matched = []
    for line in split:
        plain = Counter(line) & unread
        unread -= plain
        matched.append(bool(plain))
    found: list[str] = []
    for line, has_match in zip(split, matched, strict=True):
        spelt = [] if has_match else _spell("".join(line), unread)
        unread -= Counter(spelt)
        found += spelt or line
    return found


def _spell(text: str, words: Counter[str]) -> list[str]:
    """Return some of ``words`` that spell ``text`` one after the other, or none if that is impossible."""
    for word in words:
        if word and text.startswith(word):
            if text == word:
                return [word]
            if following := _spell(text[len(word) :], words - Counter([word])):
                return [word, *following]
    return []


@dataclass(frozen=True)
class EditScore:
    """Edit distance between wanted words and readings, paired one to one.

    Attributes:
        similarity: sum over the wanted words of 1 - Levenshtein / length of the longer; 0 for an unpaired word.
        edits: characters to insert, delete or replace; an unpaired word or reading costs its length.
    """

    similarity: float
    edits: int


def edit_score(read: Sequence[str], wanted: Sequence[str]) -> EditScore:
    """Pair the words one to one so that the summed similarity is highest, and score the pairs.

    The order of words does not count, since the prompt's may differ from the image's.

    Args:
        read: readings, in the same case as ``wanted``.
        wanted: words.
    """
    unpaired = sum(map(len, wanted)) + sum(map(len, read))
    if not read or not wanted:
        return EditScore(0.0, unpaired)
    pairs = [(w, r) for w in wanted for r in read]
    distance = edit_distance([r for _, r in pairs], [w for w, _ in pairs], reduction="none").numpy()
    longest = np.array([max(len(w), len(r), 1) for w, r in pairs])
    shape = (len(wanted), len(read))
    similarity, distance = (1 - distance / longest).reshape(shape), distance.reshape(shape)
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    paired = sum(len(wanted[i]) + len(read[j]) for i, j in zip(rows, columns, strict=True))
    return EditScore(float(similarity[rows, columns].sum()), int(distance[rows, columns].sum()) + unpaired - paired)


def ocr_row(lines: Sequence[str], words: Sequence[str], mario_words: Sequence[str] | None = None) -> dict[str, float]:
    """Return the row of one image for :class:`OCRMetrics`, by the names of its columns.

    Args:
        lines: lines read.
        words: words wanted.
        mario_words: words that MARIO-Eval looks for, see :func:`mario_targets`; None means ``words``.
    """
    wanted = _compared(words)
    plain, read = tokens(lines), readings(lines, words)
    mario, edit = mario_score(lines, words if mario_words is None else mario_words), edit_score(read, wanted)
    return {
        "wanted": len(wanted),
        "wanted_characters": sum(map(len, wanted)),
        "tokens": len(plain),
        "token_matches": common(plain, wanted),
        "words_read": common(read, wanted),
        "all_read": float(sorted(read) == sorted(wanted)),
        "similarity": edit.similarity,
        "edits": edit.edits,
        "mario_precision": mario.precision,
        "mario_recall": mario.recall,
        "mario_accuracy": mario.accuracy,
    }


class OCRMetrics(PerImageMetric):
    """Metrics of the words that an OCR engine reads in images.

    =====================  ==================================================================================
    ``word_accuracy``      share of the wanted words that are among the :func:`readings` of their image
    ``sentence_accuracy``  share of images whose readings are the wanted words and nothing else, in any order
    ``edit_similarity``    mean over the wanted words of 1 - Levenshtein / length of the longer (:func:`edit_score`)
    ``cer``                character error rate: edits over wanted characters; can exceed 1
    ``micro_precision``    matches / :func:`tokens`, pooled over images; 0 if nothing was read
    ``micro_recall``       matches / wanted words, pooled; a split or joined word does not match
    ``micro_f1``           2 matches / (tokens + wanted words), pooled
    ``mario_*``            MARIO-Eval's accuracy, precision, recall and F (:func:`mario_score`, :func:`mario_f`)
    =====================  ==================================================================================

    Results over words are left out if no word was wanted. To reproduce MARIO-Eval, pass :func:`mario_targets` as
    ``mario_targets`` of :meth:`update`.

    Args:
        engine: reads the images.
        seed: seed of the bootstrap.
    """

    columns = (
        "wanted",
        "wanted_characters",
        "tokens",
        "token_matches",
        "words_read",
        "all_read",
        "similarity",
        "edits",
        "mario_precision",
        "mario_recall",
        "mario_accuracy",
    )

    def __init__(self, engine: OCREngine, seed: int = 0) -> None:
        super().__init__(seed)
        self.engine = engine

    def update(
        self,
        images: Tensor,
        targets: Sequence[Sequence[str]],
        mario_targets: Sequence[Sequence[str]] | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        """Read images, and keep their rows.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            targets: the words wanted in each of the B images; may be empty.
            mario_targets: the words that the ``mario_*`` results look for; None means ``targets``.
            keys: B names, or none.

        Raises:
            ValueError: if their numbers differ.
        """
        wanted = targets if mario_targets is None else mario_targets
        for name, words in (("targets", targets), ("mario_targets", wanted)):
            if len(images) != len(words):
                raise ValueError(f"{name} has {len(words)} entries; {len(images)} images need as many")
        rows = [ocr_row(*one) for one in zip(self.engine.read(images), targets, wanted, strict=True)]
        values = torch.tensor([[row[name] for name in self.columns] for row in rows])
        self.append(values.view(-1, len(self.columns)), keys)

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares of every result except ``mario_f``."""
        each = np.ones_like(table["wanted"])
        shares = {"sentence_accuracy": Share(table["all_read"], each)}
        if table["wanted"].any():
            shares |= word_shares(table)
        return shares | {name: Share(table[name], each) for name in self.columns if name.startswith("mario_")}

    def compute(self) -> dict[str, MetricResult]:
        """Return every result by name, with the engine in its details."""
        table, rng = self.table(), self.generator()
        if not len(table["wanted"]):
            return {}
        results = share_results(self.shares(table), rng)
        if table["wanted"].any():
            results.setdefault("micro_precision", MetricResult(0.0))  # where nothing was read
        columns = (table["mario_precision"], table["mario_recall"])
        results["mario_f"] = bootstrap_result(mario_f, columns, rng, n=len(table["wanted"]))
        return {name: replace(result, details={"engine": self.engine.name}) for name, result in results.items()}


def word_shares(table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
    """Return the results that are shares of the wanted words, of the words read, or of their characters."""
    wanted, read, matches = table["wanted"], table["tokens"], table["token_matches"]
    return {
        "word_accuracy": Share(table["words_read"], wanted),
        "edit_similarity": Share(table["similarity"], wanted),
        "cer": Share(table["edits"], table["wanted_characters"], most=None),
        "micro_precision": Share(matches, read),
        "micro_recall": Share(matches, wanted),
        "micro_f1": Share(2 * matches, wanted + read, n=int(wanted.sum())),
    }
