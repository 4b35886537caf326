"""Figures: what they compare, random matrices, and initial norms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.paper.chance import Cause
from real_nets.paper.compare import Comparison, Verdict, compare
from real_nets.paper.store import Results
from real_nets.paper.targets import TARGETS, fig6
from real_nets.paper.targets.fig8 import starts_lowest
from real_nets.paper.targets.pairs import PairTarget
from tests.real_nets.fabricated import (
    Numbers,
    by_seed,
    compared,
    computed,
    hundred,
    row_of,
    section_of,
    setup_of,
)
from tests.real_nets.paper.networks import Row, network, pair_of

Move = tuple[float, float, Verdict] | None


def moves(name: str, cold: list[JobFolder], hot: list[JobFolder]) -> list[Move]:
    """Medians and verdict of all that a figure compares, None where something was not measured."""
    target = TARGETS[name]
    assert isinstance(target, PairTarget)
    pair = pair_of(cold, hot)
    return [move(compare(pair, measure)) for measure in target.measures(pair)]


def move(one: Comparison) -> Move:
    if one.before is None or one.after is None:
        return None
    return one.before.median, one.after.median, one.verdict


def traced(name: str, values: dict[float, Any]) -> JobFolder:
    return network([{"epoch": epoch, name: value} for epoch, value in values.items()])


AGREES, DIFFERS, UNCLAIMED = Verdict.AGREES, Verdict.DIFFERS, Verdict.UNCLAIMED


def test_growth_is_counted_from_the_untrained_network_in_the_first_epoch_and_in_all() -> None:
    cold = [traced("logits_norm", {0.0: 2.0, 0.5: 3.0, 1.0: 4.0, 2.0: 8.0}) for _ in range(2)]
    hot = [traced("logits_norm", {0.0: 2.0, 1.0: 3000.0, 2.0: 6000.0}) for _ in range(2)]
    assert moves("fig2", cold, hot) == [(2, 1500, AGREES), (4, 3000, AGREES)]
    assert moves("fig2", hot, cold)[1] == (3000, 4, DIFFERS)
    assert moves("fig2", [traced("logits_norm", {0.0: 2.0})], hot) == [None, None]
    assert moves("fig2", [traced("logits_norm", {0.0: 0.0, 1.0: 1.0})], hot)[0] is None


def collapsing(alignments: dict[float, float], rank: int, top: float) -> JobFolder:
    """Ranks and singular values of the last row count, of what the last of three layers reads."""
    rows: list[Row] = [{"epoch": at, "alignment": value} for at, value in alignments.items()]
    rows[-1] |= {
        "layer_ranks": {"0.001": [999, rank, 10], "0.01": [1, 1, 1]},
        "layer_singular_values": [[9e9, 1.0], [top, 1.0], [9e9, 1.0]],
    }
    return network(rows)


def test_collapse_is_of_early_alignment_and_of_the_last_hidden_layer() -> None:
    cold = [collapsing({0.0: 0.9, 1.0: 0.2, 5.0: 0.3, 6.0: 0.8}, 500, 100.0)]
    hot = [collapsing({0.0: 0.1, 1.0: 0.95, 5.0: 0.3, 6.0: 0.2}, 40, 2000.0)]
    expected = [(0.9, 0.95, AGREES), (500, 40, AGREES), (100, 2000, AGREES)]
    assert moves("fig3", cold, hot) == expected
    assert moves("fig3", [network()], hot) == [None, None, None]


def layered(inputs: list[int], gradients: list[int | None]) -> JobFolder:
    layers = [
        {"input": {"rank": own}, "gradient": gradient and {"rank": gradient}}
        for own, gradient in zip(inputs, gradients, strict=True)
    ]
    return network([], layers)


def test_gradients_are_judged_over_the_deeper_half_and_against_their_bound() -> None:
    cold = [layered([900, 900, 100, 200, 300], [900, 900, 40, 50, 60])]
    hot = [layered([1, 1, 10, 20, 30], [1, 1, 4, 5, 6])]
    bounded = (0, 0, UNCLAIMED)
    assert moves("fig4", cold, hot) == [(200, 20, AGREES), (50, 5, AGREES), bounded]
    above = [layered([1, 1, 10, 20], [1, 2, 4, None])]
    assert moves("fig4", cold, above)[2] == (0, 1, UNCLAIMED)
    assert moves("fig4", [network()], [network()]) == [None, None, None]


@pytest.mark.parametrize(("classes", "verdict"), [(10, UNCLAIMED), (100, AGREES)])
def test_ranks_around_the_softmax_are_judged_by_their_gap(classes: int, verdict: Verdict) -> None:
    def ranked(ranks: list[int], after: list[int]) -> JobFolder:
        rows = [
            {"epoch": float(at), "rank": rank, "centred_rank": rank - 1, "post_softmax_rank": own}
            for at, (rank, own) in enumerate(zip(ranks, after, strict=True))
        ]
        return network(rows, classes=classes)

    cold = [ranked([90, 95, 99, 99], [1, 50, 94, 100])]  # 94 is below 95 % of 100
    hot = [ranked([90, 40, 30, 40], [1, 95, 96, 100])]
    gaps = [(1, 60, verdict), (2, 61, UNCLAIMED)]  # the paper centres no logits
    assert moves("fig5", cold, hot) == [*gaps, (3, 1, UNCLAIMED)]


def test_ortho_dev_is_that_of_the_last_measurement() -> None:
    cold = [traced("ortho_dev", {0.0: {"svhn": 0.1}, 1.0: {"svhn": 0.8}}) for _ in range(3)]
    hot = [traced("ortho_dev", {0.0: {"svhn": 0.9}, 1.0: {"svhn": 0.4}}) for _ in range(3)]
    assert moves("fig7", cold, hot) == [(0.8, 0.4, AGREES)]


def test_figure_1_judges_depth_and_the_papers_ood_set(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=1.0, drop=0.1)] * 2, low=[hundred(depth=0.5, drop=0.4)] * 2
    )
    (found,) = compared(tmp_path, "fig1", numbers).values()
    assert move(found["κ: effective depth"]) == (1.0, 0.5, AGREES)
    assert move(found["ρ: OOD drop (svhn)"]) == (0.1, 0.4, AGREES)
    assert move(found["ρ: OOD drop (cifar10)"]) == (0.1, 0.4, UNCLAIMED)
    assert found["ρ: OOD drop (cifar10)"].measure.printed is None


def test_figures_judge_no_networks_at_chance(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred()] * 2, low=[hundred(), hundred(accuracy=0.012)])
    (found,) = compared(tmp_path, "fig7", numbers).values()
    assert {one.no_verdict and one.no_verdict.cause for one in found.values()} == {Cause.UNTRAINED}


def untrained(norms: dict[str, float]) -> Callable[[Job], Numbers]:
    return lambda job: Numbers(initial_norm=norms[job.model] * (1 + job.seed))


@pytest.mark.parametrize(
    ("norms", "lowest"),
    [
        ({"VGG-19": 0.02, "ResNet-18": 0.4, "ResNet-20": 0.8, "MLP": 0.01}, True),
        ({"VGG-19": 0.5, "ResNet-18": 0.4, "ResNet-20": 0.8}, False),
        ({"VGG-19": 0.5, "MLP": 1.0}, None),
        ({"ResNet-18": 0.5}, None),
    ],
)
def test_vgg_is_to_start_below_all_resnets(norms: dict[str, float], lowest: bool | None) -> None:
    assert starts_lowest(norms) is lowest


def test_initial_norms_are_medians_over_ten_seeds(tmp_path: Path) -> None:
    norms = {"vgg19": 0.02, "resnet18": 0.4, "resnet20": 0.8, "resnet34": 0.6, "mlp": 0.1}
    setup = setup_of(missing=("cifar100",))
    section = section_of(tmp_path, "fig8", untrained(norms), setup)
    (table,) = section.tables
    for network_name, norm in {"VGG-19": "0.11", "ResNet-34": "3.3"}.items():
        training, evaluation = row_of(table, "CIFAR-10", network_name)[1:]
        assert training.startswith(f"{norm} (")
        assert training.endswith(")")
        assert float(evaluation) > 0  # that of the template of all records
    assert "n = 10" in table.caption
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
    assert "γ = 0.001" in section.pictures[0].caption
    for k, peak in peaks.items():
        best = max((row for row in rows if row["k"] == k), key=lambda row: row["rank"])
        last = [row for row in rows if row["k"] == k][-1]
        assert last["rank"] < peak
        told = ["1", str(peak), f"{best['scale']:.3g}", str(last["rank"])]
        assert row_of(section.tables[0], str(k)) == told
    assert len(section.pictures) == 1


def test_figure_6_counts_ranks_at_the_threshold_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fig6, "SEEDS", 1)
    coarse = TARGETS["fig6"].compute(0.1)
    fine = {(row["k"], row["scale"]): row["high"] for row in computed("fig6")["rows"]}
    found = {(row["k"], row["scale"]): row["rank"] for row in coarse["rows"]}
    assert all(found[at] <= fine[at] for at in fine)
    assert max(found.values()) < max(fine.values())
    section = TARGETS["fig6"].section([], Results(tmp_path), coarse)
    assert "γ = 0.1," in section.pictures[0].caption
