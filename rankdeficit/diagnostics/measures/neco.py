"""NECO: how much of a feature lies in the subspace of known data (Ben Ammar et al., ICLR 2024).

Under Neural Collapse the features of ID samples lie in the span of the class means, and those of OOD
samples tend to be orthogonal to it. NECO is the share of a feature's norm inside the span of the top d
principal components of ID train features. The paper's formula (arXiv 2310.06823, equation 6) is
||P_d h|| / ||h||; what its authors' code computes differs from it, and between architectures, so the
variant's name belongs beside every score.

With h a feature, mu and s mean and standard deviation of each coordinate over ID train samples,
z = (h - mu) / s, and V_d the top d principal components (PCA centres) of the z, or of the h for
"equation":

    "resnet"          ||V_d^T z|| / ||z||
    "vit"             ||V_d^T z|| / ||z|| * max logit
    "swin"            ||V_d^T z|| / ||h|| * max logit
    "equation"        ||V_d^T (h - mu)|| / ||h||

"deit" is another name of "swin". Scores depend strongly on d, which belongs beside them, too.

So numerators are always centred, denominators only where they are standardised, and ratios with a raw
denominator may exceed 1. The authors advise to leave the scaler out where classes are tightly clustered:
that is "equation", which alone does not change when all features are rotated together.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from rankdeficit.checks import check_floating, check_magnitudes
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.moments import Moments

ROWS = 512
"""Samples scored at a time: a block that stays in a processor's cache."""


@dataclass(frozen=True)
class Variant:
    """What one published form of NECO computes."""

    standardised: bool
    """Features are centred and divided by their standard deviations before the PCA."""
    raw_denominator: bool
    """The denominator is the norm of the feature as it is, not of the standardised one."""
    max_logit: bool
    """The ratio is multiplied by the largest logit."""


VARIANTS = {
    "resnet": Variant(standardised=True, raw_denominator=False, max_logit=False),
    "vit": Variant(standardised=True, raw_denominator=False, max_logit=True),
    "swin": Variant(standardised=True, raw_denominator=True, max_logit=True),
    "equation": Variant(standardised=False, raw_denominator=True, max_logit=False),
}

ALIASES = {"deit": "swin"}
"""Further names of variants: DeiT's authors' form is that of Swin."""


@dataclass(frozen=True)
class Neco:
    """A fitted NECO; `fit_neco` makes one."""

    variant: Variant
    mean: Float64[Tensor, " width"]
    scale: Float64[Tensor, " width"]
    """Standard deviations; 1 for constant features, and everywhere where nothing is standardised."""
    components: Float64[Tensor, "width dimension"]
    """Principal components as columns, the first first; zero where the data has no further one."""

    def scores(
        self,
        features: Float[Tensor, "n width"],
        logits: Float[Tensor, "n classes"] | None = None,
    ) -> Float64[Tensor, " n"]:
        """Negated NECO of each sample, so that larger is more out of distribution.

        logits: needed where the variant multiplies by the largest one. The ratio is 0 for a feature
        whose denominator is 0. Raises ValueError for bad shapes and non-finite features, and where
        logits are needed and missing.
        """
        check_floating("features", features, dimensions=2)
        check_magnitudes("features", features)
        if features.shape[1] != len(self.mean):
            raise ValueError(
                f"features have shape {tuple(features.shape)}; they must be (n, {len(self.mean)})"
            )
        projection = self.components / self.scale[:, None]
        blocks = features.detach().split(ROWS)
        ratios = torch.cat(
            [self._ratios(block.to(self.mean, copy=True), projection) for block in blocks]
        )
        return -ratios * self._max_logit(logits, len(ratios)) if self.variant.max_logit else -ratios

    def _ratios(self, h: Tensor, projection: Tensor) -> Tensor:
        """Of features that may be overwritten."""
        denominator = torch.linalg.vector_norm(h, dim=1)
        h -= self.mean
        numerator = torch.linalg.vector_norm(h @ projection, dim=1)
        if not self.variant.raw_denominator:
            denominator = torch.linalg.vector_norm(h.div_(self.scale), dim=1)
        return torch.where(denominator > 0, numerator / denominator, 0.0)

    def _max_logit(self, logits: Tensor | None, samples: int) -> Tensor:
        if logits is None:
            raise ValueError("logits is None; this variant multiplies by the largest logit")
        check_floating("logits", logits, dimensions=2)
        if len(logits) != samples:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}; they must be ({samples}, classes)"
            )
        return logits.detach().amax(dim=1).to(self.mean)


