"""Numbers as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankdeficit.page.numbers import (
    NOTHING,
    format_norm,
    format_percentage_points,
    format_pixels,
    format_rank,
    format_rank_difference,
    format_rate,
    format_share,
    format_spread,
)
from rankdeficit.page.page import TableCell


def n(count: int) -> str:
    return f"n = {count}".replace(" ", "\N{NO-BREAK SPACE}")


def test_each_kind_of_number_has_its_form() -> None:
    assert format_share(0.675) == "67.5%"
    assert format_share(0.675, 0) == "68%"
    assert format_rate(0.6366) == "63.66%"
    assert [format_rank(value) for value in (99, 99.0, 44.5, 0)] == [
        "99",
        "99",
        "44.5",
        "0",
    ]
    assert format_rank(1000) == "1,000"
    norms = {43.41: "43.4", 2034.0: "2,030", 999.7: "1,000", 105_432.0: "1.05e+05", 1e-12: "1e-12"}
    assert [format_norm(value) for value in norms] == list(norms.values())


def test_sizes_of_images_are_a_side_or_height_and_width() -> None:
    assert [format_pixels(size) for size in (32, (64, 64), [32, 48])] == [
        "32",
        "64",
        "32 x 48",
    ]


def test_spreads_are_medians_with_ranges_and_n() -> None:
    assert format_spread([0.68, 0.661, 0.673], format_share) == f"67.3% (66.1–68.0), {n(3)}"
    assert format_spread([45, 44], format_rank) == f"44.5 (44–45), {n(2)}"
    assert format_spread([0.1234, 0.5, 0.6366], format_rate) == f"50.00% (12.34–63.66), {n(3)}"


def test_a_range_that_is_not_seen_is_not_written() -> None:
    assert format_spread([9, 9, 9], format_rank) == "9"
    assert format_spread([0.5], format_share) == "50.0%"
    assert format_spread([0.50001, 0.50002], format_share) == "50.0%"
    assert format_spread([0.5, 0.5, 0.6], format_share) == f"50.0% (50.0–60.0), {n(3)}"


def test_values_that_are_none_do_not_count() -> None:
    assert format_spread([None, 0.5, math.nan, math.inf], format_share) == "50.0%"
    assert format_spread([], format_share) == NOTHING
    assert format_spread([None, math.nan], format_share) == NOTHING


def test_differences_have_their_sign() -> None:
    assert format_percentage_points(0.013) == "+1.3\N{NO-BREAK SPACE}pp"
    assert format_percentage_points(-0.1239, 2) == "−12.39\N{NO-BREAK SPACE}pp"
    assert [format_rank_difference(value) for value in (13, -40.5, 0)] == [
        "+13",
        "−40.5",
        "0",
    ]


def test_what_is_written_as_zero_has_none() -> None:
    assert format_percentage_points(-0.0004) == "0.0\N{NO-BREAK SPACE}pp"
    assert format_percentage_points(0.0004) == "0.0\N{NO-BREAK SPACE}pp"
    assert format_percentage_points(0.0004, 2) == "+0.04\N{NO-BREAK SPACE}pp"
    assert format_rank_difference(-0.0) == "0"


@given(st.floats(-1000, 1000))
def test_differences_are_antisymmetric_and_read_back(value: float) -> None:
    text = format_rank_difference(value)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.0501)
    assert format_rank_difference(-value) == text.translate(str.maketrans("+−", "−+"))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.permutations(range(9)))
def test_the_order_of_seeds_does_not_count(values: list[float], order: list[int]) -> None:
    shuffled: list[float | None] = [values[i] for i in order if i < len(values)]
    assert format_spread([*values], format_share) == format_spread(shuffled, format_share)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("67.3% (66.1–68.0), n = 3", ["67.3%", "(66.1–68.0)", "n = 3"]),
        (f"9 (8–10), {n(3)}", ["9", "(8–10)", n(3)]),
        ("9", ["9"]),
        ("−12.4\N{NO-BREAK SPACE}pp", ["−12.4\N{NO-BREAK SPACE}pp"]),
        ("2,030 (2,010–2,050), n = 3", ["2,030", "(2,010–2,050)", "n = 3"]),
        ("stalled (see note)", ["stalled (see note)"]),
        ("", [NOTHING]),
    ],
)
def test_cells_take_spreads_apart(text: str, parts: list[str]) -> None:
    assert TableCell(text, "measured").parts == parts
    assert TableCell(text).parts == [text or NOTHING]
