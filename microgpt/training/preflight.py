"""What is looked at before the first step of a run: can its numbers mean what they say?

It takes seconds and changes no bit of the run: weights stay as they are, and random streams go by name.
"""

from collections.abc import Sequence
from pathlib import Path

from microgpt.batches.batches import Batches
from microgpt.common.errors import DataError
from microgpt.core import arrays
from microgpt.corpus.prepared.folder import Prepared
from microgpt.evaluation.finding import Finding
from microgpt.evaluation.probes import probe_briefly
from microgpt.evaluation.probes_of_data import probe_data
from microgpt.model import GPT
from microgpt.runs.events import Probed


def data_findings(prepared: Prepared) -> list[Finding]:
    """What probes say of the two parts of a corpus.

    Raises: DataError: its held-out part cannot measure anything.
    """
    found = probe_data(prepared.train, prepared.val)
    for one in found:
        if one.is_good is False:
            raise DataError(f"{one.text}; look at {one.look}; --no-probes trains all the same")
    return found


def model_findings(model: GPT, prepared: Prepared, batches: Batches, run: Path) -> list[Finding]:
    """What probes say of a model of random weights, its batches and the disk of its run."""
    found = list(probe_briefly(model, prepared.tokenizer, prepared.train, prepared.val, batches, run))
    arrays.release()  # training works on arrays of other sizes
    return found


def probed(found: Sequence[Finding]) -> Probed:
    """What there is to tell of them."""
    bad = tuple(one.told() for one in found if one.is_good is False)
    return Probed(0, sum(one.is_good is True for one in found), bad)
