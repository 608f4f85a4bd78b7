# ruff: noqa: RUF001 (quotes that look alike are what is tested)
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlad_lightning.layout.prompt_parser import (
    REGIONS,
    PromptDecomposer,
    bare_phrase,
    bare_word,
    comparable,
    drawn_words,
    quote_words,
    region_of,
    requested_phrases,
    requested_regions,
)
from vlad_lightning.limits import MOST_CHARACTERS

decompose = PromptDecomposer()

# Any text, and texts full of the tokens of the grammar.
PIECES = [
    "'",
    '"',
    "‘",
    "’",
    "“",
    "”",
    '""',
    "HELLO",
    "don't",
    "5",
    "你好",
    "नमस्ते",
    "🐶",
    ",",
    "on",
    "the",
    ".",
    "-",
    "é",
]
PIECES += [" ", "\n", "\u2003", "\ud800", "\0", "a red circle", "at the top left", "left of", "of the image"]
PROMPTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


def objects(prompt):
    return [chunk.text for chunk in decompose(prompt).objects]


def test_a_poster_is_parsed_into_words_objects_and_places():
    prompt = (
        "a red circle left of a blue square on a green background, with the text "
        '"HELLO" at the top left and "WORLD" at the bottom in white letters'
    )
    assert drawn_words(prompt) == ("HELLO", "WORLD")
    assert objects(prompt) == [
        "a red circle",
        "a blue square",
        "a green background",
        "at the top left",
        "at the bottom",
        "white letters",
    ]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a sign 'HELLO'", ("HELLO",)),
        ('a sign "HELLO"', ("HELLO",)),
        ("a sign ‘HELLO’", ("HELLO",)),
        ("a sign “HELLO”", ("HELLO",)),
        ("'one two'\n\"three\n four\"", ("one", "two", "three", "four")),
        ("'HELLO', 'hello,'", ("HELLO", "hello,")),
        ("don't write 'HELLO'", ("HELLO",)),
        ("the dog's bowl says 'don't'", ("don't",)),
        ("the dogs' bowl says 'HELLO'", ("HELLO",)),
        ("'tis the season to say 'HELLO'", ("HELLO",)),
        ("‘don’t stop’ and “it’s”", ("don’t", "stop", "it’s")),
        ("the poet’s “WORD”", ("WORD",)),
        ('18"x24" poster of "HELLO"', ("HELLO",)),
        ("\"1984\" and '99'", ("1984", "99")),
        ('""HELLO"" doubled', ("HELLO",)),
        ("一张海报写着'你好'的", ("你好",)),
        ("say \"it's 'fun'\"", ("it's", "'fun'")),
        ("'HELLO\" sign", ()),
        ("a lone ' or \" or “ or ‘", ()),
        ("say '' and \"\" and '  '", ()),
        ("", ()),
        ("  \n\t", ()),
        # other pairs
        ("ein Schild „HALLO“ und ‚WELT‘", ("HALLO", "WELT")),
        ("ein Schild »HALLO« und ›WELT‹", ("HALLO", "WELT")),
        ("une affiche « BONJOUR » et ‹ MONDE ›", ("BONJOUR", "MONDE")),
        ("en skylt ”HEJ” och »DU»", ("HEJ", "DU")),
        ("znak „CZEŚĆ” i „TY”", ("CZEŚĆ", "TY")),
        ("写着「你好」和『世界』的海报", ("你好", "世界")),
        ("写着＂你好＂和＇世界＇", ("你好", "世界")),
        ("看板｢ﾃｽﾄ｣と〝引用〟", ("ﾃｽﾄ", "引用")),
        ("写着《你好》和〈世界〉", ("你好", "世界")),
        ("a sign ❝HELLO❞ and ❛YOU❜ and ❮ALL❯ and ‛TWO’", ("HELLO", "YOU", "ALL", "TWO")),
        ("a sign `HELLO` and ``YOU``", ("HELLO", "YOU")),
        ("a sign ``HELLO''", ("HELLO",)),
        # mixed pairs
        ('a sign “HELLO" and "YOU”', ("HELLO", "YOU")),
        ('a sign “say "hi" now”', ("say", '"hi"', "now")),
        ('a sign “BIG 24" TV”', ("BIG", '24"', "TV")),
        ("a sign ‘HELLO' in red", ("HELLO",)),
        ("a sign 'HELLO’ and 'YOU’", ("HELLO", "YOU")),
        ('ein Schild „HALLO" und „WELT”', ("HALLO", "WELT")),
        ("a sign `HELLO' and ‚YOU'", ("HELLO", "YOU")),
        # apostrophes with a space before or after them
        ("'ROCK 'N' ROLL'", ("ROCK", "'N'", "ROLL")),
        ("‘Rock ’n’ Roll’", ("Rock", "’n’", "Roll")),
        ("'ROCK 'N ROLL' in red", ("ROCK", "'N", "ROLL")),
        ("a rock 'n' roll band that plays 'HELLO'", ("HELLO",)),
        ("mac ‘n’ cheese, 'HELLO'", ("HELLO",)),
        ("the letter 'n' in red", ("n",)),
        ("A sign 'N' top left", ("N",)),
        ("a poster 'N' with a dog", ("N",)),
        # unpaired marks
        ("Home » Products » Shoes, 'HELLO'", ("HELLO",)),
        ("a 24” screen and an 18” one, “HELLO”", ("HELLO",)),
        ('"BIG 24” TV"', ("BIG", "24”", "TV")),
        ("don`t write 'HELLO'", ("HELLO",)),
    ],
)
def test_the_words_are_the_quoted_texts(prompt, words):
    assert drawn_words(prompt) == words
    assert tuple(word.text for word in decompose(prompt).words) == words


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("a circle at the top left of a blue square", ["a circle", "a blue square"]),
        ("a circle to the right of a dog", ["a circle", "a dog"]),
        (
            "a cat in the upper-left corner of the image, asleep",
            ["a cat", "in the upper-left corner of the image", "asleep"],
        ),
        ("A DOG ON THE LEFT SIDE", ["A DOG", "ON THE LEFT SIDE"]),
        ("a poster that says 'HELLO'", ["a poster"]),
        ("the text 'HELLO'", []),
        ("a 3.5 inch disk. An ice-cold drink!", ["a 3.5 inch disk", "An ice-cold drink"]),
        ("a 5\" plate with a dog's bone", ['a 5" plate', "a dog's bone"]),
        ("红色的圆，蓝色的方块", ["红色的圆", "蓝色的方块"]),
        ("नमस्ते and 🐶", ["नमस्ते", "🐶"]),
        ("... , - the", []),
        ("", []),
    ],
)
def test_the_objects_are_the_chunks_between_breaks(prompt, chunks):
    assert objects(prompt) == chunks


