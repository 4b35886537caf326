"""How well scores tell out-of-distribution samples: larger means more out of distribution.

Everything depends on the order of the raw scores only, so scores of 1e6 do not saturate.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_floating
from rankdeficit.diagnostics.measures.ood import (
    KnownData,
    dimension,
    fit_detector,
    missing_packages,
)
from rankdeficit.diagnostics.measures.pairing import identity, pack_means
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.reading.streams import CLASSES
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.cells import make_table
from rankdeficit.diagnostics.report.drawing import get
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.figure_style import with_legend_below

TPR = 0.95

SETS_PER_TABLE = 2
"""OOD data sets that fit beside each other in a table."""

MARKERS = "osD^vP"


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


def placements(
    id_scores: Float[Tensor, " n"], ood_scores: Float[Tensor, " m"]
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Of each ID score the share of OOD scores above it, of each OOD score that of ID scores below it.

    Equal scores count as halves; both means are the AUROC (DeLong et al., 1988). Raises ValueError as
    `detection`.
    """
    known, strange = _sorted("id_scores", id_scores), _sorted("ood_scores", ood_scores)
    shares = [
        (torch.searchsorted(other, own) + torch.searchsorted(other, own, right=True)).double()
        / (2 * len(other))
        for own, other in ((id_scores.double(), strange), (ood_scores.double(), known))
    ]
    return 1 - shares[0], shares[1]


