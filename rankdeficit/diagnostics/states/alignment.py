"""Alignment of a weight matrix with the representations it reads (the paper's Figure 3)."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64, Int64
from scipy.stats import beta, norm
from scipy.stats import t as student_t
from torch import Tensor

from rankdeficit.checks import (
    check_finite,
    check_floating,
    check_magnitudes,
    largest_magnitude,
)
from rankdeficit.diagnostics.states.directions import (
    COARSE_LEAST,
    add_products,
    coarse_exponent,
    leading_eigenvectors,
    least_exponent,
    products_with,
    times_power,
    top_directions,
)
from rankdeficit.diagnostics.states.row_sample import RowSample, most_rows
from rankdeficit.diagnostics.states.sampling import scramble

DIRECTIONS = 15
"""Number of top singular directions compared, the paper's choice."""

ROWS = 1024
"""Rows that `update` converts to float64 at a time, at least."""

RESAMPLES = 64
"""Of the groups, for the error."""

MIXED = 0.25
"""Directions that resamples turn into another one, if at this share of the largest part of it."""

ENTRIES = 2**19
"""Numbers that resamples take in memory at a time."""


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
    128 dimensions reach about 0.26. Raises ValueError for empty or non-finite matrices.
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
    cosines = top_directions(weight, directions).mT @ top_directions(inputs, directions)
    return cosines.abs().amax(dim=(-2, -1)).clamp(max=1)


class StreamedAlignment(NamedTuple):
    """Alignment of a layer whose input was streamed."""

    value: float
    """Largest |cosine|, from all rows seen."""
    error: float
    """About one standard error over samples: the value of all samples there are lies within two.

    NaN where fewer than two groups have samples.
    """
    rows: int
    """Rows of the input that were used."""
    random: float
    """Median of what as many random directions would give."""


