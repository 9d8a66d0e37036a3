"""Processes that begin with microgpt imported, which takes longer than most of what tests have them do."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_S = 600.0  # of a child, on the slowest machine; what takes longer does not end

# For each line of JSON a child runs its code, as `python -c CODE WORDS` would, and its exit code is told.
PARENT = """
import json, os, sys
import microgpt.commands.chat, microgpt.commands.train
from benchmarks.torture.signals import hear_signals

for line in sys.stdin:
    if not (child := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
asked = json.loads(line)
os.chdir(asked["folder"])
os.environ.update(asked["environment"])
for number, (name, how) in enumerate(zip(asked["streams"], "rww")):
    file = open(name, how)
    os.dup2(file.fileno(), number)
sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
hear_signals()
sys.argv[1:] = asked["words"]
exec(asked["code"], {"__name__": "__main__"})
"""


class Forks:
    """Starts them, one after the other; a context."""

    def __enter__(self) -> "Forks":
        self._parent = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            preexec_fn=os.setpgrp,  # so that children that do not end can be killed with it
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate()

    def run(self, code, words, folder, stdin, environment) -> subprocess.CompletedProcess:
        """What came of it."""
        streams = [stdin, folder / "stdout", folder / "stderr"]
        asked = {"code": code, "words": words, "folder": str(folder), "environment": environment}
        print(json.dumps(asked | {"streams": list(map(str, streams))}), file=self._parent.stdin, flush=True)
        is_told, *_ = select.select([self._parent.stdout], [], [], LONGEST_S)
        if not is_told or not (line := self._parent.stdout.readline()):
            os.killpg(self._parent.pid, signal.SIGKILL)
            what = "the process that starts them died" if is_told else f"it did not end in {LONGEST_S:g} s"
            raise AssertionError(f"{what}; its errors: {streams[2].read_text()}")
        return subprocess.CompletedProcess(words, int(line), *(path.read_text() for path in streams[1:]))
