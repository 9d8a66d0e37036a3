"""The one door to C: finds the kernels and BLAS, and turns arrays into checked pointers.

Environment: MICROGPT_ISA forces an instruction-set level (baseline, avx2, avx512, avx512bf16), MICROGPT_BLAS
names another BLAS library, MICROGPT_GEMM (auto, blas, native) says who multiplies large fp32 matrices;
OPENBLAS_CORETYPE is OpenBLAS's own and honoured as the user set it.
"""

import ctypes
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError, MicrogptError, NativeError, ShapeError

BF16_LEVEL = "avx512bf16"  # avx512 and the products of bf16 pairs; all other levels compute those in steps
LEVELS = ("baseline", "avx2", "avx512", BF16_LEVEL)
PRECISIONS = ("fp32", "bf16", "auto")
GEMMS = ("auto", "blas", "native")
NARROW_CORES = ("Haswell", "Zen", "SkylakeX256")  # OpenBLAS kernels that leave half of an AVX-512 core idle


class Products(NamedTuple):
    """Who multiplies large matrices, and those inside attention, in one precision.

    lib: the kernels.  isa: their level.  gemm: blas, or native, our own.  how: what they are told, MG_GEMM_.
    """

    lib: Any
    isa: str
    gemm: str
    how: int


lib: Any = None  # the kernels of the chosen level, for all but products
ffi: Any = None
blas: Any = None
products: dict[str, Products] = {}  # by precision


# ---- BLAS ----------------------------------------------------------------------------------------


