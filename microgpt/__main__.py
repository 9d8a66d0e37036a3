"""The command `microgpt`, and `python -m microgpt`: one name for all commands."""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from microgpt import __version__
from microgpt.common.command import run_command
from microgpt.common.errors import MicrogptError
from microgpt.common.output import tell
from microgpt.common.signals import let_die, raise_stopped
from microgpt.common.words import did_you_mean

COMMANDS = {
    "prepare": "turn text and chats into token files and see what is in them",
    "plan": "tell before a run what it takes: parameters, memory, tokens, time; which size to choose",
    "train": "train a model on text or chats, or go on with a run",
    "sft": "fine-tune a model on conversations: it learns what the assistant says",
    "scu-ablate": "compare adapters under control with fixed strengths, and with the model they lie beside",
    "teach": "pick or type the answer that a model should have given; it learns that at once",
    "merge": "make a whole model of adapters and the model that they lie beside",
    "dpo": "let a model prefer some answers to others, by pairs of them",
    "rl": "let a model learn from rewards: your function, the exam's marking, a text's own marks",
    "chat": "talk to a model",
    "sample": "let a model go on with a text or answer one message",
    "eval": "measure a model: held-out loss, bits per byte, exam",
    "probe": "probe a model and its data: mask, shift, gradients, duplicates, what belongs together",
    "states": "test what a model remembers: the states of its layers, the branches of a fusion",
    "compare": "tell whether one model is better than another, on the same documents",
    "ablate": "change one setting of a run at a time, on as many tokens, and tell what each change gives",
    "search": "search for settings that are good in several ways at once, and show the best",
    "canaries": "what a chat model can do: recall, long contexts, corrections, instructions, persona",
    "failures": "where a model fails: documents, tokens, questions; missing data or missing ability",
    "capacity": "what holds a run back: data, size, schedule, a bug, or nothing",
    "options": "what could be trained in a memory and a time: wide, deep, experts, shorter windows",
    "fit": "fit a law of loss to finished runs and foretell larger ones",
    "ladder": "climb from one size to the next: each rung foretold, trained, measured and judged by gates",
    "judge": "have people judge the answers of two models blindly, and count what they say",
    "verify": "read a run, a checkpoint or prepared tokens to the last byte and say whether all is whole",
    "runs": "list the runs: size, steps, held-out bits per byte, which checkpoints are kept",
    "doctor": "tell what this computer is and does in a second: one screen for a bug report",
    "plot": "draw the losses, rates and speeds of runs into a picture",
    "report": "write all that is known of a run into one HTML page",
    "watch": "watch a run from another terminal: its curves and where it stands",
    "presets": "list the sizes of models: layers, parameters, memory, FLOP a token",
    "tokenizer": "the tokenizer alone: train it on text files, encode, decode, show",
    "completion": "print what completes these commands in bash, zsh or fish",
    "quickstart": "train a small chat model on the embedded corpus and talk to it",
}
HELP = "\n".join(
    [
        "usage: microgpt COMMAND [flags]",
        "",
        "Train a GPT from nothing on an ordinary CPU, and talk to it.",
        "",
    ]
    + [f"  {name:12}{text}" for name, text in COMMANDS.items()]
    + ["", "microgpt help COMMAND lists the flags of a command; microgpt --version tells the version."]
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the first word names, and exit with its code."""
    words = list(sys.argv[1:] if argv is None else argv)
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        print(HELP)
        sys.exit(0)
    if name == "--version":
        print(f"microgpt {__version__}")
        sys.exit(0)
    if name not in COMMANDS:
        tell(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; there are {', '.join(COMMANDS)}")
        sys.exit(2)
    run(name, rest)


def run(name: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command, by default on the words behind it, and exit with its code."""
    run_command(lambda: _imported(name, sys.argv[1:] if argv is None else argv))


def _imported(name: str, argv: Sequence[str]) -> int | None:
    """Import a command now that it is wanted, and run it."""
    let_die()
    command = importlib.import_module(f"microgpt.commands.{name.replace('-', '_')}")
    from microgpt.tokenizer import TokenizerError

    raise_stopped()
    try:
        return command.main(argv)
    except TokenizerError as error:  # the tokenizer knows nothing of our errors
        raise MicrogptError(str(error)) from error


if __name__ == "__main__":
    main()
