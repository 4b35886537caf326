"""Directions of matrices of any scale: leading eigenvectors, and powers of two that scale rows."""

import math

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.sparse.linalg import eigsh
from torch import Tensor

from rankdeficit.spectrum import PANEL

LEAST_EXPONENT = -1000
"""Least exponent of the powers of two that scale matrices: its negative still gives a float64."""

COARSE, COARSE_LEAST = 64, -960
"""Step and least value of the exponents that scale streamed rows, coarse so that they rarely change."""


def add_products(gram: Float64[Tensor, "k k"], rows: Float64[Tensor, "rows k"]) -> None:
    """`accumulate_gram`, without a matrix of the new products: groups have few rows at a time."""
    for start in range(0, len(gram), PANEL):
        panel = rows[:, start : start + PANEL]
        gram[start : start + PANEL, start:].addmm_(panel.mT, rows[:, start:])


def products_with(
    grams: Float64[Tensor, "groups k k"], vectors: Float64[Tensor, "k kept"]
) -> Float64[Tensor, "groups k kept"]:
    """Products of the symmetric matrices whose upper triangles these are, without copies of them."""
    found = grams.new_zeros(len(grams), *vectors.shape)
    vectors = vectors.expand(len(grams), -1, -1)
    for start in range(0, vectors.shape[1], PANEL):
        here, after = slice(start, start + PANEL), slice(start + PANEL, None)
        corner = grams[:, here, here].triu()
        corner += corner.triu(1).mT
        beside = grams[:, here, after]
        found[:, here].baddbmm_(corner, vectors[:, here]).baddbmm_(beside, vectors[:, after])
        found[:, after].baddbmm_(beside.mT, vectors[:, here])
    return found


def leading_eigenvectors(upper: Float64[Tensor, "k k"], count: int) -> Float64[Tensor, "k top"]:
    """Eigenvectors of the largest eigenvalues of a Gram matrix, zero where it has no such direction.

    upper: its upper triangle.
    """
    k, largest = upper.shape[0], least_exponent(upper.diagonal())
    square = upper.triu().mul_(2.0 ** -int(largest))  # ARPACK's tolerance is absolute below 1e-11
    if k <= 8 * count or int(largest) == LEAST_EXPONENT:
        values, vectors = torch.linalg.eigh(square, UPLO="U")
    else:  # a few leading vectors of a large matrix: Lanczos is many times faster
        start = np.random.default_rng(0).standard_normal(k)
        square += square.triu(1).mT
        found = eigsh(square.cpu().numpy(), count, v0=start, tol=1e-10)
        values, vectors = (torch.from_numpy(x).to(square) for x in found)
        order = values.argsort()
        values, vectors = values[order], vectors[:, order]
    values, vectors = values[-count:], vectors[:, -count:]
    return torch.where(values > 1e-12 * values[-1], vectors, 0.0)


def top_directions(matrix: Tensor, count: int) -> Tensor:
    """Top right singular vectors as columns, zero where the matrix has no such direction.

    From the Gram matrix of the shorter side: images have thousands of columns and few rows.
    """
    matrix = matrix.double()
    matrix = times_power(matrix, -least_exponent(matrix, (-2, -1)))
    wide = matrix.shape[-2] < matrix.shape[-1]
    squares, vectors = torch.linalg.eigh(matrix @ matrix.mT if wide else matrix.mT @ matrix)
    count = min(count, *matrix.shape[-2:])
    squares, vectors = squares[..., None, -count:], vectors[..., -count:]
    kept = squares > 1e-12 * squares[..., -1:]
    if wide:
        vectors = matrix.mT @ vectors / torch.where(kept, squares, 1.0).sqrt()
    return torch.where(kept, vectors, 0.0)


def coarse_exponent(largest: float) -> int:
    """The multiple of `COARSE` next to the exponent of a magnitude: 0 for most layers."""
    exponent = COARSE * round(math.frexp(largest)[1] / COARSE)
    return max(COARSE_LEAST, exponent) if largest else COARSE_LEAST


def least_exponent(values: Tensor, dim: tuple[int, ...] = ()) -> Int64[Tensor, "..."]:
    """Least e with |values| < 2^e, of all or over some axes, which stay with length 1."""
    keep = bool(dim)
    largest = torch.maximum(-values.amin(dim, keepdim=keep), values.amax(dim, keepdim=keep))
    exponent = torch.frexp(largest.double()).exponent.long().clamp(min=LEAST_EXPONENT)
    return torch.where(largest > 0, exponent, LEAST_EXPONENT)


def times_power(values: Float64[Tensor, "*shape"], exponent: Tensor) -> Float64[Tensor, "*shape"]:
    """values 2^exponent, exact unless it underflows; in two steps, as 2^exponent may not be a float64."""
    half = exponent // 2
    return values * torch.pow(2.0, half.double()) * torch.pow(2.0, (exponent - half).double())
