"""What a person sees of a run on a terminal."""

from collections.abc import Callable

from microgpt.common.output import show, tell
from microgpt.runs.events import Began, Empty, Ended, Evaluated, Event, Planned, Trained

from .progress import Progress


class Console:
    """A listener: header and summary on stdout, news and a progress line on stderr."""

    def __init__(self, progress: Callable[..., Progress] = Progress) -> None:
        self._new_progress = progress
        self._progress: Progress | None = None
        self._blocks: int | None = None  # that the last step trained alone

    def __call__(self, event: Event) -> None:
        match event:
            case Began():
                show(*event.header)
                peak_tok_per_s = event.peak_flop_per_s / event.flop_per_token
                self._progress = self._new_progress(event.step, event.max_steps, peak_tok_per_s)
                if event.bpb is not None:
                    self._progress.evaluated(event.bpb, event.bpb_step)
            case Ended():
                if self._progress is not None:
                    self._progress.close()
                self._progress = None
                show(*event.summary)
            case _:
                self._follow(event)
        if text := event.told():
            self._say(text)

    def _follow(self, event: Event) -> None:
        """Show what changes the progress line."""
        if self._progress is None:
            return
        match event:
            case Trained():
                self._progress.stepped(event)
                if self._blocks is not None and event.blocks is None:
                    self._say(f"all blocks train from step {event.step:,} on")
                self._blocks = event.blocks
            case Empty():
                self._progress.stepped(event)
            case Evaluated():
                self._progress.evaluated(event.bpb, event.step)
            case Planned():
                self._progress.planned(event.max_steps)

    def _say(self, text: str) -> None:
        if self._progress is None:
            tell(text)
        else:
            self._progress.say(text)
