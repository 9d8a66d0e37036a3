"""A listener that watches a run: it measures what alarms need beside the run's own numbers, and tells."""

from functools import cache

from microgpt.batches.batches import EvalWindows
from microgpt.corpus.token_file import TokenFile
from microgpt.model import GPT, count_parameters
from microgpt.runs.events import Alarmed, Evaluated, Event, EventListener, Planned, Trained

from .alarms import Alarm, Alarms, Facts, Loss
from .loss import evaluate
from .ngrams import held_out_losses, learn
from .probes import first_loss_wanted

TOKENS_COUNTED = 1 << 20  # of the training text, for baselines: a second's work
TOKENS_AT_ONCE = 4096  # of one batch


class Watch:
    """Hears the events of a run and tells each alarm once.

    Args: held_out: what the run is evaluated on.  training: some windows of what it is trained on.
          is_new: its weights are random.  tell: hears of each alarm.
    """

    def __init__(
        self,
        model: GPT,
        text: TokenFile,
        held_out: EvalWindows,
        training: EvalWindows,
        max_steps: int,
        is_new: bool,
        tell: EventListener,
    ) -> None:
        self._model, self._training, self._tell = model, training, tell
        first = next(training.batches(1))
        self._alarms = Alarms(
            Facts(
                count_parameters(model.config),
                max_steps,
                first_loss_wanted(model, first) if is_new else None,
                cache(lambda: held_out_losses(learn(text, TOKENS_COUNTED)[0], held_out)),
            )
        )
        self._tokens = 0

    def __call__(self, event: Event) -> None:
        """See one event."""
        if isinstance(event, Planned):
            self._alarms.planned(event.max_steps)
        elif isinstance(event, Trained):
            self._tokens = event.tokens
            speed = event.tok_per_s, event.dt_s
            self._sound(event.step, self._alarms.stepped(event.step, event.loss_nats, event.lr, *speed))
        elif isinstance(event, Evaluated):
            batch_size = max(1, TOKENS_AT_ONCE // self._training.seq_len)
            trained = evaluate(self._model, self._training, batch_size)
            assert trained is not None, "nothing can stop it"
            idle = self._model.idle
            found = self._alarms.evaluated(
                event.step,
                self._tokens,
                Loss(event.loss_nats, event.error_nats),
                Loss(trained.loss, trained.error),
                {name: self._model.params[name] for name in self._model.grads if name not in idle},
            )
            self._sound(event.step, found)

    def _sound(self, step: int, found: list[Alarm]) -> None:
        for alarm in found:
            self._tell(Alarmed(step, *alarm))
