"""Out-of-distribution detectors by name; larger scores are more out of distribution for all of them.

NECO and the maximum softmax probability are computed here, the others by pytorch-ood (Kirchheim,
Filax and Ortmeier, 2022), an optional package. A detector is fitted on known data and then scores
features and logits:

>>> detector = fit_detector("vim", known)
>>> detection(detector(id_features, id_logits), detector(ood_features, ood_logits))

A new one is a function of `KnownData`, in any module, with its name in the decorator `detector`.
"""

import difflib
import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes, check_temperature
from rankdeficit.diagnostics.measures.neco import ALIASES, VARIANTS, default_dimension, fit_neco
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics

NECO = "neco-"
"""What the names of NECO's variants begin with."""

ALIAS_NAMES = {NECO + alias: NECO + name for alias, name in ALIASES.items()}

Detector = Callable[[Tensor, Tensor], Tensor]
"""From features (n, width) and logits (n, classes) to scores (n) in float64."""

NEIGHBOURS = 50
"""Which nearest neighbour "knn" measures the distance to: the choice of Sun et al. for CIFAR-10."""

RIDGE = 1e-6
"""Added to the scatter of features of root mean square norm 1 before "mahalanobis" inverts it."""

RESOLUTION = 1e-3
"""Largest error of ViM's origin in single precision, in root mean square norms of the features."""

LEAST_PART = 16 * torch.finfo(torch.float32).eps
"""Least share of the features outside ViM's principal directions: below, it is rounding."""

TINY = torch.finfo(torch.float64).tiny
"""Norm below which "knn" takes a feature as zero."""

ROWS = 4096
"""Samples scored at a time."""


@dataclass(frozen=True)
class KnownData:
    """ID train data and the classifier that reads it: what detectors are fitted on."""

    features: Float[Tensor, "n width"]
    """Penultimate features."""
    labels: Int64[Tensor, " n"]
    """Their classes."""
    statistics: ClassStatistics
    """Class statistics of these features."""
    weight: Float[Tensor, "classes width"] | None
    """W of the classifier, logits = W h + b; None where it is not linear in the features."""
    bias: Float[Tensor, " classes"] | None
    """b of the classifier; None where it has none."""
    temperature: float
    """T of training: the network's probabilities are softmax(logits / T)."""


Fit = Callable[[KnownData], Detector]


@dataclass(frozen=True)
class _Entry:
    fit: Fit
    packages: tuple[str, ...]


_DETECTORS: dict[str, _Entry] = {}


def detector(name: str, *packages: str) -> Callable[[Fit], Fit]:
    """Decorate a function of `KnownData` that returns a detector; `diagnose` finds it by its name.

    packages: optional ones that it imports; where they are missing it is left out. The same function
    again replaces it. Raises ValueError for a name that another detector has.
    """

    def register(fit: Fit) -> Fit:
        if name in _DETECTORS and _source(_DETECTORS[name].fit) != _source(fit):
            raise ValueError(
                f"name is {name!r}, which the detector {_source(_DETECTORS[name].fit)} has; choose "
                "another one"
            )
        _DETECTORS[name] = _Entry(fit, packages)
        return fit

    return register


def _source(fit: Fit) -> str:
    function = fit.func if isinstance(fit, partial) else fit
    return f"{function.__module__}.{function.__qualname__}"


def detectors() -> tuple[str, ...]:
    """Names of all detectors, also of those whose packages are missing."""
    return tuple(_DETECTORS)


def canonical(name: str) -> str:
    """The name of a detector that may be called by an alias: "neco-deit" is "neco-swin"."""
    return ALIAS_NAMES.get(name, name)


def detector_list(names: Iterable[str]) -> tuple[str, ...]:
    """Names of detectors without repetitions, aliases counting once.

    Raises ValueError for a single string.
    """
    if isinstance(names, str):
        raise ValueError(f"detectors is {names!r}; it must be a list of names, [{names!r}]")
    return tuple(dict.fromkeys(map(canonical, names)))


def dimension(name: str, known: KnownData) -> int | None:
    """Principal components d that a NECO compares with; None for other detectors."""
    return default_dimension(known.statistics) if name.startswith(NECO) else None


def missing_packages(name: str) -> tuple[str, ...]:
    """Packages this detector imports that are not installed; empty if it can be fitted.

    Raises ValueError for an unknown name.
    """
    packages = _entry(name).packages
    return tuple(package for package in packages if importlib.util.find_spec(package) is None)


