"""Where the rank halves, and its figure over temperature."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.experiments.over_temperature import (
    halving_sentences,
    halving_temperature,
    halvings,
    rank_over_temperature,
)

Row = dict[str, Any]


def runs(**ranks: list[float | None]) -> list[Row]:
    """Of depth 3 at T = 1, 10, 100, one per seed; ranks of other kinds are 9 everywhere."""
    return [
        {"depth": 3, "temperature": T, "seed": seed}
        | {"centred_rank": None if rank is None else 9.0, "post_softmax_rank": 9.0, "rank": rank}
        for T, found in zip((1.0, 10.0, 100.0), ranks.values(), strict=True)
        for seed, rank in enumerate(found)
    ]


@given(st.floats(0.5, 5), st.floats(10, 1000), st.floats(2, 8))
def test_a_rank_that_is_linear_in_log_temperature_halves_where_the_line_says(
    low: float, factor: float, slope: float
) -> None:
    """r = 100 - slope * log2(T / low) is 50 at T = low * 2^(50 / slope), whatever points are known."""
    halved = low * 2 ** (50 / slope)
    temperatures = [low, low * factor**0.5, halved / 1.5, halved * factor]
    temperatures = sorted(set(temperatures))
    ranks = [100 - slope * math.log2(T / low) for T in temperatures]
    assert halving_temperature(temperatures, ranks) == pytest.approx(halved, rel=1e-9)


def test_a_temperature_of_the_sweep_can_be_the_one() -> None:
    assert halving_temperature([1, 10, 100], [8, 4, 2]) == pytest.approx(10)


def test_a_rank_that_stays_above_half_has_none() -> None:
    assert halving_temperature([1, 10, 100], [8, 5, 4.1]) is None
    assert halving_temperature([1], [8]) is None
    assert halving_temperature([1, 10], [0, 0]) is None


@pytest.mark.parametrize(
    ("temperatures", "ranks", "name"),
    [([1, 10], [3], "ranks"), ([], [], "ranks"), ([10, 1], [3, 2], "temperatures"),
     ([0, 1], [3, 2], "temperatures"), ([1, 1], [3, 2], "temperatures")],
)  # fmt: skip
def test_what_is_no_sweep_is_refused(
    temperatures: list[float], ranks: list[float], name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        halving_temperature(temperatures, ranks)


def test_medians_over_seeds_count_and_diverged_runs_do_not() -> None:
    found = halvings(runs(cold=[8, 8, 90], hot=[4, 4, 4], hottest=[None, 1, 1]))
    by_kind = {one["kind"]: one for one in found}
    assert {one["depth"] for one in found} == {3}
    assert (by_kind["rank"]["rank"], by_kind["rank"]["temperature"]) == (8, pytest.approx(10))
    assert by_kind["centred_rank"]["temperature"] is None
    (sentence,) = halving_sentences(found, 100)
    assert "T = 10 (raw)" in sentence
    assert "T > 100 (after the softmax)" in sentence


def test_the_figure_has_a_panel_per_depth_and_a_curve_per_kind() -> None:
    own = runs(cold=[8, 8], hot=[4, 6], hottest=[2, 2])
    figure = rank_over_temperature([*own, *({**run, "depth": 5} for run in own)], 7, 1e-3)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["depth 3", "depth 5"]
    for axes in figure.axes:
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert list(lines["rank, raw"].get_xdata()) == [1, 10, 100]
        assert list(lines["rank, raw"].get_ydata()) == [8, 5, 2]
        assert list(lines["rank, after the softmax"].get_ydata()) == [9, 9, 9]
        (halved,) = (line for label, line in lines.items() if "half" in label)
        assert halved.get_xdata()[0] == pytest.approx(10 ** (1 + 1 / 3))  # type: ignore[index]
        assert lines["Neural Collapse: 7"].get_linestyle() == "--"
        assert axes.get_xscale() == "log"
    assert rank_over_temperature(own[:2], 7, 1e-3) is None
