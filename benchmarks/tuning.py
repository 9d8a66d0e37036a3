"""What fine-tuning gives and what it costs: tables whose runs can be stopped and gone on with.

    bin/bench tuning --base 10m-dialogs --dialogs data/dailydialog --book bible.txt --quickstart quickstart
    bin/bench tuning --only memory          one table: smalltalk, book, memory, topic or window

The tables, each of runs in --out-dir that the same words find done, or go on with:

smalltalk  the base, a model of other dialogues (--base, which was trained on --dialogs), is fine-tuned on
           2,000 dialogues of small talk: without replay, with 30 and with 60 %, all weights and adapters;
           held-out bits per byte of both texts and the exam, before and after
book       the base on a book (--book), --replay-share 0.3: held-out bits per byte of both, samples
memory     125m-llama with random weights and 49,152 tokens: peak memory and time of a step of full
           fine-tuning and of adapters of rank 8 beside a base in fp32 and in bf16
topic      the model of the quickstart (--quickstart) and 100 short dialogues of a new topic, --minutes 2:
           answers as they were taught, and the exam
window     3.5m at 256 tokens that is fine-tuned at 512, with positions as they are and scaled, and one that
           had 512 all along: loss by position
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.batches.batches import eval_windows
from microgpt.chat.conversation import ChatSession
from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.core import native, random
from microgpt.corpus import smalltalk
from microgpt.corpus.chat import Message
from microgpt.corpus.prepared.config import DataConfig, prepared
from microgpt.corpus.smalltalk import exam
from microgpt.decoding.decoder import Decoder, uniform_stream
from microgpt.decoding.sampler import GREEDY, SamplerConfig
from microgpt.evaluation.exam import take_exam
from microgpt.evaluation.loss import evaluate
from microgpt.evaluation.positions import loss_by_position
from microgpt.files import durable
from microgpt.machine.cpus import add_threads_flag
from microgpt.machine.memory import peak_memory
from microgpt.model import ModelConfig
from microgpt.runs.checkpoint import Snapshot, load_model
from microgpt.runs.kept import MODEL_FILES, find_checkpoint
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Spec
from microgpt.training.needs import memory_estimate
from microgpt.training.run import Outcome, train_run
from microgpt.training.thread_choice import TrialStep
from microgpt.tuning.sft import sft_spec

from ._machine import set_threads

N_DIALOGUES, N_TOPIC, QUESTIONS = 2000, 100, 20
EVAL_TOKENS = 65_536
VOCABULARY = 49_152
Row = dict[str, Any]


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="benchmarks.tuning", description=__doc__)
    which = list(TABLES)
    flags.add_argument("--only", nargs="+", choices=which, default=which, help="tables [default all]")
    flags.add_argument("--base", metavar="RUN", help="a model of --dialogs")
    flags.add_argument("--dialogs", metavar="PLACE", help="what it was trained on, and what is replayed")
    flags.add_argument("--book", metavar="FILE", help="a book as text")
    flags.add_argument("--quickstart", metavar="RUN", help="a model of small talk")
    flags.add_argument("--minutes", type=float, default=2.0, help="of the table topic [default 2]")
    flags.add_argument(
        "--steps",
        type=whole(1),
        help="of every run; in the table window of the first, of the others in proportion [default as each "
        "run has them]",
    )
    flags.add_argument("--out-dir", type=Path, default=Path("runs/tuning"), help="of runs and results.json")
    add_threads_flag(flags)
    return flags


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    make_tables(TABLES, parser().parse_args(argv))


def make_tables(tables: Mapping[str, Callable[[argparse.Namespace], Iterable[Row]]], args: Any) -> None:
    """Make those of --only and print them; results.json in --out-dir keeps their rows."""
    set_threads(args.threads)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        rows = []
        print(f"---- {name}", flush=True)
        for row in tables[name](args):
            rows.append(row)
            print("  ".join(f"{key} {_shown(value)}" for key, value in row.items()), flush=True)
            keep(args.out_dir / "results.json", name, rows)


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def keep(path: Path, name: str, rows: list[Row]) -> None:
    """Put the rows of a table among those of the others."""
    found = json.loads(path.read_text()) if path.exists() else {}
    durable.replace_file(path, [json.dumps(found | {name: rows}, indent=1).encode()])


def need(args: argparse.Namespace, *names: str) -> list[str]:
    """Flags that a table cannot do without."""
    for name in names:
        if getattr(args, name) is None:
            raise ConfigError(f"--{name} is missing; --help says what it is")
    return [getattr(args, name) for name in names]


# ---- what is measured -------------------------------------------------------------------------------


def bits(run: str | Path, data: str, **reading: Any) -> float:
    """Held-out bits per byte of a text under a run's best checkpoint."""
    model, tokenizer, _ = load_model(find_checkpoint(run, MODEL_FILES, best=True))
    config = DataConfig((data,), **reading)
    made = prepared(config, native.threads(), tokenizer)
    windows = eval_windows(made.val, model.config.seq_len, tokenizer.byte_lengths, EVAL_TOKENS, "documents")
    found = evaluate(model, windows, 8)
    assert found is not None
    return found.bpb


