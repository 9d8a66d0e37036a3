"""Whether a model has learned to hold a conversation."""

import numpy as np

from microgpt.corpus.chat import BOS, ROLES, role_marker
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer


def knows_chats(model: GPT, tokenizer: Tokenizer) -> bool:
    """Whether a model learned from conversations: whether at `<|bos|>` it expects one to begin.

    In plain text no role's marker ever comes, which any training teaches soon: one that is at least as likely
    as the average token has been seen.
    """
    logits = model.logits(np.array([[tokenizer.special_id(BOS)]], np.int32))[0, 0]
    weights = np.exp(logits - logits.max())
    markers = [tokenizer.special_id(role_marker(role)) for role in ROLES]
    return bool(weights[markers].max() >= weights.mean())
