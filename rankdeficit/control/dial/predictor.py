"""Prediction of the rank or depth that a training ends with, from a pilot, with a conformal interval."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from rankdeficit.control.dial.conformal import folds_of, group_weights, grouped_quantile
from rankdeficit.control.dial.features import features
from rankdeficit.control.dial.pilots import Pilot
from rankdeficit.control.dial.regression import Ridge
from rankdeficit.control.dial.shares import from_logit, to_logit
from rankdeficit.spectrum import GAMMAS

FOLDS = 10
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
LEAST_RESIDUAL = 0.05
"""Added to residuals before their logarithm is fitted, in logits."""
SPREADS = (-3.0, 1.5)
"""Bounds of the fitted logarithm of a residual."""


class Prediction(NamedTuple):
    """A rank or an effective depth, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Target:
    """What is predicted: the class-centred rank of the train logits at a gamma, or the effective depth."""

    kind: Literal["rank", "depth"]
    gamma: float = 1e-3

    def __post_init__(self) -> None:
        if self.gamma not in GAMMAS:
            raise ValueError(f"gamma is {self.gamma}; the predictor knows {GAMMAS}")

    @property
    def name(self) -> str:
        """Name in the file of predictors."""
        return "depth" if self.kind == "depth" else f"rank at {self.gamma:g}"

    def most(self, pilot: Pilot) -> int:
        """Largest count on the logit scale: the full rank, or the layers above the first."""
        return pilot.layers - 1 if self.kind == "depth" else pilot.full_rank

    def logit(self, value: float, pilot: Pilot) -> float:
        """A rank or depth on the logit scale."""
        count = value * pilot.layers - 1 if self.kind == "depth" else min(value, pilot.full_rank)
        return float(to_logit(count, self.most(pilot)))

    def value(self, logit: float, pilot: Pilot) -> float:
        """The rank or depth of a logit, not rounded."""
        count = float(from_logit(logit, self.most(pilot)))
        return (count + 1) / pilot.layers if self.kind == "depth" else count

    def now(self, pilot: Pilot) -> float:
        """The logit at the end of the pilot. Raises ValueError for a pilot without a depth."""
        if self.kind == "rank":
            return self.logit(pilot.points[-1].ranks[GAMMAS.index(self.gamma)], pilot)
        return float(self.features(pilot)[-1])

    def features(self, pilot: Pilot) -> Float64[np.ndarray, " features"]:
        """The numbers that the regression reads."""
        return features(pilot, self.gamma, with_depth=self.kind == "depth")


class Example(NamedTuple):
    """A pilot and what its training ended with."""

    pilot: Pilot
    end: float
    """Rank or depth."""
    group: Hashable
    """Configuration: examples of one are never on both sides of a fit and its residuals."""


class Quantiles(NamedTuple):
    """Conformal quantiles of (truth - prediction) / spread, in logits."""

    low: float
    high: float

    def record(self) -> list[float | None]:
        """Both numbers; infinite ones are None."""
        return [float(f"{own:.6g}") if math.isfinite(own) else None for own in self]

    @classmethod
    def of(cls, record: Sequence[float | None]) -> "Quantiles":
        """The quantiles of a record."""
        low, high = record
        return cls(-math.inf if low is None else low, math.inf if high is None else high)