class InputDirections:
    """Streaming Gram matrices of some rows of a layer's input, from which its alignment is computed.

    The rows are a sample of all (patches of a convolution, tokens). Each group of samples has a matrix
    of its own: a bootstrap over groups estimates the error of that choice. Products and sums are in
    float64, of rows over a power of two that grows with the largest entry: no scale of the rows
    overflows or underflows. Memory is groups x width^2. While there are fewer rows than their width, the
    rows themselves are kept, and matrices are those of their coordinates in the span of all.

    groups: of samples; by default `group_count`. One group gives no error.
    memory: maximum bytes of the matrices; by default unlimited. Of wider rows a `RowSample` is kept.
    """

    def __init__(
        self,
        width: int,
        *,
        groups: int | None = None,
        device: torch.device | str | None = None,
        memory: int | None = None,
    ) -> None:
        groups = group_count(width) if groups is None else groups
        self._width, self._kept = width, 0
        most = None if memory is None else most_rows(width, groups, memory)
        self.sample = None if most is None else RowSample(width, most, device=device)
        """The rows, where the matrices have no room."""
        self._few: list[tuple[Tensor, Tensor]] | None = []
        """All rows with the keys of their samples, while there are fewer than `width`; then None."""
        self._grams = torch.zeros((groups, 0, 0), dtype=torch.float64, device=device)
        """Upper triangles, of no size while rows are kept."""
        self._rows = torch.zeros(groups, dtype=torch.int64, device=device)
        self._exponent = COARSE_LEAST
        """The matrices are those of rows over 2^exponent, a multiple of `COARSE`."""

    def update(self, rows: Float[Tensor, "rows width"], keys: Int64[Tensor, " n"]) -> None:
        """Add rows, equally many of each sample; keys (`sample_keys`) determine the groups."""
        check_floating("rows", rows, dimensions=2)
        largest = check_finite("rows", rows)
        if self.sample is not None:
            self.sample.update(rows.detach(), keys)
            return
        self._kept += len(rows)
        if self._few is not None and self._kept < self._width:
            device = self._grams.device
            self._few.append((rows.detach().to(device, copy=True), keys.to(device, copy=True)))
            return
        self._sum()
        self._add(rows.detach(), keys, largest)

    def _sum(self) -> None:
        """Replace rows that were kept by their matrices."""
        if self._few is not None:
            few, self._few = self._few, None
            self._grams = self._grams.new_zeros(len(self._grams), self._width, self._width)
            for rows, keys in few:
                self._add(rows, keys, largest_magnitude(rows))

    def _add(self, rows: Tensor, keys: Tensor, largest: float) -> None:
        """Add rows, of this largest magnitude, to the matrices."""
        self._rescale(max(self._exponent, coarse_exponent(largest)))
        groups = scramble(keys).remainder(len(self._rows))
        groups = groups.repeat_interleave(len(rows) // len(keys))
        counts = groups.bincount(minlength=len(self._rows))
        members = groups.argsort(stable=True).split(counts.tolist())
        for gram, own in zip(self._grams, members, strict=True):
            for chosen in own.split(max(ROWS, rows.shape[1])) if len(own) else ():
                block = rows.index_select(0, chosen).double()
                if self._exponent:
                    block *= 2.0**-self._exponent
                add_products(gram, block)
        self._rows += counts

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs."""
        if self.sample is not None:
            self.sample.all_reduce(group)
            return
        self._sum()
        exponent = torch.tensor(self._exponent, device=self._grams.device)
        distributed.all_reduce(exponent, op=distributed.ReduceOp.MAX, group=group)
        self._rescale(int(exponent))
        for value in (self._grams, self._rows):
            distributed.all_reduce(value, group=group)

    def alignment(
        self, weight: Float[Tensor, "out width"], directions: int = DIRECTIONS
    ) -> StreamedAlignment:
        """Alignment of the layer's matrix with the rows seen."""
        weights = top_directions(weight.detach(), directions)
        few = self._few if self.sample is None else [self.sample.kept()]
        if few:
            basis, inner = self._in_their_span(few)
            return inner._aligned(basis.mT @ weights.to(basis), directions)
        self._sum()
        return self._aligned(weights, directions)

    def _in_their_span(self, few: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, "InputDirections"]:
        """An orthonormal basis (width, rows) of the span of the rows, and the state in it."""
        rows = torch.cat([own for own, _ in few]).double()
        scaled = times_power(rows, -least_exponent(rows))
        basis, triangle = torch.linalg.qr(scaled.mT)
        inner = InputDirections(len(triangle), groups=len(self._grams), device=rows.device)
        inner._sum()
        inner._width = self._width
        lengths = [len(own) for own, _ in few]
        for own, (_, keys) in zip(triangle.mT.split(lengths), few, strict=True):
            inner._add(own, keys, largest_magnitude(own))
        return basis, inner

    def _aligned(self, weights: Tensor, directions: int) -> StreamedAlignment:
        """The same, of top directions of the weight, from the matrices."""
        several = int((self._rows > 0).sum()) > 1
        total = self._grams.sum(dim=0)
        inputs = leading_eigenvectors(total, (1 + several) * directions).to(weights)
        leading = inputs[:, -directions:]
        value = float((weights.mT @ leading).abs().max().clamp(max=1))
        sizes = [int(own.any(dim=0).sum()) for own in (weights, leading)]
        return StreamedAlignment(
            value=value,
            error=self._error(value, weights, inputs, directions) if several else math.nan,
            rows=int(self._rows.sum()),
            random=random_alignment(self._width, *sizes),
        )

    def _error(self, value: float, weights: Tensor, inputs: Tensor, directions: int) -> float:
        """Bootstrap over groups: root mean square deviation of the replicates, as of many groups.

        Directions of a replicate are its Ritz vectors in the span of the leading directions of all rows,
        after one more power iteration, shifted by the mean of the other eigenvalues.
        """
        inputs = inputs[:, inputs.any(dim=0)]
        if not inputs.numel():
            return 0.0
        some = self._rows > 0
        used = self._grams if bool(some.all()) else self._grams[some]
        groups, kept = len(used), inputs.shape[1]
        diagonals = used.diagonal(dim1=1, dim2=2)  # where the largest entries are
        scale = times_power(torch.ones_like(used[0, 0, 0]), -least_exponent(diagonals))
        products = products_with(used, inputs) * scale
        traces = diagonals.sum(dim=1) * scale
        within = torch.bmm(inputs.mT.expand(groups, -1, -1), products)
        seen = within.diagonal(dim1=1, dim2=2).sum(dim=1)
        shifts = (traces - seen).clamp(min=0) / max(1, self._width - kept)
        weighting = _resamples(groups).to(inputs)
        found, mixing = [], torch.zeros_like(inputs[:1].mT @ inputs[:1, -directions:])
        for own in weighting.split(max(1, ENTRIES // inputs.numel())):
            small = (own @ within.flatten(1)).unflatten(1, within.shape[1:])
            values, vectors = torch.linalg.eigh((small + small.mT) / 2)
            values, vectors = values[:, -directions:], vectors[:, :, -directions:]
            shift = (own @ shifts)[:, None, None]
            images = (own @ products.flatten(1)).unflatten(1, inputs.shape)
            ritz = torch.bmm(images.sub_(shift * inputs), vectors)
            lengths = torch.linalg.vector_norm(ritz, dim=1)
            turned = (small @ vectors - shift * vectors) / lengths[:, None]
            across = torch.bmm(weights.mT.expand(len(own), -1, -1), ritz)
            cosines = across.abs().amax(dim=1) / lengths
            exist = values > 1e-12 * values[:, -1:]
            mixing += torch.where(exist[:, None], turned, 0.0).square().sum(dim=0)
            cosines = torch.where(exist, cosines, 0.0)
            found.append(cosines.amax(dim=1).clamp(max=1))
        deviation = (torch.cat(found) - value).square().mean().sqrt()
        few = float(student_t.ppf(0.975, groups - 1) / norm.ppf(0.975))
        spread = float(deviation) * few * math.sqrt(groups / (groups - 1))
        largest = mixing.amax(dim=0)
        together = (mixing / torch.where(largest > 0, MIXED * largest, 1.0)).clamp(max=1)
        mixed = ((weights.mT @ inputs).square() @ together).amax().sqrt().clamp(max=1)
        return math.hypot(spread, max(float(mixed) - value, 0) / 2)

    def _rescale(self, exponent: int) -> None:
        """Take a larger power of two, or the same."""
        if exponent > self._exponent and bool(self._rows.any()):
            self._grams *= 2.0 ** (2 * (self._exponent - exponent))
        self._exponent = exponent


def group_count(width: int) -> int:
    """Groups of samples for an error: as many as 64 MB hold, from 4 to 16."""
    return min(16, max(4, 2**23 // width**2))


def random_alignment(width: int, first: int, second: int) -> float:
    """Median of the largest |cosine| of `first` and `second` random directions in `width` dimensions.

    cos^2 of two has the distribution Beta(1/2, (width - 1)/2), and pairs are taken as independent.
    """
    if not first * second:
        return 0.0
    if width == 1:
        return 1.0
    return math.sqrt(beta.ppf(0.5 ** (1 / (first * second)), 0.5, (width - 1) / 2))


def _resamples(groups: int) -> Float64[Tensor, "resamples {groups}"]:
    """How often each bootstrap resample has each group."""
    drawn = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    return torch.from_numpy(drawn).double()
