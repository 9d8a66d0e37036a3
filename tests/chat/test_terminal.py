"""A chat as a person has it, on a terminal of its own: Ctrl-C, Ctrl-D, and what is pasted."""

import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest

HANG_S = 600  # only a chat that hangs is ever waited for so long
CHAT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that started the tests had
sys.path[:0] = {paths!r}
if {plain}:
    sys.modules["readline"] = None
from tests.decoding.fakes import ScriptedModel, says
from microgpt.chat.repl import Repl
from microgpt.decoding.sampler import GREEDY
from microgpt.chat.conversation import ChatSession
from microgpt.chat.terminal import Terminal
from microgpt.tokenizer import train
tokenizer, terminal = train(["hello"], n_merges=1), Terminal()
model = ScriptedModel(tokenizer, says(tokenizer, *"123456789"), seq_len=400)
session = ChatSession(model, tokenizer, GREEDY, say=terminal.note)
Repl(session, terminal).run()
print([message.content for message in session.history])
"""
CTRL_C, CTRL_D = "\x03", "\x04"
FIRST_WORD = "(Ctrl-C again leaves"


class Person:
    """Somebody at a terminal.  seen: all that the screen showed.  at: how far that was waited for."""

    def __init__(self, plain, term="xterm"):
        here = Path(__file__).parent
        code = CHAT.format(paths=[str(here), str(here.parents[1])], plain=plain)
        pid, self.screen = pty.fork()
        if not pid:
            os.environ["TERM"] = term
            os.execv(sys.executable, [sys.executable, "-c", code])
        self.pid, self.seen, self.at = pid, "", 0
        self.stat = Path(f"/proc/{pid}/stat")  # on Linux

    def waits_for(self, text):
        """Read on until the screen has shown a text, behind the one that was waited for before."""
        while text not in self.seen[self.at :]:
            ready = select.select([self.screen], [], [], HANG_S)[0]
            assert ready, f"no {text!r} after {self.seen!r}"
            try:
                self.seen += os.read(self.screen, 1000).decode()
            except OSError:
                pytest.fail(f"it ended without {text!r}: {self.seen!r}")
        self.at = self.seen.index(text, self.at) + len(text)

    def types(self, text):
        """Enter text once the chat is reading: a Ctrl-C just before is seen only with the next key."""
        while self.stat.exists() and self.stat.read_text().rpartition(")")[2].split()[0] == "R":
            time.sleep(0.005)
        os.write(self.screen, text.encode())

    def leaves(self):
        """Wait for the end; return the exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(params=[False, True], ids=["readline", "plain"])
def person(request):
    if not request.param:
        readline = pytest.importorskip("readline")
        if getattr(readline, "_READLINE_RUNTIME_VERSION", 0) < 0x801:
            pytest.skip("no GNU readline that marks pastes")
    person = Person(plain=request.param)
    person.waits_for("> ")
    yield person
    os.close(person.screen)


def test_the_first_ctrl_c_at_an_empty_prompt_tells_how_to_leave_and_the_second_leaves(person):
    person.types("hello\r")
    person.waits_for("1")
    person.waits_for("> ")
    person.types(CTRL_C)
    person.waits_for(FIRST_WORD)
    person.waits_for("> ")
    person.types("again\r")  # not a second one in a row any more
    person.waits_for("2")
    person.waits_for("> ")
    person.types(CTRL_C)
    person.waits_for(FIRST_WORD)
    person.waits_for("> ")
    person.types(CTRL_C)
    person.waits_for("goodbye; the conversation was not saved")
    person.waits_for("['hello', '1', 'again', '2']")
    assert person.leaves() == 0 and "Traceback" not in person.seen


def test_ctrl_c_drops_a_line_begun_and_says_nothing(person):
    person.types("mistake")
    person.waits_for("mistake")
    person.types(CTRL_C)
    person.waits_for("> ")
    person.types("hello\r")
    person.waits_for("1")
    person.waits_for("> ")
    person.types(CTRL_D)
    person.waits_for("['hello', '1']")
    assert person.leaves() == 0


@pytest.mark.parametrize("leave", [CTRL_D, "/quit\r"])
def test_ctrl_d_and_quit_leave(person, leave):
    person.types(leave)
    person.waits_for("goodbye")
    assert person.leaves() == 0


def test_pasted_lines_are_one_message(person, request):
    """A terminal marks what is pasted if it was asked to; otherwise the lines come at once."""
    text = "one\r\rthree\r"
    person.types(f"\x1b[200~{text[:-1]}\x1b[201~\r" if "readline" in request.node.name else text)
    person.waits_for("1\r\n")
    person.waits_for("> ")
    person.types(CTRL_D)
    person.waits_for(r"['one\n\nthree', '1']")
    assert person.leaves() == 0


def test_a_dumb_terminal_gets_no_codes():
    person = Person(plain=False, term="dumb")
    person.waits_for("> ")
    person.types("one\rtwo\r")
    person.waits_for("1\r\n")
    person.waits_for("> ")
    person.types(CTRL_D)
    person.waits_for("]")
    assert "\x1b" not in person.seen and r"['one\ntwo', '1']" in person.seen
    assert person.leaves() == 0
