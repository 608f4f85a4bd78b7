"""What a prompt asks for: the words to draw, the objects around them, and the place of each word.

A quoted span holds the words to draw. The remaining text is cut at punctuation and at connecting words into chunks that
are close to noun phrases; a place (``at the top left``) is a separate chunk. One regular expression finds all three,
so that every character belongs to at most one of them.
"""

# ruff: noqa: RUF001, RUF002, RUF003 (this file handles quotes and punctuation that look alike)

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from numpy.typing import ArrayLike

from vlad_lightning.layout.reading import Reading

REGIONS = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")

# A letter or digit of a script that puts spaces between words: beside one, a ' is an apostrophe. Chinese, Japanese and
# Korean text puts its quotes right beside its letters.
_LETTER = r"[^\W\u2e80-\ufaff]"
_APOSTROPHE = rf"(?<={_LETTER}){{}}(?={_LETTER})"

# An ASCII double quote after a digit is the inch sign; `""..""` is a span whose quotes a CSV writer doubled. A mark
# that opens in one language and closes in another (” ’ » ›) opens a span only if it touches a word on its right but not
# on its left. People and keyboards mix straight and curly marks: a proper pair is tried first, then a mixed one.
_OPENING = "\"'`‘’‚‛“”„‟«»‹›「『｢〝＂＇❛❝❮《〈〟"
_CLOSING = "\"'`‘’“”‟«»‹›」』｣〞〟＂＇❜❞❯》〉"
_STRAIGHT_INSIDE = _APOSTROPHE.format("'")
_CURLY_INSIDE = _APOSTROPHE.format("’")
_ANY_INSIDE = _APOSTROPHE.format("['’]")
_QUOTED = rf"""
    (?=[{_OPENING}])(?:
        (?<!\d)"(?P<mixed>[^"“”„‟]*)(?<!\d)”(?!\w)
      | (?<!\d)(?P<mark>"{{1,2}})(?P<double>[^"]*)(?P=mark)
      | (?<!\d)"(?P<mixed_number>[^"“”„‟]*)”(?!\w)
      | (?<!{_LETTER})'(?P<single>(?:[^']|{_STRAIGHT_INSIDE})*)'(?!{_LETTER})
      | (?<!{_LETTER})'(?P<mixed_single>(?:[^'‘’]|{_CURLY_INSIDE})*)’(?!{_LETTER})
      | [‘‛](?P<curly>(?:[^‘’‛]|{_CURLY_INSIDE})*)’(?!{_LETTER})
      | [‘‛](?P<mixed_curly>(?:[^'‘’‛]|{_ANY_INSIDE})*)'(?!{_LETTER})
      | ‚(?P<low>(?:[^'‘’‚]|{_ANY_INSIDE})*)['‘’](?!{_LETTER})
      | (?<![\w’])’(?!\s)(?P<high>(?:[^‘’]|{_CURLY_INSIDE})*)(?<!\s)’(?!{_LETTER})
      | [“‟](?P<closed_double>[^"“”„‟]*)(?<![\s\d])"(?!\w)
      | “(?P<curly_double>[^“”]*)”
      | [“‟](?P<mixed_double>[^"“”„‟]*)["”]
      | „(?P<low_double>[^"“”„‟]*)["“”‟]
      | (?<![\w”])”(?!\s)(?P<high_double>[^“”„]*)(?<!\s)”(?!\w)
      | «(?P<angle>[^«»]*)»
      | (?<!\w)»(?!\s)(?P<angle_in>[^«»]*)(?<!\s)[«»](?!\w)
      | ‹(?P<small_angle>[^‹›]*)›
      | (?<!\w)›(?!\s)(?P<small_angle_in>[^‹›]*)(?<!\s)[‹›](?!\w)
      | 「(?P<corner>[^「」]*)」
      | 『(?P<white_corner>[^『』]*)』
      | ｢(?P<half_corner>[^｢｣]*)｣
      | 《(?P<title>[^《》]*)》
      | 〈(?P<small_title>[^〈〉]*)〉
      | ❝(?P<heavy_double>[^❝❞]*)❞
      | ❛(?P<heavy_single>[^❛❜]*)❜
      | ❮(?P<heavy_angle>[^❮❯]*)❯
      | [〝〟＂](?P<wide_double>[^〝〞〟＂]*)[〞〟＂]
      | (?<!{_LETTER})＇(?P<wide_single>[^＇]*)＇(?!{_LETTER})
      | ``(?P<tex>[^`']*)''
      | (?<!{_LETTER})(?P<ticks>`{{1,2}})(?P<tick>[^`]*)(?P=ticks)(?!{_LETTER})
      | (?<!{_LETTER})`(?P<mixed_tick>(?:[^`'’]|{_ANY_INSIDE})*)['’](?!{_LETTER})
    )
"""
_CONTENTS = tuple(name for name in re.findall(r"\(\?P<(\w+)>", _QUOTED) if name not in ("mark", "ticks"))

