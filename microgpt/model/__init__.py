"""The model: configuration, the table of parameters, layers with hand-written backward, and GPT itself."""

from .config import ModelConfig
from .gpt import GPT
from .parameters import Arena

__all__ = ["GPT", "Arena", "ModelConfig"]
