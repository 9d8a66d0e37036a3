"""Long texts in pieces, short ones in blocks: units of work of about a megabyte.

A text may be cut before white space that follows something else without changing any chunk
(csrc's split.c), so training on the pieces of a text, or encoding them one by one, is the same as doing so
with the whole.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import mmap
from pathlib import Path
from typing import TypeVar

from microgpt.tokenizer.errors import TokenizerError
from microgpt.tokenizer.native import Buffer, safe_cut

Text = str | bytes | bytearray | memoryview | mmap

BLOCK_BYTES = 1 << 20
MAX_THREADS = 256

AnyText = TypeVar("AnyText", bound=Sized)
Item = TypeVar("Item")
Result = TypeVar("Result")


def as_bytes(text: Text) -> Buffer:
    """The bytes of a text.  Lone surrogates of a str become their three bytes, which are invalid UTF-8."""
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, bytes):
        return text
    if isinstance(text, bytearray | memoryview | mmap) and memoryview(text).c_contiguous:
        return memoryview(text).cast("B")
    raise _no_text(text)


def _no_text(value: object) -> TokenizerError:
    return TokenizerError(f"a text must be str or bytes, not {type(value).__name__}")


def all_bytes(texts: Sequence[Text]) -> list[Buffer]:
    """`as_bytes` of each text, at once for the usual case."""
    try:
        return [text.encode() for text in texts]  # type: ignore[union-attr]
    except (AttributeError, UnicodeEncodeError):  # not a str; a lone surrogate
        return [as_bytes(text) for text in texts]


def pieces(data: Buffer) -> Iterator[Buffer]:
    """Cut a text into pieces of about BLOCK_BYTES, without copying."""
    rest = memoryview(data)
    while len(rest) > BLOCK_BYTES:
        cut = safe_cut(rest, BLOCK_BYTES)
        yield rest[:cut]
        rest = rest[cut:]
    yield rest


def read_pieces(path: str | Path) -> Iterator[bytes]:
    """The pieces of a file, read as they are asked for."""
    try:
        with open(path, "rb") as file:
            rest = b""
            while new := file.read(max(BLOCK_BYTES, len(rest))):
                data = rest + new
                cut = safe_cut(data, len(data) - 1)
                if cut == len(data):  # nowhere yet: read on, twice as far
                    rest = data
                    continue
                yield data[:cut]
                rest = data[cut:]
            yield rest
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror}") from error


def blocks(texts: Iterable[AnyText]) -> Iterator[list[AnyText]]:
    """Group texts in order into lists of about BLOCK_BYTES (of str: characters); a longer one is alone.

    Raises:   TokenizerError: an item has no length, so it is no text.
    """
    block: list[AnyText] = []
    size = 0
    for text in texts:
        try:
            length = len(text)
        except TypeError:
            raise _no_text(text) from None
        if block and size + length > BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(text)
        size += length
    if block:
        yield block


def check_threads(threads: int) -> None:
    """Refuse a number of threads that nobody can mean, before anything is made for each."""
    if not 1 <= threads <= MAX_THREADS:
        raise TokenizerError(f"threads must be at least 1 and at most {MAX_THREADS}, got {threads}")


def map_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`map` over threads, results in order, with only a few items taken in advance."""
    check_threads(threads)
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(_submitted(pool, function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _submitted(pool: ThreadPoolExecutor, function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """`pool.submit`, which starts threads until there are as many as were asked for."""
    try:
        return pool.submit(function, item)
    except RuntimeError as error:
        raise TokenizerError(f"the system refuses another thread ({error}); take fewer threads") from error
