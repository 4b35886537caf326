"""Counts out of a largest one, ranks or layers, on the logit scale, where the regression is done."""

import numpy as np
from jaxtyping import Float64

Numbers = Float64[np.ndarray, " n"] | float | int


def to_logit(count: Numbers, most: Numbers) -> Float64[np.ndarray, "*n"]:
    """ln((r + 1/2) / (m - r + 1/2)) of counts r in 0..m; finite at both ends."""
    r, m = np.asarray(count, float), np.asarray(most, float)
    return np.asarray(np.log((r + 0.5) / (m - r + 0.5)))


def from_logit(value: Numbers, most: Numbers) -> Float64[np.ndarray, "*n"]:
    """The count (not rounded) in [0, m] with this logit."""
    m = np.asarray(most, float)
    share = 0.5 * (1 + np.tanh(np.asarray(value, float) / 2))  # no overflow
    return np.asarray(np.clip((m + 1) * share - 0.5, 0.0, m))
