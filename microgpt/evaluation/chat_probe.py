"""Whether a model has learned to hold a conversation."""

import numpy as np

from microgpt.corpus.chat import BOS, ROLES, role_marker
from microgpt.model import GPT
from microgpt.runs.lineage import plans
from microgpt.runs.spec import Plan
from microgpt.tokenizer import Tokenizer

EXPECTED = 3.0  # times as likely as the average token: what has learned little yet expects all alike


def knows_chats(model: GPT, tokenizer: Tokenizer, *trained: Plan) -> bool:
    """Whether a model learned from conversations.

    The model itself says so where at `<|bos|>` it expects one to begin: in plain text no role's marker ever
    comes, which any training teaches soon.  Where only answers were learned nothing taught it how a
    conversation begins, but then the plan of its run says so, or of one that this began with.

    Args: trained: the plans of the runs that trained it.
    """
    logits = model.logits(np.array([[tokenizer.special_id(BOS)]], np.int32))[0, 0]
    weights = np.exp(logits - logits.max())
    markers = [tokenizer.special_id(role_marker(role)) for role in ROLES]
    if weights[markers].max() >= EXPECTED * weights.mean():
        return True
    return any(one.train.answers_only for plan in trained for one in plans(plan))