def exam_share(run: str | Path) -> float:
    """Right answers of the exam of small talk."""
    model, tokenizer, _ = load_model(find_checkpoint(run, MODEL_FILES, best=True))
    return take_exam(model, tokenizer, exam(QUESTIONS)).share


def tuned(args: argparse.Namespace, name: str, spec: Spec, share: float = 1.0) -> Outcome:
    """A run of a table, found done or gone on with where it is there; of --steps it has a share."""
    train = spec.train | ({"max_steps": max(1, round(share * args.steps))} if args.steps else {})
    if args.steps:
        train = {key: value for key, value in train.items() if key not in ("epochs", "max_time")}
    train |= {"sample_every": 0} | ({"threads": args.threads} if args.threads else {})
    return train_run(dataclasses.replace(spec, train=train), args.out_dir / name)


# ---- the tables -------------------------------------------------------------------------------------


def smalltalk_table(args: argparse.Namespace) -> Iterator[Row]:
    """Replay and adapters, on and off."""
    base, dialogs = need(args, "base", "dialogs")
    talk = write_dialogues(args.out_dir / "smalltalk.jsonl", dialogues())
    yield measures("before", base, dialogs, talk)
    for share, lora in ((0.0, False), (0.0, True), (0.3, False), (0.3, True), (0.6, False), (0.6, True)):
        name = "smalltalk" + f"-replay-{share:g}" * (share > 0) + "-lora" * lora
        settings: Row = {"data": [talk]} | ({"lora_rank": 8, "lr": 1e-3} if lora else {})
        spec = sft_spec(base, settings, [dialogs] if share else [], share)
        outcome = tuned(args, name, spec)
        took = {"steps": outcome.step, "seconds": outcome.seconds}
        yield measures(name, outcome.run, dialogs, talk) | took


def measures(name: str, run: str | Path, dialogs: str, talk: str) -> Row:
    """Of a model: both texts and the exam."""
    of_both = {"dialogs_bpb": bits(run, dialogs), "talk_bpb": bits(run, talk)}
    return {"run": name} | of_both | {"exam": exam_share(run)}


def dialogues(n: int = N_DIALOGUES) -> Iterator[list[Message]]:
    """Of small talk."""
    for number, chat in enumerate(smalltalk.generate(1 << 30, seed=1)):
        if number == n:
            return
        yield chat


def write_dialogues(path: Path, chats: Iterator[list[Message]]) -> str:
    """A file of them, written once."""
    if not path.exists():
        lines = (json.dumps({"messages": [message._asdict() for message in chat]}) + "\n" for chat in chats)
        durable.write_file(path, [line.encode() for line in lines])
    return str(path.absolute())


def book_table(args: argparse.Namespace) -> Iterator[Row]:
    """A book, with replay."""
    base, dialogs, book = need(args, "base", "dialogs", "book")
    data: Row = {"data": [book], "replay": [dialogs], "replay_share": 0.3, "packing": "documents"}
    how: Row = {"lr": 1e-4, "min_lr": 1e-5, "stop_after": 3, "max_steps": 2000}
    for name in ("before", "after"):
        run = base if name == "before" else tuned(args, "book", Spec.of(parent=base, **data, **how)).run
        both = {"book_bpb": bits(run, book), "dialogs_bpb": bits(run, dialogs)}
        yield {"run": name} | both | {"sample": said(run)}


def said(run: str | Path, text: str = "And the LORD said unto") -> str:
    """How a model goes on with a text."""
    model, tokenizer, _ = load_model(find_checkpoint(run, MODEL_FILES, best=True))
    ids = np.array([tokenizer.special_id("<|bos|>"), *tokenizer.encode(text.encode())], np.int32)
    answer = Decoder(model, tokenizer).generate(ids, SamplerConfig(temperature=0.7), 40, uniform_stream(0))
    return text + "".join(answer.text()).replace("\n", " ")