def check_spans(prompt):
    """Check that every phrase equals its slice of the prompt, and that none overlap."""
    parts = decompose(prompt)
    for phrases in (parts.words, parts.objects):
        assert all(prompt[p.start : p.end] == p.text for p in phrases)
        assert all(a.end <= b.start for a, b in pairwise(phrases))
    covered = [i for p in (*parts.words, *parts.objects) for i in range(p.start, p.end)]
    assert len(covered) == len(set(covered))
    return parts


@given(PROMPTS)
def test_spans_slice_back_and_never_overlap(prompt):
    check_spans(prompt)


@given(PROMPTS)
def test_words_hold_no_white_space_and_chunks_are_stripped(prompt):
    parts = decompose(prompt)
    assert all(word.text.split() == [word.text] for word in parts.words)
    assert all(chunk.text and chunk.text.strip() == chunk.text for chunk in parts.objects)
    assert drawn_words(prompt) == tuple(word.text for word in parts.words)


@given(st.lists(st.text("abcXYZ0189", min_size=1, max_size=8), max_size=6), st.sampled_from(["''", '""', "‘’", "“”"]))
def test_any_quoted_text_is_found(words, pair):
    prompt = "a poster, " + " and ".join(f"{pair[0]}{word}{pair[1]}" for word in words)
    assert drawn_words(prompt) == tuple(words)


