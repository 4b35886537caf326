"""Verdicts on figures, from networks whose measurements are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.jobs.records import JobSettings
from real_nets.paper.chance import Side
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell
from real_nets.paper.targets import TARGETS, figure_moves
from tests.real_nets.fabricated import BEYOND, by_seed, hundred, section_of, setup_of

Row = dict[str, Any]

MOVES = {
    "fig1": figure_moves.probes,
    "fig2": figure_moves.norms,
    "fig3": figure_moves.collapse,
    "fig4": figure_moves.gradients,
    "fig5": figure_moves.around_softmax,
    "fig7": figure_moves.ortho_dev,
}


SINGLE = ", judged by a single seed"


def outcome(
    rows: list[Row], layers: list[Row] | None = None, classes: int = 10, ood: str = "svhn"
) -> JobFolder:
    """A network of these measurements, and of these layers in its report."""
    found = JobFolder(Path("nowhere"))
    vars(found).update(  # as if read
        settings=JobSettings(Job(data="cifar10", ood=(ood,)), {}, None),
        summary={"classes": classes, "layers": layers or []},
        rows=rows,
        report=None if layers is None else {"layers": layers},
        image_size=(32, 32),
    )
    return found


def sides(cold: list[JobFolder], hot: list[JobFolder]) -> tuple[Side, Side]:
    cell = Cell("CIFAR-10", "MLP", BASELINE, "cifar10", 1.0, ())
    return (cell, cold), (Cell("CIFAR-10", "MLP", LOW_NORM, "cifar10", 50.0, ()), hot)


def traced(name: str, values: dict[float, Any]) -> JobFolder:
    return outcome([{"epoch": epoch, name: value} for epoch, value in values.items()])


def test_growth_is_counted_from_the_untrained_network_in_the_first_epoch_and_in_all() -> None:
    cold = [traced("logits_norm", {0.0: 2.0, 0.5: 3.0, 1.0: 4.0, 2.0: 8.0}) for _ in range(2)]
    hot = [traced("logits_norm", {0.0: 2.0, 1.0: 3000.0, 2.0: 6000.0}) for _ in range(2)]
    assert figure_moves.norms(*sides(cold, hot)) == [
        f"the growth of the norm in the first epoch rises{BEYOND} (x 2 to x 1,500), as in the paper",
        f"the growth of the norm in all rises{BEYOND} (x 4 to x 3,000), as in the paper",
    ]
    assert figure_moves.norms(*sides(hot, cold))[1] == (
        f"the growth of the norm in all falls{BEYOND} (x 3,000 to x 4), in the paper it rises"
    )
    assert figure_moves.norms(*sides([traced("logits_norm", {0.0: 2.0})], hot)) == [None, None]
    assert figure_moves.norms(*sides([traced("logits_norm", {0.0: 0.0, 1.0: 1.0})], hot))[0] is None


def collapsing(alignments: dict[float, float], rank: int, top: float) -> JobFolder:
    """Ranks and singular values of the last row count, of what the last of three layers reads."""
    rows = [{"epoch": epoch, "alignment": value} for epoch, value in alignments.items()]
    rows[-1] |= {
        "layer_ranks": {"0.001": [999, rank, 10], "0.01": [1, 1, 1]},
        "layer_singular_values": [[9e9, 1.0], [top, 1.0], [9e9, 1.0]],
    }
    return outcome(rows)


def test_collapse_is_of_early_alignment_and_of_the_last_hidden_layer() -> None:
    cold = [collapsing({0.0: 0.9, 1.0: 0.2, 5.0: 0.3, 6.0: 0.8}, 500, 100.0)]
    hot = [collapsing({0.0: 0.1, 1.0: 0.95, 5.0: 0.3, 6.0: 0.2}, 40, 2000.0)]
    assert figure_moves.collapse(*sides(cold, hot)) == [
        f"the highest alignment of the first 5 epochs rises{SINGLE} (0.90 to 0.95), as in the paper",
        f"the rank of the last hidden layer (γ = 0.001) falls{SINGLE} (500 to 40), as in the paper",
        f"its largest singular value rises{SINGLE} (100 to 2,000), as in the paper",
    ]
    empty = [outcome([])]
    assert figure_moves.collapse(*sides(empty, hot)) == [None, None, None]


def layered(inputs: list[int], gradients: list[int | None]) -> JobFolder:
    layers = [
        {"input": {"rank": own}, "gradient": gradient and {"rank": gradient}}
        for own, gradient in zip(inputs, gradients, strict=True)
    ]
    return outcome([], layers)


def test_gradients_are_judged_over_the_deeper_half_and_against_their_bound() -> None:
    cold = [layered([900, 900, 100, 200, 300], [900, 900, 40, 50, 60])]
    hot = [layered([1, 1, 10, 20, 30], [1, 1, 4, 5, 6])]
    assert figure_moves.gradients(*sides(cold, hot)) == [
        f"the mean rank of the inputs in the deeper half falls{SINGLE} (200 to 20), as in the paper",
        f"the mean rank of the gradients in the deeper half falls{SINGLE} (50 to 5), as in the paper",
        "no gradient's rank exceeds that of its layer's input, as in the paper",
    ]
    above = [layered([1, 1, 10, 20], [1, 2, 4, None])]
    assert figure_moves.gradients(*sides(cold, above))[2] == (
        "1 of 8 gradients exceed the rank of their layer's input, in the paper none"
    )
    assert figure_moves.gradients(*sides([outcome([])], [outcome([])])) == [None, None, None]


@pytest.mark.parametrize(("classes", "agrees"), [(10, ""), (100, ", as in the paper")])
def test_ranks_around_the_softmax_are_judged_by_their_gap(classes: int, agrees: str) -> None:
    def network(ranks: list[int], after: list[int]) -> JobFolder:
        rows = [
            {"epoch": float(epoch), "rank": rank, "post_softmax_rank": own}
            for epoch, (rank, own) in enumerate(zip(ranks, after, strict=True))
        ]
        return outcome(rows, classes=classes)

    cold = [network([90, 95, 99, 99], [1, 50, 94, 100])]  # 94 is below 95 % of 100
    hot = [network([90, 40, 30, 40], [1, 95, 96, 100])]
    assert figure_moves.around_softmax(*sides(cold, hot)) == [
        f"the rank after the softmax less that before rises{SINGLE} (1 to 60){agrees}",
        f"the epoch at which the former saturates falls{SINGLE} (3 to 1)",
    ]


def test_ortho_dev_is_that_of_the_last_measurement() -> None:
    cold = [traced("ortho_dev", {0.0: {"svhn": 0.1}, 1.0: {"svhn": 0.8}}) for _ in range(3)]
    hot = [traced("ortho_dev", {0.0: {"svhn": 0.9}, 1.0: {"svhn": 0.4}}) for _ in range(3)]
    assert figure_moves.ortho_dev(*sides(cold, hot)) == [
        f"OrthoDev (svhn) falls{BEYOND} (0.800 to 0.400), as in the paper"
    ]


def test_the_section_of_figure_1_judges_depth_and_every_ood_set(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=1.0, drop=0.1)] * 2, low=[hundred(depth=0.5, drop=0.4)] * 2
    )
    section = section_of(tmp_path, "fig1", numbers)
    text = section.paragraphs[1]
    assert text.startswith(
        "ResNet-34 on CIFAR-100: κ falls beyond the spread of seeds (100.0% to 50"
    )
    assert text.count("rises beyond the spread of seeds (10.0% to 40.0%), as in the paper") == 2


@pytest.mark.parametrize(("name", "moves"), MOVES.items())
def test_every_figure_has_its_own_moves(name: str, moves: Callable[..., Any]) -> None:
    assert type(TARGETS[name]).moves is moves  # type: ignore[attr-defined]


def test_figures_judge_no_networks_at_chance(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred()] * 2, low=[hundred(), hundred(accuracy=0.012)])
    section = section_of(tmp_path, "fig7", numbers, setup_of())
    assert len(section.paragraphs) == 2
    assert "no verdict, as networks did not leave their start" in section.paragraphs[1]


def test_figures_of_one_side_alone_are_shown_without_verdict(tmp_path: Path) -> None:
    section = section_of(tmp_path, "fig7", by_seed(baseline=[hundred()] * 2))
    assert len(section.paragraphs) == 1
    assert len(section.pictures) == 1
