"""Figures: tick labels, and a look that does not depend on the user's matplotlib."""

import io
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from rankdeficit.experiments import figure_style, plots


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (1, "1"), (0.01, "0.01"), (2000, "2000"), (1e-5, "1e-5"), (1e6, "1e6"), (-10, "-10"),
     (3e-7, "3e-7"), (100_000, "100000")],
)  # fmt: skip
def test_plain_numbers(value: float, label: str) -> None:
    assert figure_style.plain_number(value) == label


@given(st.floats(1e-30, 1e30), st.booleans())
def test_plain_numbers_say_the_value(value: float, negative: bool) -> None:
    signed = -value if negative else value
    assert float(figure_style.plain_number(signed)) == pytest.approx(signed, rel=1e-5)


def labels(axes: Axes, name: str) -> list[str]:
    """All tick labels of a drawn axis."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[name]
    axes.figure.savefig(io.BytesIO(), format="png")
    found = axis.get_ticklabels(which="both")
    low, high = axis.get_view_interval()
    return [
        t.get_text() for t in found if t.get_text() and low <= t.get_position()[name == "y"] <= high
    ]


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize(("low", "high"), [(0.5, 2e4), (2.0, 9.0), (1e-7, 1e7)])
def test_log_axes_have_plain_labels_however_far_they_reach(
    name: str, low: float, high: float
) -> None:
    axes = Figure().subplots()
    axes.set(**{f"{name}lim": (low, high)})
    figure_style.set_log_scale(axes, name)
    assert {axes.get_xscale(), axes.get_yscale()} == {"log", "linear"}
    shown = labels(axes, name)
    assert len(shown) >= 2
    assert not any("$" in label for label in shown)
    assert all(low <= float(label) <= high for label in shown)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (2, 60, "2 5 10 20 50"),
        (0.7, 60, "1 2 5 10 20 50"),
        (18, 65, "20 30 40 60"),
        (1, 1e3, "1 10 100 1000"),
    ],
)
def test_log_axes_of_few_decades_have_more_labels(low: float, high: float, expected: str) -> None:
    axes = Figure().subplots()
    axes.set_ylim(low, high)
    figure_style.set_log_scale(axes, "y")
    assert sorted(labels(axes, "y"), key=float) == expected.split()


def test_ranks_have_plain_labels_from_zero_on() -> None:
    axes = Figure().subplots()
    figure_style.set_rank_scale(axes)
    axes.set_ylim(0, 60)
    figure_style.with_legend_below(axes.figure, 1)  # type: ignore[arg-type]
    assert sorted(labels(axes, "y"), key=float) == "0 1 2 5 10 20 50".split()


def test_steps_have_plain_labels_too() -> None:
    axes = Figure().subplots()
    axes.plot([0, 1, 1000], [1, 2, 3])
    figure_style.set_clock_scale(axes, "step")
    assert {"0", "1", "100"} <= set(labels(axes, "x"))


def drawn(path: Path) -> np.ndarray:
    """The pixels of a figure as commands make and save it."""
    with figure_style.default_style():
        figure = Figure()
        figure.subplots().plot([1, 2, 4], label="a line")
        figure_style.save(figure_style.with_legend_below(figure, 1), path)
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_user_s_style_changes_no_pixel_and_comes_back(tmp_path: Path) -> None:
    usual = drawn(tmp_path / "usual.png")
    own = {
        "lines.linewidth": 9.0,
        "axes.facecolor": "red",
        "savefig.bbox": "tight",
        "font.size": 20.0,
    }
    with matplotlib.rc_context(own):
        assert np.array_equal(drawn(tmp_path / "own.png"), usual)
        assert {name: matplotlib.rcParams[name] for name in own} == own


@pytest.mark.parametrize(("count", "rows", "columns"), [(2, 1, 2), (5, 1, 5), (6, 2, 3), (9, 2, 5)])
def test_many_temperatures_are_in_several_rows(count: int, rows: int, columns: int) -> None:
    found = [
        {"temperature": 2.0**i, "depth": depth, "step": step}
        | {"rank": 3, "post_softmax_rank": 4, "logits_norm": 2.0}
        for i in range(count)
        for depth in (2, 4)
        for step in (0, 1, 10)
    ]
    figure = plots.ranks_over_training(found, 10, 9, "step", "depth")
    shown = [axes for axes in figure.axes if axes.get_title()]
    titles = [f"T = {2**i}, depth {depth}" for depth in (2, 4) for i in range(count)]
    assert [axes.get_title() for axes in shown] == titles
    geometry = shown[0].get_subplotspec().get_gridspec().get_geometry()  # type: ignore[union-attr]
    assert geometry == (2 * rows, columns)


def test_the_temperature_one_has_its_own_colour_and_others_follow_log_t() -> None:
    colours = [figure_style.temperature_colour(T) for T in (0.1, 1, 2, 10, 100, 1000)]
    assert len(set(colours)) == 6
    assert figure_style.temperature_colour(1000) == figure_style.temperature_colour(5000)


@pytest.mark.parametrize("panels", [2, 4, 7])
def test_titles_wider_than_their_panel_are_broken_between_words(panels: int) -> None:
    figure = Figure(figsize=(9, 3))
    for axes in figure.subplots(1, panels):
        axes.plot([1, 2], [1000, 2000], label="a line")
        axes.set_ylabel("a label")
        axes.set_title("T = 1\nResNet-18 on CIFAR-100, OOD set: street characters")
    figure_style.with_legend_below(figure, 1).draw_without_rendering()
    extents = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(extents))
    assert {len(axes.get_title().split()) for axes in figure.axes} == {10}
    assert {axes.get_title().split("\n")[0] for axes in figure.axes} == {"T = 1"}


def test_a_formula_in_a_title_stays_whole_and_a_user_s_dollars_are_no_formula() -> None:
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    axes.plot([1, 2], label="costs 5 $ or $ 6 _ {")
    axes.set_title("the logits norm, which is $\\|M\\|_F / \\sqrt{n}$ of all of the images")
    figure_style.with_legend_below(figure, 2).draw_without_rendering()
    assert "\n" not in axes.get_title()