def letters(text):
    return "".join(filter(str.isalpha, text))


@pytest.mark.timeout(120)  # it takes seconds; a search over every pair of marks would take hours
def test_a_hostile_prompt_of_maximum_length_is_parsed_quickly():
    marks = "`‘’‚‛”„‟«»‹›「」『』｢｣〝〞＂＇"
    pairs = [f"{one}{other}" for one in "'\"`‘’“”" for other in "'\"`‘’“”a"]
    for piece in (
        *marks,
        *(f" {mark}a" for mark in marks),
        *pairs,
        "a 'n' ",
        "'",
        "“",
        " 'a",
        '"a',
        "the ",
        "at the ",
        "a'",
        '""',
        "[" * 3,
        "in the big ",
        "\n",
        "a",  # a single word
        ".",
    ):
        prompt = piece * ((MOST_CHARACTERS - 1) // len(piece)) + "x"
        assert drawn_words(prompt) == tuple(word.text for word in check_spans(prompt).words)
        assert {region for _, region in requested_regions(prompt)} <= set(REGIONS)
        assert letters(quote_words(prompt, ["a"])) == letters(prompt)  # only quotation marks change


@pytest.mark.parametrize(
    ("caption", "words", "quoted"),
    [
        ("with the text HELLO at the top", ["hello"], 'with the text "HELLO" at the top'),
        ("Hello, (World)!", ["WORLD", "hello."], '"Hello", ("World")!'),
        ("the cat and the dog", ["THE"], '"the" cat and the dog'),
        ("the cat and the dog", ["THE", "the"], '"the" cat and "the" dog'),
        ("the cat", ["the cat", "", "!"], "the cat"),
        ("a sign 'HELLO' HELLO", ["hello"], "a sign 'HELLO' HELLO"),
        ("a sign 'HELLO' HELLO", ["hello", "HELLO"], "a sign 'HELLO' \"HELLO\""),
        ('"Little Joe - ""A La Guerra Me Llevan"""', ["JOE", "la"], 'Little "Joe" - "A La Guerra Me Llevan"'),
        ('a ""BIG"" day', [], 'a "BIG" day'),
        ('a " stray HELLO', ["HELLO"], 'a  stray "HELLO"'),
        ("a 'stray 'HELLO friend", ["hello"], 'a \'stray "HELLO" friend'),
        ("STRASSE", ["straße"], '"STRASSE"'),
        ("", ["hello"], ""),
    ],
)
def test_words_that_are_also_drawn_get_quotes(caption, words, quoted):
    assert quote_words(caption, words) == quoted


@pytest.mark.parametrize(
    ("caption", "words", "quoted"),
    [
        ("50% OFF", ["50%"], '"50%" OFF'),
        ("50% OFF", ["50%", "off"], '"50% OFF"'),
        ("50% OFF", ["50", "off"], '"50"% "OFF"'),
        ("the #1 dad @home.", ["#1", "@home"], 'the "#1" dad "@home".'),
        ("say HELLO!", ["HELLO!"], 'say "HELLO!"'),
        ("at JOE’S Café", ["JOE'S", "Cafe\u0301"], 'at "JOE’S Café"'),
        ("SO\u00adFT \u200bSALE\u200b now", ["soft", "ＳＡＬＥ"], '"SO\u00adFT" \u200b"SALE"\u200b now'),
        ("a “ stray HELLO", ["HELLO"], 'a  stray "HELLO"'),
    ],
)
def test_words_that_read_the_same_match_and_keep_attached_marks(caption, words, quoted):
    assert quote_words(caption, words) == quoted
    assert set(map(bare_word, drawn_words(quoted))) <= set(map(bare_word, words))


@pytest.mark.parametrize(
    ("caption", "words", "quoted"),
    [
        ('a "great" day with HELLO', ["HELLO"], 'a great day with "HELLO"'),
        ('the "Great Escape" at NOON', ["escape", "noon"], 'the Great "Escape" at "NOON"'),
        ('the "Great Escape"', ["GREAT", "ESCAPE"], 'the "Great Escape"'),
        ("the “Great Escape” of ‘Joe’", [], "the Great Escape of Joe"),
        ("the \"it's 'fun'\" show", ["fun"], "the it's 'fun' show"),
        ("'SALE' and 'SALE'", ["sale"], "'SALE' and SALE"),
        ('"Little Joe - ""A La Guerra"""', ["la"], 'Little Joe - A "La" Guerra'),
    ],
)
def test_quotes_of_the_caption_stay_only_around_words_that_were_read(caption, words, quoted):
    assert quote_words(caption, words, keeps_unread=False) == quoted


@example("'\"0'\"", [])
@given(PROMPTS, st.lists(st.text("aHELO'5%", max_size=5), max_size=4))
def test_only_words_that_were_read_get_quotes(caption, words):
    for word in drawn_words(quote_words(caption, words, keeps_unread=False)):
        assert bare_word(word) in set(map(bare_word, words))


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("JOE’S", "joe's"),
        ("Jose\u0301", "JOS\u00c9"),
        ("HEL\u200bLO", "hello"),
        ("soft\u00adware", "software"),
        ("ＨＥＬＬＯ", "Hello"),
        ("twenty–one", "twenty-one"),
        ("❤\ufe0f", "❤"),
        ("straße", "STRASSE"),
    ],
)
def test_words_and_phrases_are_compared_as_they_read(word, same):
    assert bare_word(word) == bare_word(same)
    assert bare_word(f"“{word}”\u200b") == bare_word(same)
    assert comparable(word) == comparable(same)
    assert bare_phrase(f"a {word} star") == bare_phrase(f"A  {same} star")


