"""Which known structure class logits have: simplex ETF, pairs, Petersen code, rank 3, circle, or none.

Class logits are compared up to scale, up to what the softmax does not see, and up to the order of the
classes: the distance of M from a structure G is min_P ||M/||M|| - P G P^T/||G||||_F over permutations P,
as far as a search finds it. The distance of the singular values is a lower bound (Mirsky).
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.optimize import quadratic_assignment
from torch import Tensor

from rankdeficit import constructions
from rankdeficit.checks import check_at_least, check_floating, check_magnitudes
from rankdeficit.spectrum import centre, numerical_rank

TOLERANCE = 0.05
"""Distance up to which logits have a structure."""
RANK_GAMMA = 1e-2
STARTS = 12
"""Random starts of the search for a permutation."""
CERTAIN = 1e-3
"""Distance at which the search ends before its last start."""

ORBITS: dict[int, tuple[tuple[int, int, int], list[int]]] = {
    4: ((0, 1, 1), [27469, 33981, -892, 23095, -19251, 31431, 10986,
                    42854, 36530, -3070, 22525, -32749, 33113, 18534]),
    5: ((0, 0, 1), [30924, 20984, -21617, 28502, 12284, 30760, -995,
                    40036, 26126, -30605, 38653, 17350, 42675, -2951]),
    6: ((0, 0, 1), [31517, 21507, -22097, 29196, 12377, 31471, -1106,
                    40363, 26399, -31017, 39192, 17582, 43252, -3028]),
    7: ((0, 0, 1), [31916, 21863, -22458, 29693, 12437, 31969, -1134,
                    40588, 26620, -31305, 39556, 17761, 43662, -3070]),
}  # fmt: skip
"""Rank-3 arrangements of ten classes by number of factors: which triangles are turned by 60 degrees, and
for the classifier and then the features the height of a pole, and radius and height of three triangles,
in 10^-4 (proofs/phase_changes.md)."""


class Recognition(NamedTuple):
    """The structure of class logits, and their distance from the closest one."""

    name: str
    """A name of `templates`, or "zero", "equal-margin code" or "none"."""
    closest: str
    """Closest of the known structures, even if it is too far."""
    distance: float
    """From it, between 0 and 2: an upper bound, as the search over permutations may miss the best."""


def recognise(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], tolerance: float = TOLERANCE
) -> Recognition:
    """The structure of the class means of logits, if one is within the tolerance.

    Otherwise the name is "equal-margin code" if `code_defect` is, and else "none"; equal logits of all
    classes are "zero". Raises ValueError for labels without samples, for fewer than 3 classes and for a
    tolerance outside (0, 1).
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must lie between 0 and 1")
    M = class_logits(logits, labels)
    size = float(torch.linalg.matrix_norm(M))
    if size == 0:
        return Recognition("zero", "zero", 0.0)
    values = torch.linalg.svdvals(M / size)
    known = [
        (float((torch.linalg.svdvals(G) - values).norm()), name, G) for name, G in templates(len(M))
    ]
    best = Recognition("none", "", math.inf)
    for least, name, G in sorted(known, key=lambda own: own[0]):
        if least >= best.distance:
            break
        found = _distance(M / size, G)
        if found < best.distance:
            best = Recognition(name if found <= tolerance else "none", name, found)
    if best.name == "none" and code_defect(M) <= tolerance:
        return best._replace(name="equal-margin code")
    return best


