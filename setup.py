"""Metadata, extras and the C extensions of microgpt.  Tool settings live in pyproject.toml."""

import copy
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # build backends do not add it
from csrc.build import LEVELS

ZST = ["zstandard"]  # reads .zst corpora; Python 3.14 has its own
PARQUET = ["pyarrow"]  # reads .parquet corpora
PLOT = ["matplotlib>=3.7"]  # draws
TERMINAL = ["plotext>=5.3,<6", "shtab>=1.8"]  # curves in a terminal, and completion in shells
TENSORBOARD = ["tensorboardX>=2.6"]  # writes for TensorBoard, without PyTorch
SPEC = ["tomlkit>=0.12", 'tomli>=2; python_version < "3.11"']  # settings in a file: written, and read
STATS = ["statsmodels>=0.14"]  # agreement of raters
SEARCH = ["optuna>=4.4,<6"]  # draws the candidates of a search, and keeps what came of them
RUFF = "ruff==0.17.*"  # its format changes from one of these to the next
DEVELOPMENT = [
    *("pytest", "pytest-xdist", "pytest-benchmark", "hypothesis", "safetensors", RUFF, "mypy", "setuptools"),
    *(*ZST, *PARQUET, *PLOT, *SPEC, *STATS, *SEARCH, *TERMINAL, *TENSORBOARD),
]
ORACLES = [  # outside implementations to test against; bin/setup.sh takes PyTorch built for CPUs alone
    "torch==2.13.0",
    "transformers==5.24.0",
    "tokenizers==0.23.3",
    "tiktoken==0.14.0",
    "rustbpe==0.1.0",
    "unicodedata2==16.0.0",  # the tokenizer's version of Unicode
    "nltk==3.10.4",
]


class BuildExt(build_ext):
    """Compiles the levels side by side, each in a folder of its own: they are made of the same files."""

    def build_extensions(self):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(self.build_extension, self.extensions):
                pass  # an error of any is raised here

    def build_extension(self, ext):
        alone = copy.copy(self)
        alone.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(alone, ext)


setup(
    name="microgpt-cpu",  # the import and the command are microgpt
    version="0.1.0",
    description="Train a GPT from nothing on an ordinary CPU, and talk to it.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    package_dir={"": "."},  # makes an editable install a path, which wins over a folder named microgpt
    packages=find_packages(include=["microgpt", "microgpt.*"]),
    install_requires=[
        "numpy>=1.24",
        "cffi>=1.16",
        "scipy>=1.10",
        "tqdm>=4.60",
        "scipy-openblas32>=0.3.28",
        "orjson>=3.9",
    ],
    extras_require={
        "zst": ZST,
        "parquet": PARQUET,
        "plot": PLOT,
        "terminal": TERMINAL,
        "tensorboard": TENSORBOARD,
        "spec": SPEC,
        "stats": STATS,
        "search": [*SEARCH, *SPEC],
        "dev": DEVELOPMENT,
        "oracles": ORACLES,
    },
    package_data={"microgpt.planning": ["*.csv"], "microgpt.research": ["*.txt", "*.html"]},
    setup_requires=["cffi>=1.16"],
    cffi_modules=["csrc/build.py:tokenizer", *(f"csrc/build.py:{level}" for level in LEVELS)],
    entry_points={"console_scripts": ["microgpt=microgpt.__main__:main"]},
    cmdclass={"build_ext": BuildExt},
    zip_safe=False,
)
