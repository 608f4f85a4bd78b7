"""The words and sentence forms of INNOVATOR-Eval's prompts, category by category.

``{a}`` to ``{d}`` are texts to draw, ``{pa}`` to ``{pd}`` say where, ``{o1}`` to ``{o3}`` are objects; the other fields
are named in the category's builder.
"""

from __future__ import annotations

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
LOOKS = ("wooden", "striped", "rusty", "knitted", "spotted", "copper", "paper", "chequered", "mossy", "glass")
NOUNS = (
    *("bicycle", "teapot", "armchair", "suitcase", "umbrella", "lantern", "backpack", "kettle", "guitar", "clock"),
    *("vase", "candle", "basket", "ladder", "pumpkin", "toolbox", "stool", "mug", "rabbit", "cat", "parrot", "goat"),
    *("tortoise", "wheelbarrow", "bucket", "pillow", "drum", "kite", "boot", "lamp", "apple", "rowing boat"),
    *("typewriter", "globe", "rocking horse", "birdcage"),
)

ANIMALS = ("rabbit", "cat", "parrot", "goat", "tortoise")

OBJECT_TEXTS = (
    *("Flea Market", "Please Knock", "Grandma's Attic", "Lost and Found", "Back Soon", "Free to Good Home"),
    *("Mind the Step", "Spring Cleaning", "Handle With Care", "Sold", "Ring for Service", "Not for Sale", "Moving Day"),
    *("Attic Treasures", "Take One", "Repair Cafe", "Wet Paint", "Hands Off", "Made by Ruth", "Odds and Ends"),
    *("Return by Monday", "Do Not Feed", "Best Offer", "Our First Home", "Rainy Days", "Swap Shop", "Borrow Me"),
)
# A form, and the relations (first object, side, second object) that it states.
OBJECTS: tuple[tuple[str, tuple[tuple[int, str, int], ...]], ...] = (
    ("{o1} to the left of {o2} on a kitchen table, and a folded card between them that says {a}", ((0, "left", 1),)),
    ("{o1} on a shelf above {o2}, with a price label reading {a}", ((0, "above", 1),)),
    ("Yard sale photo: {o1}, {o2} and {o3} on the grass, plus a cardboard sign with {a}", ()),
    ("{o1} below {o2}, both in front of a brick wall painted with {a}", ((0, "below", 1),)),
    ("{o1} to the right of {o2}. A paper tag tied to the first says {a}.", ((0, "right", 1),)),
    (
        "Shop window at night, {o1} left of {o2}, {o3} hanging above both, neon sign {a}",
        ((0, "left", 1), (2, "above", 0), (2, "above", 1)),
    ),
    ("can you draw {o1} next to {o2} with {a} written on the wall behind them", ()),
    ("{o1} underneath {o2}, storybook style, the caption {a} along the bottom", ((0, "below", 1),)),
    ("Close-up of {o1} and {o2} on a workbench; the drawer behind them is labelled {a}", ()),
    ("{o1} on top of {o2} in an otherwise empty room, a framed poster with {a} on the wall", ((0, "above", 1),)),
    ("Please put {o1} on the left, {o2} on the right and a banner {a} over everything", ((0, "left", 1),)),
    ("three things on a doorstep: {o1}, {o2}, {o3}. the doormat says {a}", ()),
    ("an old photograph of {o1} beside {o2}, {a} handwritten along the border", ()),
    ("{o1} right of {o2} on a picnic blanket with {a} stitched into it, seen from above", ((0, "right", 1),)),
    ("product shot, {o1} above {o2} on a plain backdrop, {a} in neat print at the bottom", ((0, "above", 1),)),
    ("rainy street, {o1} to the left of {o2}, and a bus stop sign that reads {a}", ((0, "left", 1),)),
    ("My stall at the fair: {o1} in front, {o2} behind it, a bunting that spells {a}", ()),
    ("Isometric drawing of a garage with {o1}, {o2} and {o3}, the door lettered {a}", ()),
)

