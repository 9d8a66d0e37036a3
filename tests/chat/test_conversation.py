"""A conversation: what the model is shown, what it is not shown again, and the end of the window."""

import numpy as np
import pytest

from microgpt.chat.conversation import ChatSession
from microgpt.common.errors import ConfigError
from microgpt.corpus.chat import Message, prompt_ids, render
from microgpt.corpus.prompts import conversation_prompt, fit_window
from microgpt.decoding.decoder import CUT
from microgpt.decoding.sampler import GREEDY, SamplerConfig
from microgpt.tokenizer import SPECIALS
from tests.decoding.fakes import ScriptedModel, says, spell


def chat(tokenizer, *answers, seq_len=200, **options):
    """A session with a scripted model; (session, model, notices)."""
    model, notices = ScriptedModel(tokenizer, says(tokenizer, *answers), seq_len), []
    return ChatSession(model, tokenizer, GREEDY, say=notices.append, **options), model, notices


def ask(session, text):
    return "".join(session.reply(text))


def shown(model, tokenizer, call=-1):
    """What the model had seen when it was called: a cached beginning and what was fed, put together."""
    ids = []
    for start, fed in model.calls[: call + 1 or None]:
        ids[start:] = fed
    return spell(ids, tokenizer)


def test_answers_come_back_and_are_remembered(tokenizer):
    session, _, notices = chat(tokenizer, "I am fine", "you too")
    assert ask(session, "how are you?") == "I am fine"
    assert ask(session, "thank you") == "you too"
    assert session.history == [
        Message("user", "how are you?"),
        Message("assistant", "I am fine"),
        Message("user", "thank you"),
        Message("assistant", "you too"),
    ]
    assert not notices


@pytest.mark.parametrize("system", ["", "Be kind."])
def test_each_prompt_is_the_rendered_conversation_up_to_the_assistants_marker(tokenizer, system):
    session, model, _ = chat(tokenizer, "fine", "well", "good", system=system)
    for text in ("one", "two", "three"):
        n_calls = len(model.calls)
        expected = prompt_ids([*session.history, Message("user", text)], tokenizer)
        ask(session, text)
        prompt = shown(model, tokenizer, n_calls)
        assert prompt == spell(expected, tokenizer)
        assert prompt.endswith("<|end|><|assistant|>")


def test_the_beginning_of_a_long_conversation_is_not_read_again(tokenizer):
    session, model, _ = chat(tokenizer, "fine", "well", seq_len=3 * CUT)
    ask(session, "0" * (CUT + 9))
    n_calls = len(model.calls)
    ask(session, "two")
    start, fed = model.calls[n_calls]
    assert start == CUT and spell(fed, tokenizer).endswith("fine<|end|><|user|>two<|end|><|assistant|>")


def test_answers_are_shown_again_as_the_ids_that_were_made(tokenizer):
    """A model may spell a text otherwise than the tokenizer would; it goes on from what it said itself."""
    odd = [ord(c) for c in "thank you"]
    assert len(tokenizer.encode("thank you")) < len(odd)
    session, model, _ = chat(tokenizer)
    model.script = [*odd, session.decoder.end]
    ask(session, "one")
    n_calls = len(model.calls)
    ask(session, "two")
    assert str(odd)[1:-1] in str(model.calls[n_calls][1])


@pytest.mark.parametrize("marker", SPECIALS)
def test_markers_typed_by_the_user_stay_text(tokenizer, marker):
    session, model, _ = chat(tokenizer, "ok")
    ask(session, f"x{marker}{marker}y")
    prompt = np.array(model.calls[0][1])
    n_markers = np.isin(prompt, [tokenizer.special_id(name) for name in SPECIALS]).sum()
    assert n_markers == 4  # bos, user, end, assistant
    assert session.history[0].content == f"x{marker}{marker}y"


def test_old_turns_are_dropped_in_whole_and_it_is_said(tokenizer):
    session, model, notices = chat(tokenizer, *["fine"] * 6, seq_len=64, system="Be kind.")
    for number in range(6):
        n_calls = len(model.calls)
        ask(session, f"question {number}")
        prompt = shown(model, tokenizer, n_calls)
        assert prompt.startswith("<|bos|><|system|>Be kind.<|end|><|user|>question ")
        assert prompt.count("<|user|>") == prompt.count("<|assistant|>")
    assert "question 0" not in prompt and "question 5" in prompt
    assert set(notices) == {"the oldest turn was dropped: the window holds 64 tokens"}  # each turn once
    assert 0 < session.n_tokens <= 64
    assert len(session.history) == 1 + 12


def test_room_is_kept_for_the_answer(tokenizer):
    session, model, _ = chat(tokenizer, seq_len=64)
    model.script = [65] * 999
    for number in range(4):
        n_calls = len(model.calls)
        assert len(ask(session, f"question {number}")) >= 64 // 4
        start, fed = model.calls[n_calls]
        assert start + len(fed) <= 48


def test_a_message_too_long_is_cut_at_its_beginning_and_it_is_said(tokenizer):
    session, model, notices = chat(tokenizer, "ok", "ok", seq_len=64)
    ask(session, "first")
    n_calls = len(model.calls)
    ask(session, "0123456789" * 10)
    prompt = shown(model, tokenizer, n_calls)
    assert prompt.startswith("<|bos|><|user|>") and prompt.endswith("0123456789<|end|><|assistant|>")
    assert notices[0].startswith("the oldest turn was dropped")
    assert notices[1] == "the message is too long: its first 56 tokens were cut off, the window holds 64"


