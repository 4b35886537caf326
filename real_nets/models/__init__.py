"""Networks by name. A new one is a function with the decorator `register`, in any module here."""

import importlib
import pkgutil

from real_nets.models.build import Architecture, NetworkOptions
from real_nets.models.norms import Norm
from real_nets.models.parts import Shape, Stem
from real_nets.models.registry import MODELS, build, register
from real_nets.models.surgery import HeadNorm, Initialisation

__all__ = [
    "MODELS",
    "Architecture",
    "HeadNorm",
    "Initialisation",
    "NetworkOptions",
    "Norm",
    "Shape",
    "Stem",
    "build",
    "register",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