def fit_detector(name: str, known: KnownData) -> Detector:
    """The named detector, fitted; its scores raise ValueError for bad shapes and non-finite values.

    "neco-..."    the variants of `rankdeficit.diagnostics.measures.neco`, with their default dimension;
                  "neco-deit" is another name of "neco-swin"
    "msp"         maximum softmax probability p at temperature T (Hendrycks and Gimpel, 2017), as
                  ln((1 - p) / p): the order of -p without its ties where p rounds to 1
    "max-logit"   (Hendrycks et al., 2022)
    "energy"      -T ln sum_k exp(e_k / T) (Liu et al., 2020)
    "mahalanobis" half the squared distance to the nearest class mean (Lee et al., 2018)
    "vim"         virtual-logit matching (Wang et al., 2022), of the logits over T
    "knn"         distance to the 50th nearest unit feature (Sun et al., 2022), of at least 50

    Raises ValueError for an unknown name, listing close ones; for a missing package, saying how to
    install it; for known data that does not fit together; and for what the detector cannot use.
    """
    entry = _entry(name)
    if missing := missing_packages(name):
        raise ValueError(
            f"detector {name!r} needs {' and '.join(missing)}, not installed here: "
            'pip install "rankdeficit[ood]"'
        )
    _check_known(known)
    return partial(_scores, entry.fit(known), known.features.shape[1])


def _scores(detector: Detector, width: int, features: Tensor, logits: Tensor) -> Tensor:
    for name, value in (("features", features), ("logits", logits)):
        check_floating(name, value, dimensions=2)
        check_magnitudes(name, value)
    if features.shape[1:] != (width,) or logits.ndim != 2 or len(features) != len(logits):
        raise ValueError(
            f"features have shape {tuple(features.shape)} and logits {tuple(logits.shape)}; they "
            f"must be (n, {width}) and (n, classes)"
        )
    blocks = zip(features.detach().split(ROWS), logits.detach().split(ROWS), strict=True)
    return torch.cat([detector(h, e.double()).double() for h, e in blocks])


def _neco(known: KnownData, variant: str) -> Detector:
    return fit_neco(known.statistics, variant).scores


for _variant in VARIANTS:
    detector(NECO + _variant)(partial(_neco, variant=_variant))


@detector("msp")
def _msp(known: KnownData) -> Detector:
    def scores(features: Tensor, logits: Tensor) -> Tensor:
        largest = logits.max(dim=1, keepdim=True)
        others = logits.scatter(1, largest.indices, -torch.inf)
        return torch.logsumexp((others - largest.values) / known.temperature, dim=1)

    return scores


@detector("max-logit", "pytorch_ood")
def _max_logit(known: KnownData) -> Detector:
    from pytorch_ood.detector import MaxLogit

    return lambda features, logits: MaxLogit.score(logits)


@detector("energy", "pytorch_ood")
def _energy(known: KnownData) -> Detector:
    from pytorch_ood.detector import EnergyBased

    return lambda features, logits: EnergyBased.score(logits, t=known.temperature)


@detector("mahalanobis", "pytorch_ood")
def _mahalanobis(known: KnownData) -> Detector:
    """Its parameters come from the class statistics: pytorch-ood's own fit is in float32.

    That fit inverts a singular matrix where the features of a class coincide. The ridge is the same
    1e-6, on features of unit root mean square norm so that their scale does not matter.
    """
    from pytorch_ood.detector import Mahalanobis

    statistics, scale = known.statistics, _root_mean_square_norm(known.statistics)
    fitted = Mahalanobis(encoder=None)
    fitted.mu = statistics.means[statistics.counts > 0] / scale
    fitted.cov = statistics.scatter / scale**2
    fitted.cov.diagonal().add_(RIDGE)
    fitted.precision = torch.linalg.inv(fitted.cov)
    return lambda features, logits: fitted.predict_features(features.to(fitted.mu) / scale)