def draw(record: Row) -> Figure | None:
    """AUROC of every detector on every OOD data set; the network's own NECO is marked."""
    names = records.detectors(record)[::-1]
    if not names:
        return None
    figure = Figure(figsize=(6.4, 1.6 + 0.3 * len(names)))
    axes = figure.subplots()
    found = {name: rows for name, rows in sorted(records.detections(record).items()) if rows}
    for number, (data, rows) in enumerate(found.items(), start=1):
        axes.plot(
            [get(rows, name, "auroc") for name in names],
            range(len(names)),
            MARKERS[(number - 1) % len(MARKERS)],
            markersize=6,
            alpha=0.8,
            color=f"C{number}",
            label=data,
        )
    axes.axvline(0.5, color="0.45", linestyle="--", linewidth=1, label="guessing")
    default = records.default_neco(record)
    labels = [records.detector_label(record, name) + " *" * (name == default) for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.grid(axis="y", alpha=0.3)
    axes.set(xlim=(min(0.45, *axes.get_xlim()), 1.01), xlabel="AUROC (* NECO for this network)")
    return with_legend_below(figure, columns=4)


@measure("detection", place=100)
class OodDetection(Measure):
    """AUROC, FPR and AUPR of every OOD detector on every OOD data set."""

    needs = Needs(
        train=(CLASSES, Rows("penultimate")),
        test=(Rows("penultimate"), Rows("logits")),
        ood=(Rows("penultimate"), Rows("logits")),
    )
    blank = Blank(sections={"detection": {}, "ood_samples": {}, "placements": {}})
    figures = (("detection", draw),)

    def values(self, study: Study) -> Values:
        """`Detection` by data set and detector, with d of NECO; a note on what cannot be fitted.

        `ood_samples` has the number of samples of each data set, `placements` what paired tests need.
        """
        results: dict[str, dict[str, Row]] = {name: {} for name in study.ood}
        if not study.ood:
            return Values(sections={"detection": results})
        kept: dict[str, Row] = {
            name: {"samples": identity(study.test.keys, own.keys)}
            for name, own in study.ood.items()
        }
        known, kind = known_data(study), study.network.outputs
        for detector in study.options.detectors:
            if missing := missing_packages(detector):
                study.notes.append(
                    f"detector {detector} left out: {' and '.join(missing)} not installed (pip "
                    'install "rankdeficit[ood]")'
                )
                continue
            if detector == "energy" and kind != "logits":
                study.notes.append(f"detector energy left out: that of all {kind} is 0 at T = 1")
                continue
            try:
                score = fit_detector(detector, known)
            except ValueError as error:
                study.notes.append(f"detector {detector} left out: {error}")
                continue
            components = dimension(detector, known)
            extra = {} if components is None else {"dimension": components}
            id_scores = score(study.penultimate("test"), study.logits("test"))
            for name in study.ood:
                scores = score(study.penultimate(name), study.logits(name))
                of_id, of_ood = placements(id_scores, scores)
                kept[name][detector] = {"id": pack_means(of_id), "ood": pack_means(of_ood)}
                results[name][detector] = detection(id_scores, scores)._asdict() | extra
        samples = {name: own.samples for name, own in study.ood.items()}
        return Values(sections={"detection": results, "ood_samples": samples, "placements": kept})

    def tables(self, record: Row) -> list[Table]:
        """A row per detector, the best mean AUROC first; some data sets in each table."""
        detections = records.detections(record)
        names, default = records.detectors(record), records.default_neco(record)
        sets = sorted(name for name, found in detections.items() if found)
        note = "AUROC; FPR at 95% TPR and AUPR with ID / OOD as the positive class."
        if default in names:
            note += " * NECO as for this kind of network. d: principal components of NECO."

        def label(name: str) -> str:
            return records.detector_label(record, name) + " *" * (name == default)

        found = []
        for start in range(0, len(sets), SETS_PER_TABLE):
            columns = [Column("detector", label, note)]
            for name in sets[start : start + SETS_PER_TABLE]:
                rows = detections[name]
                columns += [
                    Column(f"{name}\nAUROC", partial(_auroc, rows)),
                    Column(f"{name}\nFPR95", partial(_rates, rows, "fpr")),
                    Column(f"{name}\nAUPR", partial(_rates, rows, "aupr")),
                ]
            found.append(make_table("OOD detection", columns, names, keep_empty=True))
        return found

    def sentences(self, record: Row) -> list[str]:
        """The best detector and NECO per OOD data set."""
        lines, default = [], records.default_neco(record)
        label = partial(records.detector_label, record)
        for name, found in sorted(records.detections(record).items()):
            if not found:
                continue
            best = min(found, key=lambda detector: (-found[detector]["auroc"], detector))
            row = found[best]
            text = (
                f"{name}: {label(best)} detects OOD samples best, with AUROC {row['auroc']:.3f} (where "
                f"it accepts 95% of ID samples, it accepts {row['fpr_id_positive']:.1%} of OOD samples)"
            )
            if row["auroc"] <= 0.5:
                text = (
                    f"{name}: no detector beats guessing; the best AUROC is {row['auroc']:.3f} "
                    f"({label(best)})"
                )
            if default in found and default != best:
                text += f"; NECO, {label(default)}, reaches {found[default]['auroc']:.3f}"
            lines.append(text + ".")
        if lines and len(records.detectors(record)) > 1:
            lines.append(
                "The best detector is chosen on the same samples, so its result is optimistic."
            )
        return lines


def known_data(study: Study) -> KnownData:
    """What detectors are fitted on, all in the CPU's memory, where the kept features are."""
    own, classifier = study.train.state(CLASSES), study.network.classifier
    bias = None if classifier is None else classifier.bias
    return KnownData(
        features=study.penultimate("train"),
        labels=study.train.labels,
        statistics=own.on("cpu"),
        weight=None if classifier is None else classifier.weight.detach().cpu(),
        bias=None if bias is None else bias.detach().cpu(),
        temperature=study.options.temperature,
    )


def _auroc(found: dict[str, Row], detector: str) -> str | None:
    return f"{found[detector]['auroc']:.3f}" if detector in found else None


def _rates(found: dict[str, Row], kind: str, detector: str) -> str | None:
    if detector not in found:
        return None
    return " / ".join(f"{found[detector][f'{kind}_{side}_positive']:.3f}" for side in ("id", "ood"))


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