# In `rock 'n' roll`, the marks around the n are apostrophes. They are quotes if a word before the n announces letters
# to draw or a word after it gives their place (`the letter 'n' in red`), and around a capital N beside small letters.
# A match starts at the start of a word: tried from every letter, a long word would take that many times as long.
_CONTRACTION = re.compile(r"(?<![^\W\d_])([^\W\d_]+)[ ](['’‘`])([nN])(['’]?)[ ](?=([^\W\d_]+))")
_ANNOUNCING = re.compile(
    r"an?|the|and|or|of|in|on|with|letters?|text|words?|signs?|sa(?:ys?|id|ying)|read(?:s|ing)?|spell(?:s|ing)?"
    r"|show(?:s|ing)?|written|printed|named|called|titled|labell?ed|label|capital|single",
    re.IGNORECASE,
)
_TELLING = re.compile(
    r"and|or|in|on|at|with|to|of|is|are|as|by|for|from|above|below|under|over|near|next|beside|between|behind|around"
    r"|top|bottom|left|right|cent(?:er|re)|middle|upper|lower|written|printed|painted|drawn|made",
    re.IGNORECASE,
)
_HIDDEN = "\ue000"  # replaces such an apostrophe; a character of private use, which no pattern looks for

# Atomic: in `at the top left of a square` the match must not shrink to `at the top`; the whole of it is a relation.
# People also type two words without a preposition (`red star, top left`), and one right after quotes.
_PLACE = rf"""
    (?P<place>(?>
        (?:
            \b(?:at|in|on|near|to|along|towards?)\s+(?:the\s+)?
          | \b(?=(?:top|bottom|upper|lower)[\s-]+(?:left|right|cent(?:er|re)|middle)\b)
          | (?<=[{_CLOSING}]\s)(?=(?:top|bottom|left|right|cent(?:er|re)|middle)(?:\s*[,.;]|\s*$|\s+(?:and|on|with)\b))
        )
        (?P<where>
            (?:top|bottom)(?:[\s-]*(?:left|right|cent(?:er|re)|middle)\b)?
          | (?:upper|lower)[\s-]*(?:left|right|cent(?:er|re)|middle)\b
          | (?:cent(?:er|re)|middle)(?:[\s-]+(?:left|right)\b)?
          | left | right
        )
        (?:[\s-]+(?:corner|side|edge|part|half|third)\b)?
        (?:\s+of\s+the\s+(?:image|picture|frame|poster|page|sign|canvas)\b)?
    )(?!\w)(?!\s+of\b))
"""

_CONNECTING = r"""
    \b(?:
        (?:(?:at|in|on|to)\s+the\s+)?
        (?:(?:top|bottom|upper|lower)[\s-]+)?(?:left|right|top|bottom|cent(?:er|re)|middle)\s+of
      | next\s+to | in\s+front\s+of | on\s+top\s+of
      | above | against | along | and | around | at | behind | below | beneath | beside | between | by | for | from
      | in | inside | into | near | of | on | onto | or | over | through | to | towards? | under | with | without
      | is | are | that | which | who | while | where | called | named | titled | written
      | saying | says | reads | reading | showing | shows
    )\b
"""
_PUNCTUATION = (
    r"[,;:()\[\]{}|…、。，；：！？（）「」『』《》〈〉«»] | (?<![.!?])[.!?]++(?=\s|$) | (?<=\s)[-–—]+(?=\s) | [–—]"
)

