"""Does a model remember and spell the names that people type?

    python -m benchmarks.names RUN... [--names FILE | faker] [--count N] [--seed N] [--show N]

Draws first names from a list, one a line, that was never part of the project, by default those in Latin
script of `faker` (pip install faker).  Each is told to the model in a conversation of its own, as `microgpt
chat` holds it; one other question follows; then the name is asked back.  Right is an answer with this name,
spelled to the letter, and no other.  Names that occur in training text are counted and never drawn.
"""

import argparse
import importlib
import json
import pkgutil
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from microgpt.chat.conversation import ChatSession
from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.smalltalk import generate
from microgpt.corpus.smalltalk.checks import names_only
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.decoding.sampler import SamplerConfig
from microgpt.runs.checkpoint import load_model

FAKER = "faker"
BETWEEN = (
    "What is 7 plus 5?",
    "What is the capital of France?",
    "What is the opposite of hot?",
    "What day comes after Monday?",
    "What color is grass?",
    "How are you?",
)
SAMPLERS = {"default": SamplerConfig(), "-t 0": SamplerConfig(temperature=0)}
KINDS = ("plain", "accents", "two parts")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.names", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs or checkpoints")
    parser.add_argument(
        "--names", default=FAKER, metavar="FILE", help="a file of names, one a line, or faker [default faker]"
    )
    parser.add_argument("--count", default=200, type=int, help="how many are asked [default 200]")
    parser.add_argument("--seed", default=0, type=int, help="draws the names and the answers [default 0]")
    parser.add_argument(
        "--show", default=5, type=int, metavar="COUNT", help="wrong answers to print [default 5]"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args(argv)


def listed_names(source: str) -> list[str]:
    """The names of a file or of `faker`: those in Latin letters, each once, sorted."""
    found = faker_names() if source == FAKER else Path(source).read_text(encoding="utf-8").splitlines()
    tidy = (unicodedata.normalize("NFC", " ".join(name.split())) for name in found)
    return sorted({name for name in tidy if is_latin_name(name)})


def is_latin_name(name: str) -> bool:
    """Latin letters, in parts joined by a space, a hyphen or an apostrophe."""
    if not re.fullmatch(r"[^\W\d_]+([ '’-][^\W\d_]+)*", name):
        return False
    return all("LATIN" in unicodedata.name(letter) for letter in name if letter.isalpha())


def faker_names() -> Iterator[str]:
    """The first names of all locales of `faker`."""
    try:
        people = importlib.import_module("faker.providers.person")
    except ImportError:
        raise ConfigError("the names of faker are not here; pip install faker, or --names FILE") from None
    for module in pkgutil.iter_modules(people.__path__):
        provider = importlib.import_module(f"{people.__name__}.{module.name}").Provider
        for table in dir(provider):
            if table.startswith("first_name"):
                yield from names_in(getattr(provider, table))


def names_in(table: object) -> Iterator[str]:
    """The names of a table: a tuple, a mapping of names to weights, or a method, which has none."""
    if isinstance(table, (tuple, list, dict)):
        yield from (name for name in table if isinstance(name, str))


def trained_words() -> set[str]:
    """Every word of the embedded corpus's training part; with and without hyphens and apostrophes."""
    documents = generate(DataConfig().smalltalk_bytes)
    text = " ".join(message.content for document in documents for message in document)
    return {*re.findall(r"[^\W\d_]+", text), *(word.strip(".,!?:;") for word in text.split())}


def occurs(name: str, words: set[str]) -> bool:
    """Whether training holds the name, or every one of its parts."""
    return name in words or all(part in words for part in re.split(r"[ -]", name))


def kind_of(name: str) -> str:
    """The most unusual thing about a name."""
    return "two parts" if re.search(r"[ -]", name) else "plain" if name.isascii() else "accents"


def drawn(names: list[str], count: int, seed: int) -> list[str]:
    """So many of the names, by Fisher and Yates with the corpus's own generator: the same on every Python."""
    return Draw(f"names {seed}").sample(names, min(count, len(names)))


def asked_back(session: ChatSession, name: str, between: str) -> str:
    """Tell the name, ask something else, ask the name."""
    session.reset()
    for text in (f"My name is {name}.", between):
        for _ in session.reply(text):
            pass
    return "".join(session.reply("What is my name?")).strip()


def measure(run: str, names: Iterable[str], sampler: SamplerConfig, seed: int) -> dict[str, tuple[str, bool]]:
    """Each name with the answer and whether it is right."""
    model, tokenizer, _ = load_model(run)
    session = ChatSession(model, tokenizer, sampler, seed)
    answers = {}
    for i, name in enumerate(names):
        answer = asked_back(session, name, BETWEEN[i % len(BETWEEN)])
        answers[name] = answer, names_only(name)(answer)
    return answers


def shares(answers: dict[str, tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """Kind -> (right, asked); last all of them."""
    kinds = {kind: [right for name, (_, right) in answers.items() if kind_of(name) == kind] for kind in KINDS}
    kinds["all"] = [right for _, right in answers.values()]
    return {kind: (sum(marks), len(marks)) for kind, marks in kinds.items() if marks}


def main(argv: list[str] | None = None) -> int:
    """Run the measurement."""
    args = parse(argv)
    everything, words = listed_names(args.names), trained_words()
    unseen = [name for name in everything if not occurs(name, words)]
    names = drawn(unseen, args.count, args.seed)
    seen = sum(occurs(name, words) for name in names)
    print(
        f"{len(everything):,} names; {len(everything) - len(unseen)} occur in training and are not drawn; "
        f"{len(names)} drawn, {seen} of them in training text"
    )
    report = {}
    for run in args.runs:
        for title, sampler in SAMPLERS.items():
            answers = measure(run, names, sampler, args.seed)
            report[f"{run} {title}"] = counts = shares(answers)
            line = "  ".join(f"{kind} {right}/{n} {right / n:.1%}" for kind, (right, n) in counts.items())
            print(f"{run}  {title:8}{line}")
            wrong = [(name, answer) for name, (answer, right) in answers.items() if not right]
            for name, answer in wrong[: args.show]:
                print(f"    {name}: {answer}")
    if args.json:
        print(json.dumps({"names": len(everything), "asked": names, "right": report}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    run_command(main)
