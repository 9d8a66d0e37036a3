"""The decoder: where it stops, what it never says, what it need not compute again."""

import numpy as np
import pytest
from inference_fakes import ScriptedModel, says

from microgpt.common.errors import ConfigError
from microgpt.inference.decoder import Decoder, uniform_stream
from microgpt.inference.sampler import GREEDY, SamplerConfig
from microgpt.tokenizer import SPECIALS


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
    decoder = Decoder(ScriptedModel(tokenizer, says(tokenizer, "fine")), tokenizer)
    ids = list(decoder.generate(prompt(tokenizer)))
    assert tokenizer.decode(ids) == b"fine" and decoder.finish == "stop" and decoder.made == ids


def test_it_stops_at_max_tokens(tokenizer):
    decoder = Decoder(ScriptedModel(tokenizer, [65] * 99), tokenizer)
    assert list(decoder.generate(prompt(tokenizer), max_tokens=5)) == [65] * 5
    assert decoder.finish == "length"


@pytest.mark.parametrize("n_prompt", [1, 10, 15, 16])
def test_it_uses_the_whole_window_and_no_more(tokenizer, n_prompt):
    model = ScriptedModel(tokenizer, [65] * 99, seq_len=16)
    decoder = Decoder(model, tokenizer)
    made = list(decoder.generate(np.full(n_prompt, 66, np.int32)))
    assert len(made) == 16 - n_prompt + 1  # the last one need not be fed
    assert decoder.state.length == 16 and decoder.finish == "length"


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


def test_only_what_is_new_is_fed(tokenizer):
    model = ScriptedModel(tokenizer, says(tokenizer, "ab", "cd"))
    decoder = Decoder(model, tokenizer)
    first = prompt(tokenizer, "hello there")
    answer = list(decoder.generate(first))
    longer = np.array([*first, *answer, 70, 71], np.int32)
    list(decoder.generate(longer))
    _, (_, *_), *_ = model.calls
    start, ids = model.calls[len(answer) + 1]
    assert (start, ids) == (len(first) + len(answer), [70, 71])


def test_the_same_prompt_again_feeds_one_token(tokenizer):
    model = ScriptedModel(tokenizer, says(tokenizer, "a", "a"))
    decoder = Decoder(model, tokenizer)
    ids = prompt(tokenizer)
    assert list(decoder.generate(ids)) == list(decoder.generate(ids))
    assert model.calls[2] == (len(ids) - 1, [ids[-1]])


def test_reuse_does_not_change_an_answer(model, tokenizer):
    texts = ["hello there", "hello you", "hello you, how are", "I am", "I am"]
    used = Decoder(model, tokenizer)
    for text in texts:
        fresh = list(Decoder(model, tokenizer).generate(prompt(tokenizer, text), GREEDY, 12))
        assert list(used.generate(prompt(tokenizer, text), GREEDY, 12)) == fresh
    assert used.fed < sum(len(prompt(tokenizer, text)) + 12 for text in texts)


def test_an_answer_given_up_leaves_a_usable_cache(model, tokenizer):
    decoder = Decoder(model, tokenizer)
    answer = decoder.generate(prompt(tokenizer), GREEDY)
    next(answer)
    next(answer)
    answer.close()
    assert decoder.finish == "" and len(decoder.made) == 2
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
    pieces = list(Decoder(model, tokenizer).stream(prompt(tokenizer)))
    assert "".join(pieces) == text and "\ufffd" not in pieces and "😀" in pieces
    assert len(tokenizer.encode("😀")) == 4


def test_an_unfinished_character_is_shown_as_such_at_the_end(tokenizer):
    model = ScriptedModel(tokenizer, [ord("a"), *"😀".encode()[:2]])
    assert "".join(Decoder(model, tokenizer).stream(prompt(tokenizer))) == "a\ufffd"


def test_the_penalty_sees_the_last_64_text_tokens_of_prompt_and_answer(tokenizer, monkeypatch):
    seen = []

    def note(logits, config, draw, recent):
        seen.append(list(recent))
        return int(logits.argmax())

    monkeypatch.setattr("microgpt.inference.decoder.next_token", note)
    model = ScriptedModel(tokenizer, [65, 66], seq_len=200)
    text = np.arange(100, dtype=np.int32)
    bos, assistant = (tokenizer.special_id(name) for name in ("<|bos|>", "<|assistant|>"))
    marked = np.array([bos, *text, assistant], np.int32)
    list(Decoder(model, tokenizer).generate(marked))
    assert seen == [[*range(36, 100)], [*range(37, 100), 65], [*range(38, 100), 65, 66]]
