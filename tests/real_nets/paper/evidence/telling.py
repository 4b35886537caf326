"""The stores of evidence, and what FINDINGS.md and README.md tell of them, computed from the records."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rankdeficit.diagnostics import effective_depth
from real_nets.jobs.folder import FINAL, JobFolder, milestone_name
from real_nets.paper.compare import pairs
from real_nets.paper.measures import collapse
from real_nets.paper.numbers import representation_row
from real_nets.paper.store import Results, read_targets
from tests.conftest import ROOT

STORE = ROOT / "real_nets" / "results"
FEWER = STORE / "fewer-images"
TENTH = STORE / "tenth"
LOSSLESS = STORE / "lossless"
STORES = (STORE, FEWER, TENTH, LOSSLESS)
FINDINGS = STORE / "FINDINGS.md"

Measure = Callable[[JobFolder], float | None]
Form = Callable[[float], str]


def percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0")


def decimals(value: float) -> str:
    return f"{value:.2f}"


def integer(value: float) -> str:
    return f"{value:.0f}"


def known(values: Iterable[float | None]) -> list[float]:
    return sorted(float(value) for value in values if value is not None)


def spelled(values: Iterable[float | None], form: Form = percent) -> str:
    """Median and range; a number where all are equal."""
    found = known(values)
    middle, low, high = form(median(found)), form(found[0]), form(found[-1])
    return middle if low == high else f"{middle} ({low}-{high})"


def apart(cold: Iterable[float | None], hot: Iterable[float | None]) -> int:
    """1 if all of the hot are above all of the cold, -1 if below, 0 where the ranges meet."""
    before, after = known(cold), known(hot)
    return (before[-1] < after[0]) - (after[-1] < before[0])


@dataclass(frozen=True)
class Pair:
    """The networks of one kind at T = 1 and at the high temperature, three seeds each."""

    name: str
    cold: list[JobFolder]
    hot: list[JobFolder]
    milestone: str
    """Weights kept when all of them first reached the highest common train accuracy."""
    read: dict[str, tuple[list[JobFolder], list[JobFolder]]] = field(default_factory=dict)
    """Both sides by snapshot, whose reports are large."""

    def at(self, snapshot: str) -> tuple[list[JobFolder], list[JobFolder]]:
        """Both sides at the end or at equal accuracy."""
        if snapshot not in self.read:
            cold, hot = ([one.at(snapshot) for one in side] for side in (self.cold, self.hot))
            self.read[snapshot] = cold, hot
        return self.read[snapshot]

    def values(self, measure: Measure, snapshot: str = FINAL) -> tuple[list[float], list[float]]:
        """A measure of both sides."""
        cold, hot = (known(map(measure, side)) for side in self.at(snapshot))
        return cold, hot

    def moved(self, measure: Measure, form: Form = percent, snapshot: str = FINAL) -> str:
        """Both medians with their ranges: "100 to 71 (70-71)"."""
        return " to ".join(spelled(side, form) for side in self.values(measure, snapshot))


def pair_of(store: Path, network: str, name: str, dataset: str = "") -> Pair:
    """The pair of a network, on the first data set if none is named."""
    results = Results(store)
    cells = [cell for record in read_targets(store, ["table1", "table3"]) for cell in record.cells]
    pair = next(
        pair
        for pair in pairs(cells)
        if pair[0].network == network and dataset in ("", pair[0].dataset)
    )
    accuracy = results.common_accuracy(pair)
    assert accuracy is not None
    cold, hot = map(results.outcomes, pair)
    assert [one.job.seed for one in (*cold, *hot)] == [0, 1, 2, 0, 1, 2]
    return Pair(name, cold, hot, milestone_name(accuracy))


OWN = {
    "own.resnet18": pair_of(LOSSLESS, "ResNet-18", "ResNet-18, CIFAR-100", "CIFAR-100"),
    "own.resnet34": pair_of(LOSSLESS, "ResNet-34", "ResNet-34, CIFAR-100", "CIFAR-100"),
    "own.resnet18.ten": pair_of(LOSSLESS, "ResNet-18", "ResNet-18, CIFAR-10", "CIFAR-10"),
    "own.vgg19": pair_of(LOSSLESS, "VGG-19", "VGG-19, CIFAR-10"),
    "own.mlp": pair_of(LOSSLESS, "MLP", "MLP, CIFAR-10"),
}
"""On the paper's own images."""

