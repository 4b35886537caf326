"""Low-dimensional bases of a layer's outputs, from its activations, its weights, or its largest units.

A basis of rank k consists of orthonormal columns U (width, k) and an origin m: an output y is replaced
by m + U U^T (y - m).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankdeficit.control.compression.parts import Moments

RESOLUTION = 1e-7
"""Singular values of a head below this share of the largest count as zero."""

Method = Literal["activations", "weights", "magnitude"]
"""Principal directions of activations, singular vectors of weights, or units with large weights."""


@dataclass(frozen=True)
class Basis:
    """Directions in descending order of importance; the first k of them are the basis of rank k."""

    directions: Float64[Tensor, "width most"]
    """Orthonormal columns."""
    values: Float64[Tensor, " most"]
    """Singular values, or norms of weights, of the directions, descending."""
    origin: Float64[Tensor, " width"]

    @property
    def most(self) -> int:
        """The largest rank."""
        return self.directions.shape[1]

    def rank(self, threshold: float) -> int:
        """Number of values above `threshold` times the largest; at least 1."""
        return max(1, int((self.values > threshold * self.values[0]).sum()))

    def leading(self, rank: int) -> Float64[Tensor, "width rank"]:
        """U of the given rank."""
        return self.directions[:, :rank]

    def factors(
        self, weight: Float[Tensor, "width inputs"], bias: Float[Tensor, " width"] | None, rank: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Two layers for y = W x + b: first weight U^T W, second weight U, second bias m - U U^T m + b.

        The origin m is the mean of W x, without b. With principal directions, the result minimises the
        Frobenius norm of the error in y over all weights of rank k and all biases (Eckart and Young, on
        the centred outputs; Zhang et al., 2015, arXiv 1505.06798).
        """
        leading = self.leading(rank)
        shift = self.origin - leading @ (leading.mT @ self.origin)
        offset = shift if bias is None else shift + bias.double()
        return leading.mT @ weight.double(), leading, offset


def activation_basis(moments: Moments) -> Basis:
    """Principal directions of n centred outputs, with singular values of their matrix over sqrt(n)."""
    found = torch.linalg.eigh(moments.covariance)
    values = found.eigenvalues.flip(0).clamp(min=0).sqrt()
    return Basis(found.eigenvectors.flip(1), values, moments.mean)


def read_basis(moments: Moments, head: Float[Tensor, "classes width"]) -> Basis:
    """Principal directions of the features, projected onto the row space of the head.

    The head reads nothing outside this space. There are at most as many directions as classes, and all
    of them together reproduce the logits.
    """
    found = torch.linalg.svd(head.detach().double(), full_matrices=False)
    rows = found.Vh[RESOLUTION * found.S[0] < found.S].mT
    inner = torch.linalg.eigh(rows.mT @ moments.covariance @ rows)
    values = inner.eigenvalues.flip(0).clamp(min=0).sqrt()
    return Basis(rows @ inner.eigenvectors.flip(1), values, moments.mean)


def weight_basis(weight: Float[Tensor, "width inputs"]) -> Basis:
    """Left singular vectors of a weight matrix; the origin is zero."""
    exact = weight.detach().double()
    found = torch.linalg.eigh(exact @ exact.mT)
    values = found.eigenvalues.flip(0).clamp(min=0).sqrt()
    return Basis(found.eigenvectors.flip(1), values, values.new_zeros(len(exact)))


def magnitude_basis(weight: Float[Tensor, "width inputs"]) -> Basis:
    """Units in descending order of the norms of their weights; those left out output their bias alone."""
    norms = weight.detach().double().norm(dim=1)
    order = norms.argsort(descending=True, stable=True)
    directions = torch.eye(len(norms), dtype=norms.dtype, device=norms.device)[:, order]
    return Basis(directions, norms[order], torch.zeros_like(norms))