PLACE_WORDS = {
    "top left": ("in the top left corner", "at the top left", "in the upper left corner"),
    "top": ("at the top", "along the top edge", "across the top"),
    "top right": ("in the top right corner", "at the top right", "in the upper right corner"),
    "left": ("on the left", "on the left side", "at the left edge"),
    "center": ("in the middle", "in the centre", "right in the center"),
    "right": ("on the right", "on the right side", "at the right edge"),
    "bottom left": ("in the bottom left corner", "at the bottom left", "in the lower left corner"),
    "bottom": ("at the bottom", "along the bottom edge", "across the bottom"),
    "bottom right": ("in the bottom right corner", "at the bottom right", "in the lower right corner"),
}
PLACES = {
    2: (
        *(("top", "bottom"), ("bottom", "top"), ("top left", "bottom right"), ("top right", "bottom left")),
        *(("center", "bottom"), ("top", "center"), ("left", "right"), ("top left", "bottom"), ("bottom right", "top")),
    ),
    3: (
        *(("top", "center", "bottom"), ("top left", "top right", "bottom"), ("top", "bottom left", "bottom right")),
        *(("center", "top left", "bottom right"), ("bottom", "top", "center"), ("top right", "left", "bottom right")),
    ),
}
THEMES = {
    "bakery": ("Fresh Bread", "Warm Rolls", "Open From Six", "Rye and Oat", "Baked Today", "Cash Only"),
    "farmers market": ("Farm Eggs", "Local Honey", "Every Saturday", "Bring a Bag", "Pick Your Own", "Field to Fork"),
    "rock concert": ("Live Tonight", "The Tin Foxes", "Doors at Eight", "Main Stage", "Free Entry", "One Night Only"),
    "book fair": ("Book Fair", "Meet the Author", "Hall Two", "Used and Rare", "Read More", "Free Coffee"),
    "swimming pool": ("No Diving", "Deep End", "Lane Three", "Showers First", "Lifeguard on Duty", "Warm Water"),
    "museum": ("Late Opening", "Bronze Age", "This Way", "Please Don't Touch", "Upper Floor", "Guided Tours"),
    "train station": ("Platform Four", "Mind the Gap", "Way Out", "Tickets", "Express Train", "Waiting Room"),
    "dog show": ("Best in Show", "Good Boys Only", "Ring One", "Small Breeds", "Water Bowls", "Judges"),
    "hiking club": ("Summit Trail", "Steep Path", "Keep Left", "Rest Area", "Carry Water", "Blue Route"),
    "science fair": ("Science Fair", "Ask Me How", "First Prize", "Home Made Volcano", "Power of Wind", "Room Nine"),
    "coffee bar": ("Slow Coffee", "Oat Milk", "Iced Latte", "House Blend", "Two for One", "Order Here"),
    "bike workshop": ("Tune Up Week", "Wheels and More", "Rent a Bike", "Flat Tyre", "Half Price", "Ring the Bell"),
    "school play": ("The Paper Moon", "Act One", "Friday Night", "Bring the Family", "Row by Row", "Curtain Up"),
    "plant shop": ("Water Me", "Shade Lovers", "New Leaves", "Cactus Corner", "Low Light", "Mix Your Soil"),
    "chess club": ("Your Move", "Blitz Night", "Beginners Welcome", "Silence Please", "White to Play", "Table Seven"),
}
# A form, its fixed places by text (None: drawn where the form has {pa}), and the sides it states.
PLACED: tuple[tuple[str, tuple[str | None, ...], tuple[tuple[int, str, int], ...]], ...] = (
    ("A poster for a {theme} with {a} {pa} and {b} {pb}", (None, None), ()),
    ("{theme} flyer, {a} {pa}, {b} {pb}, {c} {pc}", (None, None, None), ()),
    ("make me a sign for our {theme}: {a} {pa} and {b} {pb}", (None, None), ()),
    ("photo of the notice board of a {theme}; {a} is pinned {pa}, {b} {pb}", (None, None), ()),
    ("A {theme} ticket that has {a} {pa}, {b} {pb} and {c} {pc}", (None, None, None), ()),
    ("Hand-lettered chalkboard for a {theme}. {a} goes {pa}, {b} {pb} and {c} {pc}.", (None, None, None), ()),
    ("{a} above {b} on a {theme} banner, and nothing else written", (None, None), ((0, "above", 1),)),
    ("two {theme} stickers side by side, {a} on the left one, {b} on the right one", ("left", "right"), ()),
    ("website header for a {theme}: name {a} {pa}, slogan {b} {pb}", (None, None), ()),
    (
        "A {theme} map, corners labelled {a} (top left), {b} (top right), {c} (bottom left), {d} (bottom right)",
        ("top left", "top right", "bottom left", "bottom right"),
        (),
    ),
    ("{theme} leaflet with {a} in the middle and {b} underneath it", ("center", None), ((0, "above", 1),)),
    ("{theme} T-shirt print, {a} at the top and straight below it {b}", ("top", None), ((0, "above", 1),)),
    ("an old postcard of a {theme}. {a} {pa} in cursive, {b} {pb} in block letters", (None, None), ()),
    ("street banner for the {theme}, left end {a}, right end {b}", ("left", "right"), ((0, "left", 1),)),
    ("phone screen of a {theme} app with {a} {pa} and a button {b} {pb}", (None, None), ()),
    ("Entrance of a {theme}: {a} over the door, {b} to the left of the door, {c} to its right", (), ((1, "left", 2),)),
)

