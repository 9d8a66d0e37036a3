"""Steps of the PyTorch twin in a process of its own: neither its memory nor its threads are among ours."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.model import ModelConfig

HERE = Path(__file__).parents[1]


class TorchPeer:
    """A training step in PyTorch, whenever it is asked for.  A context manager: the process ends with it.

    Raises: ConfigError: PyTorch is not installed.
    """

    def __init__(self, config: ModelConfig, batch_size: int, precision: str = "fp32") -> None:
        if importlib.util.find_spec("torch") is None:
            raise ConfigError("--vs-torch: PyTorch is not installed in this environment; pip install torch")
        job = {"model": config.to_dict(), "batch_size": batch_size, "precision": precision}
        command = [sys.executable, "-m", "benchmarks._torch_twin", json.dumps(job)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=HERE)

    def seconds(self, threads: int) -> float:
        """Wall-clock time of one step on so many threads."""
        assert self._process.stdin and self._process.stdout
        try:
            print(threads, file=self._process.stdin, flush=True)
            return float(self._process.stdout.readline())
        except (OSError, ValueError):
            raise MicrogptError("--vs-torch: the PyTorch process ended; its error is above") from None

    def __enter__(self) -> "TorchPeer":
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.communicate()
