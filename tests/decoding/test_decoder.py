"""The decoder: where it stops, what it never says, what it need not compute again."""

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.decoding.decoder import CUT, Decoder, Request, answer_all, uniform_stream
from microgpt.decoding.sampler import GREEDY, SamplerConfig, next_token
from microgpt.model import GPT, ModelConfig
from microgpt.tokenizer import SPECIALS
from tests.decoding.fakes import ScriptedModel, says


def prompt(tokenizer, text="hello"):
    return np.array([tokenizer.special_id("<|bos|>"), *tokenizer.encode(text)], np.int32)


def test_greedy_decoding_is_the_argmax_of_the_full_forward(model, tokenizer):
    decoder = Decoder(model, tokenizer)
    forbidden = [tokenizer.special_id(name) for name in SPECIALS if name != "<|end|>"]
    ids = prompt(tokenizer).tolist()
    for token in decoder.generate(np.array(ids, np.int32), GREEDY, 30):
        logits = model.logits(np.array([ids], np.int32))[0, -1]
        logits[forbidden] = -np.inf
        assert token == logits.argmax()
        ids.append(token)
    assert len(ids) > 20


def test_it_stops_at_the_end_token_which_it_keeps_to_itself(tokenizer):
    answer = Decoder(ScriptedModel(tokenizer, says(tokenizer, "fine")), tokenizer).generate(prompt(tokenizer))
    ids = list(answer)
    assert tokenizer.decode(ids) == b"fine" and answer.finish == "stop" and answer.ids == ids


def test_it_stops_at_max_tokens(tokenizer):
    answer = Decoder(ScriptedModel(tokenizer, [65] * 99), tokenizer).generate(prompt(tokenizer), max_tokens=5)
    assert list(answer) == [65] * 5 and answer.finish == "length"


@pytest.mark.parametrize("n_prompt", [1, 10, 15, 16])
def test_it_uses_the_whole_window_and_no_more(tokenizer, n_prompt):
    model = ScriptedModel(tokenizer, [65] * 99, seq_len=16)
    decoder = Decoder(model, tokenizer)
    answer = decoder.generate(np.full(n_prompt, 66, np.int32))
    assert len(list(answer)) == 16 - n_prompt + 1  # the last one need not be fed
    assert decoder.state.length == 16 and answer.finish == "length"


@pytest.mark.parametrize("n_prompt", [0, 17])
def test_a_prompt_outside_the_window_is_refused(tokenizer, n_prompt):
    decoder = Decoder(ScriptedModel(tokenizer, seq_len=16), tokenizer)
    with pytest.raises(ConfigError, match=f"{n_prompt} tokens.* 1 to 16"):
        next(decoder.generate(np.full(n_prompt, 66, np.int32)))


@pytest.mark.parametrize("settings", [GREEDY, SamplerConfig(temperature=5, top_k=0, top_p=1)])
def test_markers_but_the_end_never_come(tokenizer, settings):
    """Even from a model that wants nothing else."""
    markers = [tokenizer.special_id(name) for name in SPECIALS if name != "<|end|>"]
    decoder = Decoder(ScriptedModel(tokenizer, markers * 5), tokenizer)
    ids = list(decoder.generate(prompt(tokenizer), settings, 20, uniform_stream(0)))
    assert len(ids) >= 1 and not set(ids) & set(markers)


def test_a_prompt_is_read_in_pieces_that_its_beginning_decides(tokenizer):
    model = ScriptedModel(tokenizer, says(tokenizer, "a", "b"), seq_len=5 * CUT)
    decoder, ids = Decoder(model, tokenizer), np.arange(2 * CUT + 9, dtype=np.int32) % 99
    list(decoder.generate(ids))
    assert [(start, len(fed)) for start, fed in model.calls] == [
        (0, CUT),
        (CUT, CUT),
        (2 * CUT, 9),
        (2 * CUT + 9, 1),
    ]
    list(decoder.generate(np.concatenate([ids, ids])))
    assert [start for start, _ in model.calls[4:]] == [2 * CUT, 3 * CUT, 4 * CUT, 4 * CUT + 18]


@pytest.mark.parametrize("n", [1, 2, CUT - 1, CUT, CUT + 1, 2 * CUT])
def test_the_same_prompt_again_reads_its_last_piece(tokenizer, n):
    model = ScriptedModel(tokenizer, seq_len=5 * CUT)
    decoder, ids = Decoder(model, tokenizer), np.arange(n, dtype=np.int32) % 99
    list(decoder.generate(ids))
    n_calls, last = len(model.calls), model.calls[-1]
    list(decoder.generate(ids))
    assert model.calls[n_calls:] == [last] and last[0] + len(last[1]) == n


@pytest.fixture(params=["fp32", "bf16"])
def long_model(tokenizer, request):
    """A window of several pieces, wide enough that kernels for few and for many rows differ in fp32, too."""
    config = ModelConfig(
        n_layer=2, n_head=2, n_embd=96, seq_len=4 * CUT, vocab_size=tokenizer.vocab_size, init_std=0.4
    )
    return GPT(config, precision=request.param).init(7)


def opinions(decoder, ids, monkeypatch):
    """The bits of all logits that choose the answer to a prompt, and the answer."""
    seen = []

    def note(logits, *rest):
        seen.append(logits.tobytes())
        return next_token(logits, *rest)

    monkeypatch.setattr("microgpt.decoding.decoder.next_token", note)
    return seen, list(decoder.generate(ids, GREEDY, 8))


