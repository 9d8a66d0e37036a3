"""GUIDES.md: every command of it is there with its flags, and the road is walked with them in small."""

import argparse
import functools
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from microgpt.commands.completion import all_commands
from microgpt.common.flags import flag_name
from microgpt.corpus.smalltalk import generate

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "GUIDES.md").read_text(encoding="utf-8")
COMMANDS = dict(all_commands())
WALKED = re.compile(r"^    \$ (.*)$", re.M)
QUOTED = re.compile(r"`([^`]+)`")


def words_of(text):
    """What a shell makes of a command."""
    return shlex.split(" ".join(text.split()))


def quoted(text):
    """Commands in running text and tables, each with the flags alone that stand behind it in its line."""
    for part in re.split(r"\n(?=\||\n)", text):
        spans = [" ".join(span.split()) for span in QUOTED.findall(part)]
        commands = [span for span in spans if span.startswith("microgpt ")]
        yield commands, [word for span in spans if span.startswith("--") for word in span.split()]


PARTS = [part for part in quoted(re.sub(r"^    .*\n", "", PAGE, flags=re.M)) if part[0]]


@functools.cache
def parser(name):
    """What reads the words behind a command."""
    return COMMANDS[name].parser()


@functools.cache
def flags_of(name):
    """All flags of a command and of what is below it."""
    waiting, found = [parser(name)], set()
    while waiting:
        for action in waiting.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()
    return found


def is_known(text, capsys):
    """Whether a command is there, with its flags and the settings that it changes."""
    _, name, *rest = words_of(text)
    assert name in COMMANDS, text
    try:
        args = parser(name).parse_args(rest)
    except SystemExit:
        pytest.fail(f"{text}: {capsys.readouterr().err}")
    if name == "ablate":
        changes_of = COMMANDS[name].changes_of
        settings = {setting for change in args.change for setting, _ in changes_of(change)}
        assert {flag_name(setting) for setting in settings} <= flags_of("train"), text


def test_each_command_of_the_page_is_there(capsys):
    for text in {command for commands, _ in PARTS for command in commands}:
        is_known(text, capsys)


@pytest.mark.parametrize("name", ["README.md", "SCALING.md"])
def test_what_other_pages_have_one_type_is_there(name, capsys):
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")  # a line that goes on is one
    typed = re.findall(r"^    (?:\$ |\. .*; )?(microgpt [^#|<\n]*)", text, re.M)
    assert typed
    for command in typed:
        is_known(command, capsys)


def test_flags_that_stand_alone_belong_to_a_command_of_their_line():
    for commands, words in PARTS:
        known = {flag for command in commands for flag in flags_of(words_of(command)[1])}
        unknown = [word for word in words if word.startswith("--") and word not in known]
        assert not unknown, (commands, unknown)


def test_benchmarks_links_and_titles_of_the_page_are_there():
    for name in re.findall(r"bin/bench (\w+)", PAGE):
        assert (ROOT / f"benchmarks/{name}.py").exists() or (ROOT / f"benchmarks/{name}/__main__.py").exists()
    titles = re.findall(r"^## (.*)$", PAGE, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors


# ------------------------------------------------------------------------------------- the road, in small

COUNTED = 36  # columns of options with names and numbers of parameters
IN_SMALL = dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", PAGE.partition("## In small")[2], re.M))


def walked():
    """Commands of the road, what is typed into each, and what the page shows of its output."""
    for block in re.findall(r"(?:^    .*\n)+", PAGE, re.M):
        for part in re.split(r"^    \$ ", block, flags=re.M)[1:]:
            command, *lines = (line.removeprefix("    ") for line in part.splitlines())
            typed = [line[2:] for line in lines if line.startswith("> ")]
            yield command, typed, [line for line in lines if not line.startswith("> ")]


def in_small(command):
    """The command at the sizes of the test."""
    for here, there in IN_SMALL.items():
        command = re.sub(rf"{re.escape(here)}(?!\S)", there, command)
    return words_of(command)


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A folder with the texts of the road."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_THREADS", "1")
    talk = [{"messages": [m._asdict() for m in document]} for document in generate(60_000)]
    Path("talk.jsonl").write_text("\n".join(map(json.dumps, talk)))
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    Path("hamner.toml").write_text(settings)
    ask = ["Who are you?", "Where do you live?", "What do you do at night?"]
    pairs = [{"prompt": f"{text} ({n})", "completion": "I keep the lamp."} for text in ask for n in range(12)]
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, pairs)))


def label(line):
    """What a line of output begins with, if that is a word and not the name of a file."""
    found = re.match(r"(?:microgpt: )?([a-z]+)(?= |:)", line)
    return found and found[1]


def test_the_road_is_walked_and_says_what_the_page_shows(at_work, monkeypatch, capfd):
    used = set()
    for command, typed, shown in walked():
        used |= {here for here in IN_SMALL if re.search(rf"{re.escape(here)}(?!\S)", command)}
        program, name, *rest = in_small(command)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        assert program == "microgpt" and not COMMANDS[name].main(rest), command
        said = "".join(capfd.readouterr())
        missing = {label(line) for line in shown} - {label(line) for line in said.splitlines()} - {None}
        assert not missing, (command, said)
        if name == "options":  # sizes are counted; memory depends on the kernels that this CPU has
            assert all(line[:COUNTED] in said for line in shown), (command, said)
    assert used == set(IN_SMALL), "a size that no command has"
