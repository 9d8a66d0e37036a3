"""Teach a model: it offers answers, you pick one or type a better one, and it learns that at once.

  microgpt teach quickstart                 lessons go into runs/quickstart-taught
  microgpt teach mine --out-dir runs/ours   another place; the same words again go on with the lessons there

A line is a message to the model.  Then a number picks one of its answers, other words are the answer that you
want, and an empty line is none of it; after = stands an answer to the letter, as in =5.  /undo takes the last
lesson back, /new begins a new conversation, and /quit ends.  Every lesson is saved at once.  At the end it is
told what the lessons did to what the model knew before: bits per byte of what is held out of the text that it
was trained on last.  The exam is taken, too, if the embedded corpus was ever learned: by the model, or by one
that it began with.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from microgpt.common.flags import Parser
from microgpt.common.output import harmless, show, tell
from microgpt.common.words import command_line, counted
from microgpt.core import native
from microgpt.corpus.chat import Message
from microgpt.machine.cpus import add_threads_flag, wanted_threads
from microgpt.runs.kept import place_of
from microgpt.runs.layout import RUNS, RunDirectory, run_of
from microgpt.tuning.teach import Effect, Teacher


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt teach", description=__doc__)
    flags.add_argument("run", metavar="RUN", help="the model, named as for chat")
    flags.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="where lessons go [default runs/<run>-taught]"
    )
    add_threads_flag(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    native.set_threads(wanted_threads(args.threads))
    place = place_of(args.run)
    run = args.out_dir or RUNS / f"{(run_of(place) or place).name}-taught"
    with RunDirectory(run):
        teacher = Teacher(args.run, run)
        tell(f"{counted(len(teacher.lessons), 'lesson')} in {run}; a line is a message, /quit ends")
        if not teacher.replays:
            tell("the text it was trained on is gone: lessons come without any of it, more may be forgotten")
        before = teacher.state.step
        converse(teacher, lines())
        if teacher.state.step != before:
            tell_effect(teacher)
    if not teacher.is_saved:
        show("nothing was learned, so nothing is saved")
        return 0
    picked = "; pairs.jsonl has what was picked" if teacher.lessons else ""
    show(f"saved    {run}  ({counted(len(teacher.lessons), 'lesson')}{picked})")
    show(f"next     {command_line('chat', run)}")
    return 0


def lines() -> Iterator[str]:
    """What is typed, line by line, until it ends."""
    while True:
        if sys.stdin.isatty():
            tell("> ")
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return
        if not line:
            return
        yield line.strip()


def converse(teacher: Teacher, typed: Iterator[str]) -> None:
    """Messages and lessons until /quit or the end of what is typed."""
    messages: list[Message] = []
    for line in typed:
        if line == "/quit":
            return
        if line == "/new":
            messages = []
        elif line == "/undo":
            tell("taken back" if teacher.undo() else "there is no lesson that could be taken back")
            messages = []
        elif line:
            messages.append(Message("user", line))
            answer = taught(teacher, messages, typed)
            messages = [*messages, Message("assistant", answer)] if answer else messages[:-1]


def taught(teacher: Teacher, messages: list[Message], typed: Iterator[str]) -> str:
    """Offer answers and learn the one that is wanted; it, or nothing."""
    offered = teacher.candidates(messages)
    show(*(f"{number}  {harmless(text)}" for number, text in enumerate(offered, 1)))
    tell(f"1 to {len(offered)}, a better answer (=5: the answer 5), or nothing")
    wanted = next(typed, "")
    picks = {str(number): text for number, text in enumerate(offered, 1)}
    wanted = wanted[1:].strip() if wanted.startswith("=") else picks.get(wanted, wanted)
    if wanted:
        nats = teacher.teach(messages, wanted, offered)
        tell(f"learned and saved: {harmless(wanted)} (it cost {nats:.2f} nats a token before)")
    return wanted


def tell_effect(teacher: Teacher) -> None:
    """What the lessons did to the rest."""
    tell("measuring what the lessons did to the rest ...")
    before, after = teacher.effect_before(), teacher.effect()
    if before is None or after is None:
        tell("the text it was trained on is gone, so nothing can be measured")
        return
    show(f"held out {before.bpb:.4f} bits per byte before, {after.bpb:.4f} now", *_exam(before, after))


def _exam(before: Effect, after: Effect) -> list[str]:
    if before.exam is None or after.exam is None:
        return []
    return [f"exam     {before.exam:.1%} right before, {after.exam:.1%} now"]
