"""The embedded corpus: simple English dialogues, made rather than collected.

Held-out dialogues and exam questions are of content that training never sees: other names, other sums, other
combinations.  A hash of the content itself decides on which side it falls, of names their letters, so that
holds for every seed.
What cannot be worked out (capitals, opposites, sounds) is held out in one of its wordings only.  What the
conversation before it decides ("What is my favourite colour?") is held out with that conversation.
"""

from microgpt.corpus.smalltalk.conversation import conversation
from microgpt.corpus.smalltalk.dialogues import FAMILIES, exam, generate, practice, sample_text
from microgpt.corpus.smalltalk.turns import Question

# Held-out conversations are new, some exchanges in them are not: to be said where such text is measured.
SEEN = "about one exchange in ten, such as a greeting, reads by itself as one in training does"

__all__ = ["FAMILIES", "SEEN", "Question", "conversation", "exam", "generate", "practice", "sample_text"]
