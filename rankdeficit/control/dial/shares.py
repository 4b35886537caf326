"""Counts out of a largest one, ranks or layers, on the logit scale, where the regression is done."""

import numpy as np
from jaxtyping import Float


def to_logit(count: Float[np.ndarray, "*n"] | float, most: Float[np.ndarray, "*n"] | float) -> np.ndarray:
    """ln((r + 1/2) / (m - r + 1/2)) of counts r in 0..m; finite at both ends."""
    count, most = np.asarray(count, float), np.asarray(most, float)
    return np.log((count + 0.5) / (most - count + 0.5))


def from_logit(value: Float[np.ndarray, "*n"] | float, most: Float[np.ndarray, "*n"] | float) -> np.ndarray:
    """The count (not rounded) in [0, m] with this logit."""
    value, most = np.asarray(value, float), np.asarray(most, float)
    share = 0.5 * (1 + np.tanh(value / 2))  # no overflow
    return np.clip((most + 1) * share - 0.5, 0.0, most)
