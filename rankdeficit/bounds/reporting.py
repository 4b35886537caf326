"""Every bound on the singular values of one probability matrix, beside the value that it bounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from rich import box
from rich.table import Table
from torch import Tensor

from rankdeficit.bounds.singular_values import (
    gap_bound_in_r,
    gap_bound_of,
    numerical_rank_bounds,
    probability_columns,
    refined_gap,
    squares_of_largest,
    squares_of_smallest,
)
from rankdeficit.checks import check_gamma, check_temperature
from rankdeficit.experiments.tables import report_text
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import GAMMA

Side = Literal["lower", "upper"]

MOST_PAIRS = 2000
"""Most columns of which all pairs are looked at, for Brauer's ovals."""


class Bound(NamedTuple):
    """One bound on one quantity."""

    quantity: str
    value: float
    side: Side
    name: str
    formula: str
    bound: float
    distance: float
    """From the value to the bound; not negative, up to rounding."""
    tightest: bool
    """Whether no bound on this side of the quantity is closer."""


@dataclass(frozen=True)
class BoundsReport:
    """All bounds on one matrix; print it, or pass `rows` to pandas.DataFrame."""

    shape: tuple[int, int]
    gamma: float
    rows: list[Bound]
    notes: list[str]

    def __str__(self) -> str:
        m, n = self.shape
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
        for name in ("quantity", "value", "side", "bound", "distance", "name", "formula"):
            right = name in ("value", "bound", "distance")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        last = ""
        for row in self.rows:
            mark = " *" if row.tightest else ""
            shown = ("", "") if row.quantity == last else (row.quantity, f"{row.value:.6g}")
            numbers = f"{row.bound:.6g}", f"{row.distance:.2g}{mark}"
            table.add_row(*shown, row.side, *numbers, row.name, row.formula)
            last = row.quantity
        head = (
            f"{m} x {n} matrix S with probability vectors s_i as columns and rows t_k; * marks the "
            "tightest bounds. G = S^T S, d_i = G_ii, R_i = sum_{j != i} G_ij, r = max R_i, rho = S 1, "
            "v = G 1, F = ||S||_F^2, q = F / sigma_1^2, k = min(m, n), gap = sigma_1 - sigma_k."
        )
        return report_text(table, [head, *self.notes])

    def tightest(self, quantity: str, side: Side) -> Bound:
        """The tightest bound. Raises ValueError for a quantity without bounds on this side."""
        for row in self.rows:
            if (row.quantity, row.side, row.tightest) == (quantity, side, True):
                return row
        known = ", ".join(dict.fromkeys(row.quantity for row in self.rows))
        raise ValueError(f"quantity is {quantity!r} ({side}); bounds are known of {known}")


def report(
    matrix: Float[Tensor, "m n"], *, temperature: float | None = None, gamma: float = GAMMA
) -> BoundsReport:
    """Every bound of this package on a matrix, beside the value, with the distance between them.

    matrix: probability vectors as columns (m, n); with `temperature`, logits with samples as rows
        (samples, classes), of which the columns are softmax(logits / T).
    gamma: threshold of the numerical rank.

    Notation of `bounds.singular_values`, with k = min(m, n). If there are more columns than rows,
    Proposition 3.1 is applied to m columns, the largest entry of each row among those not taken yet:
    sigma_1 and sigma_m of the matrix are at least those of these columns.
    Raises ValueError unless the columns are probability vectors, and for bad temperature or gamma.
    """
    check_gamma(gamma)
    if temperature is not None:
        check_temperature(temperature)
        matrix = softmax(matrix, temperature).mT
    S = probability_columns(matrix)
    notes: list[str] = []
    values = torch.linalg.svdvals(S)
    pairs = S.shape[1] <= MOST_PAIRS
    if not pairs:
        notes.append(
            f"Brauer's bounds look at all pairs of columns, of {MOST_PAIRS} at most: left out."
        )
    found = [
        *_singular_values(S, values, pairs),
        *_gap(S, values),
        *_rank(S, values, gamma),
    ]
    if S.shape[0] < S.shape[1]:
        own = representative_columns(S)
        part = S[:, own]
        inner = torch.linalg.svdvals(part)
        listed = ", ".join(map(str, own.tolist()[:10])) + (", ..." if len(own) > 10 else "")
        notes.append(
            f"Proposition 3.1 is applied to {len(own)} columns, one for each row: {listed}."
        )
        found += _gap(part, inner, f" of {len(own)} columns")
    return BoundsReport((S.shape[0], S.shape[1]), gamma, _marked(found), notes)