def class_logits(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]
) -> Float64[Tensor, "c c"]:
    """Mean logits of the samples of each class (rows), less their mean over classes.

    Raises ValueError for logits that are not finite, labels outside 0..c-1 and classes without samples.
    """
    check_floating("logits", logits, dimensions=2)
    check_magnitudes("logits", logits)
    c = logits.shape[1]
    check_at_least(3, classes=c)
    if len(labels) != len(logits) or int(labels.min()) < 0 or int(labels.max()) >= c:
        raise ValueError(
            f"labels are {len(labels)} from {int(labels.min())} to {int(labels.max())}; pass one of "
            f"0..{c - 1} for each of the {len(logits)} samples"
        )
    counts = torch.bincount(labels, minlength=c)
    if int(counts.min()) == 0:
        raise ValueError(f"labels have no sample of class {int(counts.argmin())}; pass all classes")
    sums = logits.new_zeros(c, c, dtype=torch.float64).index_add_(0, labels, logits.double())
    return centre(sums / counts[:, None])


def templates(classes: int) -> list[tuple[str, Float64[Tensor, "c c"]]]:
    """Class logits of the known structures of norm 1, with their names; some names have several."""
    codes = constructions.named_codes(classes)
    found = [(name, code.directions @ code.directions.mT) for name, code in codes.items()]
    if classes == 10:
        found += [("ten points of rank 3", rank_three_logits(factors)) for factors in ORBITS]
    return [(name, G / torch.linalg.matrix_norm(G)) for name, G in found]


def rank_three_logits(factors: int) -> Float64[Tensor, "10 10"]:
    """Class logits (rows) of the arrangement of rank 3 for 4 to 7 factors, symmetric under C3v."""
    turned, numbers = ORBITS[factors]
    W, H = (_points(turned, half) for half in (numbers[:7], numbers[7:]))
    return centre(H @ W.mT)


def _points(turned: tuple[int, int, int], numbers: list[int]) -> Float64[Tensor, "10 3"]:
    """Pole and triangles, a row per class."""
    height, *rest = (x / 1e4 for x in numbers)
    rows = [[0.0, 0.0, height]]
    for turn, radius, z in zip(turned, rest[::2], rest[1::2], strict=True):
        for j in range(3):
            angle = math.pi * (2 * j + turn) / 3
            rows.append([radius * math.cos(angle), radius * math.sin(angle), z])
    return torch.tensor(rows, dtype=torch.float64)


def code_defect(M: Float64[Tensor, "c c"]) -> float:
    """How far class logits are from a code with equal norms and margins, relative to their norm.

    The root of ||M - M^T||^2/4 plus the squared negative eigenvalues of the symmetric part, the variance
    of the diagonal and that of the margins M_yy - max_k M_yk, times c, over ||M||^2. It is 1 if a class
    is not classified correctly, or if the rank is not below c - 1.
    """
    own = M.diagonal()
    others = M - torch.diag_embed(torch.full_like(own, math.inf))
    margins = own - others.amax(dim=1)
    if bool((margins <= 0).any()) or int(numerical_rank(M, RANK_GAMMA)) >= len(M) - 1:
        return 1.0
    even = (M + M.mT) / 2
    negative = torch.linalg.eigvalsh(even).clamp(max=0).square().sum()
    odd = (M - even).square().sum()
    spread = len(M) * (own.var(correction=0) + margins.var(correction=0))
    return float(((odd + negative + spread) / M.square().sum()).sqrt())


def _distance(M: Float64[Tensor, "c c"], G: Float64[Tensor, "c c"]) -> float:
    """Least ||M - P G P^T|| found over permutations, for matrices of norm 1."""
    a, b = M.cpu().numpy(), G.numpy()
    best = 2.0
    rng = np.random.default_rng(0)
    for start in range(STARTS):
        options: dict[str, Any] = {
            "maximize": True,
            "P0": "randomized" if start else "barycenter",
            "rng": rng,
        }
        order = quadratic_assignment(a, b, method="faq", options=options).col_ind
        guess = np.column_stack([np.arange(len(a)), order])
        options = {"maximize": True, "partial_guess": guess, "rng": rng}
        order = quadratic_assignment(a, b, method="2opt", options=options).col_ind
        best = min(best, float(np.linalg.norm(a - b[np.ix_(order, order)])))
        if best < CERTAIN:
            break
    return best
