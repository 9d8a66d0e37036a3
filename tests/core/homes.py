"""The modules that operations are written in."""

import inspect

from microgpt.core import ops, recurrent

PACKAGES = ops, recurrent
HOMES = [module for package in PACKAGES for module in vars(package).values() if inspect.ismodule(module)]
