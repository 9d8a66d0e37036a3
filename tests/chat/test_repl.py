"""The chat loop with lines from a file, and its commands."""

import io
import json
import os
import re
import signal
import sys

import pytest

from microgpt.chat.conversation import ChatSession
from microgpt.chat.repl import Repl
from microgpt.chat.terminal import Interrupt, Terminal, encodable, harmless
from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.decoding.sampler import SamplerConfig
from tests.decoding.fakes import ScriptedModel, says


@pytest.fixture
def person(tokenizer, monkeypatch, capsys):
    """Run a chat over what a person enters with a scripted model; (stdout, stderr, session)."""

    def person(entries, *answers, **broken):
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        model, terminal = ScriptedModel(tokenizer, says(tokenizer, *answers), seq_len=400), Terminal()
        vars(model).update(broken)
        terminal.interactive = True
        monkeypatch.setattr(terminal, "_typed", lambda: iter(entries))
        session = ChatSession(model, tokenizer, SamplerConfig(), say=terminal.note)
        Repl(session, terminal).run()
        return *capsys.readouterr(), session

    return person


@pytest.fixture
def talk(tokenizer, monkeypatch, capsys):
    """Run a chat over some lines with a scripted model; (stdout, stderr, session)."""

    def talk(lines, *answers):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        model = ScriptedModel(tokenizer, says(tokenizer, *answers), seq_len=400)
        terminal = Terminal()
        session = ChatSession(model, tokenizer, SamplerConfig(), say=terminal.note)
        Repl(session, terminal).run()
        return *capsys.readouterr(), session

    return talk


def test_lines_become_messages_and_stdout_reads_as_a_conversation(talk):
    out, err, session = talk("hello\n\n  how are you?  \n", "hi", "fine")
    assert out == "> hello\nhi\n> how are you?\nfine\n" and err == ""
    assert [message.content for message in session.history] == ["hello", "hi", "how are you?", "fine"]


def test_a_last_line_without_its_end_counts(talk):
    assert talk("hello", "hi")[0] == "> hello\nhi\n"


def test_nothing_to_read_is_no_error(talk, monkeypatch):
    assert talk("")[0] == ""
    monkeypatch.setattr(sys, "stdin", None)
    assert list(Terminal().messages()) == []


def test_settings_are_changed_and_shown(talk):
    _, err, session = talk("/temp 0.3\n/topk 1234567\n/topp 0.5\n/penalty 1.4\n/seed 9\n/temp\n")
    assert session.config == SamplerConfig(0.3, 1234567, 0.5, 1.4) and session.seed == 9
    assert err.splitlines()[-1] == "temperature is 0.3" and "top-k is 1234567" in err


MISTAKES = [
    ("/temp warm", "/temp: 'warm' is not a number"),
    ("/temp -1", "/temp: temperature is -1; expected 0 to 100"),
    ("/topk 1.5", "/topk: '1.5' is not a whole number"),
    ("/topp nan", "/topp: top-p is nan"),
    ("/seed x", "/seed: 'x' is not a whole number"),
    ("/seed -1", "/seed: seed is -1; expected 0 or more"),
    ("/dance", "unknown command /dance; /help lists them, and // begins"),
    ("/", "unknown command /;"),
    ("/save", "/save: a file name is missing"),
    ("/save x.jsonl", "/save: nothing was answered yet"),
    ("/\x1b[2Jx", r"unknown command /\x1b[2Jx;"),
]


@pytest.mark.parametrize("line, message", MISTAKES)
def test_a_mistake_of_a_person_is_one_line_and_the_chat_goes_on(person, line, message):
    out, err, session = person([line, "hello"], "hi")
    assert err.startswith(message) and err.splitlines()[1:] == ["goodbye; the conversation was not saved"]
    assert out == "hi\n" and session.config == SamplerConfig()


@pytest.mark.parametrize("line, message", MISTAKES)
def test_a_mistake_in_piped_lines_ends_the_chat_as_an_error(talk, capsys, line, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        talk(f"{line}\nhello\n", "hi")
    assert "hi" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["//etc/hosts", "//", "///x"])
def test_two_slashes_begin_a_message_that_begins_with_one(talk, person, text):
    for session in (talk(text, "ok")[2], person([text], "ok")[2]):
        assert session.history[0].content == text[1:]


