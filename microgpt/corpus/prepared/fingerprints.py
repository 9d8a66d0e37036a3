"""Documents of a token file as hashes, to tell whether two files of one tokenizer have some in common."""

import hashlib

import numpy as np

from microgpt.corpus.token_file import TokenFile

HASH = np.dtype("<u8")


def fingerprints(tokens: TokenFile) -> np.ndarray:
    """A hash of each document's ids, markers included, (n_documents,); the same for equal documents only,
    but for chance.

    Cost:     about a second for a million documents or a gigabyte.
    """
    width = tokens.ids.dtype.itemsize
    data = memoryview(tokens.ids.view(np.uint8))  # type: ignore[arg-type]
    ends = [*tokens.offsets[1:].tolist(), tokens.n_tokens]
    hashes = bytearray()
    start = 0
    for end in ends:
        hashes += hashlib.blake2b(data[start * width : end * width], digest_size=HASH.itemsize).digest()
        start = end
    return np.frombuffer(bytes(hashes), HASH)
