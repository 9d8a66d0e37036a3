"""Lines of corpus files for the tests of this room."""

import json


def chat_line(*turns):
    """One JSONL line of the canonical form; the user begins."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"
