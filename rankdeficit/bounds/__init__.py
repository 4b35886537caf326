"""Bounds on the singular values and the rank of a softmax matrix; `report` has all of one matrix."""

from rankdeficit.bounds.reporting import Bound, BoundsReport, report
from rankdeficit.bounds.singular_values import (
    Interlacing,
    Interval,
    SingularGap,
    centred_interlacing,
    frobenius_slope,
    gap_bound,
    gap_bound_in_r,
    largest_singular_value,
    numerical_rank_bounds,
    refined_gap,
    singular_gap,
    smallest_singular_value,
)

__all__ = [
    "Bound",
    "BoundsReport",
    "Interlacing",
    "Interval",
    "SingularGap",
    "centred_interlacing",
    "frobenius_slope",
    "gap_bound",
    "gap_bound_in_r",
    "largest_singular_value",
    "numerical_rank_bounds",
    "refined_gap",
    "report",
    "singular_gap",
    "smallest_singular_value",
]
