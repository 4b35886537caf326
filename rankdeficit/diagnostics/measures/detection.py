"""How well scores tell out-of-distribution samples: larger means more out of distribution.

Everything depends on the order of the raw scores only, so scores of 1e6 do not saturate.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankdeficit.checks import check_floating

Positive = Literal["id", "ood"]
TPR = 0.95


class Detection(NamedTuple):
    """Detection of out-of-distribution samples; the rates name the class that counts as positive."""

    auroc: float
    """P(OOD score > ID score) + P(equal) / 2; the same for either positive class."""
    fpr_id_positive: float
    """Share of OOD samples accepted at the threshold that accepts 95 % of ID samples (the paper's)."""
    fpr_ood_positive: float
    """Share of ID samples flagged at the threshold that flags 95 % of OOD samples."""
    aupr_id_positive: float
    """Average precision with ID as positive class."""
    aupr_ood_positive: float
    """Average precision with OOD as positive class."""


def detection(
    id_scores: Float[Tensor, " n"], ood_scores: Float[Tensor, " m"], tpr: float = TPR
) -> Detection:
    """AUROC, FPR at a true positive rate, and AUPR of scores, ties counted as halves or together.

    A million scores of each kind take about half a second on a CPU core. Infinite scores are ordered
    like others. Raises ValueError for empty scores, scores that are NaN, and a rate outside (0, 1].
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr is {tpr}; it must lie in (0, 1]")
    known, strange = (
        _sorted(name, scores)
        for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores))
    )
    below = torch.searchsorted(known, strange).double()
    up_to = torch.searchsorted(known, strange, right=True).double()
    return Detection(
        auroc=float((below + up_to).mean() / (2 * len(known))),
        fpr_id_positive=_false_positives(known, strange, tpr),
        fpr_ood_positive=_false_positives(-strange.flip(0), -known.flip(0), tpr),
        aupr_id_positive=_average_precision(known, strange),
        aupr_ood_positive=_average_precision(-strange.flip(0), -known.flip(0)),
    )


def ortho_dev(
    class_means: Float[Tensor, "classes features"], ood_mean: Float[Tensor, " features"]
) -> float:
    """OrthoDev: mean over classes of |cos(mu_c, mu_OOD)|, 0 where OOD data is orthogonal to the classes.

    mu_c: mean penultimate feature of an ID class (not centred); mu_OOD: mean over all OOD samples
    (equation 4 of the paper). Raises ValueError where a mean is zero.
    """
    check_floating("class_means", class_means, dimensions=2)
    check_floating("ood_mean", ood_mean, dimensions=1)
    means, strange = class_means.double(), ood_mean.double()
    norms = means.norm(dim=1) * strange.norm()
    if not bool((norms > 0).all()):
        raise ValueError("a class mean or the OOD mean is zero; its direction is undefined")
    return float(((means @ strange) / norms).abs().mean())


def _sorted(name: str, scores: Tensor) -> Float64[Tensor, " n"]:
    check_floating(name, scores, dimensions=1)
    if scores.ndim != 1:
        raise ValueError(f"{name} has shape {tuple(scores.shape)}; it must be one score per sample")
    if bool(scores.isnan().any()):
        raise ValueError(f"{name} has {int(scores.isnan().sum())} NaN; mend those samples first")
    return scores.detach().double().sort().values


def _false_positives(positives: Tensor, negatives: Tensor, tpr: float) -> float:
    """Share of negatives at or below the least threshold that lies at or above `tpr` of the positives.

    Both ascending; positives are the small ones.
    """
    accepted = max(1, math.ceil(tpr * len(positives) - 1e-9))
    threshold = positives[accepted - 1]
    return float(torch.searchsorted(negatives, threshold, right=True)) / len(negatives)


def _average_precision(positives: Tensor, negatives: Tensor) -> float:
    """sum_k (R_k - R_{k-1}) P_k over thresholds from the smallest score up; both ascending.

    Each positive has the precision at its own threshold, where equal scores come in together.
    """
    hits = torch.searchsorted(positives, positives, right=True).double()
    false = torch.searchsorted(negatives, positives, right=True).double()
    return float((hits / (hits + false)).mean())