LONG_WORDS = (
    *("counterclockwise", "incomprehensible", "thunderstorms", "extraordinary", "bibliographies", "misunderstanding"),
    *("photosynthesis", "electromagnetism", "grandfatherly", "responsibilities", "whatchamacallit", "neighbourhoods"),
    *("transcontinental", "irreplaceable", "constellations", "kaleidoscopic", "unquestionably", "archaeologists"),
    *("microorganisms", "acknowledgement", "straightforward", "hippopotamuses", "interplanetary", "mispronounced"),
)
RARE_WORDS = (
    *("petrichor", "syzygy", "borborygmus", "mumpsimus", "quixotry", "zephyrous", "gloaming", "vellichor", "yclept"),
    *("crwth", "fjeld", "ptarmigan", "eunoia", "psithurism", "ullage", "apricity", "lethologica", "nudiustertian"),
    *("sphygmic", "tmesis", "widdershins", "xyloid", "zugzwang", "aglet", "rhyton", "phloem"),
)
ONSETS = ("br", "v", "qu", "tr", "zh", "st", "kl", "m", "dr", "fl", "sn", "y", "gr", "p", "thr", "w")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ou", "ee")
CODAS = ("n", "lm", "rt", "x", "sk", "nd", "ve", "tch", "r", "mp", "ll", "zz")
LONG_TEXTS = (
    "A brass plaque engraved with {a}",
    "{a} carved into the back of a park bench",
    "dictionary page where the headword is {a}, rest of the page out of focus",
    "A lab jar, label reads {a}",
    "graffiti on a train carriage spelling {a}",
    "movie title card, {a} over a foggy lake",
    "A name badge that says {a} pinned to a denim jacket",
    "ice cream board with two flavours on it: {a} and {b}",
    "the word {a} in tall letters on a science museum wall",
    "letter tiles laid out as {a} on a wooden table",
    "a fishing boat with {a} painted on the hull",
    "Neon sign {a} over a narrow alley",
    "perfume bottle called {a}, studio light",
    "spelling bee poster with the words {a} and {b}",
    "birthday cake for a linguist, the icing reads {a}",
    "A signpost, one arm points to {a}, the other to {b}",
    "pixel art start screen of a game called {a}",
    "I want a mug with {a} on it, photographed from the front",
)

# Each kind of text has its own forms; {thing} is an object that carries a price or a number.
THINGS = ("melon", "wool coat", "second-hand lamp", "box of plums", "pair of skates", "cactus", "radio", "blue teapot")
DIGIT_TEXTS: dict[str, tuple[str, ...]] = {
    "price": (
        "price tag on a {thing} that says {a}",
        "Supermarket shelf with a {thing}, the label under it shows {a}",
        "A {thing} at a flea market, masking tape on it with {a} in marker",
    ),
    "time": (
        "digital alarm clock in a dark bedroom showing {a}",
        "A departure board with a single row, {a}",
        "barber shop door, opening hours {a}",
    ),
    "plate": ("rusty van with the licence plate {a}", "A toy car, the tiny plate on it reads {a}"),
    "phone": ("taxi door with the number {a}", "Tear-off flyer for guitar lessons, call {a}"),
    "sum": ("A blackboard with {a} in chalk", "receipt roll from an adding machine, one line {a}"),
    "date": ("wall calendar page with {a} at the top", "Foundation stone of a bridge, cut letters {a}"),
    "score": ("football scoreboard reading {a} under floodlights", "score sheet from a card game, circled: {a}"),
    "shout": ("comic speech bubble that shouts {a}", "protest sign made from a pizza box: {a}", "Sticky note {a}"),
    "code": ("wooden crate stencilled with {a}", "A cable label {a} in a server room", "library book spine, {a}"),
    "offer": ("round sticker on a shop window, {a}", "A banner over a shoe rack that says {a}"),
    "door": ("office door sign {a}", "Hotel key fob with {a} on it", "locker at the gym marked {a}"),
}
SHOUTS = (
    *("What?! No way...", "Wait... what?", "Yes! Yes! YES!", "Hey, you!", "Why not?", "Oh no!!", "Ready? Set. Go!"),
    *(
        "More trees, less talk!",
        "Who, me?",
        "Eggs, milk & flour",
        "Call mum (again)",
        "Up, up and away!",
        "Rock & roll?",
    ),
    *("Stop; look; listen.", "A+ (well done!)"),
)