def representative_columns(S: Float[Tensor, "m n"]) -> Tensor:
    """m columns of m x n, n >= m: for each row in turn the one with its largest entry, if not taken."""
    taken: list[int] = []
    free = torch.ones(S.shape[1], dtype=torch.bool, device=S.device)
    for row in S:
        taken.append(int(torch.where(free, row, -1.0).argmax()))
        free[taken[-1]] = False
    return torch.tensor(taken, device=S.device)


class _Found(NamedTuple):
    quantity: str
    value: Tensor
    side: Side
    name: str
    formula: str
    bound: Tensor


FORMULAS = {
    ("sigma_1", "lower", "mean column"): "sqrt(n / m)",
    ("sigma_1", "lower", "row sums"): "||rho|| / sqrt(n)",
    ("sigma_1", "lower", "Collatz-Wielandt"): "sqrt(min_i (G v)_i / v_i)",
    ("sigma_1", "upper", "Gershgorin"): "sqrt(max_i (d_i + R_i))",
    ("sigma_1", "upper", "largest row sum"): "sqrt(max_k rho_k)",
    ("sigma_1", "upper", "Brauer"): "ovals of Cassini of G",
    ("sigma_1", "upper", "Collatz-Wielandt"): "sqrt(max_i (G v)_i / v_i)",
    ("sigma_k", "lower", "Gershgorin"): "sqrt(min_i (d_i - R_i))",
    ("sigma_k", "lower", "Brauer"): "ovals of Cassini of G",
    ("sigma_k", "lower", "rows"): "sqrt(min_k (2 ||t_k||^2 - rho_k))",
    ("sigma_k", "upper", "mean square"): "sqrt((F - n/m) / (k - 1))",
}
"""Formulas of the bounds of `singular_values`, by singular value, side and name."""


def _singular_values(S: Tensor, values: Tensor, pairs: bool) -> Iterator[_Found]:
    for which, name, value, bounds in (
        ("sigma_1", "sigma_1", values[0], squares_of_largest(S, pairs=pairs)),
        ("sigma_k", f"sigma_{len(values)}", values[-1], squares_of_smallest(S, pairs=pairs)),
    ):
        for side, squares in zip(get_args(Side), bounds, strict=True):
            for own, square in squares.items():
                bound = square.clamp(min=0).sqrt()
                yield _Found(name, value, side, own, FORMULAS[which, side, own], bound)


def _gap(S: Tensor, values: Tensor, of: str = "") -> Iterator[_Found]:
    m, n = S.shape
    gap = values[0] - values[-1]
    quantity = f"gap{of}"
    _, above = squares_of_smallest(S, pairs=False)
    for square in above.values():
        lower = (n / m) ** 0.5 - square.clamp(min=0).sqrt()
        formula = "sqrt(n/m) - sqrt((F - n/m) / (k - 1))"
        yield _Found(quantity, gap, "lower", "mean square", formula, lower)
    if n <= m:
        upper, r = gap_bound_of(S)
        formula = "sqrt(1 + r) - sqrt([1/m - r]_+)"
        yield _Found(quantity, gap, "upper", "Proposition 3.1", formula, upper)
        if n == m:
            name = "best known in r" if n > 2 else "best possible in r"
            yield _Found(quantity, gap, "upper", name, "gap_bound_in_r(r, n)", gap_bound_in_r(r, n))
            if n <= MOST_PAIRS:
                formula = "that, or upper sigma_1 - lower sigma_n"
                yield _Found(quantity, gap, "upper", "refined", formula, refined_gap(S).upper)


def _rank(S: Tensor, values: Tensor, gamma: float) -> Iterator[_Found]:
    lower, count, upper = numerical_rank_bounds(S, gamma)
    quantity = f"rank at {gamma:g}"
    formula = "(q - k gamma^2) / (1 - gamma^2)"
    yield _Found(quantity, count, "lower", "stable rank", formula, lower)
    yield _Found(quantity, count, "upper", "stable rank", "1 + (q - 1) / gamma^2", upper)


def _marked(found: list[_Found]) -> list[Bound]:
    """With distances, and marks at the smallest ones."""
    rows = []
    for own in found:
        value, bound = float(own.value), float(own.bound)
        distance = value - bound if own.side == "lower" else bound - value
        rows.append(
            Bound(own.quantity, value, own.side, own.name, own.formula, bound, distance, False)
        )
    closest: dict[tuple[str, str], float] = {}
    for row in rows:
        place = row.quantity, row.side
        closest[place] = min(row.distance, closest.get(place, row.distance))
    return [row._replace(tightest=row.distance == closest[row.quantity, row.side]) for row in rows]
