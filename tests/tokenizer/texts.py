"""Texts for the tests of the tokenizer: nasty characters, broken bytes, several languages, code."""

import inspect
import json
import random

# Everything the splitter treats in its own way, and characters that sit close to a border.
NASTY = [
    "a",
    "Z",
    "word",
    "é",
    "ß",
    "Ǆ",
    "'",
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'x",
    "''",
    "don't",
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    "\t",
    "\v",
    "\x1c",
    "\x1f",
    "\x00",
    "\x7f",
    "\x85",
    "\u00a0",
    "\u1680",
    "\u180e",
    "\u2003",
    "\u2028",
    "\u200b",
    "\u200d",
    "\u202f",
    "\u205f",
    "\u3000",
    "\ufeff",
    "1",
    "23",
    "²",
    "½",
    "٣",
    "Ⅷ",
    "𝟙",
    "!",
    "...",
    "—",
    "。",
    "<|end|>",
    "<|",
    "|>",
    "_",
    "漢",
    "字",
    "あ",
    "한",
    "ก",
    "ि",
    "\u0301",
    "🙂",
    "👨\u200d👩\u200d👧",
    "🇩🇪",
    "\ue000",
    "\ufffd",
    "\uffff",
    "\U00020000",
    "\U0003134f",
    "\U000323af",
    "\U000323b0",
    "\U000e0001",
    "\U0010ffff",
    "\ud7ff",
]

# Bytes that are no UTF-8: lone tails and heads, too long, surrogates, beyond the end, cut off.
BROKEN = [
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xc0\x80",
    b"\xe3\x80",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x99",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xc2",
    b"\xe2\x80",
    b"\xf0\x80\x80\x80",
]

SENTENCES = [
    "Der Zug fährt um 14:30 Uhr ab, und wir müssen früh aufstehen, weil der Weg zum Bahnhof weit ist.",
    "Le garçon a mangé une pomme à l'école; il n'a pas bu l'eau qu'on lui avait donnée.",
    "Мальчик читает книгу у окна, а кошка спит на подоконнике и не слышит дождя.",
    "Η θάλασσα ήταν ήσυχη και ο ουρανός γαλανός, όταν φύγαμε από το λιμάνι.",
    "今天天气很好，我们一起去公园散步吧。路上买了三个苹果和两瓶水。",
    "明日は雨が降るそうですから、傘を持って出かけてください。駅まで十五分です。",
    "बारिश के बाद बगीचे में फूल खिल गए और बच्चे खेलने लगे।",
    "ذهب الولد إلى المدرسة صباحًا، وعاد عند الساعة ٣ بعد الظهر.",
    "오늘은 날씨가 좋아서 친구와 함께 산에 올라갔습니다. 사진도 100장 찍었어요!",
    "Čtyři žluté květy stály na stole; děti se ptaly: „Kdo je přinesl?“ 🌼🌼",
]


def nasty(rng: random.Random, n: int) -> str:
    """A text of n characters or little groups of them."""
    text = "".join(rng.choices(NASTY, k=n))
    if n and rng.random() < 0.3:
        text += chr(rng.choice([rng.randrange(0x80, 0xD800), rng.randrange(0xE000, 0x110000)]))
    return text


def broken(rng: random.Random, n: int) -> bytes:
    """Bytes of n characters, broken in places."""
    return b"".join(rng.choice(BROKEN) if rng.random() < 0.3 else nasty(rng, 1).encode() for _ in range(n))


def languages(n: int, seed: int = 0) -> list[str]:
    """n documents of words in ten languages, frequent words more often."""
    rng = random.Random(seed)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    weights = [1 / (1 + i % 37) for i in range(len(words))]
    return [" ".join(rng.choices(words, weights, k=rng.randrange(5, 60))) for _ in range(n)] + SENTENCES


def code() -> list[str]:
    """Real source code, from the standard library."""
    return [inspect.getsource(module) for module in (random, inspect, json.decoder)]


def english() -> list[str]:
    """Real English, from the manual inside the standard library."""
    from pydoc_data.topics import topics

    return [text[:20_000] for _, text in sorted(topics.items())][:40]