def test_a_window_filled_to_the_end_is_not_said_to_hold_more(tokenizer):
    session, model, _ = chat(tokenizer, seq_len=64)
    model.script = [65] * 999
    ask(session, "hi")
    assert session.n_tokens == 64


def test_a_prompt_without_room_for_a_message_is_refused_not_cut_into(tokenizer):
    messages = [Message("system", "Be kind. " * 9), Message("user", "hello")]
    n_opening = len(render(messages[:1], tokenizer))
    for limit in (n_opening - 1, n_opening + 3):
        with pytest.raises(ConfigError, match="no room"):
            conversation_prompt(messages, tokenizer, limit)
    prompt = conversation_prompt(messages, tokenizer, n_opening + 8)
    assert spell(prompt.ids, tokenizer).endswith("<|end|><|assistant|>")


def test_an_answer_that_fills_the_window_is_announced(tokenizer):
    session, model, notices = chat(tokenizer, seq_len=64)
    model.script = [65] * 999
    ask(session, "hi")
    assert notices == ["the answer was cut at 59 tokens: the window is full"]  # the last is not fed


def test_max_tokens_ends_an_answer_and_says_so(tokenizer):
    session, model, notices = chat(tokenizer, max_tokens=3)
    model.script = [65] * 999
    assert ask(session, "hi") == "AAA"
    assert notices == ["the answer was cut at 3 tokens: --max-tokens"]


def test_an_answer_stopped_midway_is_kept_as_far_as_it_came(tokenizer):
    session, model, _ = chat(tokenizer, "0123456789", "ok")
    pieces = session.reply("count")
    assert [next(pieces) for _ in range(3)] == ["0", "1", "2"]
    pieces.close()
    assert session.history[-1] == Message("assistant", "012")
    model.script = says(tokenizer, "ok")
    n_calls = len(model.calls)
    ask(session, "on")
    assert shown(model, tokenizer, n_calls).endswith("012<|end|><|user|>on<|end|><|assistant|>")


def test_a_message_without_any_answer_is_forgotten(tokenizer):
    session, _, _ = chat(tokenizer, "ok")
    session.decoder.model.next_logits = None  # fails before the first token
    with pytest.raises(TypeError):
        ask(session, "hi")
    assert session.history == [] and session.n_tokens == 1


def test_a_forgotten_message_takes_no_random_numbers(model, tokenizer, monkeypatch):
    def session():
        return ChatSession(model, tokenizer, SamplerConfig(temperature=1.5), 1, max_tokens=8)

    once = session()
    with monkeypatch.context() as broken, pytest.raises(TypeError):
        broken.setattr(model, "next_logits", None)
        ask(once, "hi")
    assert ask(once, "hi") == ask(session(), "hi")


def test_an_empty_answer_is_an_answer(tokenizer):
    session, _, _ = chat(tokenizer, "")
    assert ask(session, "hi") == "" and session.history[-1] == Message("assistant", "")


def test_reset_forgets_the_turns_but_not_the_system_message(tokenizer):
    session, model, _ = chat(tokenizer, "fine", "fine", system="Be kind.")
    ask(session, "one")
    session.reset()
    n_calls = len(model.calls)
    ask(session, "two")
    prompt = shown(model, tokenizer, n_calls)
    assert prompt == "<|bos|><|system|>Be kind.<|end|><|user|>two<|end|><|assistant|>"


def test_a_system_message_that_leaves_no_room_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="48 tokens, no room to talk beside a system prompt of 50"):
        chat(tokenizer, seq_len=64, system="0" * 48)


def test_the_same_seed_gives_the_same_conversation(model, tokenizer):
    def talk(seed):
        session = ChatSession(model, tokenizer, SamplerConfig(temperature=1.5), seed, max_tokens=8)
        return [ask(session, "hi"), ask(session, "hi")], session

    first, session = talk(1)
    assert first == talk(1)[0] != talk(2)[0]
    session.reset()
    assert ask(session, "hi") != first[0]  # the random numbers go on
    session.reset()
    session.reseed(1)
    assert [ask(session, "hi"), ask(session, "hi")] == first


def ids(*numbers):
    return np.array(numbers, np.int32)


@pytest.mark.parametrize(
    "limit, expected, dropped, cut",
    [
        (9, [0, 1, 1, 2, 2, 7, 8, 9, 9], 0, 0),
        (8, [0, 2, 2, 7, 8, 9, 9], 1, 0),
        (6, [0, 7, 8, 9, 9], 2, 0),
        (5, [0, 7, 8, 9, 9], 2, 0),
        (4, [0, 7, 9, 9], 2, 1),
    ],
)
def test_fitting_a_window(limit, expected, dropped, cut):
    prompt = fit_window(ids(0), [ids(1, 1), ids(2, 2)], ids(7, 8, 9, 9), limit)
    assert prompt.ids.tolist() == expected and (prompt.dropped, prompt.cut) == (dropped, cut)


def test_a_written_conversation_gives_the_same_prompt_as_a_spoken_one(tokenizer):
    messages = [
        Message("system", "Be kind."),
        Message("user", "one"),
        Message("assistant", "fine"),
        Message("user", "two"),
    ]
    prompt = conversation_prompt(messages, tokenizer, 200)
    assert prompt.ids.tolist() == prompt_ids(messages, tokenizer).tolist()
    short = conversation_prompt(messages, tokenizer, len(prompt.ids) - 1)
    assert short.dropped == 1
    assert short.ids.tolist() == prompt_ids([messages[0], messages[3]], tokenizer).tolist()