CASED: dict[str, tuple[str, ...]] = {
    "upper": (
        "t-shirt with {a} in all caps",
        "A cinema marquee spelling {a} in capital letters",
        "army surplus crate, stencil {a}, capitals only",
        "the headline {a} in upper case on a crumpled newspaper",
    ),
    "lower": (
        "wedding invitation with {a}, everything in lower case",
        "Minimal logo {a}, only small letters please",
        "bookmark that says {a} in lowercase typewriter letters",
        "A cafe window with {a}, no capitals at all",
    ),
    "title": (
        "Paperback cover titled {a}, first letter of each word capital, the others small",
        "Slide with the heading {a} in title case",
        "vinyl record label {a}, each word capitalised",
    ),
    "written": (
        "keyboard sticker {a}, keep capitals and small letters exactly as I typed them",
        "A lab notebook page headed {a}",
        "Parcel label with {a}, mind the capitals",
        "phone case printed with {a} exactly like that",
        "mixed-up ransom note letters spelling {a}",
    ),
}
CASE_TEXTS = (
    *("slow morning", "paper lantern", "north wind", "quiet please", "the last orchard", "river song", "tiny planets"),
    *(
        "good neighbours",
        "winter garden",
        "hello again",
        "stay a while",
        "second breakfast",
        "open water",
        "loud colours",
    ),
    *("sunday people", "long way home", "salt and smoke", "bright side", "green thumb", "night shift"),
)
MIXED_TEXTS = (
    *("pH 7", "kWh today", "McAllister", "d'Arcy Lane", "openGate", "LaTeX notes", "MiB per second", "van der Meer"),
    *("eBike hire", "DeLuca and Sons", "CamelCase", "snowBALL", "eLEVEN", "dB and Hz", "PhD at last", "O'Neill Street"),
    *(
        "FizzBuzz",
        "HeLLo yOu",
        "tHe WaLL",
        "macOS or not",
        "NaCl",
        "PoWeR nAp",
        "MSc and BSc",
        "rOcK oN",
        "kHz",
        "GmbH",
    ),
)

REPEATED = (
    *("knock knock", "tick tock tick tock", "no no no yes", "very very very late", "blah blah blah", "ha ha ha ha"),
    *(
        "again and again and again",
        "left right left right",
        "row row row",
        "buzz buzz",
        "one more one more",
        "hey hey hey",
    ),
    *("drip drop drip drop", "bye bye", "more and more", "step by step", "choo choo", "now now now", "so so so good"),
    *("ring ring", "day after day after day", "cha cha cha", "boom boom clap", "zzz zzz zzz"),
)
REPEAT_FORMS = (
    "comic panel with the sound {a}",
    "knitted scarf with {a} along it",
    "A neon sign that says {a}",
    "poster for a children's song, {a} in round letters",
    "{a} sprayed on a garage door",
    "doormat with {a}",
    "album cover, title {a}",
    "A mug with {a} going around it",
)
TOLD_WORDS = (
    *(
        "SORRY",
        "Please",
        "hope",
        "LOUD",
        "Sale",
        "Thanks",
        "wow",
        "GOAL",
        "Silence",
        "apple",
        "MONDAY",
        "Echo",
        "dance",
    ),
    *("Homework", "rain", "FRAGILE", "Cheese", "sleep"),
)
NUMBERS = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}
TOLD_FORMS = (
    "chalkboard with {a} written {times}, one below the other",
    "A paper banner that repeats {a} {times}",
    "packing tape with {a} printed on it {times}",
    "stamp collection page, {a} stamped {times}",
    "write {a} {times} in different handwriting on a lined page",
    "A tiled wall in a subway, {a} appears {times}",
    "{a} on it {times}: a tote bag, photographed flat",
)