class Blas:
    """A BLAS library: its single-precision matrix product, and what it calls itself."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise NativeError(
                f"BLAS library {path} cannot be loaded ({error}); check MICROGPT_BLAS"
            ) from None
        self.path = path
        self.sgemm = self._address("cblas_sgemm")
        if not self.sgemm:
            raise NativeError(f"BLAS library {path} has no cblas_sgemm; choose another with MICROGPT_BLAS")
        # Our pool runs the products beside each other, each on one thread of its own.
        if setter := self._find("openblas_set_num_threads"):
            setter(1)

    def _find(self, name: str) -> Any:
        return getattr(self._library, f"scipy_{name}", None) or getattr(self._library, name, None)

    def _address(self, name: str) -> int:
        function = self._find(name)
        return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0

    @property
    def core(self) -> str:
        """The kernel family that OpenBLAS chose, such as SkylakeX; "unknown" for another BLAS."""
        name = self._find("openblas_get_corename")
        if name is None:
            return "unknown"
        name.restype = ctypes.c_char_p
        return name().decode()


def _find_blas() -> Blas:
    if chosen := os.environ.get("MICROGPT_BLAS"):
        return Blas(Path(chosen))
    try:
        import scipy_openblas32
    except ImportError:
        raise NativeError(
            "no BLAS: pip install scipy-openblas32, or name a library in MICROGPT_BLAS"
        ) from None
    return Blas(Path(scipy_openblas32.get_lib_dir()) / scipy_openblas32.get_library(fullname=True))


# ---- kernels -------------------------------------------------------------------------------------


def _load(level: str) -> Any:
    try:
        return importlib.import_module(f"microgpt.core._kernels_{level}")
    except ImportError as error:
        raise NativeError(f"the C kernels are not built ({error}); run: pip install -e .") from None


def supported_levels() -> list[str]:
    """The instruction-set levels that this build has and this CPU runs, the slowest first."""
    baseline = _load("baseline")
    return [level for level in LEVELS if baseline.lib.mg_cpu_supports(level.encode())]


def _forced_level() -> str:
    return os.environ.get("MICROGPT_ISA", "")


def use_level(level: str | None = None) -> None:
    """Run the kernels of `level` from now on; by default MICROGPT_ISA, or the best for each precision."""
    global lib, ffi
    levels = supported_levels()
    level = level or _forced_level()
    if level and level not in levels:
        raise ConfigError(
            f"instruction set {level!r} cannot run here: this CPU and build have {', '.join(levels)}"
        )
    best = {"fp32": [name for name in levels if name != BF16_LEVEL][-1], "bf16": levels[-1]}
    for precision, isa in best.items():
        products[precision] = Products(_bound(level or isa).lib, level or isa, "", 0)
    lib, ffi = products["fp32"].lib, _load(products["fp32"].isa).ffi
    use_gemm()


def _bound(level: str) -> Any:
    """The module of a level, its kernels told of BLAS and the pool."""
    module = _load(level)
    module.lib.mg_blas_bind(module.ffi.cast("void *", blas.sgemm))
    module.lib.mg_pool_share(module.ffi.cast("void *", _pool_address()))
    return module


def use_gemm(gemm: str | None = None) -> None:
    """Multiply large fp32 matrices through BLAS or by our own kernel from now on; by default MICROGPT_GEMM.

    auto is our own where the kernels have FMA: there it is no slower than OpenBLAS (benchmarks/LOG.md).
    Products of few rows, as in chat, always go through BLAS; large ones in bf16 never do, for it has none.
    """
    gemm = gemm or os.environ.get("MICROGPT_GEMM") or "auto"
    if gemm not in GEMMS:
        raise ConfigError(f"MICROGPT_GEMM={gemm}: expected {', '.join(GEMMS)}")
    fp32, bf16 = products["fp32"], products["bf16"]
    if gemm == "auto":
        gemm = "blas" if fp32.isa == "baseline" else "native"
    how = fp32.lib.MG_GEMM_BLAS if gemm == "blas" else fp32.lib.MG_GEMM_FP32
    products["fp32"] = fp32._replace(gemm=gemm, how=how)
    products["bf16"] = bf16._replace(gemm="native", how=bf16.lib.MG_GEMM_BF16)


def products_in(precision: str) -> Products:
    """Who multiplies in fp32, or in bf16: operands rounded to bfloat16 (to nearest even), sums in float.

    Linear layers of few rows stay fp32.

    Raises: ConfigError: it is another precision.
    """
    if precision not in products:
        raise ConfigError(f"precision {precision!r}: expected {', '.join(products)}")
    return products[precision]


def choose_precision(wanted: str) -> str:
    """What `--precision` means here: fp32 or bf16; auto is bf16 where the CPU multiplies it.

    Raises: ConfigError: bf16 is wanted, the CPU lacks it.  A level named in MICROGPT_ISA does compute it, in
            more steps, for whoever wants to see that.
    """
    forced = _forced_level()
    has_bf16 = forced == BF16_LEVEL if forced else BF16_LEVEL in supported_levels()
    if wanted == "auto":
        return "bf16" if has_bf16 else "fp32"
    if wanted == "bf16" and not has_bf16 and not forced:
        raise ConfigError("--precision bf16: this CPU has no AVX512_BF16; use fp32 or auto")
    return wanted


def _pool_address() -> int:
    """The one thread pool that the libraries of all levels use: that of the lowest."""
    lowest = _load("baseline")
    return int(lowest.ffi.cast("intptr_t", lowest.lib.mg_pool()))


def set_threads(n: int) -> None:
    """Run every kernel on n threads, in every level.  Results do not depend on n.

    Raises: NativeError: the system does not grant so many; then their number stays what it was.
    """
    status = lib.mg_set_threads(n)
    if status:
        raise NativeError(f"cannot run on {n} threads ({os.strerror(status)}); give 1 to 256")


def threads() -> int:
    """The number of threads that kernels run on."""
    return lib.mg_threads()


def info(precision: str = "fp32") -> dict[str, Any]:
    """What computes a model of this precision: isa, gemm, precision, blas_core, blas (file name), threads; of
    a run's identity."""
    found = products_in(precision)
    machine = {"blas_core": blas.core, "blas": blas.path.name, "threads": threads()}
    return {"isa": found.isa, "gemm": found.gemm, "precision": precision, **machine}


