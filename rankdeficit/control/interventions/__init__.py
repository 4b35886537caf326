"""Interventions on the logits: temperature's rivals, one file each."""

from rankdeficit.control.interventions.apply import Intervened, intervene
from rankdeficit.control.interventions.base import (
    HeadChange,
    Intervention,
    LossChange,
    Seen,
    available_interventions,
    find_interventions,
    intervention,
)

__all__ = [
    "HeadChange",
    "Intervened",
    "Intervention",
    "LossChange",
    "Seen",
    "available_interventions",
    "find_interventions",
    "intervene",
    "intervention",
]
