"""Signals in every phase of a command: the right exit code, no traceback, nothing half done or lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.torture.signals import damage, hear_signals
from microgpt.common import signals
from microgpt.runs.checkpoint import find_checkpoint
from microgpt.runs.metrics import read_metrics
from tests.training.forked import Forks

ROOT = Path(__file__).parents[2]
TEXT = "".join(f"A hat of number {n} costs {n * 7919 % 1009} coins, not {n + 1}.\n\n" for n in range(300))
SMALL = [
    "--preset",
    "tiny",
    "--n-layer",
    "1",
    "--seq-len",
    "16",
    "--merges",
    "40",
    "--batch-size",
    "2",
    "--eval-every",
    "4",
    "--eval-tokens",
    "64",
    "--sample-every",
    "6",
    "--save-every",
    "5",
    "--log-every",
    "1",
    "--max-steps",
    "40",
    "--threads",
    "1",
]
TRAIN = ["train", *SMALL, "--data", "text.txt", "--out-dir", "run"]
CHAT = ["chat", "talker", "--max-tokens", "9"]

COMMAND = "import sys; from microgpt.__main__ import main; main(sys.argv[1:])"

# Runs a command with a trap on one function: the nth call of it begins with a signal to ourselves.
TRAPPED = """
import functools, importlib, os, signal, sys
import microgpt.__main__ as command

number, nth, place, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
calls = []

def trap(function):
    @functools.wraps(function)
    def trapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == nth:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)
    return trapped

module, _, name = place.partition(":")
owner = importlib.import_module(module)
*path, last = name.split(".")
for part in path:
    owner = getattr(owner, part)
setattr(owner, last, trap(getattr(owner, last)))
command.main(words)
"""

# Before that: leaves the command to a child, and wakes it once it was stopped.
WAKING = """
import os, signal, sys
child = os.fork()
if child:
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    os.kill(child, signal.SIGCONT)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

# phase: (function whose call is struck, which call)
PREPARING = {
    "hashing": ("microgpt.corpus.prepared.corpus:Corpus.digest", 1),
    "reading": ("microgpt.corpus.prepared.corpus:Corpus.training_texts", 1),
    "counting": ("microgpt.tokenizer.native:Counter.add", 1),
    "merging": ("microgpt.tokenizer.native:Trainer.step", 2),
    "encoding": ("microgpt.corpus.prepared.make:_encode", 1),
    "syncing": ("microgpt.files.durable:sync_path", 2),
    "first weights": ("microgpt.model.parameters:Arena.init", 1),
    "pairs": ("microgpt.training.bigrams:loss_and_grad", 2),
    "timing": ("microgpt.training.horizon:_mean_time", 1),
}
TIMED = ["--no-tied", "--init-out", "zero", "--bigram-passes", "3", "--max-steps", "0", "--max-time", "1h"]
TRAINING = {
    "micro-batch": ("microgpt.model.gpt:GPT.loss_and_grad", 13),
    "backward": ("microgpt.core.ops:rmsnorm_backward", 20),
    "update": ("microgpt.training.optimizer:Optimizer.update", 9),
    "evaluation": ("microgpt.model.gpt:GPT.token_losses", 5),
    "sample": ("microgpt.decoding.decoder:next_logits", 3),
    "copying": ("microgpt.runs.checkpoint:Snapshot.fill", 2),
    "saving": ("microgpt.runs.checkpoint:verify", 2),
    "last save": ("microgpt.runs.saver:Saver.finish", 1),
}
CHATTING = {
    "loading": ("microgpt.runs.checkpoint:load_weights", 1),
    "a prompt": ("microgpt.chat.terminal:Terminal.write", 1),
    "an answer": ("microgpt.decoding.decoder:next_logits", 7),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def in_turn(phases):
    """Each phase with one of the signals."""
    return [(phase, SIGNALS[i % 3]) for i, phase in enumerate(phases)]


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="module")
def talker(tmp_path_factory, forks):
    """A folder with a corpus, prepared, and a model to talk to."""
    folder = tmp_path_factory.mktemp("signals")
    (folder / "text.txt").write_text(TEXT)
    (folder / "lines.txt").write_text("Hello!\nWho are you?\n")
    done = forked(forks, folder, COMMAND, [*TRAIN[:-1], "talker", "--max-steps", "2"])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(talker, tmp_path):
    """A folder of one's own with the same files; the corpus is not prepared there."""
    for path in talker.iterdir():
        if path.name not in ("data", "cache"):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def places_of(folder):
    return {"MICROGPT_DATA_DIR": "data", "XDG_CACHE_HOME": str(folder / "cache")}


def forked(forks, folder, code, words=()):
    """Code in a process that has all imports behind it."""
    return forks.run(code, words, folder, folder / "lines.txt", places_of(folder))


def command(folder, words, **options):
    """A command in a process of its own, from the first import on."""
    with open(folder / "lines.txt") as lines:
        return subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            stdin=lines,
            text=True,
            timeout=600,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": hear_signals, **options},
            env=os.environ | {"PYTHONPATH": str(ROOT)} | places_of(folder),
        )


def struck(forks, folder, place, number, words):
    """A command that got a signal at a place of its code, and ended as it should."""
    name, nth = place
    done = forked(forks, folder, TRAPPED, [str(int(number)), str(nth), name, *words])
    assert done.returncode == 128 + number, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
    assert damage(folder) is None
    return done


