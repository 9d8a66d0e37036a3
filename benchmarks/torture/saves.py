"""Saves that die or are refused at each of their calls to the system."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from microgpt.common.errors import CheckpointError
from microgpt.runs.checkpoint import Snapshot, persist

from .case import NEW, OLD, fresh, is_whole, make_snapshot, old_or_new
from .shim import CRASHED, Action, Evil, disarm, fork, killed, wait

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR)
SAVED, REFUSED = 0, 3  # exit codes


class Saves:
    """A run with an old checkpoint, to which the same new one is saved again and again."""

    def __init__(self, folder: Path, seed: int, keep: int = 1) -> None:
        self.template, self.run, self.log = folder / "template", folder / "run", folder / "log"
        self.template.mkdir()
        persist(make_snapshot(OLD, seed), self.template, keep)
        self.new, self.keep = make_snapshot(NEW, seed), keep
        self.n_calls = self._count()

    def _count(self) -> int:
        """The calls of a save that nothing hinders."""
        counted = self.log.with_name("count")

        def work() -> None:
            save(self.new, self.run, self.keep)
            n = disarm()
            counted.write_text(str(n))

        assert self.attempt(work, Evil(self.run)) == SAVED
        return int(counted.read_text())

    def attempt(self, work: Callable[[], int | None], evil: Evil) -> int:
        """A child does the work on the run as it was; its exit code."""
        fresh(self.run, self.template)
        return wait(fork(work, self.log, evil))


def save(new: Snapshot, run: Path, keep: int) -> int:
    """Save once; SAVED, or REFUSED if it was told in one line that it did not work."""
    try:
        persist(new, run, keep)
    except CheckpointError as error:
        print(error)
        return REFUSED if "\n" not in str(error) else CRASHED
    return SAVED


def kill_everywhere(folder: Path, seed: int) -> Iterator[tuple[str | None, str]]:
    """Die before, in and after each call of a save.  Yields (problem, what was done)."""
    saves = Saves(folder, seed)
    for nth in range(1, saves.n_calls + 1):
        for action in (Action.KILL, Action.TORN):
            evil = Evil(saves.run, action, nth)
            code = saves.attempt(lambda: save(saves.new, saves.run, saves.keep), evil)
            problem = old_or_new(saves.run) if killed(code) else f"ended with {code}, not by the kill"
            yield problem or after_it(saves), evil.text


def after_it(saves: Saves) -> str | None:
    """What is wrong when the run goes on after a kill, and saves again."""
    persist(saves.new, saves.run, saves.keep)
    litter = sorted(path.name for path in saves.run.glob(".tmp*"))
    if litter:
        return f"left {litter[0]} behind"
    return old_or_new(saves.run, must_be_new=True)


def fail_everywhere(folder: Path, seed: int, short: bool = False) -> Iterator[tuple[str | None, str]]:
    """Refuse each call of a save with each error, once and from then on, and take half of each write."""
    saves = Saves(folder, seed)
    evils = [Evil(saves.run, Action.SHORT), Evil(saves.run, Action.FAIL_FROM, code=errno.ENOSPC)]
    if not short:
        evils += [Evil(saves.run, Action.FAIL_FROM, code=errno.EDQUOT)]
        evils += [Evil(saves.run, Action.FAIL, code=code) for code in ERRORS]
    for nth in range(1, saves.n_calls + 1):
        for evil in (evil._replace(nth=nth) for evil in evils):
            code = saves.attempt(lambda: save_twice(saves), evil)
            yield judged(saves, evil, code), evil.text


def save_twice(saves: Saves) -> int:
    """Save, and if that is refused save once more when the evil is over, as a run does."""
    first = save(saves.new, saves.run, saves.keep)
    disarm()
    if first == SAVED:
        return SAVED if is_whole(saves.run, NEW) else CRASHED
    if first != REFUSED or not (is_whole(saves.run, OLD) or is_whole(saves.run, NEW)):
        return CRASHED
    if problem := after_it(saves):
        print(problem)
        return CRASHED
    return REFUSED


def judged(saves: Saves, evil: Evil, code: int) -> str | None:
    """What is wrong about how a save that was refused something ended."""
    if code == SAVED or (code == REFUSED and evil.action != Action.SHORT):
        return old_or_new(saves.run, must_be_new=True)
    words = saves.log.read_text(errors="replace").strip().splitlines()
    return f"ended with {code}: {words[-1] if words else ''}"
