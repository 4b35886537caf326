"""Spectra of products of thin matrices, as logits of many classes, without the product."""

import torch
from jaxtyping import Float
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes
from rankdeficit.spectrum import UNIT_ROUNDOFF, Spectrum


def product_spectrum(
    features: Float[Tensor, "n d"], weights: Float[Tensor, "c d"], *, centred: bool = False
) -> Spectrum:
    """The min(n, c, d) largest singular values of features @ weights.T; all others are zero.

    With QR factorisations H = Q R and W = P S they are those of R S^T, a d x d matrix: time (n + c) d^2
    and memory (n + c) d, where the product would take n c. Computed in float64; the intervals come from
    an estimate of the rounding errors of the backward stable factorisations, 8 d u ||H||_F ||W||_F.
    centred: of the product less the mean of each row, all that the softmax sees of logits; that is the
        product with the weights less their mean over classes. A bias is one more column of the weights,
        beside a feature of 1.
    Raises ValueError for matrices that are empty, not finite, or of different widths.
    """
    for name, matrix in (("features", features), ("weights", weights)):
        check_floating(name, matrix, dimensions=2)
        check_magnitudes(name, matrix)
        if matrix.ndim != 2 or matrix.shape[1] != features.shape[-1]:
            raise ValueError(
                f"{name} has shape {tuple(matrix.shape)}; features (n, d) and weights (c, d) are "
                f"matrices of one width, here {features.shape[-1]}"
            )
    H, W = features.double(), weights.double()
    if centred:
        W = W - W.mean(dim=0)
    R, S = torch.linalg.qr(H, mode="r").R, torch.linalg.qr(W, mode="r").R
    values = torch.linalg.svdvals(R @ S.mT)[: H.shape[1]]
    error = 8 * H.shape[1] * UNIT_ROUNDOFF * torch.linalg.norm(H) * torch.linalg.norm(W)
    found = values.detach()
    return Spectrum(values, (found - error).clamp(min=0), found + error)
