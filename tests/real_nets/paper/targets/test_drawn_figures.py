"""Figures of hand-made records: what is drawn is what was measured."""

import numpy as np
import pytest

from rankdeficit.experiments.network_figures import during_training, when_trained
from rankdeficit.experiments.network_figures.when_trained import Generalisation
from rankdeficit.page.render import Image
from real_nets.paper.targets.fig6 import ScaledRank, softmax_of_random
from tests.real_nets.paper.targets.figure_records import (
    OF_RUNS,
    Draw,
    drawn,
    lines,
    pair,
    report,
    run,
    titles,
)


def test_norms_are_drawn_raw_and_divided_by_the_temperature() -> None:
    found = lines(drawn(during_training.logits_norm, pair()))
    assert list(found) == ["T = 1", "T = 50, raw", "T = 50, divided by T"]
    assert found["T = 50, raw"] == ([0, 1, 2], [101, 301, 501])
    epochs, norms = found["T = 50, divided by T"]
    assert epochs == [0, 0.5, 1, 2]
    assert norms == pytest.approx([2.02, 4.02, 6.02, 10.02])


def test_bands_are_the_range_over_seeds() -> None:
    (axes,) = drawn(during_training.alignment_and_collapse, pair()[:3]).axes[:1]
    (band,) = axes.collections
    ends = band.get_paths()[0].get_extents()
    assert [ends.x0, ends.x1] == [0, 2]
    assert [ends.y0, ends.y1] == pytest.approx([0, 0.82])
    assert lines(axes.get_figure())["T = 1"][1] == pytest.approx([0.01, 0.41, 0.81])  # type: ignore[arg-type]


def test_alignment_stands_above_rank_and_singular_values() -> None:
    figure = drawn(during_training.alignment_and_collapse, pair())
    assert titles(figure) == [
        "MLP on CIFAR-10\nT = 1",
        "MLP on CIFAR-10\nT = 50",
        "T = 1",
        "T = 50",
    ]
    assert lines(figure, 1)["T = 50"][0] == [0, 1, 2]
    assert lines(figure, 3)["rank"] == ([0, 1, 2], [2, 2, 2])  # the layer before the last
    values = lines(figure, 4)
    assert values["singular value 1"] == ([0, 1, 2], [5, 25, 45])
    assert values["singular value 5"][1] == [1, 21, 41]
    left, right = (axes for axes in figure.axes if axes.get_yscale() == "log")
    assert left.get_ylim() == right.get_ylim()


def test_singular_values_are_of_the_last_hidden_layer() -> None:
    own = run()
    for row in own.rows:
        row["layer_singular_values"] = [[100.0 * i + j for j in range(5, 0, -1)] for i in range(4)]
    values = lines(drawn(during_training.alignment_and_collapse, [own]), 2)
    for number, value in enumerate((205, 204, 203, 202, 201), start=1):
        assert values[f"singular value {number}"] == ([0, 0.5, 1, 2], [value] * 4)


def test_the_rank_is_that_of_the_threshold_asked_for() -> None:
    figure = during_training.alignment_and_collapse(pair(), gamma=0.01)
    assert figure is not None
    assert lines(figure, 2)["rank"][1] == [1, 1, 1]
    assert figure.axes[2].get_ylabel() == "rank of the last\nhidden layer, γ = 0.01"


def test_ranks_around_the_softmax_stand_beside_the_norm_and_neural_collapse() -> None:
    figure = drawn(during_training.ranks_around_softmax, pair())
    found = lines(figure, 1)
    assert found["rank of the raw logits"] == ([0, 1, 2], [1, 5, 9])
    assert found["rank of the class-centred logits"] == ([0, 0.5, 1, 2], [0, 2, 4, 8])
    assert found["rank after the softmax"] == ([0, 0.5, 1, 2], [2, 4, 6, 10])
    assert found["Neural Collapse, class-centred"][1] == [10, 10]
    assert lines(figure, 3)["logits norm (right)"][1] == [101, 301, 501]
    assert figure.axes[2].get_ylim() == figure.axes[3].get_ylim()