_PARTS = re.compile(f"{_QUOTED} | {_PLACE} | (?P<break>{_CONNECTING} | {_PUNCTUATION})", re.VERBOSE | re.IGNORECASE)
_SPAN = re.compile(_QUOTED, re.VERBOSE)
_WORD = re.compile(r"\S+")
_EMPTY_CHUNK = re.compile(
    r"(?:(?:an?|the|this|these|those|some|its?|there|text|words?|letters|lettering)\b\s*)*", re.IGNORECASE
)

# What may come between a quoted span and its place: `"HELLO" written in big white letters at the top`.
_BEFORE_PLACE = re.compile(
    r"[\s,]*(?:(?:is|are|written|printed|placed|drawn)\s+)*(?:in\s+(?:[\w-]+\s+){1,3}(?:letters|text|type)[\s,]+)?",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:an?|the)\s+")
_CSV_FIELD = re.compile(r'"(?:[^"]|"")*"')
_NO_QUOTES = dict.fromkeys(map(ord, _OPENING + _CLOSING))
_NO_OPENING = dict.fromkeys(map(ord, '"“„‟'))  # the marks that would pair with an ASCII double quote

# Maps characters that look or read the same to one of them; Unicode (NFKC) does the others.
_ALIKE = {ord(c): "'" for c in "‘’‚‛ʹʻʼʽˈ′＇`´"}
_ALIKE |= {ord(c): '"' for c in "“”„‟″〝〞〟＂"} | {ord(c): "-" for c in "‐‑‒–—―−﹘﹣－"}
_SELECTORS = frozenset(map(chr, (0x034F, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10))))  # invisible, but not Cf


