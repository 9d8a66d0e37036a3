"""Tell another program of what happens in a run: --on-event."""

import json
import os
import signal
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor

from microgpt.runs.events import Alarmed, Began, Ended, Evaluated, Event, EventListener, Told
from microgpt.runs.metrics import plain
from microgpt.training.loop import FINISHED, NO_GAIN, OUT_OF_TIME

TIME_S = 10.0  # that the program may take
AS_PLANNED = (FINISHED, OUT_OF_TIME, NO_GAIN)  # why a session ends that nobody stopped
LONGEST = 200  # characters of what a program that failed had to say


class OnEvent:
    """A listener that starts a command of the shell for each alarm and for the end of a session, with a line
    of JSON on its standard input: event (end, stop or alarm), run, step, and what else there is to tell.

    A session that was stopped, or that an error ended, is a stop.  The training does not wait for the
    command, but for its end it does.  A command that fails or takes too long is a warning.

    Args: tell: hears of warnings.  time_s: that a command may take.
    """

    def __init__(self, command: str, tell: EventListener, time_s: float = TIME_S) -> None:
        self._command, self._tell, self._time_s = command, tell, time_s
        self._started = ThreadPoolExecutor(1)
        self._pending: list[Future[str]] = []
        self._run: str | None = None
        self._bpb: float | None = None

    def __call__(self, event: Event) -> None:
        self._warn(event.step, wait=False)
        match event:
            case Began():
                self._run, self._bpb = event.run, event.bpb
            case Evaluated():
                self._bpb = event.bpb
            case Alarmed():
                self._start("alarm", event)
            case Ended():
                self._start("end" if event.why in AS_PLANNED else "stop", event)
                self._warn(event.step, wait=True)

    def _start(self, name: str, event: Event) -> None:
        facts = {"event": name, "run": self._run, "step": event.step, "held_out_bpb": self._bpb}
        line = json.dumps(plain(facts | event.values())) + "\n"
        self._pending.append(self._started.submit(run_command, self._command, line, self._time_s))

    def _warn(self, step: int, wait: bool) -> None:
        """Tell of the commands that ended and failed."""
        while self._pending and (wait or self._pending[0].done()):
            if problem := self._pending.pop(0).result():
                self._tell(Told(step, f"warning: --on-event: {problem}"))


def run_command(command: str, line: str, time_s: float) -> str:
    """Run a command of the shell with a line on its standard input; what was wrong, or nothing.

    It has a process group of its own: a Ctrl-C is for the training, and what it started ends with it.
    """
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        return f"{command}: {error.strerror}"
    try:
        _, err = process.communicate(line.encode(), time_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"{command}: ended after {time_s:g} s, which is the limit"
    if not process.returncode:
        return ""
    said = err.decode("utf-8", "replace").strip()[:LONGEST]
    return f"{command}: exit code {process.returncode}" + (f", {said}" if said else "")
