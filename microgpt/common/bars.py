"""Progress bars, all of one kind."""

import sys

from tqdm import tqdm

QUIET_S = 2.0  # no bar for what is done sooner


def progress_bar(title: str, total: int, unit: str, show: bool = True) -> tqdm:
    """A bar on stderr for what takes a while, if stderr is a terminal: a log would fill with its drawings."""
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        unit_scale=True,
        delay=QUIET_S,
        leave=False,
        disable=None if show else True,
        file=sys.stderr,
        mininterval=0.2,
    )
