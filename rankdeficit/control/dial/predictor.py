"""Prediction of the rank or depth that a training ends with, from a pilot, with a conformal interval."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from rankdeficit.control.dial.conformal import folds_of, group_weights, grouped_quantile
from rankdeficit.control.dial.features import features
from rankdeficit.control.dial.pilots import Pilot
from rankdeficit.control.dial.regression import LEAST_RESIDUAL, Ridge
from rankdeficit.control.dial.shares import from_logit, to_logit
from rankdeficit.spectrum import GAMMAS

FOLDS = 5
FORMS = tuple(
    (penalty, quadratic) for penalty in (0.03, 0.1, 0.3, 1.0) for quadratic in (False, True)
)
"""Penalties of regressions, and whether squares and products take part, which needs as many examples."""
TINY = 1e-9
SPREADS = (-3.0, 1.5)
"""Bounds of the fitted logarithm of a residual."""


Form = tuple[float, bool]
Fit = Callable[..., Ridge]


class Fitted(NamedTuple):
    """A regression, and predictions of all rows by regressions without their fold."""

    regression: Ridge
    out_of_fold: Float64[np.ndarray, " n"]


class Prediction(NamedTuple):
    """A rank or an effective depth, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Target:
    """What is predicted: class-centred rank of the train logits at a gamma, or effective depth."""

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

    def step(self, pilot: Pilot) -> float:
        """One rank, or one layer."""
        return 1 / pilot.layers if self.kind == "depth" else 1.0

    def logit(self, value: float | int, pilot: Pilot) -> float:
        """A rank or depth on the logit scale."""
        count = value * pilot.layers - 1 if self.kind == "depth" else min(value, pilot.full_rank)
        return float(to_logit(count, self.most(pilot)))

    def value(self, logit: float, pilot: Pilot) -> float:
        """The rank or depth of a logit, not rounded."""
        count = float(from_logit(logit, self.most(pilot)))
        return (count + 1) / pilot.layers if self.kind == "depth" else count

    def interval(self, logits: Prediction, pilot: Pilot) -> Prediction:
        """Logits as a rank or depth, with an interval that is widened to whole ranks or layers."""
        most = self.most(pilot)
        value, low, high = (float(from_logit(own, most)) for own in logits)
        low, high = float(math.floor(low + TINY)), float(math.ceil(high - TINY))
        if self.kind == "depth":
            return Prediction(*((own + 1) / pilot.layers for own in (value, low, high)))
        return Prediction(value, low, high)

    def now(self, pilot: Pilot) -> float:
        """The logit at the end of the pilot. Raises ValueError for a pilot without a depth."""
        if self.kind == "rank":
            return self.logit(pilot.points[-1].ranks[GAMMAS.index(self.gamma)], pilot)
        return float(self.features(pilot)[-1])

    def features(self, pilot: Pilot) -> Float64[np.ndarray, " features"]:
        """The numbers that the regression reads."""
        return features(pilot, self.gamma, with_depth=self.kind == "depth")


TARGETS = (*(Target("rank", gamma) for gamma in GAMMAS), Target("depth"))
"""All targets that predictors are fitted for."""


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

        All examples of a group are in one fold, and each group counts once. The form is the one of FORMS
        with the least residuals. Raises ValueError for fewer than two groups.
        """
        groups = [own.group for own in examples]
        if len(set(groups)) < 2:
            raise ValueError(f"{len(set(groups))} group of examples; a fit needs two or more")
        x, change = _arrays(target, examples)
        weights = group_weights(groups)
        folds = folds_of(groups, min(FOLDS, len(set(groups))))

        def fitted(y: Float64[np.ndarray, " n"], fit: Fit, loss: Callable[..., Any]) -> Fitted:
            """The best regression, and the prediction of each row by one without its fold."""

            def without(fold: int, form: Form) -> Ridge:
                rows = folds != fold
                penalty, quadratic = form
                return fit(x[rows], y[rows], weights[rows], penalty=penalty, quadratic=quadratic)

            forms = [form for form in FORMS if not form[1] or len(x) > x.shape[1] ** 2 / 2]
            tried = {form: _out_of_fold(x, folds, partial(without, form=form)) for form in forms}
            best = min(forms, key=lambda form: float(weights @ loss(y - tried[form])))
            return Fitted(fit(x, y, weights, penalty=best[0], quadratic=best[1]), tried[best])

        of_change, predicted = fitted(change, Ridge.fit_median, np.abs)
        residuals = change - predicted
        sizes = np.log(abs(residuals) + LEAST_RESIDUAL)
        of_spread, size = fitted(sizes, Ridge.fit, np.square)
        scores = residuals / np.exp(np.clip(size, *SPREADS))
        left = np.array([own.pilot.left for own in examples])
        return cls(
            target,
            of_change,
            of_spread,
            {
                name: quantiles_of(scores[rows], [groups[i] for i in np.flatnonzero(rows)], level)
                for name, rows in (("left", left), ("not left", ~left))
            },
        )

    def __call__(self, pilot: Pilot) -> Prediction:
        """The value at the end of the pilot's training. Raises ValueError for a pilot without a depth."""
        return self.target.interval(self.logits(pilot), pilot)

    def logits(self, pilot: Pilot) -> Prediction:
        """The prediction on the logit scale."""
        value, spread = self._of(pilot)
        own = self.quantiles["left" if pilot.left else "not left"]
        return Prediction(
            value, value + min(0, own.low) * spread, value + max(0, own.high) * spread
        )

    def covers(self, example: Example) -> bool:
        """Whether the interval has the value that the training ended with."""
        _, low, high = self(example.pilot)
        end = example.end
        if self.target.kind == "rank":
            end = min(end, example.pilot.full_rank)
        return low - TINY <= end <= high + TINY

    def widened(self, factor: float) -> "Predictor":
        """The same predictions with intervals whose distances from them are multiplied, in logits."""
        quantiles = {
            name: Quantiles(
                *(math.inf * own if math.isinf(factor) else factor * own for own in both)
            )
            for name, both in self.quantiles.items()
        }
        return replace(self, quantiles=quantiles)

    def least_factor(self, example: Example) -> float:
        """The least factor (approached from above) by which the interval covers the end."""
        pilot, (value, low, high) = example.pilot, self.logits(example.pilot)
        most, step = self.target.most(pilot), self.target.step(pilot)
        predicted, end = self.target.value(value, pilot), example.end
        near = end - step if end > predicted else end + step  # intervals are widened to whole ranks
        if abs(end - predicted) < step or most == 0:
            return 0.0
        distance = self.target.logit(near, pilot) - value
        side = high - value if distance > 0 else low - value
        return max(0.0, distance / side) if side else math.inf

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
    """Both ends of an interval with half of the error on either side; infinite without scores."""
    if not len(scores):
        return Quantiles(-math.inf, math.inf)
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
    folds: Int64[np.ndarray, " n"],
    without: Callable[[int], Ridge],
) -> Float64[np.ndarray, " n"]:
    """Prediction of each row by a fit without its fold."""
    found = np.empty(len(x))
    for fold in range(int(folds.max()) + 1):
        own = folds == fold
        found[own] = without(fold)(x[own])
    return found
