"""What a report's measures say, in plain sentences: no more than the numbers bear."""

import math

import torch

from rankdeficit.diagnostics.measures.depth import SHARE, effective_depth
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.records import Row
from rankdeficit.diagnostics.report.tables import rank_text
from rankdeficit.experiments.tables import INTERPOLATION

GUESSING = 1.5
"""A probe with less than so many times the odds of guessing right knows next to nothing."""


def heading(record: Row) -> str:
    """The network in a line."""
    network, conditions = record["network"], record["conditions"]
    return (
        f"{network['name']}: {len(record['layers'])} layers, {network['classes']} classes, penultimate "
        f"width {network['penultimate_width']}, T = {conditions['temperature']:g}"
    )


def sentences(record: Row) -> list[str]:
    """Rank, effective depth, drop and detection out of distribution, what to beware of, the notes."""
    return [
        rank_sentence(record),
        *depth_sentences(record),
        *drop_sentences(record),
        *convergence_sentences(record),
        *detection_sentences(record),
        "One network, hence one seed: intervals are over test samples, not over training runs.",
        *(f"Note: {note}." for note in record.get("notes") or ()),
    ]


def rank_sentence(record: Row) -> str:
    """Whether the train logits have a smaller rank than Neural Collapse predicts, and at which gamma."""
    train, test = record["train"]["logits"], record["test"]["logits"]
    predicted, gamma = records.predicted_rank(record), record["conditions"]["gamma"]
    low, high = train.get("rank_interval") or (train["rank"],) * 2
    if record["train"]["samples"] <= predicted:
        verdict = f"Too few train samples ({record['train']['samples']}) to tell a rank deficit"
    elif low < predicted <= high:
        verdict = "Rounding leaves open whether there is a rank deficit"
    else:
        verdict = "Rank deficit" if train["rank"] < predicted else "No rank deficit"
    curve = records.rank_over_gamma(record, train)
    text = (
        f"{verdict} at gamma = {gamma:g}: the train logits have rank {rank_text(train)} (test "
        f"{rank_text(test)}), where Neural Collapse predicts {predicted}. Their rank over gamma: "
        + ", ".join(f"{rank} at {threshold:g}" for threshold, rank in curve.items())
    )
    deficient = [threshold for threshold, rank in curve.items() if rank < predicted]
    if 0 < len(deficient) < len(curve):
        text += f"; it is below {predicted} from gamma = {deficient[0]:g} on"
    centred = train.get("centred_rank", predicted)
    if centred < predicted <= train["rank"]:
        text += f". Centred over classes, which is all the softmax sees of them, it is {centred}"
    if record["train"]["accuracy"] < INTERPOLATION:
        text += (
            f". Train accuracy is {100 * record['train']['accuracy']:.4g}%: of networks that do not "
            "interpolate, neither ranks nor Neural Collapse tell much"
        )
    return text + "."


def depth_sentences(record: Row) -> list[str]:
    """Effective depth, the layer it points to, and why it may mislead."""
    found, layers = record.get("effective_depth"), record["layers"]
    accuracies = records.probe_accuracies(record)
    if not found or not accuracies:
        return []
    number, last = round(found["value"] * len(layers)), accuracies[-1]
    first = (
        f"layer {number} of {len(layers)}, {layers[number - 1]['name']}, is the first whose linear "
        f"probe reaches {SHARE:.0%} of the last layer's accuracy ({last:.1%})"
    )
    text = f"Effective depth kappa = {found['value']:.3g} ({_interval(found)}): {first}."
    chance = records.chance(record)
    if near_chance(last, chance, record["test"]["samples"]):
        text += (
            f" It means little: the last layer's probe hardly beats guessing ({chance:.1%}), so any "
            "layer reaches as much."
        )
    elif last < SHARE * max(accuracies):
        best = accuracies.index(max(accuracies))
        exact = torch.tensor(accuracies, dtype=torch.float64)
        text += (
            f" The last layer's probe is not the best: {layers[best]['name']} has "
            f"{accuracies[best]:.1%}, so kappa is measured against a low bar; against the best layer's "
            f"it is {float(effective_depth(exact, bar='best')):.3g}."
        )
    return [text]


def drop_sentences(record: Row) -> list[str]:
    """OOD drop per data set."""
    lines = []
    for name, found in sorted((record.get("ood_drop") or {}).items()):
        probed = {
            layer["name"]: layer["ood_probes"][name]["accuracy"]
            for layer in record["layers"]
            if name in (layer.get("ood_probes") or {})
        }
        text = f"{name}: OOD drop rho = {found['value']:.3g} ({_interval(found)})"
        if probed:
            best, last = max(probed, key=probed.__getitem__), list(probed.values())[-1]
            text += (
                f"; on its labels the last layer's probe has {last:.1%}, "
                f"the best one ({best}) {probed[best]:.1%}"
            )
            chance = records.ood_chance(record, name)
            if chance is not None and near_chance(
                probed[best], chance, record["ood"][name]["samples"]
            ):
                text += (
                    f". It means little: the best layer's probe hardly beats guessing ({chance:.1%}), so "
                    "there is nothing to lose"
                )
        lines.append(text + ".")
    return lines


def convergence_sentences(record: Row) -> list[str]:
    """Probes whose fit stopped too early."""
    lines = []
    for name in (None, *records.ood_sets(record)):
        probes = {
            layer["name"]: layer.get("probe") if name is None else layer["ood_probes"].get(name)
            for layer in record["layers"]
            if name is None or layer.get("ood_probes")
        }
        unfinished = [key for key, probe in probes.items() if probe and not probe["converged"]]
        if unfinished:
            some = ", ".join(unfinished[:3]) + (", ..." if len(unfinished) > 3 else "")
            lines.append(
                f"{len(unfinished)} of {len(probes)} probes on {name or 'ID'} data did not converge "
                f"({some}): accuracies there, and what follows from them, may be off; allow more "
                "iterations."
            )
    return lines


def detection_sentences(record: Row) -> list[str]:
    """The best detector and NECO per OOD data set."""
    lines, default = [], records.default_neco(record)
    for name, found in sorted(records.detections(record).items()):
        if not found:
            continue
        best = min(found, key=lambda detector: (-found[detector]["auroc"], detector))
        row = found[best]
        text = (
            f"{name}: told from ID samples best by {best}, AUROC {row['auroc']:.3f} (where 95% of ID "
            f"samples are accepted, so are {row['fpr_id_positive']:.1%} of OOD ones)"
        )
        if row["auroc"] <= 0.5:
            text = (
                f"{name}: no detector beats guessing, the best AUROC is {row['auroc']:.3f} ({best})"
            )
        if default in found and default != best:
            text += f"; NECO ({default}) has {found[default]['auroc']:.3f}"
        lines.append(text + ".")
    if lines and len(records.detectors(record)) > 1:
        lines.append(
            "The best detector was picked on the samples it is judged by, which flatters it."
        )
    return lines


def _interval(found: Row) -> str:
    low, high = found["interval"]
    return f"{found['level']:.0%} interval {low:.3g}-{high:.3g}"


def near_chance(accuracy: float, chance: float, samples: int) -> bool:
    """Whether a probe is within three standard errors of guessing, or of about its odds.

    chance: the share of the largest class, which who always names that class gets right.
    """
    error = math.sqrt(chance * (1 - chance) / samples)
    odds = GUESSING * chance / (1 - chance) if chance < 1 else math.inf
    return accuracy <= chance + 3 * error or accuracy < (1 - accuracy) * odds
