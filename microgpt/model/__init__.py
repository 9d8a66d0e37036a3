"""The model: configuration, the table of parameters, layers with hand-written backward, and GPT itself."""

from . import attention, differential, mamba2, mlp, moe, norm, rwkv6, rwkv7  # noqa: F401  # kinds
from .architecture import (
    count_active_parameters,
    count_layer_parameters,
    count_parameters,
    flop_per_token,
)
from .batch import IGNORED, Batch
from .config import ModelConfig
from .gpt import GPT
from .parameters import Arena

__all__ = [
    "GPT",
    "IGNORED",
    "Arena",
    "Batch",
    "ModelConfig",
    "count_active_parameters",
    "count_layer_parameters",
    "count_parameters",
    "flop_per_token",
]
