"""Build microgpt.tokenizer._bpe, the C half of the tokenizer.

    python csrc/build_tokenizer.py      builds it in place, for work on it alone
"""

import os
import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = ["bpe_split", "bpe_hash", "bpe_count", "bpe_train", "bpe_encode", "bpe_long"]
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra"]


def declaration() -> str:
    """The text between the cdef marks of bpe.h."""
    found = re.search(r"/\* cdef: begin \*/(.*?)/\* cdef: end \*/", (HERE / "bpe.h").read_text(), re.DOTALL)
    if found is None:
        raise SystemExit("csrc/bpe.h: no cdef marks")
    return found.group(1)


ffibuilder = FFI()
ffibuilder.cdef(declaration())
ffibuilder.set_source(
    "microgpt.tokenizer._bpe",
    '#include "bpe.h"',
    sources=[f"csrc/{name}.c" for name in SOURCES],
    include_dirs=["csrc"],
    depends=["csrc/unicode_tables.h", *(f"csrc/{path.name}" for path in sorted(HERE.glob("bpe*.h")))],
    extra_compile_args=FLAGS,
)

if __name__ == "__main__":
    os.chdir(HERE.parent)
    ffibuilder.compile(verbose=True)
