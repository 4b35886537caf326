"""Measures that several targets compare, with the paper's numbers and directions."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rankdeficit.diagnostics import effective_depth
from rankdeficit.page.numbers import (
    decimals,
    format_percentage_points,
    format_rank,
    format_rank_difference,
    format_rate,
    format_share,
)
from real_nets.data.catalogue import data_of_paper
from real_nets.jobs.folder import JobFolder
from real_nets.paper import numbers as paper
from real_nets.paper.chance import ANY_PROBE, DEFICIENT, LAST_PROBE, ood_probe
from real_nets.paper.compare import Direction, Measure, Pair, Printed, sign

Value = Callable[[JobFolder], float | None]

COARSE = "0.01"
"""Threshold at which ranks of hidden layers differ between networks even on ten classes."""

OTHER = {"CIFAR-10": "CIFAR-100", "CIFAR-100": "CIFAR-10"}
"""Out-of-distribution set of each data set in the paper's Table 2."""

CLASS_CENTRED = "rank of the class-centred logits"
DEPTH = "κ: effective depth"
DROP = "ρ: OOD drop"
COMPONENTS = "d of NECO"
COSINES = "NC2: deviation of cosines"

TRAIN_ACCURACY = Measure("train accuracy", lambda one: one.train_accuracy, format_share)
TEST_ACCURACY = Measure("test accuracy", lambda one: one.test_accuracy, format_share)


def alignment() -> Measure:
    """Alignment of weights and inputs in the diagnosis, mean over layers."""
    return Measure("mean alignment", lambda one: one.measure("alignment"), decimals(2), 1)


def ortho_dev(ood: str) -> Measure:
    """OrthoDev on an out-of-distribution set in the diagnosis."""

    def value(one: JobFolder) -> float | None:
        found = (one.report or {}).get("ortho_dev", {}).get(ood)
        return None if found is None else float(found)

    return Measure(f"OrthoDev ({ood})", value, decimals(3), -1)


def hidden_rank() -> Measure:
    """Rank of the last hidden layer on all train images at the threshold COARSE."""

    def value(one: JobFolder) -> float | None:
        found = (one.summary.get("train_layer_ranks") or {}).get(COARSE)
        return float(found[-2]) if found and len(found) > 1 else None

    return Measure(f"rank of the last hidden layer, γ = {COARSE}", value, format_rank, -1)


def initial_norm(one: JobFolder) -> float | None:
    """Logits norm of the untrained network divided by T, with the batch statistics of training."""
    return float(one.rows[0]["effective_logits_norm"]) if one.rows else None


def initial_norm_in_evaluation(one: JobFolder) -> float | None:
    """The same with BatchNorm's running averages; None in earlier records."""
    found = one.rows[0].get("evaluation_logits_norm") if one.rows else None
    return None if found is None else found / one.job.temperature


def centred_rank(one: JobFolder) -> float | None:
    """Rank of the class-centred logits (each sample's mean logit subtracted) at the job's threshold."""
    return one.rank_under("class-centred")


def logits_ranks(pair: Pair) -> list[Measure]:
    """Rank of the logits in the chosen convention, and the class-centred rank, each beside the paper's.

    The paper's direction is that of its numbers, and holds for data with the paper's number of classes.
    Where no other convention than matrix is chosen, the class-centred rank bears the verdict.
    """
    cell, networks = pair.baseline
    known = paper.representation_row(cell.network, cell.dataset)
    expected, printed = None, None
    if known is not None:
        before, after = float(known.baseline.rank), float(known.low_norm.rank)
        if all(one.summary["classes"] == paper.CLASSES[cell.dataset] for one in networks):
            expected = sign(after - before)
        bounded = "bounded by the width of the classifier"
        notes = (bounded if known.baseline.bounded_by_classifier else None, None)
        printed = Printed(before, after, format_rank, format_rank_difference, notes)
    gammas = sorted({one.job.gamma for side in pair for one in side.networks})
    at = f", γ = {', '.join(f'{gamma:g}' for gamma in gammas)}" if gammas else ""
    (convention,) = {one.convention for side in pair for one in side.networks} or {"matrix"}
    under = "" if convention == "matrix" else f"{convention} "
    name = f"SR: rank of the {under}logits{at}"
    own = Measure(name, lambda one: one.rank, format_rank, expected, None, printed)
    centred = replace(own, name=f"{CLASS_CENTRED}{at}", value=centred_rank)
    if convention == "matrix":
        return [replace(own, expected=None), centred]
    return [own] if convention == "class-centred" else [own, replace(centred, expected=None)]


def depths(pair: Pair) -> list[Measure]:
    """kappa relative to the last layer's probe, as in the paper, and relative to the best layer's.

    If late layers lose accuracy, the first falls because its reference does.
    """
    expected, printed = _in_paper(pair, lambda own: own.effective_depth, -1)
    by_best = "κ relative to the best layer's probe"
    over_best = "accuracy of the last layer's probe / of the best layer's"
    return [
        Measure(
            DEPTH, lambda one: one.effective_depth, format_share, expected, LAST_PROBE, printed
        ),
        Measure(by_best, depth_of_best, format_share, None, ANY_PROBE),
        Measure(over_best, last_over_best, format_share, None, ANY_PROBE),
    ]


def depth_of_best(one: JobFolder) -> float | None:
    """kappa relative to the best layer's probe."""
    found = one.probe_accuracies
    return None if found is None else float(effective_depth(found, bar="best"))