@detector("vim", "pytorch_ood")
def _vim(known: KnownData) -> Detector:
    """Principal dimensions as its authors chose: 1000, 512 or half the width.

    pytorch-ood computes in float32, so features of unit norm and as large a weight take their place.
    A classifier so badly conditioned that float32 does not resolve the origin -W^+ b is refused.
    """
    from pytorch_ood.detector import ViM

    if known.weight is None:
        raise ValueError("weight is None; ViM needs a classifier that is linear in the features")
    if not known.statistics.has_scatter:
        raise ValueError(
            f"features have width {known.statistics.features}, whose scatter needs more than the allowed "
            "memory"
        )
    width = known.features.shape[1]
    dimension = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
    scale = _root_mean_square_norm(known.statistics)
    weight = known.weight.detach().double() * (scale / known.temperature)
    bias = weight.new_zeros(len(weight)) if known.bias is None else known.bias.detach().double()
    bias = bias / known.temperature
    largest = float(torch.cat([weight.flatten(), bias]).abs().max())
    if largest > torch.finfo(torch.float32).max / width:
        raise ValueError(f"logits over T reach {largest:.0e}, beyond the single precision of ViM")
    fitted = ViM(encoder=None, d=dimension, w=weight, b=bias)
    error = _origin_error(weight, bias, fitted.u)
    if error > RESOLUTION:
        raise ValueError(
            f"weight is badly conditioned: ViM's origin -W^+ b is uncertain by {error:.1e} of the "
            "features' norm in single precision"
        )
    fitted.fit_features(known.features.detach().double() / scale, known.labels)
    resolved = _is_resolved(known.features[:ROWS].detach().double() / scale, fitted)
    if not resolved or fitted.alpha is None or not math.isfinite(fitted.alpha):
        raise ValueError(
            f"features of known data have no part outside their first {dimension} principal "
            "directions that single precision resolves; ViM's virtual logit is undefined"
        )
    return lambda features, logits: fitted.predict_features(features.double() / scale)


def _origin_error(weight: Tensor, bias: Tensor, origin: Tensor) -> float:
    """Error of the float32 origin -W^+ b, plus the rounding when it is subtracted from the features."""
    eps = torch.finfo(torch.float32).eps
    exact = -torch.linalg.pinv(weight, rtol=max(weight.shape) * eps) @ bias
    return max(float((origin.double() - exact).norm()), eps * float(exact.norm()))


def _is_resolved(features: Tensor, fitted: Any) -> bool:
    """Whether the features' part outside the principal directions exceeds its rounding in float32."""
    centred = features - fitted.u.double()
    outside = (centred @ fitted.principal_subspace.double()).norm(dim=1).mean()
    return float(outside / centred.norm(dim=1).mean()) > LEAST_PART


@detector("knn", "pytorch_ood", "sklearn")
def _knn(known: KnownData) -> Detector:
    """Refused for fewer samples than neighbours: the furthest of all tells nothing of the nearest."""
    from pytorch_ood.detector import KNN

    if len(known.features) < NEIGHBOURS:
        raise ValueError(
            f"features of known data are {len(known.features)} samples; the distance to the "
            f"{NEIGHBOURS}th nearest needs at least {NEIGHBOURS}"
        )

    dtype = torch.promote_types(known.features.dtype, torch.float32)

    def unit(features: Tensor) -> Tensor:  # squares of large features leave float32
        return torch.nn.functional.normalize(features.detach().cpu().double(), eps=TINY).to(dtype)

    fitted = KNN(encoder=None, k=NEIGHBOURS, algorithm="brute")
    fitted.fit_features(
        torch.cat([unit(block) for block in known.features.split(ROWS)]), known.labels.cpu()
    )
    return lambda own, logits: fitted.predict_features(unit(own))


def _root_mean_square_norm(statistics: ClassStatistics) -> float:
    """Of the features seen; 1 where all of them are zero."""
    squares = statistics.squares.sum() + statistics.counts.double() @ statistics.means.square().sum(
        dim=1
    )
    return float((squares / statistics.samples).sqrt()) or 1.0


def _entry(name: str) -> _Entry:
    name = canonical(name)
    if name not in _DETECTORS:
        close = difflib.get_close_matches(str(name), _DETECTORS, n=5, cutoff=0.4) or list(
            _DETECTORS
        )
        raise ValueError(f"detector is {name!r}, which is unknown; close names: {', '.join(close)}")
    return _DETECTORS[name]


def _check_known(known: KnownData) -> None:
    check_temperature(known.temperature)
    check_floating("features", known.features, dimensions=2)
    check_magnitudes("features", known.features)
    n, width = known.features.shape
    statistics = known.statistics
    if (statistics.samples, statistics.features) != (n, width):
        raise ValueError(
            f"statistics have seen {statistics.samples} samples of width {statistics.features}; they "
            f"must be those of the {n} features of width {width}"
        )
    if known.labels.shape != (n,):
        raise ValueError(f"labels have shape {tuple(known.labels.shape)}; they must be ({n},)")
    if known.weight is not None and known.weight.shape != (statistics.classes, width):
        raise ValueError(
            f"weight has shape {tuple(known.weight.shape)}; it must be {(statistics.classes, width)}"
        )
    if known.bias is not None and known.bias.shape != (statistics.classes,):
        raise ValueError(
            f"bias has shape {tuple(known.bias.shape)}; it must be {(statistics.classes,)}"
        )
