"""Enters the sources and penalties of tuning into their tables, for what reads any run or settings."""

import microgpt.tuning.dpo
import microgpt.tuning.rl
import microgpt.tuning.scu  # noqa: F401