@dataclass(frozen=True)
class Phrase:
    """A stretch of a prompt.

    Attributes:
        text: the characters themselves, ``prompt[start:end]``; a word to draw comes without its quotes.
        start: index of the first character.
        end: index after the last one.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Decomposition:
    """A prompt in parts.

    Attributes:
        words: the words to draw, in the order of the prompt; none holds white space.
        objects: the other chunks, in the order of the prompt.
        groups: for each word, the index of its quoted span, from 0; the words of one span are one phrase with one
            place.
    """

    words: tuple[Phrase, ...]
    objects: tuple[Phrase, ...]
    groups: tuple[int, ...]


class PromptDecomposer:
    """A callable that splits a prompt into words to draw and objects: the spans behind the {t_i} of Eq. 2.

    Words to draw are in '..', "..", ‘..’, “..”, „..“, «..», »..«, 「..」, 『..』 and Unicode's other pairs, in
    backticks, or between a straight mark and a curly one; an apostrophe inside a word and a quote without a partner are
    ordinary characters.

    Example:
        >>> parts = PromptDecomposer()("a dog's bowl on a green table, with the text 'HELLO YOU' at the top left")
        >>> [word.text for word in parts.words]
        ['HELLO', 'YOU']
        >>> [chunk.text for chunk in parts.objects]
        ["a dog's bowl", 'a green table', 'at the top left']
    """

    def __call__(self, prompt: str) -> Decomposition:
        """Decompose a prompt; any text is allowed, and an empty one has no parts."""
        return _decomposed(prompt)


@lru_cache(maxsize=16_384)  # a sample is asked for its parts by several readers, and again in the next epoch
def _decomposed(prompt: str) -> Decomposition:
    words: list[Phrase] = []
    objects: list[Phrase] = []
    groups: list[int] = []
    cursor = 0
    for part in _matches(_PARTS, prompt):
        objects += _chunk(prompt, cursor, part.start())
        if part["place"]:
            objects.append(Phrase(part["place"], *part.span("place")))
        elif not part["break"]:
            span = list(_words_in(part, prompt))
            words += span
            groups += [groups[-1] + 1 if groups else 0] * len(span)
        cursor = part.end()
    objects += _chunk(prompt, cursor, len(prompt))
    return Decomposition(tuple(words), tuple(objects), tuple(groups))


def drawn_words(prompt: str) -> tuple[str, ...]:
    """Return the words that a prompt asks to draw, in its order.

    Example:
        >>> drawn_words('a sign that says "HELLO WORLD"')
        ('HELLO', 'WORLD')
    """
    return tuple(word.text for span in _matches(_SPAN, prompt) for word in _words_in(span, prompt))


def quoted_spans(prompt: str) -> tuple[tuple[str, int], ...]:
    """Return the content of each pair of quotes, and the index after its closing mark.

    Example:
        >>> quoted_spans("a sign that says 'HELLO WORLD' in red")
        (('HELLO WORLD', 30),)
    """
    return tuple((prompt[slice(*_content(span))], span.end()) for span in _matches(_SPAN, prompt))


def has_single_quotes(prompt: str) -> bool:
    r"""Return whether words to draw are in single ASCII quotes, as in MARIO-Eval's prompts; apostrophes do not count.

    Example:
        >>> has_single_quotes("a sign that says 'HELLO'"), has_single_quotes("mum's \"HELLO\" beside dad's")
        (True, False)
    """
    return any(span["single"] is not None for span in _matches(_SPAN, prompt))


def comparable(text: str) -> str:
    r"""Normalise a text for comparison, except in MARIO-Eval's own results: texts that read alike become equal.

    Capitals equal small letters; an accented letter equals the letter followed by the accent; full-width letters, curly
    apostrophes and dashes equal the usual letters, straight apostrophes and hyphens. Invisible characters (a soft
    hyphen, a zero-width space) are removed. This is Unicode's NFKC_Casefold, with marks that look alike made equal.

    Example:
        >>> comparable("JOE’S"), comparable("ＳＡＬＥ"), comparable("Stra\xadße")
        ("joe's", 'sale', 'strasse')
    """
    if text.isascii():
        return text.casefold().replace("`", "'")
    seen = "".join(c for c in text if not _unseen(c)).translate(_ALIKE)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return folded.translate(_ALIKE)


@lru_cache(maxsize=16_384)
def bare_word(word: str) -> str:
    """Normalise a word with :func:`comparable` and strip the punctuation around it, unless nothing else is left.

    Example:
        >>> bare_word("(Hello!"), bare_word("DON'T"), bare_word("?!")
        ('hello', "don't", '?!')
    """
    whole = comparable(word)
    return _core(whole)[1] or whole or word


def bare_phrase(phrase: str) -> str:
    """Normalise an object's phrase with :func:`comparable`, and drop extra spaces and an article before it.

    Example:
        >>> bare_phrase("A red  Star"), bare_phrase("pizza slice")
        ('red star', 'pizza slice')
    """
    return " ".join(_ARTICLE.sub("", comparable(phrase).strip()).split())


def quote_words(caption: str, words: Sequence[str], quads: ArrayLike | None = None, keeps_unread: bool = True) -> str:
    """Put double quotes around the caption words that are drawn, as in MARIO's training captions.

    Words that are side by side in the caption and belong together on the image get one pair of quotes: they are one
    phrase with one place. Quotes doubled by a CSV writer are collapsed first; words already in quotes stay as they are;
    a double quote without a partner, which would pair with a new one, is dropped. Punctuation goes into the quotes if
    it was read with the word: ``50% OFF`` with the word ``50%`` becomes ``"50%" OFF``.

    Args:
        caption: raw text.
        words: words read on the image. Case and surrounding punctuation are ignored; each word is used at most as often
            as it is listed, at its first occurrences in the caption.
        quads: (N, 4, 2) float, the corners of each word, in any unit, clockwise from the one at which it starts. Words
            belong together if one follows the other on a line, or at the start of the next line of the same block.
            None: if one follows the other in ``words``.
        keeps_unread: False drops the caption's own quotes around a span with any word that is not in ``words``: in the
            caption they quote a title or a saying, but in a prompt they would ask to draw it.

    Example:
        >>> quote_words("Grand Opening of the Grand Hotel", ["GRAND", "opening", "hotel"])
        '"Grand Opening" of the Grand "Hotel"'
    """
    caption = _collapse_csv_quotes(caption)
    if not keeps_unread:
        own, before = Counter(map(bare_word, words)), ""
        while before != caption:  # marks that are left may pair: '"0'" becomes "0"
            before, caption = caption, _unquoted(caption, own.copy())
    spans = list(_matches(_SPAN, caption))
    reading = Reading([bare_word(word) for word in words], quads)
    for word in drawn_words(caption):
        reading.claim(bare_word(word))
    affixes = _affixes(words)
    pieces: list[str] = []
    cursor = 0
    for span in spans:
        pieces += _quote_segment(caption[cursor : span.start()], reading, affixes), caption[span.start() : span.end()]
        cursor = span.end()
    return "".join([*pieces, _quote_segment(caption[cursor:], reading, affixes)])


def requested_phrases(prompt: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return the quoted phrases whose place the prompt gives: the words of each, and one of :data:`REGIONS`.

    The place comes right after the quotes, or after a description of the letters. It is the place of the phrase as a
    whole: single words of a phrase in several lines may be in other regions.

    Example:
        >>> requested_phrases('a sign with "BIG SALE" at the top left and "NOW" in white letters in the middle')
        ((('BIG', 'SALE'), 'top left'), (('NOW',), 'center'))
    """
    parts = [part for part in _matches(_PARTS, prompt) if not part["break"]]
    found: list[tuple[tuple[str, ...], str]] = []
    for span, place in pairwise(parts):
        if place["place"] and not span["place"] and _BEFORE_PLACE.fullmatch(prompt[span.end() : place.start()]):
            words = tuple(word.text for word in _words_in(span, prompt))
            found += [(words, _region_named(place["where"]))] if words else []
    return tuple(found)