FORMER = {
    "resnet20": pair_of(STORE, "ResNet-20", "ResNet-20"),
    "resnet18": pair_of(STORE, "ResNet-18", "ResNet-18, 100 classes"),
    "tenth": pair_of(TENTH, "ResNet-20", "ResNet-20, a tenth of CIFAR-10"),
    "fewer": pair_of(FEWER, "ResNet-18", "ResNet-18, a fifth of 100 classes"),
}
"""On re-encoded images."""

PAIRS = OWN | FORMER


def strange(one: JobFolder) -> str:
    """The OOD set of a network; the first of several."""
    return one.job.ood[0]


def rank_at(kind: str, gamma: float) -> Measure:
    return lambda one: one.ranks(kind).get(gamma)


def depth_of_best(one: JobFolder) -> float:
    """kappa against the best layer's probe."""
    assert one.probe_accuracies is not None
    return float(effective_depth(one.probe_accuracies, bar="best"))


def depth(one: JobFolder) -> float | None:
    return one.effective_depth


def drop(one: JobFolder) -> float | None:
    return one.ood_drop(strange(one))


def neco(one: JobFolder) -> float | None:
    return one.neco(strange(one))


def drop_on(place: int) -> Measure:
    """rho on the OOD set at a place, where there are so many."""
    return lambda one: one.ood_drop(one.job.ood[place]) if len(one.job.ood) > place else None


def neco_on(place: int) -> Measure:
    """AUROC of NECO on the OOD set at a place, where there are so many."""
    return lambda one: one.neco(one.job.ood[place]) if len(one.job.ood) > place else None


drop_on_second, drop_on_third = drop_on(1), drop_on(2)
neco_on_second, neco_on_third = neco_on(1), neco_on(2)


def ortho_dev(one: JobFolder) -> float | None:
    return one.measure(f"ortho_dev.{strange(one)}")


def penultimate_rank(one: JobFolder) -> int:
    """Of what the classifier reads, at gamma = 1e-2, on the diagnosed train images."""
    assert one.report is not None
    return int(one.report["penultimate"]["train"]["rank_curve"]["0.01"])


def accuracy_on_train(one: JobFolder) -> float | None:
    return one.train_accuracy


def accuracy_on_test(one: JobFolder) -> float | None:
    return one.test_accuracy


def distinct_detectors(
    pair: Pair, snapshot: str = FINAL
) -> dict[str, tuple[list[float], list[float]]]:
    """AUROC on the other CIFAR by detector; detectors with equal scores count once, by the last name."""
    *_, ood = pair.cold[0].job.ood[:2]
    cold, hot = (
        [own.report["detection"][ood] for own in side if own.report] for side in pair.at(snapshot)
    )
    found: dict[tuple[float, ...], tuple[str, int]] = {}
    for name in (own for own in cold[0] if "auroc" in cold[0][own]):
        scores = [one[name]["auroc"] for one in (*cold, *hot)]
        found[tuple(scores)] = name, len(cold)
    return {name: (list(s[:split]), list(s[split:])) for s, (name, split) in found.items()}


def moved_detectors(pair: Pair, snapshot: str = FINAL) -> list[int]:
    """Which way each distinct detector's AUROC moves on the other CIFAR."""
    return [apart(*sides) for sides in distinct_detectors(pair, snapshot).values()]


MEASURES: dict[str, tuple[str, Measure, Form]] = {
    "rank of the logits, γ = 1e-3": ("falls", rank_at("rank_curve", 1e-3), integer),
    "class-centred, γ = 1e-3": ("", rank_at("centred_rank_curve", 1e-3), integer),
    "rank of the logits, γ = 1e-2": ("", rank_at("rank_curve", 1e-2), integer),
    "class-centred, γ = 1e-2": ("", rank_at("centred_rank_curve", 1e-2), integer),
    "rank of the last hidden layer, γ = 1e-2": ("", penultimate_rank, integer),
    "effective depth κ, %": ("falls", depth, percent),
    "κ against the best layer, %": ("", depth_of_best, percent),
    "OOD drop ρ, %": ("rises", drop, percent),
    "ρ on the other CIFAR, %": ("rises", drop_on_second, percent),
    "ρ on Tiny ImageNet, %": ("rises", drop_on_third, percent),
    "AUROC of NECO, %": ("rises", neco, percent),
    "NECO on the other CIFAR, %": ("rises", neco_on_second, percent),
    "NECO on Tiny ImageNet, %": ("rises", neco_on_third, percent),
    "OrthoDev": ("falls", ortho_dev, decimals),
    "alignment": ("rises", lambda one: one.measure("alignment"), decimals),
    "NC1, tr S_W / tr S_B": ("", collapse("within_to_between"), decimals),
    "NC2, deviation of cosines": ("", collapse("cosine_deviation"), decimals),
    "NC3, self-duality": ("", collapse("self_duality"), decimals),
    "train accuracy, %": ("", accuracy_on_train, percent),
    "test accuracy, %": ("", accuracy_on_test, percent),
}
"""Rows of the table of FINDINGS.md: the paper's direction, the measure, and how it is printed."""

