"""The lowest minima that are known of deep linear unconstrained feature models: a table as data.

For c = 3 to 20 classes with one sample each and L = 2 to 8 factors, free features among them, at T = 1
and weight decay lambda = 1e-3 of every factor. With a temperature T, N samples per class and decay
lambda' the objective is the same, at T times the logits, if lambda' N^(1/L) T^(2/L) = lambda. The
objectives are upper bounds on the global minimum, which `proofs.structures` certifies; none but those
of two factors is known to be the minimum. `simulations.minima` finds them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankdeficit import constructions
from rankdeficit.constructions import Code
from rankdeficit.toys.optima import code_objective

WEIGHT_DECAY = 1e-3
"""Of every factor, in the table."""

DIGITS = 10
"""Digits after the point of the objectives."""


@dataclass(frozen=True)
class Minimum:
    """Logits with the lowest known objective: those of a code at a scale, or a product of factors."""

    classes: int
    factors: int
    structure: str
    """Name of the code, or "other"."""
    rank: int
    objective: float
    """Mean cross-entropy plus decay of the factors, rounded up."""
    scale: float | None = None
    """Of a code."""
    left: tuple[tuple[float, ...], ...] = ()
    """Features (c, rank), where it is no code."""
    middle: tuple[float, ...] = ()
    """Diagonal (rank,) of each of the L - 2 factors between."""
    right: tuple[tuple[float, ...], ...] = ()
    """Classifier (c, rank)."""

    @classmethod
    def of(
        cls, logits: Float64[Tensor, "c c"], factors: int, weight_decay: float, decimals: int
    ) -> "Minimum":
        """Balanced factors of the logits, rounded to decimals, with the objective of what was rounded."""
        U, values, Vh = torch.linalg.svd(logits)
        rank = int((values > 1e-9 * values[0]).sum())
        root = values[:rank] ** (1 / factors)
        left, right = ((own[:, :rank] * root).round(decimals=decimals) for own in (U, Vh.mT))
        middle = root.round(decimals=decimals)
        product = left * middle ** (factors - 2) @ right.mT
        squares = left.square().sum() + right.square().sum()
        squares = squares + (factors - 2) * middle.square().sum()
        objective = _rounded_up(_loss(product) + weight_decay / 2 * float(squares))
        rows = [tuple(map(tuple, own.tolist())) for own in (left, right)]
        return cls(
            len(logits), factors, "other", rank, objective, None,
            rows[0], tuple(middle.tolist()), rows[1],
        )  # fmt: skip

    @classmethod
    def of_code(cls, code: Code, scale: float, factors: int, weight_decay: float) -> "Minimum":
        """A code at a scale."""
        objective = code_objective(code, scale, factors, 1, 1.0, weight_decay)
        return cls(code.classes, factors, code.name, code.rank, _rounded_up(objective), scale)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Minimum":
        """From a record of `record`."""
        rows = {
            name: tuple(map(tuple, record[name])) for name in ("left", "right") if name in record
        }
        middle = {"middle": tuple(record["middle"])} if "middle" in record else {}
        return cls(**{**record, **rows, **middle})

    def record(self) -> dict[str, Any]:
        """As plain values."""
        values = {name: value for name, value in vars(self).items() if value not in (None, ())}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    def logits(self) -> Float64[Tensor, "c c"]:
        """The logits of the one sample of each class."""
        if self.scale is not None:
            codes = constructions.named_codes(self.classes)
            return codes[self.structure].logits(torch.arange(self.classes), self.scale)
        left, middle, right = (
            torch.tensor(own, dtype=torch.float64) for own in (self.left, self.middle, self.right)
        )
        return left * middle ** (self.factors - 2) @ right.mT


def objective_of(logits: Float[Tensor, "c c"], factors: int, weight_decay: float) -> float:
    """Mean cross-entropy at T = 1 plus (L/2) lambda sum_i sigma_i^(2/L), one sample per class."""
    values = torch.linalg.svdvals(logits.double())
    return _loss(logits) + factors / 2 * weight_decay * float((values ** (2 / factors)).sum())


def known_minimum(classes: int, factors: int) -> Minimum:
    """The lowest known minimum of the table. Raises ValueError outside it."""
    table = known_minima()
    if (classes, factors) not in table:
        raise ValueError(
            f"there is no minimum of classes={classes} and factors={factors}; classes lie in 3..20, "
            "factors in 2..8"
        )
    return table[classes, factors]


@lru_cache
def known_minima() -> dict[tuple[int, int], Minimum]:
    """The table, by classes and factors."""
    text = resources.files("rankdeficit.toys").joinpath("minima.json").read_text(encoding="utf-8")
    found = [Minimum.read(record) for record in json.loads(text)]
    return {(own.classes, own.factors): own for own in found}


def _loss(logits: Tensor) -> float:
    """Mean cross-entropy of the one sample of each class."""
    exact = logits.double()
    return float(torch.logsumexp(exact, dim=1).mean() - exact.diagonal().mean())


def _rounded_up(objective: float) -> float:
    return math.ceil(objective * 10**DIGITS) / 10**DIGITS
