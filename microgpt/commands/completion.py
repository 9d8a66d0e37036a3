"""Print what completes microgpt's commands, flags and their values in a shell.

  eval "$(microgpt completion bash)"          in ~/.bashrc
  eval "$(microgpt completion zsh)"           in ~/.zshrc, after compinit
  microgpt completion fish | source           in ~/.config/fish/config.fish

Needs shtab: pip install microgpt-cpu[terminal]
"""

import argparse
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from microgpt import commands
from microgpt.common.extras import wanted
from microgpt.common.flags import Parser
from microgpt.common.output import show

SHELLS = ("bash", "zsh", "fish")
OF_FILES, OF_FOLDERS = ("FILE", "PICTURE"), ("DIR", "FOLDER", "RUN", "CHECKPOINT")


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt completion", description=__doc__)
    flags.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    shtab = wanted("shtab", "terminal", "microgpt completion")
    show(shtab.complete(whole_parser(shtab.FILE, shtab.DIRECTORY), args.shell))
    return 0


def all_commands() -> Iterator[tuple[str, ModuleType]]:
    """Every command by its name."""
    for found in pkgutil.iter_modules(commands.__path__):
        if not found.name.startswith("_"):
            yield found.name.replace("_", "-"), importlib.import_module(f"{commands.__name__}.{found.name}")


def whole_parser(file: Mapping[str, str], folder: Mapping[str, str]) -> argparse.ArgumentParser:
    """All commands as one parser.  file, folder: what completes names of such, by shell."""
    whole = argparse.ArgumentParser(prog="microgpt")
    whole.add_argument("--version", action="store_true", help="tell the version")
    below, names = whole.add_subparsers(), []
    for name, command in all_commands():
        one = command.parser()
        _mark_places(one, file, folder)
        text = (command.__doc__ or "").partition("\n")[0].rstrip(".")
        below.add_parser(name, parents=[one], add_help=False, help=text)
        names.append(name)
    asked = below.add_parser("help", add_help=False, help="List the flags of a command")
    asked.add_argument("command", choices=names)
    return whole


def _mark_places(parser: argparse.ArgumentParser, file: Mapping[str, str], folder: Mapping[str, str]) -> None:
    """Have flags that take files or folders complete their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _mark_places(one, file, folder)
        elif action.metavar in OF_FILES:
            action.complete = file  # type: ignore[attr-defined]
        elif action.metavar in OF_FOLDERS or action.type is Path:
            action.complete = folder  # type: ignore[attr-defined]
