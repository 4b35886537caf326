"""What can be reproduced: a module per family of targets, each target a class with `@register`."""

import importlib

from real_nets.paper.targets.target import TARGETS, Target, find

__all__ = ["TARGETS", "Target", "find"]

_MODULES = "tables quick figures appendices_b_to_f appendices_i_to_m"  # as they are shown
for _name in _MODULES.split():
    importlib.import_module(f"{__name__}.{_name}")