def test_probes_are_drawn_by_layer_with_effective_depth() -> None:
    figure = drawn(when_trained.probe_accuracies, pair())
    found = lines(figure, 1)
    assert found["ID"] == ([1, 2, 3, 4], [0.25, 0.5, 0.75, 1])
    assert found["OOD: svhn"][1] == pytest.approx([1.1 * (1 - i / 8) for i in (1, 2, 3, 4)])
    assert found["effective depth κ"][0] == [3, 3]
    assert titles(figure)[1] == "MLP on CIFAR-10\nT = 50, κ = 75.0%\nsvhn: ρ = 35.0%"


def test_the_rank_of_gradients_stands_beside_its_bound() -> None:
    found = lines(drawn(when_trained.layer_and_gradient_ranks, pair()))
    assert found["gradient of the loss"] == ([1, 2, 3, 4], [59, 58, 57, 56])
    assert found["layer's input"] == ([1, 2, 3, 4], [69, 68, 67, 66])


def test_alignments_by_layer_come_from_the_report_or_the_last_measurement() -> None:
    found = lines(drawn(when_trained.layer_alignments, [run(), run(50.0, report=None)]))
    assert found["T = 1"] == ([2, 3, 4], pytest.approx([0.04, 0.06, 0.08]))
    assert found["T = 50"] == ([2, 3, 4], pytest.approx([0.1, 0.2, 0.3]))


def test_ortho_dev_has_a_panel_per_ood_set_that_was_measured() -> None:
    figure = drawn(during_training.ortho_dev, pair())
    assert titles(figure) == ["MLP on CIFAR-10\nOOD: svhn"]
    assert lines(figure)["T = 50"] == ([0, 1, 2], pytest.approx([0.5, 0.46, 0.42]))


def test_the_rank_over_gamma_has_the_reports_own_threshold_too() -> None:
    found = lines(drawn(when_trained.rank_over_gamma, pair()))
    assert found["T = 1, raw"] == ([1e-4, 1e-3, 1e-2, 1e-1], [8, 6, 4, 2])
    assert found["T = 1, class-centred"] == ([1e-4, 1e-3, 1e-2, 1e-1], [7, 5, 3, 1])
    assert found["Neural Collapse, class-centred"][1] == [10, 10]


def test_untrained_networks_are_points_once_per_seed() -> None:
    start = [{"step": 0, "epoch": 0.0, "logits_norm": norm} for norm in (1.0, 2.0, 4.0, 8.0)]
    runs = [run(T, seed, rows=[start[seed]]) for T in (1.0, 50.0) for seed in range(3)]
    runs += [run(1.0, 3, network="VGG-19", rows=[start[3]]), run(1.0, 4, rows=[])]
    figure = drawn(during_training.initial_norms, runs)
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[1, 2, 4], [8]]  # type: ignore[union-attr]
    assert [bar.get_segments()[0][:, 1].tolist() for bar in axes.collections] == [[2, 2], [8, 8]]  # type: ignore[attr-defined]
    labels = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert labels == [["MLP", "on CIFAR-10", "n = 3"], ["VGG-19", "on CIFAR-10", "n = 1"]]


def test_untrained_networks_have_a_norm_in_each_mode() -> None:
    start = {"step": 0, "epoch": 0.0, "logits_norm": 2.0, "evaluation_logits_norm": 20.0}
    figure = drawn(during_training.initial_norms, [run(rows=[start])])
    (axes,) = figure.axes
    assert lines(figure) == {"training mode": ([0], [2]), "evaluation mode": ([0], [20])}
    assert axes.get_ylim() == (1, 40)