def last_over_best(one: JobFolder) -> float | None:
    """Accuracy of the last layer's probe divided by that of the best layer's."""
    found = one.probe_accuracies
    return None if found is None or not found.max() else float(found[-1] / found.max())


def drop(pair: Pair, ood: str | None) -> Measure:
    """rho on an out-of-distribution set; for None, only the paper's numbers."""
    expected, printed = _in_paper(pair, lambda own: own.ood_drop, 1)
    if ood is None:
        return Measure(DROP, lambda one: None, format_share, expected, None, printed)
    name = f"{DROP} ({ood})"
    return Measure(
        name, lambda one: one.ood_drop(ood), format_share, expected, ood_probe(ood), printed
    )


def of_first(found: Sequence[Measure]) -> list[Measure]:
    """A measure by OOD set, where the first set alone bears the paper's claim and numbers."""
    return [*found[:1], *(replace(own, expected=None, printed=None) for own in found[1:])]


def _in_paper(
    pair: Pair, number: Callable[[paper.Representation], float], usual: Direction
) -> tuple[Direction, Printed | None]:
    """Direction and numbers of the paper for this pair; `usual` and None if it has no such row.

    Of Table 3 the paper says that nothing but the rank differs substantially.
    """
    cell = pair.baseline.cell
    known = paper.representation_row(cell.network, cell.dataset)
    if known is None:
        return usual, None
    before, after = number(known.baseline), number(known.low_norm)
    printed = Printed(before, after, lambda value: format_share(value, 0), format_percentage_points)
    return 0 if known in paper.TABLE_3 else sign(after - before), printed


def representation(pair: Pair) -> list[Measure]:
    """kappa, rho and ranks of the logits, with train and test accuracy."""
    ood = next(iter(pair.ood), None)
    return [*depths(pair), drop(pair, ood), *logits_ranks(pair), TRAIN_ACCURACY, TEST_ACCURACY]


def components(ood: str) -> Measure:
    """Principal components d that NECO compares with, on which its numbers depend."""
    return Measure(COMPONENTS, lambda one: one.neco(ood, "dimension"), format_rank)


def neco(pair: Pair, ood: str | None) -> list[Measure]:
    """AUROC and false positive rate of NECO in its authors' variant for the network.

    The paper's claim is on the other CIFAR; where that was not measured, on what may stand for it.
    """
    cell, own_names = pair.baseline.cell, data_of_paper()
    other = OTHER.get(cell.dataset, "")
    wanted = own_names.get(other)
    may_stand = {None, *pair.ood} - {*own_names.values(), "svhn"}
    claimed = ood in ({wanted} if wanted in pair.ood else may_stand)
    known = paper.detection_row(cell.network, cell.dataset, other) if claimed else None
    notes = [f"the paper's out-of-distribution set is {other}"] * (ood not in (None, wanted))
    if known and known.pretrained_on:
        notes.append(f"the paper's network was pretrained on {known.pretrained_on}")
    note = "; ".join(notes) or None

    def printed(number: Callable[[paper.Detection], float]) -> Printed | None:
        if known is None:
            return None
        both = number(known.baseline), number(known.low_norm)
        return Printed(*both, format_rate, format_percentage_points, (note, note))

    def value(name: str) -> Value:
        return lambda one: one.neco(ood or "", name)

    at = f" ({ood})" if ood else ""
    rises: Direction | None = 1 if claimed else None
    falls: Direction | None = -1 if claimed else None
    auroc, fpr = printed(lambda own: own.auroc), printed(lambda own: own.fpr)
    return [
        Measure(f"AUROC of NECO{at}", value("auroc"), format_rate, rises, None, auroc),
        Measure(f"FPR of NECO{at}", value("fpr_id_positive"), format_rate, falls, None, fpr),
    ]


def detections(pair: Pair) -> list[Measure]:
    """NECO on every out-of-distribution set; only the paper's numbers if there is none."""
    return [measure for ood in (pair.ood or (None,)) for measure in neco(pair, ood)]


def collapse(name: str) -> Value:
    """A measure of Neural Collapse in the diagnosis."""
    return lambda one: one.measure(f"neural_collapse.{name}")


def neural_collapse(pair: Pair) -> list[Measure]:
    """NC1 to NC4 and the rank of the class means, with the train accuracy.

    The paper has a direction only for the angles of the class means, where their rank is deficient.
    """
    short, nearest = "{:.3g}".format, "nearest_centre_agreement"
    measures = [
        Measure(name, collapse(key), form)
        for name, key, form in (
            ("rank of the means", "retained_rank", format_rank),
            ("rank of the means predicted by Neural Collapse", "predicted_rank", format_rank),
            ("NC1: tr S_W / tr S_B", "within_to_between", short),
            ("NC1: class-distance normalised variance", "class_distance_variance", short),
            ("NC2: deviation of norms", "equinorm", decimals(3)),
            ("NC2: |cosine + 1/(c-1)|", "mean_cosine_gap", decimals(3)),
            (COSINES, "cosine_deviation", decimals(3)),
            ("NC3: distance from self-duality", "self_duality", decimals(3)),
            ("NC4: agreement with the nearest class centre", nearest, format_share),
        )
    ]
    measures = [
        replace(o, expected=1, check=DEFICIENT) if o.name == COSINES else o for o in measures
    ]
    return [*measures, TRAIN_ACCURACY]
