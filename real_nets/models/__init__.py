"""Networks by name. The decorator `register` adds a network from any module, here or elsewhere.

@register("MyNet", options={"small": {"epochs": 20}})
def mynet(*, inputs: Shape, classes: int, width: int = 64) -> nn.Module: ...
"""

import importlib
import pkgutil

from real_nets.models.build import (
    MODELS,
    Architecture,
    BudgetName,
    Definition,
    JobChanges,
    NetworkOptions,
    StructureOptions,
    model_help,
    model_of_paper,
    register,
)
from real_nets.models.parts import Norm, Shape, Stem
from real_nets.models.surgery import HeadNorm, Initialisation

__all__ = [
    "MODELS",
    "Architecture",
    "BudgetName",
    "Definition",
    "HeadNorm",
    "Initialisation",
    "JobChanges",
    "NetworkOptions",
    "Norm",
    "Shape",
    "Stem",
    "StructureOptions",
    "model_help",
    "model_of_paper",
    "register",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