def memory_table(args: argparse.Namespace) -> Iterator[Row]:
    """Each in a process of its own, which tells its peak; in turns."""
    kinds: dict[str, Row] = {"full": {}}
    kinds |= {f"adapters beside {base}": {"lora_rank": 8, "base_weights": base} for base in ("fp32", "bf16")}
    for turn in range(2):
        for name, adapters in kinds.items():
            job = {"adapters": adapters, "threads": args.threads, "steps": args.steps or 3}
            words = [sys.executable, "-m", "benchmarks.tuning", "--child", json.dumps(job)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            yield {"kind": name, "turn": turn} | json.loads(done.stdout)


def child(job: Row) -> None:
    """Some steps of 125m-llama; their median and the peak of memory, as JSON."""
    set_threads(job["threads"])
    config = ModelConfig.from_preset("125m-llama", VOCABULARY, seq_len=512, dropout=0.0, **job["adapters"])
    train = TrainConfig(batch_size=1)
    step = TrialStep(config, train, 1)
    draws = random.normal(0, 4096)
    for parameter in step.model.params.parameters:
        step.model.params.put(parameter.name, np.resize(0.02 * draws, parameter.shape).astype(np.float32))
    _ = Snapshot(step.model, step.optimizer, None)  # type: ignore[arg-type]  # which every run takes memory for
    times = [step.seconds() for _ in range(job["steps"])]
    memory = {"peak_gb": peak_memory() / 1e9, "estimate_gb": memory_estimate(config, train) / 1e9}
    print(json.dumps({"step_s": float(np.median(times[1:] or times))} | memory))


def topic_table(args: argparse.Namespace) -> Iterator[Row]:
    """A new topic: what the keepers of a museum that never was say of its rooms."""
    (base,) = need(args, "quickstart")
    chats = list(topic())
    file = write_dialogues(args.out_dir / "topic.jsonl", iter(chats))
    yield {"run": "before", "as_taught": as_taught(base, chats), "exam": exam_share(base)}
    minutes = {"max_time": f"{round(60 * args.minutes)}s", "stop_after": 0}
    spec = sft_spec(base, {"data": [file], "held_out_share": 0.02, **minutes}, ["smalltalk"], 0.3)
    outcome = tuned(args, "topic", spec)
    yield {"run": "after", "as_taught": as_taught(outcome.run, chats), "exam": exam_share(outcome.run)}


def topic(n: int = N_TOPIC) -> Iterator[list[Message]]:
    """Short dialogues, each of a thing, a floor and a room."""
    things = (
        "a clock",
        "a boat",
        "a crown",
        "a map",
        "a drum",
        "a mask",
        "a lamp",
        "a harp",
        "a ring",
        "a globe",
    )
    rooms = ("red", "blue", "green", "white", "black", "gold", "silver", "brown", "grey", "pink")
    draws = (random.uniform(random.key(0, "rooms"), n) * len(rooms)).astype(int)
    for number in range(n):
        thing, era = things[number % 10], 1000 + 100 * (number // 10)
        room = rooms[draws[number]]
        yield [
            Message("user", f"Where is {thing} of the year {era} in the museum?"),
            Message("assistant", f"It hangs in the {room} room."),
        ]


def as_taught(run: str | Path, chats: list[list[Message]]) -> float:
    """The share of first answers that are those of the dialogues, to the letter."""
    model, tokenizer, _ = load_model(find_checkpoint(run, MODEL_FILES, best=False))
    right = 0
    for question, answer in chats:
        right += (
            "".join(ChatSession(model, tokenizer, GREEDY).reply(question.content)).strip() == answer.content
        )
    return right / len(chats)


def window_table(args: argparse.Namespace) -> Iterator[Row]:
    """256 tokens that become 512, in three ways, and 512 throughout."""
    dialogs = args.dialogs or "smalltalk"
    whole_run: Row = {"data": [dialogs], "packing": "stream", "max_steps": 1500, "eval_every": 0}
    tuned(args, "window-256", Spec.of("3.5m", seq_len=256, batch_size=8, **whole_run))
    throughout = Spec.of("3.5m", seq_len=512, batch_size=4, **{**whole_run, "max_steps": 2000})
    tuned(args, "window-512", throughout, 2000 / 1500)
    parent = str(args.out_dir / "window-256")
    runs = {"512 throughout": args.out_dir / "window-512"}
    for scaling in ("none", "linear", "ntk"):
        settings = {"seq_len": 512, "rope_scaling": scaling, "batch_size": 4, "lr": 1e-4, "min_lr": 1e-5}
        spec = Spec.of(parent=parent, **{**whole_run, **settings, "max_steps": 500})
        runs[f"256 then 512, {scaling}"] = tuned(args, f"window-{scaling}", spec, 500 / 1500).run
    for name, run in runs.items():
        model, tokenizer, _ = load_model(find_checkpoint(run, MODEL_FILES))
        made = prepared(DataConfig((dialogs,)), native.threads(), tokenizer)
        windows = eval_windows(made.val, 512, tokenizer.byte_lengths, EVAL_TOKENS)
        parts = loss_by_position(model, windows, 4)
        yield {"run": name} | {f"{part.first}-{part.last}": part.loss for part in parts}


TABLES = {
    "smalltalk": smalltalk_table,
    "book": book_table,
    "memory": memory_table,
    "topic": topic_table,
    "window": window_table,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        run_command(main)
