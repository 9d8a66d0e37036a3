"""Whether a model has learned to hold a conversation."""

import numpy as np

from microgpt.corpus.chat import BOS, ROLES, role_marker
from microgpt.model import GPT
from microgpt.runs.lineage import plans
from microgpt.runs.spec import Plan
from microgpt.tokenizer import Tokenizer

EXPECTED = 3.0  # times as likely as the average token: what has learned little yet expects all alike


def knows_chats(model: GPT, tokenizer: Tokenizer, plan: Plan) -> bool:
    """Whether a model learned from conversations.

    Where only answers were learned, in its run or one that it began with, nothing taught it how a
    conversation begins, and the plan says so.  Else the model itself does: whether at `<|bos|>` it expects
    one to begin.  In plain text no role's marker ever comes, which any training teaches soon.

    Args: plan: of the run that trained it.
    """
    if any(one.train.answers_only for one in plans(plan)):
        return True
    logits = model.logits(np.array([[tokenizer.special_id(BOS)]], np.int32))[0, 0]
    weights = np.exp(logits - logits.max())
    markers = [tokenizer.special_id(role_marker(role)) for role in ROLES]
    return bool(weights[markers].max() >= EXPECTED * weights.mean())