def test_text_of_several_lines_is_a_message_whatever_it_begins_with(person):
    pasted = ["/reset\nhello", "//x\ny", "a\n\n/quit"]
    _, err, session = person(pasted, "1", "2", "3")
    assert [message.content for message in session.history[::2]] == ["/reset\nhello", "/x\ny", "a\n\n/quit"]
    assert err == "goodbye; the conversation was not saved\n"


def test_leaving_tells_that_a_conversation_is_not_saved(person, tmp_path):
    name = tmp_path / "x.jsonl"
    lost = "goodbye; the conversation was not saved"
    for lines, farewell in [
        ([], "goodbye"),
        (["/quit"], "goodbye"),
        (["a"], lost),
        (["a", "/quit", "b"], lost),
        (["a", f"/save {name}"], "goodbye"),
        (["a", f"/save {name}", "b"], lost),
        (["a", "/reset"], "goodbye"),
    ]:
        assert person(lines, "1", "2")[1].splitlines()[-1] == farewell


def test_help_lists_every_command(talk):
    _, err, _ = talk("/help\n")
    names = ("/help", "/reset", "/temp", "/topk", "/topp", "/penalty", "/seed", "/save", "/quit")
    assert all(f"  {name} " in err for name in names) and "now: temperature 0.7, top-k 40" in err


def test_reset_and_quit(talk):
    out, _, session = talk("hello\n/reset\n/quit\nnever read\n", "hi")
    assert session.history == [] and "never" not in out


def test_save_adds_a_line_to_a_file(talk, tmp_path):
    path = tmp_path / "chat.jsonl"
    told = [talk(f"é\n/save {path}\n", "hi")[1] for _ in range(2)]
    assert told == [
        f"saved 2 messages in a new {path}\n",
        f"added 2 messages to {path}, which holds others\n",
    ]
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    messages = [{"role": "user", "content": "é"}, {"role": "assistant", "content": "hi"}]
    assert documents == [{"messages": messages}] * 2


def test_a_broken_model_ends_an_answer_and_not_the_chat(person):
    def break_down(*_):
        raise MicrogptError("not finite")

    _, err, session = person(["a", "b"], "1", next_logits=break_down)
    assert err == "not finite\nnot finite\ngoodbye\n" and session.history == []


def test_an_answer_cannot_control_the_terminal(talk):
    assert talk("\x1b[2Jhello\n", "a\x1b[31mb\x07\tc\n\x9bd")[0] == "> �[2Jhello\na�[31mb�\tc\n�d\n"
    assert harmless("plain é 😀\n\t") == "plain é 😀\n\t"


def test_notes_stand_on_lines_of_their_own(tokenizer, monkeypatch):
    """Both streams go to one place, as on a screen; an answer is cut, another has no text."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nand now?\n"))
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    model, terminal = ScriptedModel(tokenizer, says(tokenizer, "0123")), Terminal()
    config = SamplerConfig(temperature=0)
    Repl(ChatSession(model, tokenizer, config, max_tokens=4, say=terminal.note), terminal).run()
    assert screen.getvalue().splitlines() == [
        "> hello",
        "0123",
        "the answer was cut at 4 tokens: --max-tokens",
        "> and now?",
        "the answer is empty",
    ]


def test_what_is_no_character_is_replaced(talk):
    assert encodable("a\udcffb") == "a?b"
    assert talk("a\udcffb\n", "hi")[2].history[0].content == "a?b"


def test_ctrl_c_stops_the_answer_and_not_the_chat(tokenizer, monkeypatch, capsys):
    """The signal comes in the middle of the first answer, which stays as far as it came."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("count\nagain\n"))
    model = ScriptedModel(tokenizer, says(tokenizer, "0123456789"), seq_len=400)
    terminal = Terminal()
    terminal.interactive = True
    monkeypatch.setattr(terminal, "_typed", lambda: iter(["count", "again"]))
    session = ChatSession(model, tokenizer, SamplerConfig(temperature=0), say=terminal.note)
    write = terminal.write

    def write_and_interrupt(text):
        write(text)
        if text == "2":
            os.kill(os.getpid(), signal.SIGINT)
            model.script = says(tokenizer, "ok")

    monkeypatch.setattr(terminal, "write", write_and_interrupt)
    Repl(session, terminal).run()
    out, err = capsys.readouterr()
    assert out == "012\nok\n" and err == "(stopped)\ngoodbye; the conversation was not saved\n"
    assert session.history[1].content == "012"


def test_ctrl_c_raises_only_at_the_prompt_and_its_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.hit
        interrupt.at_prompt = True
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
