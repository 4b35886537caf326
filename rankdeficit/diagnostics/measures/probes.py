"""Linear probes: multinomial logistic regression on frozen features, trained to a stated gradient norm.

The objective is convex: a converged probe's accuracy depends on the features and on the L2 penalty alone,
neither on a learning rate nor on a number of epochs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_magnitudes, check_positive
from rankdeficit.diagnostics.measures.logistic import Problem, block_rows, minimise
from rankdeficit.spectrum import accumulate_gram

TOLERANCE = 1e-4
"""Gradient norm at which a probe counts as converged."""

LEADING_AXES = 512
"""Principal axes that are found of more than twice as many features."""


@dataclass(frozen=True)
class Protocol:
    """A training of probes for a number of epochs, at a constant rate without weight decay."""

    optimizer: Literal["sgd", "adamw"]
    lr: float
    epochs: int
    label_smoothing: float = 0.0
    raw: int = 0
    """Entries of a layer's own output, before normalisation and activation, that the probe reads: drawn
    at random, not pooled. 0: the pooled representation."""


Preset = Literal["converged", "tunnel", "kanan"]

PROTOCOLS: dict[Preset, Protocol | None] = {
    "converged": None,
    "tunnel": Protocol("sgd", 1e-2, 20, raw=4000),
    "kanan": Protocol("adamw", 1e-3, 30, label_smoothing=0.1),
}
"""Probes of each preset; None for the minimum of a convex objective. `tunnel` is that of Masarczyk et al.
(2023, arXiv 2305.19753), who take 4,000 to 8,000 entries, `kanan` that of Harun et al. (2024, arXiv
2405.15018), on 2 x 2 cells. Batch size and momentum are not known: 128 and none here."""


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are fitted and their accuracies resampled."""

    preset: Preset = "converged"
    """Protocol of the probes; the others have no L2 penalty, tolerance or number of iterations."""

    l2: tuple[float, ...] = ()
    """L2 penalties; of several, each layer takes the best on a fifth of its train samples, held out.
    Empty: 1/n."""
    dtype: torch.dtype = torch.float32
    tolerance: float = TOLERANCE
    """Norm of the gradient at which a probe counts as converged."""
    max_iterations: int = 1000
    device: torch.device | None = None
    """Device on which probes are fitted; by default the network's."""
    resamples: int = 1000
    """Bootstrap resamples of the test samples."""
    level: float = 0.95
    """Level of the bootstrap intervals."""

    def __post_init__(self) -> None:
        if self.preset not in PROTOCOLS:
            raise ValueError(f"preset is {self.preset!r}; it must be one of {', '.join(PROTOCOLS)}")
        for penalty in self.l2:
            if not 0 <= penalty < math.inf:
                raise ValueError(f"probe_l2 is {penalty}; it must not be negative")
        if self.l2 and self.protocol is not None:
            raise ValueError(f"l2 is {self.l2}; probes of preset {self.preset!r} have no penalty")

    @property
    def protocol(self) -> Protocol | None:
        """How probes are trained; None where they are minimised."""
        return PROTOCOLS[self.preset]


class Probe(NamedTuple):
    """A linear classifier of standardised features: logits = weight (h - mean) / scale + bias."""

    weight: Float[Tensor, "classes features"]
    """Zero for constant features, and for classes without samples."""
    bias: Float[Tensor, " classes"]
    """Minus infinity for classes without samples, where the minimisation drives it."""
    mean: Float64[Tensor, " features"]
    """Mean of the train features."""
    scale: Float64[Tensor, " features"]
    """Standard deviation of the train features; 1 for constant ones."""
    loss: float
    """Mean cross-entropy + (l2 / 2) ||weight||_F^2 on the train features."""
    gradient_norm: float
    """Norm of the gradient of `loss` by (weight, bias) together, evaluated anew in float64."""
    converged: bool
    """Whether gradient_norm is at most the tolerance asked for."""
    iterations: int
    l2: float


