"""Numbers as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.page import numbers
from rankdeficit.page.page import TableCell


def n(count: int) -> str:
    return f"n = {count}".replace(" ", "\N{NO-BREAK SPACE}")


def test_each_kind_of_number_has_its_form() -> None:
    assert numbers.share(0.675) == "67.5%"
    assert numbers.share(0.675, 0) == "68%"
    assert numbers.rate(0.6366) == "63.66%"
    assert [numbers.rank(value) for value in (99, 99.0, 44.5, 0)] == ["99", "99", "44.5", "0"]
    assert numbers.rank(1000) == "1000"
    norms = {43.41: "43.4", 2034.0: "2,030", 999.7: "1,000", 105_432.0: "1.05e+05", 1e-12: "1e-12"}
    assert [numbers.norm(value) for value in norms] == list(norms.values())


def test_sizes_of_images_are_a_side_or_height_and_width() -> None:
    assert [numbers.pixels(size) for size in (32, (64, 64), [32, 48])] == ["32", "64", "32 x 48"]


def test_spreads_are_medians_with_ranges_and_n() -> None:
    assert numbers.spread([0.68, 0.661, 0.673], numbers.share) == f"67.3% (66.1–68.0), {n(3)}"
    assert numbers.spread([45, 44], numbers.rank) == f"44.5 (44–45), {n(2)}"
    assert numbers.spread([0.1234, 0.5, 0.6366], numbers.rate) == f"50.00% (12.34–63.66), {n(3)}"


def test_a_range_that_is_not_seen_is_not_written() -> None:
    assert numbers.spread([9, 9, 9], numbers.rank) == "9"
    assert numbers.spread([0.5], numbers.share) == "50.0%"
    assert numbers.spread([0.50001, 0.50002], numbers.share) == "50.0%"
    assert numbers.spread([0.5, 0.5, 0.6], numbers.share) == f"50.0% (50.0–60.0), {n(3)}"


def test_values_that_are_none_do_not_count() -> None:
    assert numbers.spread([None, 0.5, math.nan, math.inf], numbers.share) == "50.0%"
    assert numbers.spread([], numbers.share) == numbers.NOTHING
    assert numbers.spread([None, math.nan], numbers.share) == numbers.NOTHING


def test_differences_have_their_sign() -> None:
    assert numbers.percentage_points(0.013) == "+1.3\N{NO-BREAK SPACE}pp"
    assert numbers.percentage_points(-0.1239, 2) == "−12.39\N{NO-BREAK SPACE}pp"
    assert [numbers.ranks(value) for value in (13, -40.5, 0)] == ["+13", "−40.5", "0"]


def test_what_is_written_as_zero_has_none() -> None:
    assert numbers.percentage_points(-0.0004) == "0.0\N{NO-BREAK SPACE}pp"
    assert numbers.percentage_points(0.0004) == "0.0\N{NO-BREAK SPACE}pp"
    assert numbers.percentage_points(0.0004, 2) == "+0.04\N{NO-BREAK SPACE}pp"
    assert numbers.ranks(-0.0) == "0"


@given(st.floats(-1000, 1000))
def test_differences_are_antisymmetric_and_read_back(value: float) -> None:
    text = numbers.ranks(value)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.0501)
    assert numbers.ranks(-value) == text.translate(str.maketrans("+−", "−+"))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.permutations(range(9)))
def test_the_order_of_seeds_does_not_count(values: list[float], order: list[int]) -> None:
    shuffled: list[float | None] = [values[i] for i in order if i < len(values)]
    assert numbers.spread([*values], numbers.share) == numbers.spread(shuffled, numbers.share)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("67.3% (66.1–68.0), n = 3", ["67.3%", "(66.1–68.0)", "n = 3"]),
        (f"9 (8–10), {n(3)}", ["9", "(8–10)", n(3)]),
        ("9", ["9"]),
        ("−12.4\N{NO-BREAK SPACE}pp", ["−12.4\N{NO-BREAK SPACE}pp"]),
        ("2,030 (2,010–2,050), n = 3", ["2,030", "(2,010–2,050)", "n = 3"]),
        ("stalled (see note)", ["stalled (see note)"]),
        ("", [numbers.NOTHING]),
    ],
)
def test_cells_take_spreads_apart(text: str, parts: list[str]) -> None:
    assert TableCell(text, "measured").parts == parts
    assert TableCell(text).parts == [text or numbers.NOTHING]
