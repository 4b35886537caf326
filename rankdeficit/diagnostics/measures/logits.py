"""Ranks, spectrum and norm of the logits of a network, beside the rank that Neural Collapse predicts."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankdeficit.diagnostics.reading.needs import Needs
from rankdeficit.diagnostics.reading.streams import LOGITS
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.cells import number, rank_text, text
from rankdeficit.diagnostics.report.drawing import mark_prediction, numbers
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.figure_style import with_legend_below
from rankdeficit.spectrum import Convention, Spectrum

KINDS = {"rank": "raw", "centred_rank": "class-centred", "post_softmax_rank": "after the softmax"}
"""Ranks of the logits, in the order in which they are drawn; equal ones are drawn ever thinner."""

CONVENTIONS: dict[str, Convention] = {
    "rank": "matrix",
    "centred_rank": "class-centred",
    "sample_centred_rank": "sample-centred",
    "covariance_rank": "covariance",
    "post_softmax_rank": "matrix",
}
"""Convention of each rank, as in `rankdeficit.numerical_rank`."""

MARKED_VALUES = 50
"""Singular values have markers up to this many."""

SMALLEST_RATIO = 1e-8
"""Lower end of the axis of relative singular values."""


def rank_curves(record: Row) -> Figure | None:
    """Rank of the logits over gamma: as they are, centred, after the softmax."""
    if not _measured(record):
        return None
    figure = Figure(figsize=(8, 3.6))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, data in zip(panels, ("train", "test"), strict=True):
        found = record[data]["logits"]
        for kind, style, width in zip(KINDS, ("-o", "--s", "-.^"), (3.5, 2, 1), strict=True):
            if f"{kind}_curve" in found:
                curve = records.rank_over_gamma(record, found, kind)
                look = {"linewidth": width, "markersize": 3 + 1.5 * width, "label": KINDS[kind]}
                axes.plot([*curve], [*curve.values()], style, **look)
        mark_prediction(axes.axhline, record, "--", data)
        gamma = record["conditions"]["gamma"]
        axes.axvline(gamma, color="0.6", linestyle=":", linewidth=1, label=f"γ = {gamma:g}")
        axes.set(xscale="log", xlabel="threshold γ", ylim=(0, 1.08 * record["network"]["classes"]))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(f"{data} samples", fontsize=9)
    panels[0].set_ylabel("numerical rank")
    return with_legend_below(figure, columns=5)


def singular_values(record: Row) -> Figure | None:
    """Singular values of the logits relative to the largest, with the threshold."""
    spectra = {
        data: [value / values[0] for value in values]
        for data in ("train", "test")
        if (values := (record[data].get("logits") or {}).get("singular_values")) and values[0] > 0
    }
    if not spectra:
        return None
    figure = Figure(figsize=(6.4, 4))
    axes = figure.subplots()
    for (data, values), style in zip(spectra.items(), ("-o", ":s"), strict=False):
        size = 3 if len(values) <= MARKED_VALUES else 0
        axes.plot(numbers(values), values, style, markersize=size, label=data)
    smallest = min(value for values in spectra.values() for value in values if value > 0)
    gamma = record["conditions"]["gamma"]
    axes.axhline(gamma, color="0.45", linestyle="--", linewidth=1, label=f"γ = {gamma:g}")
    mark_prediction(axes.axvline, record, ":")
    low = max(min(smallest, gamma) / 3, SMALLEST_RATIO)
    axes.set(yscale="log", ylim=(low, 2), xlabel="index i")
    axes.set_ylabel(r"singular value of the logits, $\sigma_i/\sigma_1$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return with_legend_below(figure, columns=4)


def rank_sentence(record: Row) -> str:
    """Whether the class-centred train logits have a smaller rank than Neural Collapse predicts.

    Neural Collapse's c - 1 is a rank of centred logits. Records without it are judged by the raw rank.
    """
    train, test = record["train"]["logits"], record["test"]["logits"]
    kind = "centred_rank" if "centred_rank_curve" in train else "rank"
    predicted, gamma = records.predicted_rank(record), record["conditions"]["gamma"]
    low, high = train.get(f"{kind}_interval") or (train[kind],) * 2
    if record["train"]["samples"] <= predicted:
        verdict = f"Too few train samples ({record['train']['samples']}) to tell a rank deficit"
    elif low < predicted <= high:
        verdict = "Rounding leaves open whether there is a rank deficit"
    else:
        verdict = "Rank deficit" if train[kind] < predicted else "No rank deficit"
    curve = records.rank_over_gamma(record, train, kind)
    sentence = f"{verdict} at gamma = {gamma:g}: "
    centred = kind != "rank"
    sentence += (
        f"the {'class-centred ' if centred else ''}train logits have rank {_ranks(train, test, kind)}, "
        f"and Neural Collapse predicts {predicted}"
    )
    if centred:
        sentence += f"; as they are, the logits have rank {_ranks(train, test, 'rank')}"
    sentence += f". {'Class-centred rank' if centred else 'Rank'} over gamma: " + ", ".join(
        f"{rank} at {threshold:g}" for threshold, rank in curve.items()
    )
    deficient = [threshold for threshold, rank in curve.items() if rank < predicted]
    if 0 < len(deficient) < len(curve):
        sentence += f"; it is below {predicted} from gamma = {deficient[0]:g} on"
    return sentence + "."


@measure("logits", place=10)
class Logits(Measure):
    """Ranks of the logits before and after the softmax, their singular values and their norm."""

    needs = Needs(train=(LOGITS,), test=(LOGITS,))
    blank = Blank(data={"logits": None})
    figures = (
        ("logits_ranks", rank_curves),
        ("singular_values", singular_values),
    )

    def values(self, study: Study) -> Values:
        """`LogitsMeasures` of train and test samples, and ranks in all conventions."""
        gamma = study.options.gamma
        found: dict[str, Row] = {}
        for survey in (study.train, study.test):
            state = survey.state(LOGITS)
            row = state.measures(gamma).record() | {"conventions": dict(CONVENTIONS)}
            centred = state.spectrum("sample-centred")
            row |= _fields("sample_centred_rank", centred, gamma)
            row |= _fields("covariance_rank", centred.squared, gamma)
            found[survey.name] = {"logits": row}
        return Values(data=found)

    def data_columns(self, record: Row) -> list[Column]:
        """Ranks, norms and the predicted rank."""
        if not _measured(record):
            return []
        note = (
            f"Ranks at gamma = {record['conditions']['gamma']:g} of the logits as they are (convention "
            "matrix), class-centred, sample-centred and of their covariance, and of the softmax "
            "(matrix), with their range where rounding leaves it open. NC: the rank that Neural Collapse "
            "predicts, min(c - 1, width), or the number of classes with samples where that is less."
        )
        return [
            Column("raw rank", lambda row: rank_text(row["logits"]), note),
            Column("centred", lambda row: _other_cell(row["logits"], "centred_rank")),
            Column(
                "sample-\ncentred", lambda row: _other_cell(row["logits"], "sample_centred_rank")
            ),
            Column("covar-\niance", lambda row: _other_cell(row["logits"], "covariance_rank")),
            Column("softmax", lambda row: text(row["logits"].get("post_softmax_rank"))),
            Column("NC", lambda row: text(records.predicted_rank(record, row["name"]))),
            Column("norm", lambda row: number(row["logits"].get("logits_norm"))),
            Column("norm / T", lambda row: number(row["logits"].get("effective_logits_norm"))),
            Column("stable rank", lambda row: number(row["logits"].get("stable_rank"))),
        ]

    def sentences(self, record: Row) -> list[str]:
        """The verdict on rank deficit."""
        return [rank_sentence(record)] if _measured(record) else []


def _other_cell(found: Row, kind: str) -> str | None:
    return rank_text(found, kind) if kind in found else None


def _ranks(train: Row, test: Row, kind: str) -> str:
    """Of train logits, and of test logits where they are measured."""
    return rank_text(train, kind) + (f" (test {rank_text(test, kind)})" if kind in test else "")


def _measured(record: Row) -> bool:
    return all(record[data].get("logits") for data in ("train", "test"))


def _fields(name: str, found: Spectrum, gamma: float) -> Row:
    """A rank with its interval and curve, under names that begin with this one."""
    own = found.record(gamma)
    return {name + end: own["rank" + end] for end in ("", "_interval", "_curve")}
