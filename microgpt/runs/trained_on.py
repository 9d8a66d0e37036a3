"""What a run was trained on, document by document, so that its evaluation can tell seen text from unseen.

    RUN/trained_on.hashes    SHA-256 of the rest, then the sorted fingerprints of all documents, 8 bytes each

The file belongs to the run and not to a checkpoint: what was trained on only grows.
"""

import hashlib
from pathlib import Path

import numpy as np

from microgpt.common.output import tell
from microgpt.corpus.prepared.fingerprints import HASH, fingerprints
from microgpt.corpus.prepared.folder import Known, Prepared
from microgpt.corpus.prepared.make import find_kept
from microgpt.corpus.token_file import TokenFile
from microgpt.files import durable

RECORD = "trained_on.hashes"
_DIGEST_BYTES = 32


def remember(run: Path, tokens: TokenFile, before: Path | None = None, is_same: bool = True) -> None:
    """Record that a run is trained on these tokens from now on.

    Args:     before: the run that it goes on from.
              is_same: they are what that run was trained on already.
    """
    known = None if before is None else recorded(before)
    if known is not None and is_same:
        documents = known
    elif before is None or is_same:
        documents = np.unique(fingerprints(tokens))
    elif known is not None:
        documents = np.union1d(known, fingerprints(tokens))
    else:
        return  # what came before cannot be told any more: no record is better than half of one
    if documents is not known or run != before:
        _write(run / RECORD, documents.astype(HASH).tobytes())


def _write(path: Path, hashes: bytes) -> None:
    """Write the record whole or not at all; a run is worth more than its record."""
    try:
        durable.replace_file(path, [hashlib.sha256(hashes).digest(), hashes])
    except OSError as error:
        tell(f"warning: cannot write {path}: {error.strerror}; `microgpt eval` will not know this text again")


def recorded(run: Path) -> np.ndarray | None:
    """The fingerprints of all documents that a run was trained on; None: there is no sound record."""
    try:
        with durable.open_regular(run / RECORD) as file:
            data = file.read()
    except OSError:
        return None
    digest, hashes = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(hashes).digest() != digest or len(hashes) % HASH.itemsize:
        return None
    return np.frombuffer(hashes, HASH)


def trained_documents(checkpoint: Path, known: Known, own: Prepared | None = None) -> np.ndarray | None:
    """The same for a checkpoint, from its run's record or from what was prepared for it.

    Args:     own: the corpus of the run, where it is open already.
    Returns:  None: neither is there any more.
    """
    documents = recorded(checkpoint.resolve().parent)
    own = own or find_kept(known.key)
    if documents is not None or own is None or own.tokenizer.sha256 != known.tokenizer.sha256:
        return documents
    return fingerprints(own.train)
