"""What can be reproduced: every module here is imported, and its classes with `@register` are targets."""

import importlib
import pkgutil

from real_nets.paper.targets.target import TARGETS, Target, find, register

__all__ = ["TARGETS", "Target", "find", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