def requested_regions(prompt: str) -> tuple[tuple[str, str], ...]:
    """Return :func:`requested_phrases` word by word.

    Example:
        >>> requested_regions('a sign with "BIG SALE" at the top left and "NOW" in white letters in the middle')
        (('BIG', 'top left'), ('SALE', 'top left'), ('NOW', 'center'))
    """
    return tuple((word, region) for words, region in requested_phrases(prompt) for word in words)


def region_of(x: float, y: float) -> str:
    """Return which ninth of the frame a point lies in.

    Args:
        x: fraction of the width; outside [0, 1] counts as the nearest side.
        y: fraction of the height.

    Example:
        >>> region_of(0.1, 0.9), region_of(0.5, 0.5)
        ('bottom left', 'center')
    """
    column = int(x >= 1 / 3) + int(x >= 2 / 3)
    row = int(y >= 1 / 3) + int(y >= 2 / 3)
    return REGIONS[3 * row + column]


def _matches(pattern: re.Pattern[str], prompt: str) -> Iterator[re.Match[str]]:
    """Find a pattern in a prompt; use only the spans of a match, because its text has some apostrophes replaced."""
    return pattern.finditer(_CONTRACTION.sub(_hidden, prompt))


def _hidden(match: re.Match[str]) -> str:
    """Replace the marks of ``rock 'n' `` if they are apostrophes; the length stays the same."""
    before, opening, letter, closing, after = match.groups()
    announced = _ANNOUNCING.fullmatch(before) or _TELLING.fullmatch(after)
    if announced or (letter == "N" and not (before[0].isupper() and after[0].isupper())):
        return match[0]
    return f"{before} {_HIDDEN * len(opening)}{letter}{_HIDDEN * len(closing)} "


def _content(span: re.Match[str]) -> tuple[int, int]:
    """Return start and end of the content of a quoted span."""
    return next(span.span(name) for name in _CONTENTS if span[name] is not None)


def _words_in(span: re.Match[str], prompt: str) -> Iterator[Phrase]:
    """Yield the words of a quoted span, with their positions in the prompt."""
    for word in _WORD.finditer(prompt, *_content(span)):
        yield Phrase(word[0], *word.span())


def _chunk(prompt: str, start: int, end: int) -> list[Phrase]:
    """Return the chunk between two breaks without surrounding white space; an empty list if it says nothing."""
    text = prompt[start:end].strip()
    if _EMPTY_CHUNK.fullmatch(text) or not any(unicodedata.category(c)[0] in "LNS" for c in text):
        return []
    start = prompt.index(text, start)
    return [Phrase(text, start, start + len(text))]


def _region_named(where: str) -> str:
    rows = re.sub("lower", "bottom", re.sub("upper", "top", where.lower()))
    sides = [side for side in ("top", "bottom", "left", "right") if side in rows]
    return " ".join(sides) or "center"


