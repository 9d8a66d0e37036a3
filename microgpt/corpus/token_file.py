"""A corpus as token ids on disk, memory-mapped when read.

Layout, little-endian, no padding but the stated one:

    offset size
      0      8   magic "MGTOKENS"
      8      4   format version (1)
     12      4   bytes per id: 2 or 4
     16      4   vocabulary size
     20      4   CRC-32 of everything after the header
     24      8   number of tokens
     32      8   number of documents
     40      8   bytes of text that the tokens stand for
     48     32   SHA-256 of the tokenizer
     80      4   zero
     84      4   CRC-32 of the 84 bytes before
     88          ids, then zeros up to a multiple of 8
                 first token of each document, 8 bytes each

A file is used only after its header agrees with itself and with the file's length, so no size in a damaged
or hostile header is ever believed.
"""

import errno
import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from microgpt.common.errors import DataError
from microgpt.files import durable
from microgpt.tokenizer import Tokenizer

from .chat import Packed

MAGIC, VERSION = b"MGTOKENS", 1
_HEADER = struct.Struct("<8sIIIIQQQ32sI")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
_ID_TYPES: dict[int, np.dtype] = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
_BLOCK_BYTES = 1 << 20  # of a file that is verified: it stays in the cache for both looks at it


def _ids_bytes(n_tokens: int, id_width: int) -> int:
    """Bytes that the ids take, padding included."""
    return -(-n_tokens * id_width // 8) * 8


@dataclass(frozen=True)
class Header:
    """What the first bytes of a token file say."""

    id_width: int
    vocab_size: int
    body_crc32: int
    n_tokens: int
    n_documents: int
    n_bytes: int
    tokenizer_sha256: bytes

    @property
    def file_bytes(self) -> int:
        """The length of a file with this header."""
        return HEADER_BYTES + _ids_bytes(self.n_tokens, self.id_width) + 8 * self.n_documents

    def pack(self) -> bytes:
        """The header as bytes, its own checksum last."""
        head = _HEADER.pack(
            MAGIC,
            VERSION,
            self.id_width,
            self.vocab_size,
            self.body_crc32,
            self.n_tokens,
            self.n_documents,
            self.n_bytes,
            self.tokenizer_sha256,
            0,
        )
        return head + _CHECK.pack(zlib.crc32(head))

    @classmethod
    def unpack(cls, data: bytes, path: Path, file_bytes: int) -> "Header":
        """Read a header and check it against itself and the file's length.

        Raises:   DataError: not a token file, another version, damaged, or cut off.
        """
        if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
            raise DataError(f"{path}: not a token file; make one with `microgpt prepare`")
        _, version, *fields, zero = _HEADER.unpack_from(data)
        if version != VERSION:
            raise DataError(f"{path}: token file format {version}, expected {VERSION}")
        if _CHECK.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
            raise DataError(f"{path}: the header is damaged (checksum)")
        header = cls(*fields)
        fault = header._fault(file_bytes) if not zero else "unknown fields"
        if fault:
            raise DataError(f"{path}: damaged token file ({fault})")
        return header

    def _fault(self, file_bytes: int) -> str:
        """What is impossible about the numbers, or ""."""
        if self.id_width not in _ID_TYPES:
            return f"{self.id_width} bytes per id, expected 2 or 4"
        if not 0 < self.vocab_size <= min(1 << 8 * self.id_width, 1 << 31):
            return f"vocabulary of {self.vocab_size} in {self.id_width} bytes per id"
        if not 0 < self.n_documents <= self.n_tokens:
            return f"{self.n_tokens} tokens in {self.n_documents} documents"
        if self.file_bytes != file_bytes:
            return f"{file_bytes} bytes long, expected {self.file_bytes}"
        return ""


class TokenFileWriter:
    """Write a token file document by document; it is readable when the `with` block ends without error.

    The caller chooses a path that nobody reads yet and renames it afterwards; the data is on the disk when
    `close` returns.
    """

    def __init__(self, path: str | os.PathLike, tokenizer: Tokenizer):
        self._id_width = 2 if tokenizer.vocab_size <= 1 << 16 else 4
        self._tokenizer, self._byte_lengths = tokenizer, tokenizer.byte_lengths
        self._offsets = array("Q")
        self.n_tokens = self.n_bytes = self._crc = 0
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115
        self._file.write(bytes(HEADER_BYTES))

    @property
    def n_documents(self) -> int:
        """Documents written so far."""
        return len(self._offsets)

    def add(self, packed: Packed) -> None:
        """Append documents that lie back to back."""
        ids, lengths = packed
        ends = self.n_tokens + np.cumsum(lengths)
        self._offsets.frombytes((ends - lengths).astype(np.uint64).tobytes())
        self.n_tokens += len(ids)
        self.n_bytes += int(self._byte_lengths[ids].sum(dtype=np.int64))
        self._write(ids.astype(_ID_TYPES[self._id_width]).tobytes())

    def _write(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._file.write(data)

    def close(self) -> None:
        """Write offsets and header and wait until the disk has everything."""
        written = self.n_tokens * self._id_width
        self._write(bytes(_ids_bytes(self.n_tokens, self._id_width) - written))
        self._write(np.array(self._offsets, "<u8").tobytes())
        header = Header(
            self._id_width,
            self._tokenizer.vocab_size,
            self._crc,
            self.n_tokens,
            self.n_documents,
            self.n_bytes,
            bytes.fromhex(self._tokenizer.sha256),
        )
        self._file.seek(0)
        self._file.write(header.pack())
        self._file.flush()
        durable.sync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> "TokenFileWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        self._file.close()


def counts(tokens: "TokenFile | TokenFileWriter") -> dict[str, int | float]:
    """How much there is, for people and for meta.json."""
    return {
        "documents": tokens.n_documents,
        "bytes": tokens.n_bytes,
        "tokens": tokens.n_tokens,
        "bytes_per_token": round(tokens.n_bytes / tokens.n_tokens, 4),
    }


def write_token_file(path: str | os.PathLike, documents: Iterable[np.ndarray], tokenizer: Tokenizer) -> None:
    """Write documents, each an array of ids, as one token file."""
    with TokenFileWriter(path, tokenizer) as writer:
        for ids in documents:
            writer.add(Packed(ids, np.array([len(ids)])))


class TokenFile:
    """A token file open for reading.  Nothing is loaded: `ids` and `offsets` are views of the mapped file.

    ids (n_tokens,) and offsets (n_documents,), the first token of each document, are read-only.
    name: what errors about its text call it, by what a person typed: the path is often one of our own making.
    """

    def __init__(self, path: Path, header: Header, ids: np.ndarray, offsets: np.ndarray, name: str = ""):
        self.path, self._header, self.name = path, header, name or str(path)
        self.ids, self.offsets = ids, offsets
        self.n_tokens, self.n_documents = header.n_tokens, header.n_documents
        self.n_bytes, self.vocab_size = header.n_bytes, header.vocab_size
        self.tokenizer_sha256 = header.tokenizer_sha256.hex()

    @classmethod
    def open(
        cls, path: str | os.PathLike, tokenizer_sha256: str | None = None, name: str = ""
    ) -> "TokenFile":
        """Open and check a token file.

        Args:     tokenizer_sha256: refuse a file that another tokenizer made.
                  name: of its text, for people; "": the path.
        Raises:   DataError: missing, not a token file, damaged, cut off, or made by another tokenizer.
        """
        path = Path(path)
        try:
            with open(path, "rb", opener=_open_at_once) as file:
                info = os.fstat(file.fileno())
                head = file.read(HEADER_BYTES) if stat.S_ISREG(info.st_mode) else b""
                header = Header.unpack(head, path, info.st_size)
                ids, offsets = _map(file, header)
        except OSError as error:
            raise DataError(f"{path}: cannot open this token file ({error.strerror})") from error
        opened = cls(path, header, ids, offsets, name)
        if tokenizer_sha256 is not None and opened.tokenizer_sha256 != tokenizer_sha256:
            raise DataError(
                f"{path}: made with tokenizer {opened.tokenizer_sha256[:12]}, but the one that belongs to it "
                f"is {tokenizer_sha256[:12]}"
            )
        return opened

    def verify(self) -> None:
        """Read the whole file and compare it with its checksum and with the vocabulary.

        Raises:   DataError: any bit of ids or offsets differs, or an id or offset is out of range.
        Cost:     about 0.6 s for a gigabyte in the page cache; memory of one block.
        """
        crc, largest, before, is_rising = 0, 0, -1, True
        ids_bytes = _ids_bytes(self.n_tokens, self._header.id_width)
        try:
            with open(self.path, "rb") as file:
                file.seek(HEADER_BYTES)
                for block in _blocks(file, ids_bytes):
                    crc = zlib.crc32(block, crc)
                    largest = max(largest, int(np.frombuffer(block, self.ids.dtype).max()))
                for block in _blocks(file, 8 * self.n_documents):
                    crc = zlib.crc32(block, crc)
                    starts = np.frombuffer(block, "<u8")
                    is_rising &= int(starts[0]) > before and bool((starts[1:] > starts[:-1]).all())
                    before = int(starts[-1])
        except OSError as error:
            raise DataError(f"{self.path}: cannot read this token file ({error.strerror})") from error
        if crc != self._header.body_crc32:
            raise DataError(f"{self.path}: the tokens are damaged (checksum)")
        if largest >= self.vocab_size:
            raise DataError(f"{self.path}: holds an id outside its vocabulary of {self.vocab_size}")
        if self.offsets[0] != 0 or not is_rising or before >= self.n_tokens:
            raise DataError(f"{self.path}: the document offsets are out of order")


def has_magic(path: Path) -> bool:
    """Whether a file begins like a token file."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _blocks(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    """The next n_bytes, a multiple of 8, block by block.

    Raises:   OSError: the file is shorter than it was.
    """
    while n_bytes:
        block = file.read(min(n_bytes, _BLOCK_BYTES))
        if not block or len(block) % 8:
            raise OSError(errno.EIO, "it became shorter")
        n_bytes -= len(block)
        yield block


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe must not make us wait


def _map(file: BinaryIO, header: Header) -> tuple[np.ndarray, np.ndarray]:
    ids = np.memmap(file, _ID_TYPES[header.id_width], "r", HEADER_BYTES, (header.n_tokens,))
    start = HEADER_BYTES + _ids_bytes(header.n_tokens, header.id_width)
    return ids, np.memmap(file, np.dtype("<u8"), "r", start, (header.n_documents,))
