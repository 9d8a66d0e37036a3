"""The modules that operations are written in."""

import inspect

from microgpt.core import ops, recurrent

HOMES = [*(module for module in vars(ops).values() if inspect.ismodule(module)), recurrent]