INK = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
# {c1} and {c2} are colours of a and b. A form, the sizes of a and b, and the sides it states.
LETTERED: tuple[tuple[str, tuple[str | None, str | None], tuple[tuple[int, str, int], ...]], ...] = (
    ("{a} in huge {c1} letters with {b} in tiny {c2} letters below", ("big", "small"), ((0, "above", 1),)),
    ("A poster, {a} small and {c1} at the top, {b} big and {c2} under it", ("small", "big"), ((0, "above", 1),)),
    ("concert ticket with {a} in large {c1} type and {b} in small {c2} type", ("big", "small"), ()),
    ("gift tag that says {a} in {c1} and {b} in {c2}", (None, None), ()),
    ("A banner: {c1} {a} on the left, {c2} {b} on the right", (None, None), ((0, "left", 1),)),
    ("sale sign, giant {c1} {a}, little {c2} {b} beneath", ("big", "small"), ((0, "above", 1),)),
    ("notebook cover with {a} in big {c1} serif letters and a small {b} in {c2}", ("big", "small"), ()),
    ("Jar label. {a} large, {c1}. {b} small, {c2}, above it.", ("big", "small"), ((1, "above", 0),)),
    ("a cap with {a} embroidered in {c1}, {b} in smaller {c2} thread below", ("big", "small"), ((0, "above", 1),)),
    ("wall painting, {b} in enormous {c2} letters and a modest {c1} {a} over it", ("small", "big"), ((0, "above", 1),)),
    ("badge with {c1} {a} and, much bigger, {c2} {b}", ("small", "big"), ()),
    ("screen print: {a} ({c1}, bold, large) left of {b} ({c2}, thin, small)", ("big", "small"), ((0, "left", 1),)),
)
LOOK_PAIRS = (
    *(
        ("Summer Jam", "free entry"),
        ("Orange Juice", "no sugar"),
        ("Harbour Days", "since 1962"),
        ("Thank You", "love, Ida"),
    ),
    *(
        ("Night Bus", "line nine"),
        ("Big Sale", "ends Sunday"),
        ("Honey", "from our bees"),
        ("The Glass Tower", "Nora Lind"),
    ),
    *(
        ("Warning", "hot surface"),
        ("Lemon Cake", "two slices"),
        ("Ski School", "all levels"),
        ("Happy New Year", "see you soon"),
    ),
    *(("Wool Shop", "open late"), ("Jazz", "in the park"), ("Old Town", "walking tour"), ("Quiet Zone", "phones off")),
    *(
        ("Strong Coffee", "weak excuses"),
        ("Lost Cat", "answers to Miso"),
        ("Vote", "it matters"),
        ("Tea Time", "half past four"),
    ),
    *(
        ("Garage Band", "we are loud"),
        ("Fresh Fish", "caught today"),
        ("Moon Hotel", "rooms free"),
        ("Bread", "and butter"),
    ),
)

SCRIPTS: dict[str, tuple[str, ...]] = {
    "cyrillic": ("Открыто", "Добро пожаловать", "Свежий хлеб", "Тихий час", "Книги и чай", "Ласкаво просимо", "Хліб"),
    "greek": ("Καλημέρα", "Ανοιχτό", "Φρέσκο ψωμί", "Καλό ταξίδι", "Θάλασσα", "Ευχαριστώ"),
    "chinese": ("欢迎光临", "新鲜水果", "生日快乐", "小心地滑", "今日特价", "好好学习"),
    "japanese": ("ようこそ", "営業中", "ラーメン", "おめでとう", "静かに", "夏まつり"),
    "korean": ("환영합니다", "영업 중", "생일 축하해요", "신선한 과일", "조용히", "안녕하세요"),
    "arabic": ("مرحبا", "مفتوح", "شكرا", "قهوة", "عيد سعيد"),
    "hebrew": ("שלום", "פתוח", "תודה רבה", "לחם טרי"),
    "devanagari": ("स्वागत", "धन्यवाद", "ताज़ा फल", "शुभ यात्रा"),
    "thai": ("ยินดีต้อนรับ", "เปิด", "ขอบคุณ"),
    "accented": (
        *("Crème brûlée", "Grüße aus Köln", "Żółta łódź", "Güneşli gün", "Phở bò", "Señor Peña", "Smørrebrød"),
        *("À bientôt", "Škoda lásky", "Ünlü köfte", "Où est Zoé", "Kärntner Straße", "Bún chả Hà Nội", "Łowicz"),
    ),
}
SCRIPT_FORMS = (
    "shop sign that reads {a}",
    "A wooden board outside a restaurant with {a}",
    "{a} on a paper lantern at dusk",
    "greeting card, front: {a}",
    "street mural with the words {a}",
    "A ceramic bowl with {a} glazed on the rim",
    "poster at a language school: {a}",
    "sticker {a} on a laptop lid",
    "bus window with {a} wiped into the dust",
    "cookbook cover with {a} in the middle",
)