@given(st.text())
def test_a_word_is_never_compared_as_an_empty_one(text):
    assert bool(bare_word(text)) == bool(text)
    assert comparable(comparable(text)) == comparable(text)


@given(
    st.lists(st.text("abAB'.,-!", min_size=1, max_size=4), max_size=6),
    st.lists(st.text("abAB", max_size=2), max_size=4),
)
def test_quoting_draws_no_word_more_often_than_listed(tokens, listed):
    quoted = quote_words(" ".join(tokens), listed)
    before = [word.casefold() for word in drawn_words(" ".join(tokens))]
    after = [word.casefold() for word in drawn_words(quoted)]
    for word in set(listed):
        if word.casefold() not in before:
            assert after.count(word.casefold()) <= [w.casefold() for w in listed].count(word.casefold())
    assert quote_words(quoted, []) == quoted


@pytest.mark.parametrize(
    ("caption", "words", "quoted"),
    [
        ("say Happy Birthday Anna now", ["HAPPY", "BIRTHDAY", "anna"], 'say "Happy Birthday Anna" now'),
        ("say Happy Birthday, Anna", ["HAPPY", "BIRTHDAY", "anna"], 'say "Happy Birthday", "Anna"'),
        ("Happy Anna Birthday", ["HAPPY", "BIRTHDAY", "anna"], '"Happy" "Anna" "Birthday"'),
        ("Grand Opening", ["GRAND", "HOTEL", "GRAND", "OPENING"], '"Grand Opening"'),
        ("the (Big Sale)", ["big", "sale"], 'the ("Big Sale")'),
        ("'Big' Sale Now", ["big", "sale", "now"], "'Big' \"Sale Now\""),
    ],
)
def test_adjacent_words_in_the_order_of_the_image_share_their_quotes(caption, words, quoted):
    assert quote_words(caption, words) == quoted


def box(left, top, width=0.2, height=0.1):
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


