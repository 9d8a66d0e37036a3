"""Learn a tokenizer from documents: count their chunks in C, over threads, then merge in C."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue

from microgpt.tokenizer.errors import TokenizerError
from microgpt.tokenizer.model import SPECIALS, Tokenizer, refuse_one_text
from microgpt.tokenizer.native import MAX_MERGES, Buffer, Counter, Trainer
from microgpt.tokenizer.pieces import Text, as_bytes, blocks, check_threads, map_threads, pieces

Progress = Callable[[str, int, int | None], None]

MERGES = 4000  # learned unless another number is asked for
MERGES_PER_STEP = 16  # between two looks at Ctrl-C


def train(
    documents: Iterable[Text],
    n_merges: int = MERGES,
    specials: Sequence[str] = SPECIALS,
    threads: int = 1,
    progress: Progress | None = None,
    single_digits: bool = False,
) -> Tokenizer:
    """Learn up to n_merges merges, the same ones as `reference.train` and as Hugging Face's `BpeTrainer`.

    Documents may be a generator: they are read once and not kept.  The result depends neither on `threads`
    nor on the order of the documents.  Fewer merges come back when the documents hold no more pairs.

    Args:     progress: called as progress("count", bytes_read, None) and progress("merge", merges, n_merges).
              single_digits: no merge holds a digit, so that every digit is a token of its own and numbers
                  are learned by their digits (as in PaLM, Chowdhery et al. 2022, section 2.2).
    Raises:   TokenizerError: an argument is out of range, or a document is neither str nor bytes.
    Cost:     linear in the bytes to count; then per merge, the places where it applies.
              Memory: about 40 bytes per byte of distinct chunks.
    """
    refuse_one_text(documents)
    if not 0 <= n_merges <= MAX_MERGES:
        raise TokenizerError(f"n_merges must be between 0 and {MAX_MERGES}, got {n_merges}")
    Tokenizer([], specials)  # a mistake in the specials shows now, not after the work
    report = progress or (lambda *_: None)
    counter = count(documents, threads, report)
    trainer = Trainer(counter, n_merges, single_digits)
    merges: list[tuple[int, int]] = []
    while len(merges) < n_merges:
        new = trainer.step(min(MERGES_PER_STEP, n_merges - len(merges)))
        if not new:
            break
        merges += new
        report("merge", len(merges), n_merges)
    return Tokenizer(merges, specials)


def count(documents: Iterable[Text], threads: int, report: Progress) -> Counter:
    """Count the chunks of all documents."""
    check_threads(threads)
    salt = secrets.randbits(64)
    idle: SimpleQueue[Counter] = SimpleQueue()
    for _ in range(threads):
        idle.put(Counter(salt))

    def add(block: list[Buffer]) -> int:
        joined = block[0] if len(block) == 1 else b"".join(block)
        counter = idle.get()
        try:
            counter.add(joined, [len(text) for text in block])
        finally:
            idle.put(counter)
        return len(joined)

    texts = (piece for document in documents for piece in pieces(as_bytes(document)))
    n_bytes = 0
    for size in map_threads(add, blocks(texts), threads):
        n_bytes += size
        report("count", n_bytes, None)
    total = idle.get()
    while not idle.empty():
        total.merge(idle.get())
    return total