UNQUOTED_FORMS = (
    "a neon sign saying {a}",
    "make a birthday cake with {a} on it",
    "t-shirt that says {a}",
    "an office mug with the text {a} please",
    "Sign on a gate: {a}",
    "a tattoo on a forearm that reads {a}",
    "Can I get a logo with the name {a} and a leaf",
    "protest banner reading {a}",
    "chalk on the pavement, it spells {a}",
    "movie poster, title is {a}",
    "the words {a} made of twigs on a beach",
    "License plate frame with {a} on it",
    "billboard by a highway: {a}",
    "sticker for my bike with {a} written in a circle",
)
UNQUOTED_TEXTS = (
    *("OPEN LATE", "Happy Birthday Tom", "Private Road", "be kind", "Green Roots", "CLEAN AIR NOW", "welcome home"),
    *("Dust and Diamonds", "RIDE SAFE", "Fresh Start", "DO NOT ENTER", "good things take time", "Hot Chili Noodles"),
    *("Beware of the Goose", "Team Otter", "SLOW DOWN", "Meet Me There", "I was here", "Lucky Sevens", "NO SIGNAL"),
    *(
        "Bon Voyage Anna",
        "Sea You Soon",
        "WORK IN PROGRESS",
        "Sleepy Hollow Farm",
        "pizza first",
        "Congrats Class of Maple",
    ),
    *("Rent Me", "Mountain Radio", "KEEP CLIMBING", "The Understudy"),
)

BLANK_SCENES = (
    *("a foggy pine forest at dawn", "an empty beach with one red ball", "a tabby cat asleep on a radiator"),
    *("a bowl of lemons on a linen cloth", "two horses in the snow", "a desert road under a pink sky"),
    *("a wooden rowing boat on a still lake", "a greenhouse full of ferns", "hands kneading dough on a floured table"),
    *("a plain white wall with an open window", "a lighthouse in a storm", "a pile of autumn leaves"),
    *("a fox crossing a meadow", "a stack of clean plates", "a narrow spiral staircase"),
    *("an old apple tree in bloom", "a paper plane in mid-flight", "the inside of a piano"),
    *("a snail on a wet stone", "a mountain hut with smoke from the chimney", "a jar of buttons, lid off"),
    *("a child's red wellingtons in a puddle", "a field of sunflowers after rain", "a goldfish in a round bowl"),
)
# Some of these name things that carry writing, and ask for them without any.
BLANK_CARRIERS = (
    *("a blank road sign in the desert", "an empty speech bubble over a penguin", "a poster frame with nothing in it"),
    *("a book with a plain cover, no title", "a shop front without any lettering", "an unlabelled glass bottle"),
    *("a clean blackboard", "a newspaper page with pictures only", "a white T-shirt without a print"),
    *("a cardboard box with no markings", "a wall of blank sticky notes", "a birthday cake with plain icing"),
)
BLANK_FORMS = (
    "{scene}",
    "{scene}, no text",
    "Photo of {scene}",
    "watercolour of {scene}",
    "{scene}, soft evening light, nothing written anywhere",
    "Draw {scene}. Don't add any letters.",
    "minimal illustration, {scene}, without words",
    "{scene} from above",
    "i need {scene} as a background, keep it free of text",
    "Oil painting: {scene}",
)

STYLES = (
    *("watercolour", "35mm film look", "flat vector art", "soft morning light", "isometric", "linocut print"),
    *("claymation style", "pencil sketch", "studio photo", "wide angle", "pastel colours", "night scene"),
)