@pytest.mark.parametrize(
    ("places", "quoted"),
    [
        ([(0.1, 0.1), (0.35, 0.1), (0.6, 0.1)], '"NEW YORK CITY"'),  # one line
        ([(0.1, 0.1), (0.35, 0.1), (0.2, 0.25)], '"NEW YORK CITY"'),  # two lines
        ([(0.4, 0.1), (0.3, 0.22), (0.35, 0.34)], '"NEW YORK CITY"'),  # three lines
        ([(0.1, 0.1), (0.7, 0.1), (0.2, 0.8)], '"NEW" "YORK" "CITY"'),  # far apart
        ([(0.1, 0.1), (0.35, 0.1), (0.2, 0.8)], '"NEW YORK" "CITY"'),
        ([(0.35, 0.1), (0.1, 0.1), (0.2, 0.8)], '"NEW" "YORK" "CITY"'),  # the other way round
    ],
)
def test_boxes_decide_which_adjacent_words_share_their_quotes(places, quoted):
    words = ["new", "york", "city"]
    order = [2, 0, 1]
    assert quote_words("NEW YORK CITY", words, [box(*place) for place in places]) == quoted
    listed = quote_words("NEW YORK CITY", [words[i] for i in order], [box(*places[i]) for i in order])
    assert listed == quoted


def test_words_with_others_between_them_on_the_image_get_separate_quotes():
    places = [(0.1, 0.1), (0.35, 0.1), (0.1, 0.25), (0.35, 0.25)]
    quads = [box(*place) for place in places]
    assert quote_words("New City", ["NEW", "YORK", "CITY", "LIGHTS"], quads) == '"New" "City"'
    assert quote_words("York City", ["NEW", "YORK", "CITY", "LIGHTS"], quads) == '"York City"'


@given(PROMPTS, st.lists(st.text(max_size=3)))
def test_quoting_takes_any_text(caption, words):
    assert isinstance(quote_words(caption, words), str)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("form", ["at the {}", "in the {} corner", "on the {} of the poster", "at {}"])
def test_every_region_can_be_requested(region, form):
    assert requested_regions(f'a dog, "HELLO YOU" {form.format(region)}, a cat') == (("HELLO", region), ("YOU", region))


@pytest.mark.parametrize(
    ("prompt", "regions"),
    [
        ('"A" at the top left and "B" at the bottom in white letters', (("A", "top left"), ("B", "bottom"))),
        ("'A' in big white letters at the top, 'B'", (("A", "top"),)),
        ("'A' written in the upper right corner", (("A", "top right"),)),
        ("'A' in the lower-left", (("A", "bottom left"),)),
        ("'A' in the centre and 'B' in the Middle", (("A", "center"), ("B", "center"))),
        ("'A' at the top center, 'B' in the middle left", (("A", "top"), ("B", "left"))),
        ("'A' with a dog at the top", ()),
        ("'A' to the left of a dog", ()),
        ("a dog at the top", ()),
        ("'' at the top", ()),
    ],
)
def test_regions_follow_directly_after_the_quotes(prompt, regions):
    assert requested_regions(prompt) == regions


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("'BIG SALE' at the top left and 'NOW' top right", ((("BIG", "SALE"), "top left"), (("NOW",), "top right"))),
        ("'A B' middle, 'C' bottom and a dog", ((("A", "B"), "center"), (("C",), "bottom"))),
        ("red star top left, 'A'", ()),
        ("'A' top hat, 'B' left shoe", ()),
        ("'A' top left of a dog", ()),
    ],
)
def test_a_phrase_has_one_place_in_casual_prompts_too(prompt, phrases):
    assert requested_phrases(prompt) == phrases
    assert requested_regions(prompt) == tuple((word, region) for words, region in phrases for word in words)


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("red star, blue background, 'A' top left", ["red star", "blue background", "top left"]),
        ("red star bottom right, 'A' in the middle", ["red star", "bottom right", "in the middle"]),
        ("a top hat and a bottle top", ["a top hat", "a bottle top"]),
        ("a circle top left of a square", ["a circle", "a square"]),
    ],
)
def test_places_without_a_preposition_are_separate_chunks(prompt, chunks):
    assert objects(prompt) == chunks


@given(PROMPTS)
def test_regions_belong_to_drawn_words(prompt):
    for word, region in requested_regions(prompt):
        assert word in drawn_words(prompt)
        assert region in REGIONS


def test_points_fall_into_thirds():
    found = [region_of((2 * column + 1) / 6, (2 * row + 1) / 6) for row in range(3) for column in range(3)]
    assert found == list(REGIONS)
    assert region_of(-3, 7) == "bottom left"
    assert region_of(1.0, 0.0) == "top right"
