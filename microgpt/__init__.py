"""Train a GPT from nothing on an ordinary CPU, and talk to it.

train_run, Spec: train a model, or go on with a run.  load: a trained model, which writes, talks and scores.
Tokenizer: text to ids and back.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microgpt.chat.loaded import Model, load
    from microgpt.runs.spec import Spec
    from microgpt.tokenizer import Tokenizer
    from microgpt.training.run import Outcome, train_run

__version__ = "0.1.0"
__all__ = ["Model", "Outcome", "Spec", "Tokenizer", "__version__", "load", "train_run"]

_HOMES = {
    "Model": "microgpt.chat.loaded",
    "Outcome": "microgpt.training.run",
    "Spec": "microgpt.runs.spec",
    "Tokenizer": "microgpt.tokenizer",
    "load": "microgpt.chat.loaded",
    "train_run": "microgpt.training.run",
}


def __getattr__(name: str) -> Any:
    """What the library offers, imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'microgpt' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
