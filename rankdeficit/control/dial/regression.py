"""Ridge regression on standardised numbers, their squares and products."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

FARTHEST = 3.0
"""Largest magnitude of standardised numbers, to which others are clipped: squares would run away."""

REWEIGHTINGS = 6
LEAST_RESIDUAL = 0.05
"""Residuals below this count as this large in the weights of a median."""

Matrix = Float64[np.ndarray, "n features"]
Vector = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class Ridge:
    """y = intercept + sum_j coefficients_j z_j, with z the terms of the standardised numbers."""

    mean: Float64[np.ndarray, " features"]
    scale: Float64[np.ndarray, " features"]
    quadratic: bool
    intercept: float
    coefficients: Float64[np.ndarray, " terms"]

    @classmethod
    def fit(
        cls, x: Matrix, y: Vector, weights: Vector, *, penalty: float, quadratic: bool
    ) -> "Ridge":
        """Minimise the weighted mean of (y - prediction)^2, plus penalty ||coefficients||^2.

        Constant numbers take no part. Raises ValueError for NaN, and for fewer than two rows.
        """
        if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError(
                f"the fit has {len(x)} rows with finite numbers or not; give two or more, all finite"
            )
        w = weights / weights.sum()
        mean = x.mean(axis=0)
        deviation = x.std(axis=0)
        scale = np.where(deviation > 1e-9 * (1 + abs(mean)), deviation, np.inf)
        z = _terms(x, mean, scale, quadratic)
        centre, middle = w @ z, float(w @ y)
        centred = z - centre
        gram = centred.T @ (w[:, None] * centred)
        found = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ (w * (y - middle)))
        return cls(mean, scale, quadratic, middle - float(centre @ found), found)

    @classmethod
    def fit_median(
        cls, x: Matrix, y: Vector, weights: Vector, *, penalty: float, quadratic: bool
    ) -> "Ridge":
        """The same with |y - prediction| in place of its square, by iteratively reweighted least squares.

        The penalty is relative to squares, as in `fit`.
        """
        found = cls.fit(x, y, weights, penalty=penalty, quadratic=quadratic)
        for _ in range(REWEIGHTINGS):
            near = weights / np.maximum(abs(y - found(x)), LEAST_RESIDUAL)
            found = cls.fit(x, y, near, penalty=penalty, quadratic=quadratic)
        return found

    def __call__(self, x: Matrix) -> Vector:
        """Predictions."""
        return self.intercept + _terms(x, self.mean, self.scale, self.quadratic) @ self.coefficients

    def record(self) -> dict[str, Any]:
        """Plain numbers, of six digits, means of twelve; an infinite scale is null."""
        return {
            "mean": [float(f"{own:.12g}") for own in self.mean.tolist()],
            "scale": [None if own == np.inf else _six(own) for own in self.scale],
            "quadratic": self.quadratic,
            "intercept": _six(self.intercept),
            "coefficients": _rounded(self.coefficients),
        }

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Ridge":
        """The regression of a record."""
        scale = [np.inf if own is None else own for own in record["scale"]]
        return cls(
            np.array(record["mean"], float), np.array(scale, float), record["quadratic"],
            record["intercept"], np.array(record["coefficients"], float),
        )  # fmt: skip


def _terms(x: Matrix, mean: np.ndarray, scale: np.ndarray, quadratic: bool) -> np.ndarray:
    z = np.clip((x - mean) / scale, -FARTHEST, FARTHEST)
    if not quadratic:
        return z
    first, second = np.triu_indices(z.shape[1])
    return np.hstack([z, z[:, first] * z[:, second]])


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(values: np.ndarray) -> list[float]:
    return [_six(own) for own in values.tolist()]
