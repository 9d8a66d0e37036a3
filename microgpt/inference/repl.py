"""The chat loop: messages become answers, lines that begin with a slash change the session."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from microgpt.common.errors import MicrogptError

from .session import ChatSession
from .terminal import Interrupt, Terminal, encodable


class Command(NamedTuple):
    """A line that begins with a slash.  `run` gets what follows the name, and returns what to tell."""

    argument: str
    help: str
    run: Callable[[str], str]


class Repl:
    """A session at a terminal."""

    def __init__(self, session: ChatSession, terminal: Terminal) -> None:
        self.session, self.terminal = session, terminal
        self._left = False
        self.commands = {
            "/help": Command("", "this list", self._help),
            "/reset": Command("", "forget the conversation", self._reset),
            "/temp": self._setting("T", "temperature", float, "temperature; 0: always the likeliest token"),
            "/topk": self._setting("N", "top_k", int, "choose among so many likeliest tokens; 0: all"),
            "/topp": self._setting("P", "top_p", float, "choose among the likeliest that hold this share"),
            "/penalty": self._setting("X", "penalty", float, "against repetition; 1: none"),
            "/seed": Command("N", "start the random numbers again from here", self._seed),
            "/save": Command("FILE", "add the conversation to a JSONL file", self._save),
            "/quit": Command("", "leave; so do Ctrl-C and Ctrl-D", self._quit),
        }

    def run(self) -> None:
        """Talk until the person leaves."""
        for line in self.terminal.messages():
            if line.startswith("/"):
                self.terminal.note(self._command(line))
            else:
                self._answer(encodable(line))
            if self._left:
                return

    def _answer(self, text: str) -> None:
        """Show an answer as it is made.  With a person at the keyboard, Ctrl-C stops it."""
        if not self.terminal.interactive:
            for piece in self.session.reply(text):
                self.terminal.write(piece)
            self.terminal.end_line()
            return
        pieces = self.session.reply(text)
        with Interrupt() as interrupt:
            for piece in pieces:
                self.terminal.write(piece)
                if interrupt.hit:
                    break
            pieces.close()  # type: ignore[attr-defined]
        self.terminal.end_line()
        if interrupt.hit:
            self.terminal.note("(stopped)")

    # ---- commands ----

    def _command(self, line: str) -> str:
        name, _, argument = line.partition(" ")
        command = self.commands.get(name)
        if command is None:
            return f"unknown command {name}; /help lists them"
        try:
            return command.run(argument.strip())
        except (MicrogptError, OSError, ValueError) as error:
            return f"{name}: {error}"

    def _help(self, _: str) -> str:
        usages = {f"{name} {command.argument}": command.help for name, command in self.commands.items()}
        lines = [f"  {usage:13}{help}" for usage, help in usages.items()]
        config, session = self.session.config, self.session
        return "\n".join(
            [
                *lines,
                f"now: temperature {config.temperature:g}, top-k {config.top_k}, top-p {config.top_p:g}, "
                f"penalty {config.penalty:g}, seed {session.seed}; "
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
            return f"{field.replace('_', '-')} is {getattr(self.session.config, field)}"

        return Command(argument, help, run)

    def _seed(self, argument: str) -> str:
        if argument:
            self.session.reseed(_number(argument, int))
        return f"seed is {self.session.seed}"

    def _save(self, argument: str) -> str:
        if not argument:
            return "/save needs a file name, such as /save chat.jsonl"
        messages = [message._asdict() for message in self.session.history]
        if not messages:
            return "nothing said yet, nothing saved"
        with open(argument, "a", encoding="utf-8") as file:
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        return f"added {len(messages)} messages to {argument}"

    def _quit(self, _: str) -> str:
        self._left = True
        return "goodbye"


def _number(text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
