"""Neural Collapse (Papyan, Han and Donoho, 2020) in forms that survive rank-deficient class means.

Neural Collapse speaks of networks that interpolate: give the train accuracy beside these numbers. All
class means below are centred by their own mean (each class counts alike), all norms Euclidean.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.reading.streams import CLASSES
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import make_table, number, percent
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.tables import neural_collapse_rank
from rankdeficit.spectrum import spectrum

ROWS = 4096
"""Samples compared with the class means at a time."""

ROUNDING = 1e-13
"""Differences of class means below this share of the longest are rounding of their sums."""

LARGEST_ROUNDING = 1e-3
"""Of class means of features in half precision: means of many samples are finer than the format."""

Samples = tuple[Tensor, Tensor]
"""Features (n, width) and labels (n)."""

MEANS_GAMMA = 1e-3
"""Directions of the means below this share of their largest singular value are left out of NC1."""


class NeuralCollapse(NamedTuple):
    """NC1-NC3 of one layer; all zero in perfect collapse, except the retained rank, which is c - 1."""

    nc1: float
    """tr(S_W S_B^+) / c over the retained directions. Falls as the rank falls: read it with the rank."""
    retained_rank: int
    """Rank of the centred class means that S_B^+ retains; Neural Collapse has c - 1."""
    within_to_between: float
    """tr(S_W) / tr(S_B): variability within classes against that of the means, blind to rank."""
    class_distance_variance: float
    """Mean over pairs of classes of (var_k + var_l) / (2 ||mu_k - mu_l||^2) (Galanti et al., 2022)."""
    equinorm: float
    """Standard deviation over mean of the norms of the class means."""
    mean_cosine_gap: float
    """|mean cosine between class means + 1/(c - 1)|: also 0 for a rank-2 circle."""
    cosine_deviation: float
    """Standard deviation of these cosines: 0 for a simplex ETF, sqrt(c(c-3)/2)/(c-1) for a circle."""
    self_duality: float | None
    """||W / ||W|| - M / ||M|||| of classifier rows and class means, both centred; None without W."""


def neural_collapse(
    statistics: ClassStatistics,
    weight: Float[Tensor, "classes features"] | None = None,
    gamma: float = MEANS_GAMMA,
    rounding: float = ROUNDING,
    samples: Samples | None = None,
) -> NeuralCollapse:
    """NC1-NC3 of a layer from its class statistics; NC3 with the classifier's weight.

    samples: the (features, labels) of the statistics, for NC1 of statistics without scatter.

    S_W is the mean over samples of the squared deviations from the class mean, S_B = (1/c) sum_k mu_k
    mu_k^T. gamma: which directions of the means count. rounding: distance of class means, over the
    largest norm of one, up to which they coincide. Ratios are infinite where all class means coincide,
    and cosines NaN where one lies at the centre of all.
    Raises ValueError for classes without samples and a weight of another shape.
    """
    if bool((statistics.counts == 0).any()):
        missing = (statistics.counts == 0).nonzero().flatten().tolist()
        raise ValueError(f"classes {missing[:5]} have no samples; every class needs at least one")
    c = statistics.classes
    means = _centred_means(statistics, rounding)
    found = spectrum(means, method="svd")
    rank = int(found.rank(gamma)) if bool(means.any()) else 0
    directions = torch.linalg.svd(means, full_matrices=False)[2][:rank]
    between = found.singular_values[:rank].square() / c
    nc1 = _variances(statistics, directions, samples).div(between).sum() / c
    norms = means.norm(dim=1)
    cosines = _pairs((means @ means.mT) / (norms[:, None] * norms))
    total_between = means.square().sum() / c
    trace = statistics.scatter.trace() if statistics.has_scatter else statistics.squares.sum()
    within = trace / statistics.samples
    coincident = rank == 0
    return NeuralCollapse(
        nc1=float("inf") if coincident else float(nc1),
        retained_rank=rank,
        within_to_between=float("inf") if coincident else float(within / total_between),
        class_distance_variance=_class_distance_variance(statistics, rounding),
        equinorm=float("inf") if coincident else float(norms.std(correction=0) / norms.mean()),
        mean_cosine_gap=float((cosines.mean() + 1 / (c - 1)).abs()),
        cosine_deviation=float(cosines.std(correction=0)),
        self_duality=None if weight is None else _self_duality(weight, means),
    )


def _variances(
    statistics: ClassStatistics, directions: Tensor, samples: Samples | None
) -> Float64[Tensor, " directions"]:
    """Variance within classes along each direction."""
    if statistics.has_scatter:
        within = statistics.scatter / statistics.samples
        return ((directions @ within) * directions).sum(dim=1)
    if samples is None:
        raise ValueError("samples is None; statistics without scatter need (features, labels)")
    found = torch.zeros_like(directions[:, 0])
    for block, own in zip(*(part.split(ROWS) for part in samples), strict=True):
        steps = block.to(statistics.means) - statistics.means[own.to(statistics.means.device)]
        found += (steps @ directions.mT).square().sum(dim=0)
    return found / statistics.samples


def nearest_centre_agreement(
    features: Float[Tensor, "n features"],
    predictions: Int64[Tensor, " n"],
    means: Float64[Tensor, "classes features"],
) -> float:
    """NC4: share of samples whose predicted class has the nearest class mean; 1 in perfect collapse.

    predictions: argmax of the network's own logits, classifier bias included.
    """
    agreeing = 0
    for block, own in zip(features.split(ROWS), predictions.split(ROWS), strict=True):
        nearest = torch.cdist(block.to(means), means).argmin(dim=1)
        agreeing += int((nearest == own.to(nearest)).sum())
    return agreeing / len(features)


def what_cannot_be_told(
    statistics: ClassStatistics, found: NeuralCollapse, rounding: float = ROUNDING
) -> dict[tuple[str, ...], str]:
    """Metrics that these samples leave open, with the reason."""
    reasons: dict[tuple[str, ...], str] = {}
    counts = statistics.counts
    means = _centred_means(statistics, rounding)
    if int(counts.max()) == 1:
        reasons["nc1", "within_to_between", "class_distance_variance"] = (
            "no NC1: every class has one train sample, so there is no variance within classes"
        )
    elif found.retained_rank == 0:
        reasons["nc1", "within_to_between", "class_distance_variance"] = (
            "no NC1: all class means coincide"
        )
    elif not math.isfinite(found.class_distance_variance):
        pairs = int((_pairs(_distances(statistics, rounding)) == 0).sum())
        reasons["class_distance_variance",] = (
            f"no class-distance variance: the means of {pairs} pairs of classes coincide"
        )
    if found.retained_rank == 0:
        reasons["equinorm", "mean_cosine_gap", "cosine_deviation"] = (
            "no NC2: all class means coincide"
        )
    elif not math.isfinite(found.mean_cosine_gap):
        centred = (means.norm(dim=1) == 0).nonzero().flatten().tolist()
        reasons["mean_cosine_gap", "cosine_deviation"] = (
            f"no cosines of class means: that of class {centred[0]} is the mean of all"
        )
    if found.self_duality is not None and not math.isfinite(found.self_duality):
        reasons["self_duality",] = (
            "no NC3: all class means coincide, or all rows of the classifier do"
        )
    return reasons


@measure("neural_collapse", place=90)
class Collapse(Measure):
    """Neural Collapse (NC1 to NC4) of the train samples before the classifier."""

    needs = Needs(train=(CLASSES, Rows("penultimate")))
    blank = Blank(sections={"neural_collapse": None})

    def values(self, study: Study) -> Values:
        """`NeuralCollapse` with NC4, the predicted rank and the train accuracy."""
        statistics, classifier = study.train.state(CLASSES), study.network.classifier
        if bool((statistics.counts == 0).any()):
            missing = int((statistics.counts == 0).sum())
            study.notes.append(
                f"no Neural Collapse: {missing} of {statistics.classes} classes have no train samples"
            )
            return Values()
        if classifier is None:
            study.notes.append("no NC3: it needs the weight of a linear classifier")
        weight = None if classifier is None else classifier.weight
        rounding = min(8 * torch.finfo(study.network.dtype).eps, LARGEST_ROUNDING)
        samples = None
        if not statistics.has_scatter:
            samples = study.penultimate("train"), study.train.labels
        found = neural_collapse(statistics, weight, study.options.gamma, rounding, samples)
        untold = what_cannot_be_told(statistics, found, rounding)
        study.notes.extend(untold.values())
        agreement = nearest_centre_agreement(
            study.penultimate("train"), study.train.predictions, statistics.means
        )
        row = {
            **found._asdict(),
            **{name: None for names in untold for name in names},
            "nearest_centre_agreement": agreement,
            "predicted_rank": neural_collapse_rank(statistics.classes, statistics.features),
            "train_accuracy": study.train.accuracy,
        }
        return Values(sections={"neural_collapse": row})

    def tables(self, record: Row) -> list[Table]:
        """One row, with the rank and the accuracy without which it cannot be read."""
        found = record.get("neural_collapse")
        if not found:
            return []
        note = "In perfect collapse NC1 to NC3 are 0 and NC4 is 100%; NC1 is of the retained directions."
        columns = [
            Column("train acc.", lambda row: percent(row.get("train_accuracy"))),
            Column(
                "retained rank", lambda row: f"{row['retained_rank']} of {row['predicted_rank']}"
            ),
            Column("NC1", lambda row: number(row.get("nc1")), note),
            Column("tr Sw / tr Sb", lambda row: number(row.get("within_to_between"))),
            Column("CDNV", lambda row: number(row.get("class_distance_variance"))),
            Column("NC2 equinorm", lambda row: number(row.get("equinorm"))),
            Column("cosine gap", lambda row: number(row.get("mean_cosine_gap"))),
            Column("cosine std", lambda row: number(row.get("cosine_deviation"))),
            Column("NC3", lambda row: number(row.get("self_duality"))),
            Column("NC4", lambda row: percent(row.get("nearest_centre_agreement"))),
        ]
        return [make_table("Neural Collapse, train samples", columns, [found], words=0)]


def _centred_means(
    statistics: ClassStatistics, rounding: float
) -> Float64[Tensor, "classes features"]:
    """Class means minus their mean, set to zero if only rounding is left."""
    least = rounding * statistics.means.norm(dim=1).max()
    means = statistics.means - statistics.means.mean(dim=0)
    return torch.where(means.norm(dim=1, keepdim=True) > least, means, 0.0)


def _distances(statistics: ClassStatistics, rounding: float) -> Float64[Tensor, "classes classes"]:
    """Between class means, zero where they are the same up to rounding."""
    found = torch.cdist(
        statistics.means, statistics.means, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return torch.where(found > rounding * statistics.means.norm(dim=1).max(), found, 0.0)


def _class_distance_variance(statistics: ClassStatistics, rounding: float) -> float:
    variances = statistics.squares / statistics.counts
    ratios = (variances[:, None] + variances) / (2 * _distances(statistics, rounding).square())
    return float(_pairs(ratios).mean())


def _self_duality(weight: Tensor, means: Tensor) -> float:
    check_floating("weight", weight, dimensions=2)
    check_magnitudes("weight", weight)
    if weight.shape != means.shape:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; it must be {tuple(means.shape)}, a row per class"
        )
    rows = weight.detach().to(means)
    rows = rows - rows.mean(dim=0)
    return float((rows / rows.norm() - means / means.norm()).norm())


def _pairs(matrix: Tensor) -> Tensor:
    """Entries above the diagonal."""
    c = matrix.shape[0]
    first, second = torch.triu_indices(c, c, offset=1, device=matrix.device)
    return matrix[first, second]
