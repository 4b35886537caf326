"""What the page on a store says."""

from dataclasses import replace
from pathlib import Path

from rankdeficit.page import render
from real_nets.paper.store import Results, read_targets
from real_nets.paper.targets import TARGETS
from real_nets.report import build_page, other_data
from tests.real_nets.fabricated import Numbers, by_seed

SHOWN = ("fig7", "neural-collapse", "table2")
BASE = Numbers(classes=100, rank=99)
NUMBERS = by_seed(
    baseline=[replace(BASE, auroc=0.5), replace(BASE, auroc=0.5), Numbers(outcome="diverged")],
    low=[Numbers(auroc=0.75 + seed / 20, classes=100) for seed in range(3)],
)


def page_of(store: Path) -> str:
    return render(build_page(store, read_targets(store, list(TARGETS))))


def summary_of(store: Path) -> list[str]:
    return list(build_page(store, read_targets(store, list(TARGETS))).summary)


def other_data_of(store: Path) -> list[str]:
    """What the summary tells of data that are not the paper's."""
    results, records = Results(store), read_targets(store, list(TARGETS))
    others = other_data(records, list(results.all_outcomes(records)))
    assert all(any(told in line for line in summary_of(store)) for told in others)
    return others


def conditions_of(store: Path) -> dict[str, str]:
    return dict(build_page(store, read_targets(store, list(TARGETS))).conditions)


def job_files(store: Path, name: str) -> list[Path]:
    return sorted(store.glob(f"jobs/*/{name}"))