@pytest.mark.parametrize("phase, number", in_turn(PREPARING))
def test_a_signal_before_training_leaves_nothing_half_done(phase, number, folder, forks):
    words = [*TRAIN, *TIMED] if phase in ("pairs", "timing") else TRAIN
    done = struck(forks, folder, PREPARING[phase], number, words)
    assert "no checkpoint was saved: the run had not begun" in done.stderr
    assert not (folder / "run").exists() and not list(folder.glob("data/prepared/.microgpt-b*"))
    if phase == "encoding":
        assert forked(forks, folder, COMMAND, [*TRAIN, "--max-steps", "1"]).returncode == 0


@pytest.mark.parametrize("phase, number", in_turn(TRAINING))
def test_a_signal_in_training_saves_where_it_was(phase, number, folder, talker, forks):
    (folder / "data").symlink_to(talker / "data")
    struck(forks, folder, TRAINING[phase], number, TRAIN)
    steps = [line["step"] for line in read_metrics(folder / "run/metrics.jsonl") if line["event"] == "train"]
    assert find_checkpoint(folder / "run").name == f"step_{steps[-1]:08d}"
    assert steps[-1] == 40 or phase != "last save"


@pytest.mark.parametrize("phase, number", in_turn(CHATTING))
def test_a_signal_ends_a_chat(phase, number, folder, forks):
    struck(forks, folder, CHATTING[phase], number, CHAT)


def test_a_signal_that_is_ignored_stays_so(folder, talker):
    """As under nohup."""
    (folder / "data").symlink_to(talker / "data")
    words = ["-c", TRAPPED, "1", "5", "microgpt.model.gpt:GPT.loss_and_grad", *TRAIN]
    done = command(folder, words, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert done.returncode == 0 and "finished: 40 steps" in done.stdout and "stopping" not in done.stderr


def test_a_signal_that_strikes_in_a_destructor_is_not_lost(folder):
    code = """
import os, signal, time
from microgpt.common.command import run_command
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
def main():
    Dying()
    while True:
        time.sleep(0.01)
run_command(main)
"""
    done = command(folder, ["-c", code])
    assert done.returncode == 143 and done.stderr == "microgpt: stopped\n"


def test_a_signal_that_is_sent_again_before_it_can_be_heard_is_sent_once_more(monkeypatch):
    """As on a machine so slow that the moment is over while its timer starts."""
    sent = []

    class AtOnce:
        def __init__(self, seconds, kill, words):
            self.number = words[1]

        def start(self):
            sent.append(self.number)
            if len(sent) == 1:
                raise KeyboardInterrupt
            if len(sent) == 2:
                raise signals.Stopped(signal.SIGHUP)

    monkeypatch.setattr(signals.threading, "Timer", AtOnce)
    signals._unraisable(SimpleNamespace(exc_value=signals.Stopped(signal.SIGTERM)))
    assert sent == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def test_a_second_signal_that_comes_with_the_first_is_not_lost(folder, forks):
    """Python drops it, for the handler of the first replaces its own."""
    code = """
import signal, threading
from microgpt.common.command import run_command
from microgpt.training.stop import StopFlag
def main():
    with StopFlag():
        both = {signal.SIGHUP, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        for number in both:  # to this thread: others would take them at once, in either order
            signal.pthread_kill(threading.get_ident(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        signal.pause()
run_command(main)
"""
    done = forked(forks, folder, code)
    assert done.returncode == -signal.SIGINT and "Traceback" not in done.stderr, done.stderr


def test_a_second_signal_that_comes_while_the_first_is_handled_is_not_lost(folder, forks):
    """Replacing a handler handles what is pending first, in the midst of the first handler."""
    code = """
import os, signal
from microgpt.common.command import run_command
from microgpt.training.stop import StopFlag
class InTheMidst(StopFlag):
    def request(self, number):
        if self.signal is None:
            self.signal = number
            os.kill(os.getpid(), signal.SIGINT)
def main():
    with InTheMidst():
        os.kill(os.getpid(), signal.SIGHUP)
        signal.pause()
run_command(main)
"""
    done = forked(forks, folder, code)
    assert done.returncode == -signal.SIGINT and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("streams", [["stdout"], ["stdout", "stderr"]])
def test_a_run_goes_on_without_anybody_to_read_its_lines(streams, folder, talker):
    """`microgpt train | head -1`, a terminal that was closed."""
    (folder / "data").symlink_to(talker / "data")
    reader, writer = os.pipe()
    os.close(reader)
    done = command(folder, ["-m", "microgpt", *TRAIN], **dict.fromkeys(streams, writer))
    os.close(writer)
    assert done.returncode == 0 and find_checkpoint(folder / "run").name == "step_00000040"
    assert not done.stderr or ("Error" not in done.stderr and "sample after 36 steps" in done.stderr)


def test_a_stopped_process_goes_on(folder, talker, forks):
    (folder / "data").symlink_to(talker / "data")
    struck_at = [str(int(signal.SIGSTOP)), "9", TRAINING["micro-batch"][0]]
    done = forked(forks, folder, WAKING + TRAPPED, [*struck_at, *TRAIN])
    assert done.returncode == 0 and find_checkpoint(folder / "run").name == "step_00000040", done.stderr
