"""Figures with numbers of their own: random matrices and initial norms."""

from collections.abc import Callable
from pathlib import Path

import pytest

from real_nets.jobs.job import Job
from real_nets.paper.store import Results
from real_nets.paper.targets import TARGETS
from tests.real_nets.fabricated import (
    Numbers,
    computed,
    section_of,
    setup_of,
)


def untrained(norms: dict[str, float]) -> Callable[[Job], Numbers]:
    return lambda job: Numbers(initial_norm=norms[job.model] * (1 + job.seed))


@pytest.mark.parametrize(
    ("vgg", "verdict"),
    [
        (0.02, "VGG-19 starts below all ResNets, as in the paper"),
        (0.5, "VGG-19 does not start below all ResNets, unlike in the paper"),
    ],
)
def test_initial_norms_are_compared(vgg: float, verdict: str, tmp_path: Path) -> None:
    norms = {"vgg19": vgg, "resnet18": 0.4, "resnet20": 0.8, "resnet34": 0.6, "mlp": 0.1}
    setup = setup_of(missing=("cifar100",))
    section = section_of(tmp_path, "fig8", untrained(norms), setup)
    assert section.paragraphs[1:] == [
        f"Median initial norm on cifar10: VGG-19 {5.5 * vgg:.3g}, ResNet-18 2.2, ResNet-20 4.4, "
        f"ResNet-34 3.3, MLP 0.55; {verdict}."
    ]
    assert len(section.pictures) == 1


def test_figure_6_is_computed_and_tells_the_peaks(tmp_path: Path) -> None:
    rows = computed("fig6")["rows"]
    assert {row["k"] for row in rows} == {1, 2, 3, 4, 5}
    assert all(row["low"] <= row["rank"] <= row["high"] for row in rows)
    # At small scales softmax(sM) is (1 1^T + s M) / n to first order: all singular values but the
    # first are below the threshold.
    assert {row["rank"] for row in rows if row["scale"] == 1e-4} == {1}
    peaks = {k: max(row["rank"] for row in rows if row["k"] == k) for k in range(1, 6)}
    assert list(peaks.values()) == sorted(peaks.values())
    section = TARGETS["fig6"].section([], Results(tmp_path), {"rows": rows})
    assert "γ = 0.001, medians" in section.pictures[0].caption
    for k, peak in peaks.items():
        best = max((row for row in rows if row["k"] == k), key=lambda row: row["rank"])
        last = [row for row in rows if row["k"] == k][-1]
        assert last["rank"] < peak
        told = (
            f"{peak} at s = {best['scale']:.3g} and {last['rank']} at {last['scale']:.3g} (k = {k})"
        )
        assert told in section.paragraphs[1]
    assert len(section.pictures) == 1


def test_figure_6_counts_ranks_at_the_threshold_asked_for(tmp_path: Path) -> None:
    coarse = TARGETS["fig6"].compute(0.1)
    fine = {(row["k"], row["scale"]): row["rank"] for row in computed("fig6")["rows"]}
    found = {(row["k"], row["scale"]): row["rank"] for row in coarse["rows"]}
    assert all(found[at] <= fine[at] for at in fine)
    assert max(found.values()) < max(fine.values())
    section = TARGETS["fig6"].section([], Results(tmp_path), coarse)
    assert section.pictures[0].caption.startswith("n = 100, γ = 0.1, medians")
