"""Networks by name. The decorator `register` adds a network from any module, here or elsewhere."""

import importlib
import pkgutil

from real_nets.models.build import MODELS as MODELS
from real_nets.models.build import Architecture as Architecture
from real_nets.models.build import BudgetName as BudgetName
from real_nets.models.build import Definition as Definition
from real_nets.models.build import HighTemperatures as HighTemperatures
from real_nets.models.build import JobChanges as JobChanges
from real_nets.models.build import NetworkOptions as NetworkOptions
from real_nets.models.build import StructureOptions as StructureOptions
from real_nets.models.build import model_help as model_help
from real_nets.models.build import model_of_paper as model_of_paper
from real_nets.models.build import register as register
from real_nets.models.parts import Norm as Norm
from real_nets.models.parts import Shape as Shape
from real_nets.models.parts import Stem as Stem

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