def test_the_trade_off_has_a_point_per_run_and_ood_set() -> None:
    runs = [run(), run(50.0, 1), run(50.0, 2, report=None)]
    points = when_trained.trade_off_points(runs)
    assert [(p.seed, p.ood, p.auroc) for p in points] == [
        (0, "svhn", 0.7),
        (1, "svhn", 0.7),
    ]
    assert points[1].ood_drop == pytest.approx(0.35)
    assert points[1].last_probe == pytest.approx(0.55)
    figure = when_trained.trade_off(runs, "last_probe", {"svhn": "Spearman's ρ = 0.5"})
    assert figure is not None
    (axes,) = figure.axes
    shown = [tuple(np.asarray(line.get_xydata())[0]) for line in axes.get_lines()[: len(points)]]
    assert shown == [(p.last_probe, p.auroc) for p in points]
    assert axes.get_title() == "OOD: svhn\nSpearman's ρ = 0.5"


@pytest.mark.parametrize(
    ("measure", "value", "label"),
    [
        ("ood_drop", 0.25, "OOD drop ρ"),
        ("last_probe", 0.5, "accuracy of the last layer's OOD probe"),
    ],
)
def test_the_axes_of_the_trade_off_say_what_they_show(
    measure: Generalisation, value: float, label: str
) -> None:
    figure = when_trained.trade_off([run()], measure)
    assert figure is not None
    (axes,) = figure.axes
    x, y = axes.get_lines()[0].get_data()
    assert (axes.get_xlabel(), list(x)) == (label, [pytest.approx(value)])
    assert (axes.get_ylabel(), list(y)) == ("AUROC of NECO", [pytest.approx(0.7)])
    forms = axes.xaxis.get_major_formatter(), axes.yaxis.get_major_formatter()
    assert [form(0.55) for form in forms] == ["55%", "55%"]


def test_the_trade_off_leaves_out_sets_that_lack_one_of_its_sides() -> None:
    detection = {"svhn": {"vim": {"auroc": 0.9}}}
    own = run(report=report(1.0, 0, 4) | {"detection": detection})
    assert when_trained.trade_off_points([own]) == []
    assert when_trained.trade_off([own]) is None


def test_random_matrices_are_drawn_in_the_order_of_their_scale() -> None:
    found = [
        ScaledRank(k, scale, k * scale, scale, 3 * scale) for scale in (10.0, 1.0) for k in (2, 1)
    ]
    figure = softmax_of_random(found)
    assert figure is not None
    assert lines(figure) == {"rank of M: 1": ([1, 10], [1, 10]), "rank of M: 2": ([1, 10], [2, 20])}
    assert softmax_of_random([]) is None


@pytest.mark.parametrize("draw", OF_RUNS)
def test_there_is_no_figure_of_nothing(draw: Draw) -> None:
    assert draw([]) is None
    assert draw([run(rows=[], report=None)]) is None
    bare = {"step": 8, "epoch": 2.0, "logits_norm": None, "ortho_dev": None, "layer_ranks": None}
    assert draw([run(rows=[bare, {"step": 9}], report=None)]) is None


@pytest.mark.parametrize("draw", OF_RUNS)
def test_reports_may_lack_every_measure_that_takes_time(draw: Draw) -> None:
    found = report(1.0, 0, 4) | {"effective_depth": None, "ood_drop": {}, "detection": {}}
    for one in found["layers"]:
        one |= dict.fromkeys(("alignment", "gradient", "input", "probe")) | {"ood_probes": {}}
    figure = draw([run(report=found)])
    unfounded = (
        when_trained.probe_accuracies,
        when_trained.layer_and_gradient_ranks,
        when_trained.trade_off,
    )
    assert (figure is None) == (draw in unfounded)


@pytest.mark.parametrize("draw", OF_RUNS)
def test_seeds_in_another_order_give_the_same_figure(draw: Draw) -> None:
    runs = pair()
    swapped = [runs[i] for i in (2, 0, 1, 5, 4, 3)]
    if draw is when_trained.trade_off:  # where points lie on each other the last one is seen
        runs, swapped = runs[:1], runs[:1]
    texts = [Image.of(drawn(draw, own)) for own in (runs, swapped)]
    assert texts[0] == texts[1]