def fit_neco(
    statistics: ClassStatistics | Moments, variant: str = "resnet", dimension: int | None = None
) -> Neco:
    """NECO from the streamed statistics of ID train features, in memory of width^2.

    variant: a name in `VARIANTS` or `ALIASES`; `default_variant` has the authors' choice for a network.
    dimension: d in 1..width - 1, the only hyper-parameter. Too small cuts ID classes off; too large
        lets OOD in, and at the width itself ||V_d^T z|| / ||z|| is 1 for every sample. The default
        is that of `default_dimension`. It has to be given for `Moments`, which know no classes.
    The mean, the deviations (of n samples, not n - 1) and the constant features, whose scale is 1,
    are scikit-learn's StandardScaler's. Components whose variance is rounding are left out.
    Raises ValueError for an unknown variant, a dimension outside its range or not below the number
    of samples, and for features of width 1.
    """
    variant = ALIASES.get(variant, variant)
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
    n, width = statistics.samples, statistics.features
    if dimension is None:
        if isinstance(statistics, Moments):
            raise ValueError("dimension is None; without class statistics it has to be given")
        dimension = default_dimension(statistics)
    most = min(width, n) - 1
    if most < 1:
        raise ValueError(
            f"statistics have {n} samples of width {width}; NECO needs at least two samples and two "
            "features, to leave a direction out"
        )
    if not 1 <= dimension <= most:
        raise ValueError(
            f"dimension is {dimension}; with {n} samples of width {width} it must be in 1..{most}"
        )
    mean, covariance = statistics.mean, statistics.total_scatter / n
    variances = covariance.diagonal()
    eps = torch.finfo(torch.float64).eps
    varies = variances > (n * eps * mean).square()
    scale = torch.ones_like(mean)
    if VARIANTS[variant].standardised:
        scale[varies] = variances[varies].sqrt()
    covariance = covariance / (scale[:, None] * scale) * (varies[:, None] & varies)
    values, vectors = torch.linalg.eigh(covariance)
    vectors = vectors * (values > width * eps * values[-1])
    return Neco(VARIANTS[variant], mean, scale, vectors[:, -dimension:].flip(1))


def default_dimension(statistics: ClassStatistics) -> int:
    """d = min(c - 1, width // 2), at least 1, with c the number of classes seen.

    Collapsed class means span c - 1 dimensions, and the other half of the width is left to tell OOD
    samples by.
    """
    return usual_dimension(int((statistics.counts > 0).sum()), statistics.features)


def usual_dimension(classes: int, width: int) -> int:
    """The same from the number of classes seen and of features."""
    return max(1, min(classes - 1, width // 2))


def default_variant(model: nn.Module) -> str:
    """The variant that NECO's authors use for this kind of network, read from its modules' names.

    "swin" for the networks of that name and DeiTs (in timm a DeiT is told from a ViT by its
    configuration only), "vit" for others with attention, "resnet" for all else.
    """
    names = [type(module).__name__.lower() for module in model.modules()]
    configuration = getattr(model, "pretrained_cfg", None)  # timm's
    if isinstance(configuration, dict):
        names.append(str(configuration.get("architecture")))
    kinds = {"swin": "swin", "deit": "swin", "distilled": "swin", "attention": "vit"}
    found = (kind for word, kind in kinds.items() if any(word in name for name in names))
    return next(found, "resnet")