@dataclass(frozen=True)
class Predictor:
    """The change of the logit from the pilot's end to the training's, its spread and quantiles."""

    target: Target
    change: Ridge
    spread: Ridge
    """Logarithm of the absolute residual."""
    quantiles: Mapping[str, Quantiles]
    """Of pilots that have left their start ("left") and of those that have not ("not left")."""

    @classmethod
    def fit(cls, target: Target, examples: Sequence[Example], level: float) -> "Predictor":
        """Fit to all examples; quantiles are of residuals of folds that were not fitted on.

        All examples of a group are in one fold, and each group counts once. The penalty is the one of
        PENALTIES with the least squared residuals. Raises ValueError for fewer than two groups.
        """
        groups = [own.group for own in examples]
        if len(set(groups)) < 2:
            raise ValueError(f"{len(set(groups))} group of examples; a fit needs two or more")
        x, change = _arrays(target, examples)
        weights = group_weights(groups)
        folds = folds_of(groups, min(FOLDS, len(set(groups))))

        def fitted(y: Float64[np.ndarray, " n"], quadratic: bool) -> tuple[Ridge, np.ndarray]:
            """The regression, and the prediction of each row by one without its fold."""

            def fit(rows: Bool[np.ndarray, " n"], penalty: float) -> Ridge:
                return Ridge.fit(
                    x[rows], y[rows], weights[rows], penalty=penalty, quadratic=quadratic
                )

            def error(penalty: float) -> float:
                return float(weights @ (y - _out_of_fold(x, folds, partial(fit, penalty=penalty))) ** 2)

            best = min(PENALTIES, key=error)
            return fit(np.ones(len(x), bool), best), _out_of_fold(
                x, folds, partial(fit, penalty=best)
            )

        of_change, predicted = fitted(change, quadratic=True)
        residuals = change - predicted
        of_spread, size = fitted(np.log(abs(residuals) + LEAST_RESIDUAL), quadratic=False)
        scores = residuals / np.exp(np.clip(size, *SPREADS))
        left = np.array([own.pilot.left for own in examples])
        return cls(
            target,
            of_change,
            of_spread,
            {
                name: quantiles_of(scores[rows], [groups[i] for i in np.flatnonzero(rows)], level)
                for name, rows in (("left", left), ("not left", ~left))
                if rows.any()
            },
        )

    def __call__(self, pilot: Pilot) -> Prediction:
        """The value at the end of the pilot's training. Raises ValueError for a pilot without a depth."""
        logits = self.logits(pilot)
        return Prediction(*(self.target.value(own, pilot) for own in logits))

    def logits(self, pilot: Pilot) -> Prediction:
        """The prediction on the logit scale."""
        value, spread = self._of(pilot)
        own = self.quantiles["left" if pilot.left else "not left"]
        return Prediction(value, value + min(0, own.low) * spread, value + max(0, own.high) * spread)

    def scores(self, examples: Sequence[Example]) -> Float64[np.ndarray, " n"]:
        """(truth - prediction) / spread of each example."""
        found = []
        for own in examples:
            value, spread = self._of(own.pilot)
            found.append((self.target.logit(own.end, own.pilot) - value) / spread)
        return np.array(found)

    def covers(self, example: Example) -> bool:
        """Whether the interval has the value that the training ended with."""
        _, low, high = self.logits(example.pilot)
        return low <= self.target.logit(example.end, example.pilot) <= high

    def recalibrated(self, examples: Sequence[Example], level: float) -> "Predictor":
        """The same predictions with intervals from other examples, such as real networks.

        Pilots that have left their start and those that have not share their quantiles, unless those of
        the toys are wider.
        """
        groups = [own.group for own in examples]
        found = quantiles_of(self.scores(examples), groups, level)
        return self.with_quantiles(found)

    def with_quantiles(self, found: Quantiles) -> "Predictor":
        """The same predictions with other quantiles; of pilots at their start, the wider of both."""
        start = self.quantiles.get("not left", found)
        wider = Quantiles(min(found.low, start.low), max(found.high, start.high))
        quantiles = {"left": found, "not left": wider}
        return Predictor(self.target, self.change, self.spread, quantiles)

    def _of(self, pilot: Pilot) -> tuple[float, float]:
        x = self.target.features(pilot)[None]
        value = self.target.now(pilot) + float(self.change(x)[0])
        return value, float(np.exp(np.clip(self.spread(x)[0], *SPREADS)))

    def record(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "change": self.change.record(),
            "spread": self.spread.record(),
            "quantiles": {name: own.record() for name, own in self.quantiles.items()},
        }

    @classmethod
    def of(cls, target: Target, record: dict[str, Any]) -> "Predictor":
        """The predictor of a record."""
        quantiles = {name: Quantiles.of(own) for name, own in record["quantiles"].items()}
        return cls(target, Ridge.of(record["change"]), Ridge.of(record["spread"]), quantiles)


def quantiles_of(
    scores: Float64[np.ndarray, " n"], groups: Sequence[Hashable], level: float
) -> Quantiles:
    """Both ends of an interval with half of the error on either side."""
    one_sided = (1 + level) / 2
    return Quantiles(
        -grouped_quantile(-scores, groups, one_sided), grouped_quantile(scores, groups, one_sided)
    )


def _arrays(
    target: Target, examples: Sequence[Example]
) -> tuple[Float64[np.ndarray, "n features"], Float64[np.ndarray, " n"]]:
    """What the regression reads and what it predicts."""
    x = np.stack([target.features(own.pilot) for own in examples])
    change = [target.logit(own.end, own.pilot) - target.now(own.pilot) for own in examples]
    return x, np.array(change)


def _out_of_fold(
    x: Float64[np.ndarray, "n features"],
    folds: np.ndarray,
    fit: Callable[[Bool[np.ndarray, " n"]], Ridge],
) -> Float64[np.ndarray, " n"]:
    """Prediction of each row by a fit without its fold."""
    found = np.empty(len(x))
    for fold in range(folds.max() + 1):
        own = folds == fold
        found[own] = fit(~own)(x[own])
    return found