def test_what_the_cache_holds_changes_no_bit_of_an_answer(long_model, tokenizer, monkeypatch):
    ids = np.arange(4 * CUT, dtype=np.int32) * 7 % 97
    turned = ids.copy()
    turned[CUT + 5 :] += 1
    prompts = [ids[:n] for n in (20, 21, CUT + 36, CUT + 37, 40, 3 * CUT, 3 * CUT + 9, 3 * CUT + 9, CUT)]
    used = Decoder(long_model, tokenizer)
    for some in [*prompts, turned[: 2 * CUT + 3], ids[: 2 * CUT + 3]]:
        fresh = opinions(Decoder(long_model, tokenizer), some, monkeypatch)
        assert opinions(used, some, monkeypatch) == fresh
        answered = np.array([*some, *fresh[1], 5], np.int32)  # as in a conversation that goes on
        fresh = opinions(Decoder(long_model, tokenizer), answered, monkeypatch)
        assert opinions(used, answered, monkeypatch) == fresh


@pytest.mark.parametrize("long_model", ["bf16"], indirect=True)
def test_pieces_do_matter(long_model):
    """Otherwise the test above would prove nothing.  In fp32 some machines have the same bits anyway."""
    ids = np.arange(100, dtype=np.int32) % 97
    whole, pieces = long_model.new_state(), long_model.new_state()
    long_model.next_logits([(pieces, ids[:99])])
    differ = long_model.next_logits([(whole, ids)]) != long_model.next_logits([(pieces, ids[99:])])
    assert differ.any()


def test_an_answer_given_up_leaves_a_usable_cache(model, tokenizer):
    decoder = Decoder(model, tokenizer)
    answer = decoder.generate(prompt(tokenizer), GREEDY)
    next(answer)
    next(answer)
    answer.close()
    assert answer.finish == "" and len(answer.ids) == 2 and not list(answer)
    expected = list(Decoder(model, tokenizer).generate(prompt(tokenizer, "you"), GREEDY, 9))
    assert list(decoder.generate(prompt(tokenizer, "you"), GREEDY, 9)) == expected


def test_the_seed_decides_the_answer(model, tokenizer):
    settings = SamplerConfig(temperature=1.5)

    def answer(seed, stream=0):
        draws = uniform_stream(seed, stream)
        return list(Decoder(model, tokenizer).generate(prompt(tokenizer), settings, 20, draws))

    assert answer(3) == answer(3)
    assert answer(3) != answer(4) and answer(3) != answer(3, stream=1)


def test_text_comes_in_whole_characters(tokenizer):
    """Bytes of one character are tokens of their own here; none is shown before the last has come."""
    text = "a é € 😀!"
    model = ScriptedModel(tokenizer, says(tokenizer, text))
    pieces = list(Decoder(model, tokenizer).generate(prompt(tokenizer)).text())
    assert "".join(pieces) == text and "\ufffd" not in pieces and "😀" in pieces
    assert len(tokenizer.encode("😀")) == 4


def test_an_unfinished_character_is_shown_as_such_at_the_end(tokenizer):
    model = ScriptedModel(tokenizer, [ord("a"), *"😀".encode()[:2]])
    assert "".join(Decoder(model, tokenizer).generate(prompt(tokenizer)).text()) == "a\ufffd"


def test_the_penalty_sees_the_last_64_text_tokens_of_prompt_and_answer(tokenizer, monkeypatch):
    seen = []

    def note(logits, config, draw, recent):
        seen.append(list(recent))
        return int(logits.argmax())

    monkeypatch.setattr("microgpt.decoding.decoder.next_token", note)
    model = ScriptedModel(tokenizer, [65, 66], seq_len=200)
    text = np.arange(100, dtype=np.int32)
    bos, assistant = (tokenizer.special_id(name) for name in ("<|bos|>", "<|assistant|>"))
    marked = np.array([bos, *text, assistant], np.int32)
    list(Decoder(model, tokenizer).generate(marked))
    assert seen == [[*range(36, 100)], [*range(37, 100), 65], [*range(38, 100), 65, 66]]


@pytest.mark.parametrize("n_rows", [1, 2, 3, None])
def test_many_at_a_time_are_answered_as_each_alone(tokenizer, n_rows):
    """In float64, where kernels for few and for many rows agree; prompts and answers of many lengths."""
    config = ModelConfig(2, 2, 16, 3 * CUT, tokenizer.vocab_size, init_std=0.4, look_back=2)
    model = GPT(config, np.float64).init(7)
    lengths = (1, 7, CUT + 3, 2, 3 * CUT, 3 * CUT - 2, 30, 7)
    settings = SamplerConfig(temperature=1.5)
    requests = [
        Request(np.arange(n, dtype=np.int32) * 7 % 97, settings, 3 + 5 * number, uniform_stream(number))
        for number, n in enumerate(lengths)
    ]
    alone = [Decoder(model, tokenizer).generate(*request) for request in requests]
    wanted = {number: (list(answer), answer.finish) for number, answer in enumerate(alone)}
    got = {
        number: (answer.ids, answer.finish)
        for number, answer in answer_all(model, tokenizer, requests, n_rows)
    }
    assert got == wanted and len({len(ids) for ids, _ in got.values()}) > 4


def test_weights_are_read_once_for_all_that_are_answered_together(model, tokenizer, monkeypatch):
    calls, next_logits = [], model.next_logits
    monkeypatch.setattr(model, "next_logits", lambda rows: calls.append(len(rows)) or next_logits(rows))
    requests = [Request(prompt(tokenizer), max_tokens=5) for _ in range(6)]
    assert len(list(answer_all(model, tokenizer, requests, 3))) == 6
    assert calls == 2 * [1, 1, 1, 3, 3, 3, 3]