def fit_probe(
    features: Float[Tensor, "n features"],
    labels: Int64[Tensor, " n"],
    classes: int,
    *,
    l2: float | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = 1000,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Probe:
    """Minimise mean cross-entropy + (l2 / 2) ||W||_F^2 over features standardised by mean and deviation.

    features: may be a memory-mapped tensor; memory is about n (features + 6 classes) numbers of
        `dtype`, 3 features^2 of float64 (n features, if n is less) and up to 50^2 for each class.
    labels: 0..classes - 1, not all of one class.
    l2: default 1 / n, scikit-learn's `LogisticRegression(C=1)` after its `StandardScaler`. The bias is
        free, and classes without samples take no part.
    tolerance: on the gradient norm; the loss then exceeds its minimum by about tolerance^2 / (2 l2) at
        most. Where rounding or `max_iterations` stop it earlier, the probe says converged=False.
    dtype: of the matrix products, float32 or float64. device: where they run, by default the features'.
    Raises ValueError for features that are not finite, labels out of range or of a single class, and
    settings that are not positive.
    """
    layer = _prepare(features, labels, classes, dtype, device)
    penalty = 1 / len(labels) if l2 is None else l2
    return _fit(layer, penalty, layer.problem.zeros(), tolerance, max_iterations)


def fit_probe_path(
    features: Float[Tensor, "n features"],
    labels: Int64[Tensor, " n"],
    classes: int,
    l2s: Sequence[float],
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = 1000,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> list[Probe]:
    """A probe for each L2 penalty, in the order of `l2s`; each starts from the next stronger one's.

    Arguments and errors are those of `fit_probe`; `max_iterations` counts for each probe.
    """
    if not l2s:
        raise ValueError("l2s is empty; give at least one penalty")
    layer = _prepare(features, labels, classes, dtype, device)
    probes: dict[float, Probe] = {}
    start = layer.problem.zeros()
    for l2 in sorted(set(l2s), reverse=True):
        probe = probes[l2] = _fit(layer, l2, start, tolerance, max_iterations)
        weight = probe.weight[:, layer.varying]
        start = torch.cat([probe.bias[:, None], weight], dim=1)[layer.present]
    return [probes[l2] for l2 in l2s]


def predict(probe: Probe, features: Float[Tensor, "n features"]) -> Int64[Tensor, " n"]:
    """The most probable class of each sample, on the features' device.

    features: may be a memory-mapped tensor; computed in blocks on the probe's device.
    Raises ValueError for another number of features than the probe's and for non-finite ones.
    """
    _check_features(features)
    if features.shape[1] != len(probe.mean):
        raise ValueError(
            f"features have shape {tuple(features.shape)}; the probe reads {len(probe.mean)} features"
        )
    found = []
    for block in features.detach().split(block_rows(*probe.weight.shape)):
        standardised = ((block.to(probe.mean) - probe.mean) / probe.scale).to(probe.weight)
        logits = torch.addmm(probe.bias, standardised, probe.weight.mT)
        found.append(logits.argmax(dim=1).to(features.device))
    return torch.cat(found)


class _Layer(NamedTuple):
    """What all probes of a layer share: a problem of features that vary and classes that have samples."""

    problem: Problem
    classes: int
    present: Int64[Tensor, " present"]
    varying: Int64[Tensor, " varying"]
    mean: Float64[Tensor, " features"]
    scale: Float64[Tensor, " features"]


def _prepare(
    features: Tensor,
    labels: Tensor,
    classes: int,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> _Layer:
    _check_features(features)
    _check_labels(features, labels, classes)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}; it must be torch.float32 or torch.float64")
    features = features.detach()
    device = features.device if device is None else torch.device(device)
    present, targets = torch.unique(labels.to(device), return_inverse=True)
    mean, scale = _moments(features, device)
    varying = scale.nonzero()[:, 0]
    scale = torch.where(scale > 0, scale, 1.0)
    leading = _axes(features, varying, mean, scale)
    axes = torch.block_diag(mean.new_ones(1, 1), leading)
    inputs = torch.ones((len(features), axes.shape[1]), dtype=dtype, device=device)
    for block, rows in zip(
        _blocks(features, device), inputs.split(block_rows(len(mean))), strict=True
    ):
        rows[:, 1:] = ((block - mean) / scale)[:, varying] @ leading
    problem = Problem(inputs, axes, targets, len(present))
    return _Layer(problem, classes, present, varying, mean, scale)


def _axes(
    features: Tensor, varying: Tensor, mean: Tensor, scale: Tensor
) -> Float64[Tensor, "varying axes"]:
    """Orthonormal columns along which the problem is solved, as many as samples where these are fewer.

    Gradient and penalty keep weights that start in the span of the samples within it.
    """
    if len(features) < len(varying):
        rows = ((features.to(mean) - mean) / scale)[:, varying]
        basis, triangle = torch.linalg.qr(rows.mT)
        return basis @ _principal_axes(triangle @ triangle.mT)
    gram = mean.new_zeros(len(varying), len(varying))
    for block in _blocks(features, mean.device):
        accumulate_gram(gram, ((block - mean) / scale)[:, varying])
    return _principal_axes(gram.triu() + gram.triu(1).mT)


def _principal_axes(gram: Tensor) -> Tensor:
    """Orthonormal columns: eigenvectors, most variance first; of many features, the leading ones nearly.

    The leading ones come from two steps of subspace iteration: all would take longer than the probe.
    """
    if len(gram) <= 2 * LEADING_AXES:
        return torch.linalg.eigh(gram).eigenvectors.flip(1)
    start = torch.randn(len(gram), LEADING_AXES, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(gram @ start.to(gram)).Q
    basis = torch.linalg.qr(gram @ basis).Q
    leading = basis @ torch.linalg.eigh(basis.mT @ gram @ basis).eigenvectors.flip(1)
    return torch.linalg.qr(leading, mode="complete").Q


def _moments(features: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, in float64.

    Relative to the first sample, which keeps the digits of features far from zero and makes the
    deviation of constant ones exactly zero.
    """
    n = features.shape[0]
    first = features[0].to(device, torch.float64)
    shift, squares = torch.zeros_like(first), torch.zeros_like(first)
    for block in _blocks(features, device):
        shift += (block - first).sum(dim=0) / n
    mean = first + shift
    for block in _blocks(features, device):
        squares += (block - mean).square().sum(dim=0) / n
    return mean, squares.sqrt()


def _fit(layer: _Layer, l2: float, start: Tensor, tolerance: float, max_iterations: int) -> Probe:
    check_positive(l2=l2, tolerance=tolerance)
    check_at_least(1, max_iterations=max_iterations)
    found = minimise(layer.problem, l2, start, tolerance, max_iterations)
    weight = start.new_zeros(layer.classes, len(layer.mean))
    weight[layer.present[:, None], layer.varying] = found.weights[:, 1:]
    bias = start.new_full((layer.classes,), -math.inf)
    bias[layer.present] = found.weights[:, 0]
    return Probe(
        weight,
        bias,
        layer.mean,
        layer.scale,
        found.loss,
        found.gradient_norm,
        found.gradient_norm <= tolerance,
        found.iterations,
        l2,
    )


def _blocks(features: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Rows of the features in float64 on the device."""
    for block in features.split(block_rows(features.shape[1])):
        yield block.to(device, torch.float64)


def _check_features(features: Tensor) -> None:
    check_floating("features", features, dimensions=2)
    if features.ndim != 2:
        raise ValueError(
            f"features have shape {tuple(features.shape)}; they must be (n, features): pool and "
            "flatten them first"
        )
    check_magnitudes("features", features)


def _check_labels(features: Tensor, labels: Tensor, classes: int) -> None:
    check_at_least(2, classes=classes)
    if labels.shape != features.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; they must be "
            f"{features.shape[0]} class indices (torch.int64)"
        )
    low, high = (int(bound) for bound in torch.aminmax(labels))
    if low < 0 or high >= classes:
        raise ValueError(f"labels lie in {low}..{high}; they must lie in 0..{classes - 1}")
    if low == high:
        raise ValueError(f"labels are all {low}; a probe needs at least two classes")