MARKS = {1: "↑", -1: "↓", 0: "~"}


def moved_cell(pair: Pair, measure: Measure, form: Form, snapshot: str) -> str:
    """Both medians and the direction beyond the spread of seeds; one number where all print alike."""
    cold, hot = pair.values(measure, snapshot)
    if not cold:
        return ""
    if len(printed := {form(one) for one in (*cold, *hot)}) == 1:
        return printed.pop()
    return f"{form(median(cold))} → {form(median(hot))} {MARKS[apart(cold, hot)]}"


def findings_table(shown: Mapping[str, Pair]) -> str:
    """Measure x network at equal budget (first line of a cell) and at equal train accuracy (second)."""
    names = [f"{pair.name}, T = 1 → {pair.hot[0].job.temperature:g}" for pair in shown.values()]
    lines = [
        f"| measure | paper | {' | '.join(names)} |",
        "|---" * (2 + len(names)) + "|",
    ]
    for name, (paper, measure, form) in MEASURES.items():
        cells = []
        for pair in shown.values():
            end, equal = (
                moved_cell(pair, measure, form, snapshot) for snapshot in (FINAL, pair.milestone)
            )
            cells.append(end if end == equal else f"{end}<br>{equal}")
        if any(cells):
            lines.append(f"| {name} | {paper} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_table() -> str:
    """The paper's numbers of Tables 1 and 3 beside those measured on its own images."""
    titles = ("rank", "κ", "ρ")
    lines = [
        f"| network | {' | '.join(f'{name}, paper | {name}, here' for name in titles)} |",
        "|---" * (1 + 2 * len(titles)) + "|",
    ]
    for pair in OWN.values():
        network, dataset = pair.name.split(", ")
        row = representation_row(network, dataset)
        assert row is not None
        cold, hot = row.baseline, row.low_norm
        numbers: list[tuple[Form, float, float, Measure]] = [
            (integer, cold.rank, hot.rank, rank_at("centred_rank_curve", 1e-3)),
            (percent, cold.effective_depth, hot.effective_depth, depth),
            (percent, cold.ood_drop, hot.ood_drop, drop),
        ]
        cells = [
            f"{form(before)} → {form(after)} | {moved_with_ranges(*pair.values(measure), form)}"
            for form, before, after, measure in numbers
        ]
        temperatures = f"T = 1 → {pair.hot[0].job.temperature:g}"
        lines.append(f"| {pair.name}, {temperatures} | {' | '.join(cells)} |")
    return "\n".join(lines)


def moved_with_ranges(cold: list[float], hot: list[float], form: Form = percent) -> str:
    """Both medians with ranges, and the direction; one number where all print alike."""
    if len(printed := {form(one) for one in (*cold, *hot)}) == 1:
        return printed.pop()
    return f"{spelled(cold, form)} → {spelled(hot, form)} {MARKS[apart(cold, hot)]}"


def headline_table() -> str:
    """The README's table: ranks raw and class-centred, at equal budget and at equal train accuracy."""
    lines = [
        "| network, data | T | raw rank | class-centred | κ, % | ρ, % | train accuracy, % "
        "| at equal accuracy: raw rank | class-centred |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ranks = [rank_at(kind, 1e-3) for kind in ("rank_curve", "centred_rank_curve")]
    for pair in OWN.values():
        cells = [
            *(moved_with_ranges(*pair.values(rank), integer) for rank in ranks),
            *(moved_with_ranges(*pair.values(own)) for own in (depth, drop, accuracy_on_train)),
            *(moved_with_ranges(*pair.values(rank, pair.milestone), integer) for rank in ranks),
        ]
        temperatures = f"1 → {pair.hot[0].job.temperature:g}"
        lines.append(f"| {pair.name} | {temperatures} | {' | '.join(cells)} |")
    return "\n".join(lines)
