"""Layout of figures: nothing is cut off or touches something else; panels, colours, names."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rankdeficit.experiments import panels
from rankdeficit.experiments.network_figures import during_training, when_trained
from rankdeficit.experiments.network_figures import runs as of_runs
from tests.real_nets.paper.targets.figure_records import (
    OF_RUNS,
    Draw,
    Row,
    drawn,
    lines,
    pair,
    report,
    run,
    titles,
)


@pytest.mark.parametrize("large", [1, 10])
@pytest.mark.parametrize("draw", OF_RUNS)
def test_everything_drawn_lies_within_its_panel(draw: Draw, large: int) -> None:
    runs = [
        run(T, layers=layers, network=f"ResNet-{layers}") for layers in (8, 50) for T in (1.0, 10.0)
    ]
    for own in runs:
        if own.temperature == large and own.layers == 8:  # one panel of a row
            for found in (own.report or {})["layers"]:
                found["gradient"], found["input"] = {"rank": 500}, {"rank": 600}
            for row in own.rows:
                row["post_softmax_rank"], row["layer_ranks"] = 700, {"0.001": [800] * 8}
    for axes in drawn(draw, runs).axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for line in axes.get_lines():
            x, y = (np.asarray(values, dtype=float) for values in line.get_data())
            assert np.all((y >= bottom) & (y <= top))
            if len(x) > 2:
                assert np.all((x >= left) & (x <= right))


@pytest.mark.parametrize("draw", OF_RUNS)
def test_no_text_and_no_legend_is_cut_off(draw: Draw) -> None:
    for temperatures in ((1.0, 50.0), (1.0, 50.0, 200.0)):
        figure = drawn(draw, [run(T) for T in temperatures])
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= width and box.y1 <= height  # noqa: PT018


def test_titles_of_three_panels_do_not_touch() -> None:
    found = report(1.0, 0, 4)
    names = ("cifar10", "cifar100", "street-characters")
    for own in (found["ood_drop"], found["detection"]):
        own |= dict.fromkeys(names, own.pop("svhn"))
    for one in found["layers"]:
        one["ood_probes"] = dict.fromkeys(names, one["ood_probes"]["svhn"])
    text = "Spearman's correlation -0.89\np = 0.033, n = 12"
    figure = when_trained.trade_off([run(report=found)], correlations=dict.fromkeys(names, text))
    assert figure is not None
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[-1].x1 <= figure.bbox.width


def test_networks_have_panels_of_their_own() -> None:
    runs = [*pair(), *pair(network="VGG-19", layers=6)]
    assert titles(drawn(during_training.logits_norm, runs)) == [
        "MLP on CIFAR-10",
        "VGG-19 on CIFAR-10",
    ]
    figure = drawn(when_trained.layer_and_gradient_ranks, [*runs[:6], *runs[9:]])
    names = [title.replace("\n", ", ") for title in titles(figure)]
    assert names == [
        "MLP on CIFAR-10, T = 1", "MLP on CIFAR-10, T = 50", "VGG-19 on CIFAR-10, T = 50"
    ]  # fmt: skip
    assert len(lines(figure, 2)["layer's input"][0]) == 6


def test_networks_of_other_images_or_recipes_are_no_seeds_of_each_other() -> None:
    small = {"image_size": [32, 32], "epochs": 10, "ood": []}
    large = {"image_size": [64, 64], "epochs": 20, "ood": ["svhn"]}
    runs = [*pair(options=small), *pair(options=large)]
    sides = ["MLP on CIFAR-10, 32 px", "MLP on CIFAR-10, 64 px"]
    assert titles(drawn(during_training.logits_norm, runs)) == sides
    columns = titles(drawn(during_training.ranks_around_softmax, runs))
    assert columns == [f"{side}\nT = {T}" for side in sides for T in (1, 50)]
    assert {point.network for point in when_trained.trade_off_points(runs)} == {*sides}
    legend = [
        text.get_text() for text in drawn(when_trained.trade_off, runs).legends[0].get_texts()
    ]
    assert legend == ["T = 1", "T = 50", *sides]
    (axes,) = drawn(during_training.initial_norms, runs).axes
    labels = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert labels == [["MLP", f"on CIFAR-10, {size} px", "n = 6"] for size in (32, 64)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([{"image_size": None}, {"image_size": [32, 48]}], ["image size none", "32 x 48 px"]),
        ([{"width": 8}, {"width": None}], ["width 8", "width none"]),
        ([{"nesterov": True}, {"nesterov": False}], ["nesterov yes", "nesterov no"]),
        ([{"ood": ["a", "b"]}, {"ood": []}], ["ood a b", "ood none"]),
        (
            [{"image_size": 32, "lr": 0.1}, {"image_size": 64, "lr": 0.1}, {"image_size": 64}],
            ["32 px, lr 0.1", "64 px, lr 0.1", "64 px, lr none"],
        ),
    ],
)
def test_as_few_options_are_told_as_tell_networks_apart(
    options: list[Row], told: list[str]
) -> None:
    runs = [run(options=own | {"epochs": 3}) for own in options]
    assert list(of_runs.cases(runs).values()) == [f"MLP on CIFAR-10, {own}" for own in told]


def test_temperatures_differ_in_lightness_and_in_markers() -> None:
    looks = panels.looks((1.0, 5.0, 30.0, 100.0, 1000.0)).values()
    lightness = [np.dot((0.2126, 0.7152, 0.0722), to_rgb(look.colour)) for look in looks]
    assert all(b - a > 0.05 for a, b in pairwise(lightness))
    assert all(a.marker != b.marker for a, b in combinations(looks, 2))


@pytest.mark.parametrize(
    "draw", [during_training.logits_norm, when_trained.rank_over_gamma, during_training.ortho_dev]
)
def test_a_temperature_has_one_colour_in_every_figure(draw: Draw) -> None:
    """Whatever the other temperatures of a figure are."""

    def colours(*temperatures: float) -> dict[str, object]:
        figure = drawn(draw, [run(T) for T in temperatures])
        lines = [line for axes in figure.axes for line in axes.get_lines()]
        return {str(line.get_label()).split(",")[0]: line.get_color() for line in lines}

    few, many = colours(1.0, 50.0), colours(1.0, 10.0, 50.0, 100.0)
    assert {few[f"T = {T}"] == many[f"T = {T}"] for T in (1, 50)} == {True}
    assert len({many[f"T = {T}"] for T in (1, 10, 50, 100)}) == 4


def test_logarithmic_axes_have_plain_numbers_and_legends_the_order_of_temperatures() -> None:
    runs = [*pair(), run(10.0, network="VGG-19")]
    figure = drawn(when_trained.rank_over_gamma, runs)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.split(",")[0] for label in legend[::2]] == [
        "T = 1", "T = 10", "T = 50", "Neural Collapse",
    ]  # fmt: skip
    (axes, _) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_major_formatter()(0.01, 0) == "0.01"


@pytest.mark.parametrize("draw", OF_RUNS)
def test_titles_and_names_of_many_networks_do_not_touch(draw: Draw) -> None:
    networks = [
        {"network": f"{name} of width 16", "data": data}
        for name in ("ResNet-18", "VGG-19")
        for data in ("CIFAR-100", "Tiny ImageNet-100")
    ]
    figure = drawn(draw, [run(T, **own) for own in networks for T in (1.0, 50.0)])
    figure.draw_without_rendering()
    texts = [own.title for own in figure.axes if own.get_title()]
    for own in figure.axes:
        texts += [name for name in own.get_xticklabels() if "\n" in name.get_text()]
    for one, other in combinations([text.get_window_extent() for text in texts], 2):
        assert not one.overlaps(other)
