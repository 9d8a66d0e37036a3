"""The numbers of a run for TensorBoard: --tensorboard."""

from pathlib import Path
from typing import Any

from microgpt.common.extras import wanted
from microgpt.runs.events import Began, Ended, Evaluated, Event, Sampled, Trained

FOLDER = "tensorboard"  # below that of the run


class TensorBoard:
    """A listener that writes what is measured into RUN/tensorboard, by tensorboardX, under the names of
    metrics.jsonl; a resumed run goes on there, without what was measured behind its checkpoint.

    Args:    every: of the trained steps, the first and each of this number are written.
    Raises:  ConfigError: tensorboardX is not installed.
    """

    def __init__(self, every: int = 1) -> None:
        self._module, self._every = wanted("tensorboardX", "tensorboard", "--tensorboard"), every
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began) and event.run is not None:
            folder = str(Path(event.run, FOLDER))
            self._writer = self._module.SummaryWriter(folder, purge_step=event.step + 1)
        if self._writer is None:
            return
        match event:
            case Trained() if event.step == 1 or event.step % self._every == 0:
                self._write(event, {"loss_nats/training": event.loss_nats})
                self._write(event, {name: getattr(event, name) for name in ("lr", "grad_norm", "tok_per_s")})
            case Evaluated():
                self._write(event, {"loss_nats/held_out": event.loss_nats, "bpb/held_out": event.bpb})
            case Sampled():
                self._writer.add_text("sample", event.text, event.step)
            case Ended():
                self._writer.close()
                self._writer = None

    def _write(self, event: Event, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, event.step)
