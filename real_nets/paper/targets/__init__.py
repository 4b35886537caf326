"""Targets: the classes with `@register` in the modules of this package, all of which are imported."""

import importlib
import pkgutil

from real_nets.paper.targets.target import TARGETS, Target, find, register

__all__ = ["TARGETS", "Target", "find", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
