"""Checks of numbers that many settings share."""

import math

import pytest

from rankdeficit.checks import check_positive


def test_positive_numbers_and_sequences_pass() -> None:
    check_positive(lr=1e-300, scales=(0.5, 2), none=())


@pytest.mark.parametrize("wrong", [0, -1.0, math.inf, -math.inf, math.nan])
def test_the_wrong_number_is_named(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"lr is {wrong}; "):
        check_positive(width=1, lr=wrong)
    with pytest.raises(ValueError, match=f"scales is {wrong}; "):
        check_positive(scales=(1.0, wrong))
