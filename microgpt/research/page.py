"""Judging in a browser: one file that holds all pairs, needs no network and saves what is judged as CSV."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from microgpt.core import random
from microgpt.evaluation.judgements import COLUMNS, RUBRIC

from .blind import Pair

PAGE = Path(__file__).with_name("page.html")
PLACE = "/*PAIRS*/null"  # in the page, for what it is about


def page(pairs: Sequence[Pair], models: tuple[str, str], seed: int) -> str:
    """A page that shows the pairs to whoever opens it, in an order of their own and by chance of sides.

    What the models are called stands in it only so that it cannot be read by the way.
    """
    key = random.key(seed, "page", *(hash_of(pair) for pair in pairs))
    document = {
        "id": f"{key:016x}",
        "columns": COLUMNS,
        "rubric": RUBRIC,
        "models": base64.b64encode(json.dumps(models).encode()).decode(),
        "pairs": [
            {
                "pair": pair.number,
                "category": pair.prompt.category,
                "prompt": pair.prompt.text,
                "answers": pair.answers,
            }
            for pair in pairs
        ],
    }
    text = json.dumps(document, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":  # nothing in an answer can end the script that it stands in
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return PAGE.read_text(encoding="utf-8").replace(PLACE, text)


def hash_of(pair: Pair) -> int:
    """The same for the same pair on any machine."""
    return random.key(pair.number, json.dumps(pair))
