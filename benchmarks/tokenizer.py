"""Time the tokenizer on a text file: learning merges, then encoding.

    python -m benchmarks.tokenizer FILE [--merges 4000] [--threads auto] [--repeats 3] [--peers] [--json]

The file is one document for training.  For encoding every line is one document, as in a chat corpus, at most
32 MB of them, by one thread and by all.  --peers times those of tokenizers, rustbpe and tiktoken that are
installed, in turns with us, on the same lines, with the same merges.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import Parser
from microgpt.machine.cpus import add_threads_flag, thread_count
from microgpt.machine.memory import peak_memory
from microgpt.tokenizer import MERGES, Tokenizer, TokenizerError, read_pieces, train

from ._machine import seconds
from ._tokenizer_peers import encoders, trainers

ENCODED_BYTES = 32_000_000

Timed = dict[str, Callable[[], object]]


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.tokenizer", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="UTF-8 text, the larger the better")
    parser.add_argument("--merges", type=int, default=MERGES, help=f"merges to learn [default {MERGES}]")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, the median counts [default 3]")
    parser.add_argument("--peers", action="store_true", help="time other tokenizers as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_threads_flag(parser)
    args = parser.parse_args(argv)
    if args.repeats < 1:
        raise ConfigError(f"--repeats {args.repeats}: expected 1 or more")
    return args


def lines_of(path: Path) -> Iterator[str]:
    """The first lines of a file, about ENCODED_BYTES."""
    left = ENCODED_BYTES
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            yield line.rstrip("\n")
            left -= len(line.encode())
            if left < 0:
                return


def medians(timed: Timed, repeats: int) -> dict[str, float]:
    """Seconds of each call, all in turns."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    bar = tqdm(total=repeats * len(timed), desc="timing", delay=2, leave=False, disable=None)
    for _ in range(repeats):
        for name, call in timed.items():
            bar.set_postfix_str(name)
            times[name].append(seconds(call))
            bar.update()
    bar.close()
    return {name: statistics.median(values) for name, values in times.items()}


def measure_training(args: argparse.Namespace, threads: int) -> tuple[Tokenizer, dict[str, float], float]:
    """The tokenizer, seconds for us ("train") and for each peer, and our peak memory in bytes."""

    def learn() -> Tokenizer:
        return train(read_pieces(args.file), args.merges, threads=threads)

    tokenizer = learn()  # warms the file cache up
    peak = peak_memory()  # before the peers take theirs
    peers = trainers(args.file, args.merges) if args.peers else {}
    return tokenizer, medians({"train": learn} | peers, args.repeats), peak


def measure_encoding(
    args: argparse.Namespace, tokenizer: Tokenizer, threads: int
) -> tuple[dict[str, float], float]:
    """MB/s for us ("one", "all") and for each peer, and our bytes per token."""
    lines = list(lines_of(args.file))
    n_bytes = sum(len(line.encode()) for line in lines)
    if not n_bytes:
        raise DataError(f"{args.file}: no text to encode")
    ours: Timed = {
        "one": lambda: tokenizer.encode_batch(lines),
        "all": lambda: tokenizer.encode_batch(lines, threads),
    }
    times = medians(ours | (encoders(tokenizer, lines) if args.peers else {}), args.repeats)
    n_tokens = sum(map(len, tokenizer.encode_batch(lines)))
    return {name: round(n_bytes / s / 1e6, 1) for name, s in times.items()}, n_bytes / n_tokens


def result(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that the JSON line says."""
    threads, size = thread_count(args.threads), args.file.stat().st_size
    tokenizer, train_s, peak = measure_training(args, threads)
    rates, bytes_per_token = measure_encoding(args, tokenizer, threads)
    found = {
        "bytes": size,
        "merges": args.merges,
        "threads": threads,
        "train_s": round(train_s["train"], 3),
        "train_mb_per_s": round(size / train_s.pop("train") / 1e6, 1),
        "encode_mb_per_s": rates.pop("one"),
        "encode_mb_per_s_all": rates.pop("all"),
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": round(bytes_per_token, 4),
        "peak_rss_bytes": int(peak),
    }
    if args.peers:
        found["peers_train_s"] = {name: round(s, 3) for name, s in train_s.items()}
        found["peers_encode_mb_per_s"] = rates
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    try:
        found = result(args)
    except OSError as error:
        raise DataError(f"{args.file}: cannot be read ({error.strerror})") from error
    print(
        f"train  {found['bytes'] / 1e6:.0f} MB, {found['merges']} merges, {found['threads']} threads: "
        f"{found['train_s']:.2f} s, {found['train_mb_per_s']:.0f} MB/s, "
        f"peak memory {found['peak_rss_bytes'] / 1e9:.2f} GB\n"
        f"encode {found['encode_mb_per_s']:.0f} MB/s on one thread, {found['encode_mb_per_s_all']:.0f} on "
        f"all, {found['bytes_per_token']:.2f} bytes per token"
    )
    for name, train_s in found.get("peers_train_s", {}).items():
        print(f"train  {name}: {train_s:.2f} s, {train_s / found['train_s']:.1f} times ours")
    for name, rate in found.get("peers_encode_mb_per_s", {}).items():
        times = found["encode_mb_per_s"] / rate
        print(f"encode {name}: {rate:.1f} MB/s on one thread, ours is {times:.1f} times that")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    run_command(main, (TokenizerError,))