def warning(precision: str = "fp32") -> str:
    """One line when large products of this precision go through a BLAS that uses half of this CPU, else an
    empty string."""
    is_narrow = blas.core in NARROW_CORES and "avx512" in supported_levels()
    if products_in(precision).gemm == "blas" and is_narrow and os.environ.get("OPENBLAS_CORETYPE"):
        return (
            f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} selects AVX2 kernels on an AVX-512 CPU: "
            "matrix products may run at half speed; unset it to let OpenBLAS choose"
        )
    return ""


# ---- pointers ------------------------------------------------------------------------------------

C_TYPES = {
    np.dtype(np.uint16): "uint16_t[]",
    np.dtype(np.float32): "float[]",
    np.dtype(np.float64): "double[]",
    np.dtype(np.int32): "int32_t[]",
    np.dtype(np.uint64): "uint64_t[]",
}


def arg(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """A pointer to an array that a kernel reads.

    Raises: ShapeError, naming the operation, the argument, what came and what was expected.
    """
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        operation = sys._getframe(1).f_code.co_name
        layout = "" if array.flags.c_contiguous else ", not contiguous"
        raise ShapeError(
            f"{operation}: {name} is {array.dtype}{list(array.shape)}{layout}; "
            f"expected {np.dtype(dtype)}{list(shape)}, contiguous"
        )
    return ffi.from_buffer(C_TYPES[array.dtype], array)


class Rows(NamedTuple):
    """Where rows lie: N of length C, `beside` of them side by side, and such groups `apart` floats from one
    another."""

    N: int
    C: int
    beside: int
    apart: int


def rows(name: str, x: np.ndarray) -> Rows:
    """Of x (N, C), contiguous, or (N, H, C), some columns of a contiguous (N, width).

    Raises: ShapeError, as of `arg`.
    """
    if x.ndim == 2 and x.flags.c_contiguous:
        N, C = x.shape
        return Rows(N, C, 1, C)
    if x.ndim == 3:
        N, H, C = x.shape
        apart, left = divmod(x.strides[0], x.itemsize)
        if x.strides[1:] == (C * x.itemsize, x.itemsize) and not left and apart >= H * C:
            return Rows(N * H, C, H, apart)
    operation = sys._getframe(1).f_code.co_name
    raise ShapeError(
        f"{operation}: {name} is {x.dtype}{list(x.shape)} with strides {list(x.strides)}; expected rows that "
        "follow one another, or stand side by side in rows that do"
    )


def arg_rows(name: str, array: np.ndarray, like: np.ndarray, is_written: bool = False) -> Any:
    """A pointer to rows that lie as those of another array do, of which `rows` told where.

    Raises: ShapeError, as of `arg`.
    """
    lies_there = array.flags.c_contiguous if like.ndim == 2 else array.strides == like.strides
    if array.shape != like.shape or array.dtype != np.float32 or not lies_there:
        operation, layout = sys._getframe(1).f_code.co_name, "" if lies_there else ", elsewhere in memory"
        raise ShapeError(
            f"{operation}: {name} is {array.dtype}{list(array.shape)}{layout}; expected float32"
            f"{list(like.shape)} that lies as x does"
        )
    if is_written and not array.flags.writeable:
        raise ShapeError(f"{sys._getframe(1).f_code.co_name}: {name} is not to be written")
    return ffi.cast("float *", array.__array_interface__["data"][0])


def out(array: np.ndarray) -> Any:
    """A pointer to an array that a kernel writes, just made by the caller."""
    return ffi.from_buffer(C_TYPES[array.dtype], array, require_writable=True)


# ---- loading -------------------------------------------------------------------------------------


class _Missing:
    """Stands for what cannot be loaded: importing succeeds, and the first use tells what is wrong."""

    def __init__(self, error: MicrogptError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


try:
    blas = _find_blas()
    use_level()
except MicrogptError as error:
    lib = ffi = blas = _Missing(error)
    products = dict.fromkeys(("fp32", "bf16"), Products(lib, "", "", 0))