def _collapse_csv_quotes(caption: str) -> str:
    """Undo the quoting of a CSV writer, which doubles each quote and puts the field in quotes."""
    field = caption.strip()
    if _CSV_FIELD.fullmatch(field) and '""' in field[1:-1]:
        caption = field[1:-1]
    return caption.replace('""', '"')


@lru_cache(maxsize=16_384)  # captions repeat their words
def _core(token: str) -> tuple[str, str, str]:
    """Split a token into punctuation before, core and punctuation after; invisible characters count as punctuation."""
    inside = [i for i, c in enumerate(token) if not (unicodedata.category(c)[0] == "P" or c in "`´" or _unseen(c))]
    if not inside:
        return token, "", ""
    return token[: inside[0]], token[inside[0] : inside[-1] + 1], token[inside[-1] + 1 :]


def _unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character in _SELECTORS


def _unquoted(caption: str, unread: Counter[str]) -> str:
    """Drop the quotes around a span with a word not in ``unread``; remove the words of other spans from ``unread``."""
    pieces: list[str] = []
    cursor = 0
    for span in _matches(_SPAN, caption):
        own = Counter(bare_word(word.text) for word in _words_in(span, caption))
        if own <= unread:
            unread.subtract(own)
            continue
        pieces += caption[cursor : span.start()], _unquoted(caption[slice(*_content(span))], unread)
        cursor = span.end()
    return "".join([*pieces, caption[cursor:]])


def _affixes(words: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return for each normalised word the pairs of punctuation read before and after it, the longest first.

    Pairs with a quote are left out.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for word in words:
        before, _, after = _core(word)
        if (before or after) and not set(before + after) & set(_OPENING + _CLOSING):
            found[bare_word(word)].append((before, after))
    for pairs in found.values():
        pairs.sort(key=lambda pair: -len(pair[0] + pair[1]))
    return found


def _read_core(token: str, affixes: dict[str, list[tuple[str, str]]]) -> tuple[str, str, str]:
    """Split a token as :func:`_core` does, but keep punctuation that was read on the image as a part of the word."""
    before, core, after = _core(token)
    for left, right in affixes.get(bare_word(token), ()) if core else ():
        if before.endswith(left) and after.startswith(right):
            return before[: len(before) - len(left)], f"{left}{core}{right}", after[len(right) :]
    return before, core, after


def _beside(first: tuple[str, str, str], second: tuple[str, str, str]) -> bool:
    """Return whether there is only white space between the cores of two tokens that follow each other."""
    return not first[2] and not second[0]


def _quote_segment(text: str, reading: Reading, affixes: dict[str, list[tuple[str, str]]]) -> str:
    """Quote and claim the words that are read on the image, in a stretch of text outside any quotes."""
    text = text.translate(_NO_OPENING)
    tokens = list(_WORD.finditer(text))
    bare = [bare_word(token[0]) for token in tokens]
    known = [i for i, word in enumerate(bare) if word in reading]
    cores = {j: _read_core(tokens[j][0], affixes) for i in known for j in range(max(i - 1, 0), min(i + 2, len(tokens)))}
    found: dict[int, int] = {}
    joined: set[int] = set()  # the words that go into the quotes of the one before them
    for i in known:
        last = found.get(i - 1) if i and _beside(cores[i - 1], cores[i]) else None
        following = bare[i + 1] if i + 1 in cores and _beside(cores[i], cores[i + 1]) else None
        claimed = reading.claim(bare[i], last, following) if cores[i][1] else None
        if claimed is not None:
            found[i] = claimed
            if last is not None and reading.continues(last, claimed):
                joined.add(i)
    pieces: list[str] = []
    cursor = 0
    for i in found:
        pieces.append(text[cursor : tokens[i].start()])
        cursor = tokens[i].end()
        # A lone quote beside the new ones would be read as one of a pair.
        before, after = (side.translate(_NO_QUOTES) for side in (cores[i][0], cores[i][2]))
        opening = "" if i in joined else '"'
        closing = "" if i + 1 in joined else '"'
        pieces.append(f"{before}{opening}{cores[i][1]}{closing}{after}")
    return "".join([*pieces, text[cursor:]])
