"""The chat loop with lines from a file, and its commands."""

import io
import json
import os
import signal
import sys

import pytest
from inference_fakes import ScriptedModel, says

from microgpt.inference.repl import Repl
from microgpt.inference.sampler import SamplerConfig
from microgpt.inference.session import ChatSession
from microgpt.inference.terminal import Interrupt, Terminal, encodable, harmless


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


@pytest.mark.parametrize(
    "line, message",
    [
        ("/temp warm", "/temp: 'warm' is not a number"),
        ("/temp -1", "/temp: temperature is -1; expected 0 to 100"),
        ("/topk 1.5", "/topk: '1.5' is not a whole number"),
        ("/topp nan", "/topp: top-p is nan"),
        ("/seed x", "/seed: 'x' is not a whole number"),
        ("/dance", "unknown command /dance; /help lists them"),
        ("/save", "/save needs a file name"),
        ("/save x.jsonl", "nothing said yet"),
    ],
)
def test_a_bad_command_is_one_line_and_the_chat_goes_on(talk, line, message):
    out, err, session = talk(f"{line}\nhello\n", "hi")
    assert err.startswith(message) and err.count("\n") == 1
    assert out.endswith("hi\n") and session.config == SamplerConfig()


def test_help_lists_every_command(talk):
    _, err, _ = talk("/help\n")
    names = ("/help", "/reset", "/temp", "/topk", "/topp", "/penalty", "/seed", "/save", "/quit")
    assert all(f"  {name} " in err for name in names) and "now: temperature 0.7, top-k 40" in err


def test_reset_and_quit(talk):
    out, _, session = talk("hello\n/reset\n/quit\nnever read\n", "hi")
    assert session.history == [] and "never" not in out


def test_save_adds_a_line_that_is_a_training_document(talk, tmp_path):
    path = tmp_path / "chat.jsonl"
    for _ in range(2):
        talk(f"é\n/save {path}\n", "hi")
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    messages = [{"role": "user", "content": "é"}, {"role": "assistant", "content": "hi"}]
    assert documents == [{"messages": messages}] * 2


def test_a_file_that_cannot_be_written_is_named(talk, tmp_path):
    err = talk(f"hello\n/save {tmp_path}/no/such\n/temp\n", "hi")[1]
    assert err.startswith("/save: ") and "no/such" in err and "temperature" in err


def test_an_answer_cannot_control_the_terminal(talk):
    assert talk("\x1b[2Jhello\n", "a\x1b[31mb\x07\tc\n\x9bd")[0] == "> �[2Jhello\na�[31mb�\tc\n�d\n"
    assert harmless("plain é 😀\n\t") == "plain é 😀\n\t"


def test_neither_can_what_a_note_repeats(talk):
    assert talk("/\x1b[2Jx\n")[1] == "unknown command /�[2Jx; /help lists them\n"


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
    assert out == "012\nok\n" and err == "(stopped)\n"
    assert session.history[1].content == "012"


def test_the_interrupt_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupt.hit and signal.getsignal(signal.SIGINT) is before
