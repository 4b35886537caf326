"""Distances from a curve made by hand, and what is said of them."""

import math
from dataclasses import replace

import pytest

from rankdeficit.control.ruler import CURVE, Ruler, Trained, draw_ruler

TEMPERATURES = [
    Trained(CURVE, name, seed, norm, rank + seed, fitted=True)
    for seed in (0, 1)
    for name, norm, rank in (("T = 100", 0.01, 10.0), ("T = 1", 1.0, 30.0), ("T = 0.1", 10.0, 30.0))
]
"""Ranks between 10 and 30, linear in the logarithm of the norm; a rank more for the second seed."""


def others(name: str, norm: float | None, *ranks: float) -> list[Trained]:
    return [Trained("other", name, seed, norm, rank, True) for seed, rank in enumerate(ranks)]


def verdict(own: list[Trained]) -> str:
    *_, placed = Ruler.of([*TEMPERATURES, *own]).placed
    return placed.verdict


def test_distances_are_from_the_curve_of_the_same_seed() -> None:
    *_, placed = Ruler.of([*TEMPERATURES, *others("a", 0.1, 20.5, 20.0)]).placed
    assert placed.distances == pytest.approx([0.5, -1.0])
    assert placed.ranks == [20.5, 20]
    assert (placed.norm, placed.fitted, placed.runs) == (0.1, 2, 2)
    assert Ruler.of(TEMPERATURES).tolerance == pytest.approx(2)


@pytest.mark.parametrize(
    ("norm", "ranks", "expected"),
    [
        (0.1, (21.5, 20.0), "follows"),
        (0.1, (24.0, 26.0), "above"),
        (0.1, (17.0, 18.0), "below"),
        (0.1, (25.0, 21.0), "open"),
        (3.0, (30.0, 31.0), "ceiling"),
        (3.0, (20.0, 20.0), "below"),
        (0.001, (10.0, 10.0), "outside"),
        (None, (10.0, 10.0), "outside"),
    ],
)
def test_verdicts(norm: float | None, ranks: tuple[float, ...], expected: str) -> None:
    assert verdict(others("a", norm, *ranks)) == expected


def test_networks_that_do_not_fit_say_nothing() -> None:
    lost = [replace(own, fitted=False) for own in others("a", 0.1, 20.0, 20.0)]
    assert verdict(lost) == "not fitted"
    hot = [replace(own, fitted=own.name != "T = 100") for own in TEMPERATURES]
    ruler = Ruler.of([*hot, *others("a", 0.1, 20.0, 20.0)])
    assert ruler.placed[-1].verdict == "outside"
    assert [len(curve) for curve in ruler.curves.values()] == [2, 2]
    nothing = Ruler.of([replace(own, rank=None, fitted=False) for own in TEMPERATURES])
    assert {own.verdict for own in nothing.placed} == {"curve"}


def test_logits_that_start_at_zero_have_no_place_on_the_curve() -> None:
    zero = [replace(own, name="zero", norm=0.0) for own in TEMPERATURES[:1]]
    ruler = Ruler.of([*TEMPERATURES, *zero, *others("a", 0.0, 10.0, 10.0)])
    assert ruler.placed[-1].verdict == "outside"
    assert ruler.curves == Ruler.of(TEMPERATURES).curves


def test_sentences_and_figure_name_what_is_off_the_curve() -> None:
    ruler = Ruler.of(
        [*TEMPERATURES, *others("high", 0.1, 25.0, 26.0), *others("same", 0.1, 20.0, 21.0)]
    )
    (on, off) = ruler.sentences()
    assert ("same" in on, "high" in on, "high" in off) == (True, False, True)
    (axes,) = draw_ruler(ruler, "rank").axes
    assert [text.get_text() for text in axes.texts] == ["high"]
    curves = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in curves] == [[10, 30, 30], [11, 31, 31]]
    assert math.isclose(float(curves[0].get_xdata()[0]), 0.01)
