"""Text from ids as they come, never half a character."""

import codecs
from collections.abc import Sequence

from microgpt.tokenizer.errors import TokenizerError


class StreamDecoder:
    """Turns ids into text one by one; bytes of an unfinished character wait for the next id.

    Invalid UTF-8 becomes U+FFFD as in `bytes.decode(errors="replace")`; special tokens give no text.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this id completes, possibly none."""
        if not 0 <= token < len(self._token_bytes):
            raise TokenizerError(f"id {token} is not in the vocabulary of {len(self._token_bytes)}")
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """What is left at the end: U+FFFD if a character was not finished.  The decoder can be used again."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
