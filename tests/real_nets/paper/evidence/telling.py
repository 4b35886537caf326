"""Where the evidence is, and how the README writes its numbers."""

from collections.abc import Callable, Iterable
from statistics import median

from rankdeficit.diagnostics import effective_depth
from real_nets.jobs.outcomes import Outcome
from tests.conftest import ROOT

STORE = ROOT / "real_nets" / "results"
FEWER = STORE / "fewer-images"
TENTH = STORE / "tenth"
STORES = (STORE, FEWER, TENTH)
README = (ROOT / "README.md").read_text()
SENTENCES = " ".join(README.split())
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
OOD = {"cifar10": "tiny-imagenet-100", "tiny-imagenet-100": "cifar10"}
GAMMAS = (1e-3, 1e-2)


def percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0")


def decimals(value: float) -> str:
    return f"{value:.2f}"


def spelled(values: Iterable[float | None], form: Callable[[float], str] = percent) -> str:
    """Median and range; a number where all are equal."""
    known = sorted(value for value in values if value is not None)
    middle, low, high = form(median(known)), form(known[0]), form(known[-1])
    return middle if low == high else f"{middle} ({low}-{high})"


def depth_of_best(one: Outcome) -> float:
    """kappa against the best layer's probe."""
    assert one.probe_accuracies is not None
    return float(effective_depth(one.probe_accuracies, bar="best"))


def apart(cold: Iterable[float | None], hot: Iterable[float | None]) -> int:
    """1 if all of the hot are above all of the cold, -1 if below, 0 where they meet."""
    below, above = ([one for one in found if one is not None] for found in (cold, hot))
    return (max(below) < min(above)) - (max(above) < min(below))


def penultimate_rank(one: Outcome) -> int:
    """Of what the classifier reads, at gamma = 1e-2, on the diagnosed train images."""
    assert one.report is not None
    return int(one.report["penultimate"]["train"]["rank_curve"]["0.01"])


def last_map_rank(one: Outcome) -> int:
    """Of a ResNet's maps before they are averaged, at gamma = 1e-2, on the diagnosed train images."""
    assert one.report is not None
    return int(one.report["layers"][-2]["train"]["rank_curve"]["0.01"])


def moved_detectors(cold: list[Outcome], hot: list[Outcome], ood: str) -> dict[str, int]:
    """Which way the AUROC of each detector moves, as `apart` has it."""
    sides = [[one.report for one in found] for found in (cold, hot)]
    reports = [[report for report in side if report is not None] for side in sides]
    names = [name for name, own in reports[0][0]["detection"][ood].items() if "auroc" in own]
    return {
        name: apart(
            *([report["detection"][ood][name]["auroc"] for report in side] for side in reports)
        )
        for name in names
    }
