"""Build all that is C: the kernels, one cffi module per instruction-set level, all from the same portable
sources; and the fast half of the tokenizer.

`core/native` loads the best level that the CPU runs.  A level is a set of compiler flags and nothing else:
the sources use the compiler's vector types (simd.h), so there is one text of every kernel.
"""

import platform
import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
KERNELS, TOKENIZER = HERE / "kernels", HERE / "tokenizer"
SOURCES = [
    "machine",
    "pool",
    "gemm",
    "gemm_packed",
    "embedding",
    "rmsnorm",
    "layernorm",
    "linear",
    "bias",
    "rope",
    "attention_forward",
    "attention_backward",
    "attention_cached",
    "gelu",
    "gelu_exact",
    "relu2",
    "glu",
    "soft_cap",
    "dropout",
    "experts",
    "cross_entropy",
    "shift_mix",
    "conv_silu",
    "ssd",
    "gated_rmsnorm",
    "wkv7",
    "wkv6",
    "gate",
    "rwkv7_inputs",
    "rwkv_output",
    "adam",
    "muon",
    "newton_schulz",
]
TOKENIZER_SOURCES = ["split", "hash", "count", "train", "encode", "long"]
TOKENIZER_FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra"]
# Never -ffast-math: it deletes NaN checks, and linked into a shared library by gcc 12 it also flushes
# subnormals for the whole process.  Contraction to FMA is asked for by name instead.
FLAGS = [
    "-falign-functions=64",  # where a loop begins must not hang on the code before it: that was worth 5 %
    "-falign-loops=64",
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86_LEVELS = {
    "baseline": [],
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512bf16": [*AVX512, "-mavx512bf16"],
}
LEVELS = X86_LEVELS if platform.machine().lower() in ("x86_64", "amd64") else {"baseline": []}


def declaration(header: Path) -> str:
    """The text between the cdef marks of a header."""
    found = re.search(r"/\* cdef: begin \*/(.*?)/\* cdef: end \*/", header.read_text(), re.DOTALL)
    if found is None:
        raise SystemExit(f"{header}: no cdef marks")
    return found.group(1)


def builder(level: str) -> FFI:
    """The cffi builder of one level: module microgpt.core._kernels_<level>."""
    ffi = FFI()
    ffi.cdef(declaration(KERNELS / "kernels.h"))
    ffi.set_source(
        f"microgpt.core._kernels_{level}",
        '#include "kernels.h"',
        sources=[f"csrc/kernels/{name}.c" for name in SOURCES],
        include_dirs=["csrc/kernels"],
        depends=[f"csrc/kernels/{path.name}" for path in sorted(KERNELS.glob("*.h"))],
        extra_compile_args=FLAGS + LEVELS[level],
        libraries=["m", "pthread"],
    )
    return ffi


def tokenizer_builder() -> FFI:
    """The cffi builder of microgpt.tokenizer._bpe, the C half of the tokenizer."""
    ffi = FFI()
    ffi.cdef(declaration(TOKENIZER / "bpe.h"))
    ffi.set_source(
        "microgpt.tokenizer._bpe",
        '#include "bpe.h"',
        sources=[f"csrc/tokenizer/{name}.c" for name in TOKENIZER_SOURCES],
        include_dirs=["csrc/tokenizer"],
        depends=[f"csrc/tokenizer/{path.name}" for path in sorted(TOKENIZER.glob("*.h"))],
        extra_compile_args=TOKENIZER_FLAGS,
    )
    return ffi


# cffi_modules of setup.py asks for builders by name.
tokenizer = tokenizer_builder()
globals().update({level: builder(level) for level in LEVELS})
