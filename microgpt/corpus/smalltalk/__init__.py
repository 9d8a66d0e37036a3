"""The embedded corpus: simple English dialogues, made rather than collected.

Held-out dialogues and exam questions are of content that training never sees: other names, other sums, other
combinations.  A hash of the content itself decides on which side it falls, so that holds for every seed.
What cannot be worked out (capitals, opposites, sounds) is held out in one of its wordings only.
"""

from microgpt.corpus.smalltalk.dialogues import FAMILIES, exam, generate, sample_text
from microgpt.corpus.smalltalk.turns import Question

__all__ = ["FAMILIES", "Question", "exam", "generate", "sample_text"]
