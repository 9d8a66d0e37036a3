"""The chat loop: messages become answers, lines that begin with a slash change the session."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.corpus.chat import Message

from .conversation import ChatSession
from .terminal import Terminal, encodable
from .transcript import add_conversation, answered


class Command(NamedTuple):
    """A line that begins with a slash.  `run` gets what follows the name, and returns what to tell."""

    argument: str
    help: str
    run: Callable[[str], str]


class Repl:
    """A session at a terminal.

    A mistake of a person is a line, and the chat goes on; one in piped lines ends it as an error, so that no
    message is lost unseen.
    """

    def __init__(self, session: ChatSession, terminal: Terminal) -> None:
        self.session, self.terminal = session, terminal
        self._left = False
        self._saved: list[Message] = []  # what /save kept last
        self.commands = {
            "/help": Command("", "this list", self._help),
            "/reset": Command("", "forget the conversation", self._reset),
            "/temp": self._setting("T", "temperature", float, "temperature; 0: always the likeliest token"),
            "/topk": self._setting("N", "top_k", int, "choose among so many likeliest tokens; 0: all"),
            "/topp": self._setting("P", "top_p", float, "choose among the likeliest that hold this share"),
            "/penalty": self._setting("X", "penalty", float, "against repetition; 1: none"),
            "/seed": Command("N", "start the random numbers again from here", self._seed),
            "/save": Command("FILE", "add the conversation to a JSONL file, or make it", self._save),
            "/quit": Command("", "leave, as Ctrl-D does, and Ctrl-C twice at an empty prompt", self._quit),
        }

    def run(self) -> None:
        """Talk until the person leaves."""
        interactive = self.terminal.interactive
        with self.terminal.interrupt if interactive else contextlib.nullcontext():
            for text in self.terminal.messages():
                self._take(text)
                if self._left:
                    break
        if interactive:
            self.terminal.note(self._farewell())

    def _take(self, text: str) -> None:
        """Do what a command asks for, or answer a message.  Text of several lines is no command."""
        try:
            if text.startswith("/") and not text.startswith("//") and "\n" not in text:
                self._obey(text)
            else:
                self._answer(encodable(text[1:] if text.startswith("//") else text))
        except MicrogptError as error:
            if not self.terminal.interactive:
                raise
            self.terminal.note(str(error))

    def _answer(self, text: str) -> None:
        """Show an answer as it is made.  With a person at the keyboard, Ctrl-C stops it."""
        interrupt = self.terminal.interrupt
        interrupt.hit = False
        with contextlib.closing(self.session.reply(text)) as pieces:
            for piece in pieces:
                self.terminal.write(piece)
                if interrupt.hit:
                    break
        self.terminal.end_line()
        if interrupt.hit:
            self.terminal.note("(stopped)")

    def _farewell(self) -> str:
        unsaved = answered(self.session.history) not in (self._saved, self.session.opening)
        return "goodbye; the conversation was not saved" if unsaved else "goodbye"

    # ---- commands ----

    def _obey(self, line: str) -> None:
        name, *argument = line.split(maxsplit=1)
        command = self.commands.get(name)
        if command is None:
            raise ConfigError(
                f"unknown command {name}; /help lists them, and // begins a message that begins with /"
            )
        try:
            told = command.run("".join(argument))
        except MicrogptError as error:
            raise ConfigError(f"{name}: {error}") from error
        if told:
            self.terminal.note(told)

    def _help(self, _: str) -> str:
        usages = {f"{name} {command.argument}": command.help for name, command in self.commands.items()}
        lines = [f"  {usage:13}{help}" for usage, help in usages.items()]
        config, session = self.session.config, self.session
        return "\n".join(
            [
                *lines,
                "  //TEXT       a message that begins with /",
                "Lines that are pasted together are one message.  The arrow keys bring back earlier ones.",
                f"now: temperature {config.temperature:g}, top-k {config.top_k}, top-p {config.top_p:g}, "
                f"penalty {config.penalty_used:g}, seed {session.seed}; "
                f"{session.n_tokens} of the window's {session.window} tokens are taken",
            ]
        )

    def _reset(self, _: str) -> str:
        self.session.reset()
        return "the conversation is forgotten"

    def _setting(self, argument: str, field: str, kind: type, help: str) -> Command:
        """A command that shows or changes one setting of the sampler."""

        def run(text: str) -> str:
            if text:
                value = _number(text, kind)
                self.session.config = dataclasses.replace(self.session.config, **{field: value})
            shown = "penalty_used" if field == "penalty" else field
            return f"{field.replace('_', '-')} is {getattr(self.session.config, shown)}"

        return Command(argument, help, run)

    def _seed(self, argument: str) -> str:
        if argument:
            seed = _number(argument, int)
            if seed < 0:
                raise ConfigError(f"seed is {seed}; expected 0 or more")
            self.session.reseed(seed)
        return f"seed is {self.session.seed}"

    def _save(self, argument: str) -> str:
        if not argument:
            raise ConfigError("a file name is missing, such as /save chat.jsonl")
        told = add_conversation(self.session.history, argument)
        self._saved = answered(self.session.history)
        return told

    def _quit(self, _: str) -> str:
        self._left = True
        return ""


def _number(text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
