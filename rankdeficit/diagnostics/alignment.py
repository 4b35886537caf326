"""Alignment of a weight matrix with the representations it reads (the paper's Figure 3)."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes

DIRECTIONS = 15
"""Number of top singular directions compared, the paper's choice."""


def alignment(
    weight: Float[Tensor, "*batch out width"],
    inputs: Float[Tensor, "*batch n width"],
    directions: int = DIRECTIONS,
) -> Float64[Tensor, "*batch"]:
    """Largest |cosine| between top right singular vectors of W and top left ones of its input A.

    weight: W, (out, width); inputs: A^T, samples first, (n, width).
    directions: how many top vectors of each are compared, at most; those whose singular value is
        below 1e-6 of the largest are no directions and are left out.
    1 when some pair coincides, 0 when either matrix is zero; two sets of 15 random directions in
    128 dimensions reach about 0.28. Raises ValueError for empty or non-finite matrices.
    """
    if directions < 1:
        raise ValueError(f"directions is {directions}; it must be at least 1")
    for name, matrix in (("weight", weight), ("inputs", inputs)):
        check_floating(name, matrix, dimensions=2)
        check_magnitudes(name, matrix)
    if weight.shape[-1] != inputs.shape[-1] or weight.shape[:-2] != inputs.shape[:-2]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} and inputs {tuple(inputs.shape)}; "
            "their batches and their last dimensions must agree"
        )
    cosines = _top_directions(weight, directions).mT @ _top_directions(inputs, directions)
    return cosines.abs().amax(dim=(-2, -1)).clamp(max=1)


def _top_directions(matrix: Tensor, count: int) -> Tensor:
    """Top right singular vectors as columns, zero where the matrix has no such direction.

    From the Gram matrix of the shorter side: images have thousands of columns and few rows.
    """
    matrix = matrix.double()
    wide = matrix.shape[-2] < matrix.shape[-1]
    squares, vectors = torch.linalg.eigh(matrix @ matrix.mT if wide else matrix.mT @ matrix)
    count = min(count, *matrix.shape[-2:])
    squares, vectors = squares[..., None, -count:], vectors[..., -count:]
    kept = squares > 1e-12 * squares[..., -1:]
    if wide:
        vectors = matrix.mT @ vectors / torch.where(kept, squares, 1.0).sqrt()
    return torch.where(kept, vectors, 0.0)
