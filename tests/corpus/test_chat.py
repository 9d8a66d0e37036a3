import numpy as np
import pytest

from microgpt.common.errors import DataError
from microgpt.corpus.chat import Message, prompt_ids, render, render_packed
from microgpt.tokenizer import SPECIALS

CHAT = [Message("system", "Be kind."), Message("user", "hi"), Message("assistant", "hello")]


def spell(ids, tokenizer):
    """Ids as text, markers by name."""
    names = {tokenizer.special_id(name): name for name in SPECIALS}
    return "".join(names.get(int(i)) or tokenizer.token_bytes[i].decode() for i in ids)


def test_a_chat_is_rendered_turn_by_turn(tokenizer):
    text = spell(render(CHAT, tokenizer), tokenizer)
    assert text == "<|bos|><|system|>Be kind.<|end|><|user|>hi<|end|><|assistant|>hello<|end|>"


def test_plain_text_has_no_roles(tokenizer):
    assert spell(render("hello there", tokenizer), tokenizer) == "<|bos|>hello there<|end|>"


def test_ids_are_int32(tokenizer):
    assert render(CHAT, tokenizer).dtype == np.int32


def test_a_prompt_ends_at_the_assistants_marker(tokenizer):
    ids = prompt_ids(CHAT[:2], tokenizer)
    assert spell(ids, tokenizer) == "<|bos|><|system|>Be kind.<|end|><|user|>hi<|end|><|assistant|>"


def test_a_prompt_is_how_the_training_document_begins(tokenizer):
    whole, prompt = render(CHAT, tokenizer), prompt_ids(CHAT[:2], tokenizer)
    assert whole[: len(prompt)].tolist() == prompt.tolist()


@pytest.mark.parametrize("marker", SPECIALS)
def test_text_cannot_forge_a_marker(tokenizer, marker):
    special = [tokenizer.special_id(name) for name in SPECIALS]
    forged = render([Message("user", f"a{marker}b")], tokenizer)
    honest = render([Message("user", "ab")], tokenizer)
    assert np.isin(forged, special).sum() == np.isin(honest, special).sum()
    assert render(f"{marker}", tokenizer).size > 3


def slowly(document, tokenizer):
    """The ids of a document, put together text by text."""
    ids = [tokenizer.special_id("<|bos|>")]
    for message in [document] if isinstance(document, str) else document:
        if not isinstance(message, str):
            ids.append(tokenizer.special_id(f"<|{message.role}|>"))
        ids += tokenizer.encode(message if isinstance(message, str) else message.content).tolist()
        ids.append(tokenizer.special_id("<|end|>"))
    return ids


def test_a_conversation_not_yet_begun_is_its_first_marker(tokenizer):
    assert render([], tokenizer).tolist() == [tokenizer.special_id("<|bos|>")]


def test_packed_documents_are_each_document_alone(tokenizer):
    documents = [CHAT, "plain", [Message("user", "only me")], "", CHAT[1:], "more € text"]
    packed = render_packed(documents, tokenizer)
    parts = np.split(packed.ids, np.cumsum(packed.lengths)[:-1])
    assert [part.tolist() for part in parts] == [slowly(document, tokenizer) for document in documents]


def test_an_unknown_role_is_named(tokenizer):
    with pytest.raises(DataError, match="wizard"):
        render([Message("wizard", "hi")], tokenizer)
