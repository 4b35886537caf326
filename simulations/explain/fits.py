"""Regressions of the final rank, judged on configurations that took no part in their fit."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from rankdeficit.control.dial.conformal import folds_of, group_numbers, group_weights
from rankdeficit.control.dial.regression import Ridge
from rankdeficit.control.dial.shares import from_logit, to_logit
from rankdeficit.experiments.settings import Row

OTHERS = ("lr", "decay", "depth", "width", "classes", "steps after", "adam")
EQUIVALENT = ("equivalent lr", "equivalent decay", *OTHERS[2:])
"""Rates of the run at T = 1 that equals a run at T where the network is homogeneous."""

MODELS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "others": OTHERS,
    "others, T": (*OTHERS, "T"),
    "others, norm": (*OTHERS, "norm"),
    "others, norm, T": (*OTHERS, "norm", "T"),
    "equivalent others, norm": (*EQUIVALENT, "norm"),
    "equivalent others, norm, T": (*EQUIVALENT, "norm", "T"),
}
"""Numbers that each regression reads, all but `adam` as logarithms."""
PAIRS = {
    "T beyond the other numbers": ("others", "others, T"),
    "norm beyond the other numbers": ("others", "others, norm"),
    "T beyond the norm": ("others, norm", "others, norm, T"),
    "norm beyond T": ("others, T", "others, norm, T"),
    "T beyond the norm and equivalent rates": (
        "equivalent others, norm",
        "equivalent others, norm, T",
    ),
}
"""Regressions whose errors are compared."""
WHOLE = "others, norm, T"

FOLDS = 5
DRAWS = 20
"""Draws of folds, over which errors are averaged."""
PENALTY = 0.03
MANY = 300
"""Rows from which squares and products take part."""
RESAMPLES = 1000
LEVEL = 0.95
LEAST_DECAY = 1e-7
"""Smaller decays, zero among them, count as this one."""

Vector = Float64[np.ndarray, " n"]


def models_of(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """The regressions, without numbers that some row lacks."""
    known = set.intersection(*(set(numbers_of(row)) for row in rows))
    return {name: tuple(own for own in read if own in known) for name, read in MODELS.items()}


def numbers_of(row: Row) -> dict[str, float]:
    """All numbers that a regression may read, but for those that were not recorded.

    A homogeneous network of L layers at temperature T, rate lr and decay equals one at T = 1 with initial
    weights T^(1/L) times smaller, rate lr T^(-2/L) with SGD and lr T^(-1/L) with Adam, and decay T^(2/L)
    (L2) or T^(1/L) (decoupled) times as large.
    """
    heat = math.log(row["temperature"]) / row["depth"]
    adam = row["optimizer"] != "sgd"
    decoupled = row["optimizer"] == "adamw"
    lr, decay = math.log(row["lr"]), math.log(max(row["decay"], LEAST_DECAY))
    return {
        "norm": math.log(row["norm"]),
        "T": math.log(row["temperature"]),
        "lr": lr,
        "decay": decay,
        "equivalent lr": lr - (1 if adam else 2) * heat,
        "equivalent decay": decay + ((1 if decoupled else 2) * heat if row["decay"] else 0.0),
        "depth": math.log(row["depth"]),
        "width": math.log(row["width"]),
        "classes": math.log(row["classes"]),
        "adam": float(adam),
    } | ({} if row["steps_after"] is None else {"steps after": math.log1p(row["steps_after"])})


def summarise(rows: Sequence[Row]) -> Row:
    """Errors of all regressions by source, what each pair of them tells, and coefficients.

    Runs that never left their start have the rank that they began with, and take no part.
    """
    stalled = sum(row["steps_after"] == 0 for row in rows)
    rows = [row for row in rows if row["steps_after"] != 0]
    sources = {name: [row for row in rows if row["source"] == name] for name in names_of(rows)}
    toys = [
        row for row in rows if row["homogeneous"] and row["source"] in ("deep UFM", "perceptron")
    ]
    if len(sources) > 1 and toys:
        sources["homogeneous toys"] = toys
    found = [judged(name, own) for name, own in sources.items() if is_enough(own)]
    return {"stalled": stalled, "sources": found}


def names_of(rows: Sequence[Row]) -> list[str]:
    """Sources in their order."""
    return list(dict.fromkeys(str(row["source"]) for row in rows))


def is_enough(rows: Sequence[Row]) -> bool:
    """Whether every fold leaves two groups to fit."""
    return len({row["group"] for row in rows}) >= 3


def judged(name: str, rows: Sequence[Row]) -> Row:
    """All regressions of one source."""
    groups = [row["group"] for row in rows]
    shares = np.array([row["rank"] / row["full_rank"] for row in rows])
    models = models_of(rows)
    predicted = {model: held_out(rows, read) for model, read in models.items()}
    errors = {model: abs(own - shares).mean(axis=0) for model, own in predicted.items()}
    squares = {model: ((own - shares) ** 2).mean(axis=0) for model, own in predicted.items()}
    weights = group_weights(groups)
    middle = float(np.average(shares, weights=weights))
    spread = float(np.average((shares - middle) ** 2, weights=weights))
    return {
        "source": name,
        "runs": len(rows),
        "left_out": [name for name in OTHERS if name not in models[WHOLE]],
        "groups": len(set(groups)),
        "errors": {
            model: {
                "error": interval(own, groups),
                "r2": 1 - float(np.average(squares[model], weights=weights)) / spread
                if spread
                else None,
            }
            for model, own in errors.items()
        },
        "gains": {
            name: interval(errors[before] - errors[after], groups)
            for name, (before, after) in PAIRS.items()
        },
        "coefficients": coefficients(rows),
        "predictions": [
            {"share": float(share), "predicted": float(own), "temperature": row["temperature"]}
            for share, own, row in zip(shares, predicted[WHOLE].mean(axis=0), rows, strict=True)
        ],
    }


def held_out(rows: Sequence[Row], read: Sequence[str]) -> Float64[np.ndarray, "draws n"]:
    """Shares of the full rank, each predicted without the rows of its fold, for each draw of folds."""
    groups = [row["group"] for row in rows]
    x, full = features(rows, read), np.array([row["full_rank"] for row in rows], float)
    y = np.array([float(to_logit(row["rank"], row["full_rank"])) for row in rows])
    found = np.zeros((DRAWS, len(rows)))
    for draw, own in enumerate(found):
        folds = folds_of(groups, min(FOLDS, len(set(groups))), seed=draw)
        for fold in range(folds.max() + 1):
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            fitted = Regression(x[inside], y[inside], [groups[int(i)] for i in inside])
            own[outside] = fitted.shares(x[outside], full[outside])
    return found


def features(rows: Sequence[Row], read: Sequence[str]) -> Float64[np.ndarray, "n features"]:
    """The numbers that a regression reads."""
    found = [numbers_of(row) for row in rows]
    return np.array([[own[name] for name in read] for own in found])


class Regression:
    """A regression of the rank's logit y on numbers x, where each group counts once."""

    def __init__(
        self, x: Float64[np.ndarray, "n features"], y: Vector, groups: Sequence[str]
    ) -> None:
        weights = group_weights(groups)
        self.constant = float(np.average(y, weights=weights))
        self.ridge = None
        if x.shape[1]:
            self.ridge = Ridge.fit(x, y, weights, penalty=PENALTY, quadratic=len(x) >= MANY)

    def shares(self, x: Float64[np.ndarray, "n features"], full: Vector) -> Vector:
        """Predicted shares of the full rank."""
        logits = np.full(len(x), self.constant) if self.ridge is None else self.ridge(x)
        return np.asarray(from_logit(logits, full)) / full


def interval(values: Vector, groups: Sequence[str]) -> list[float]:
    """Mean over groups of their means, and its bootstrap interval over groups."""
    members = group_numbers(groups)
    means = np.bincount(members, weights=values) / np.bincount(members)
    random = np.random.default_rng(0)
    drawn = means[random.integers(len(means), size=(RESAMPLES, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(means.mean()), float(low), float(high)]


def coefficients(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Change of the rank's logit per standard deviation of each number, with intervals over groups."""
    read = models_of(rows)[WHOLE]
    members = group_numbers([row["group"] for row in rows])
    random = np.random.default_rng(0)
    x = np.array([[numbers_of(row)[name] for name in read] for row in rows])
    y = np.array([float(to_logit(row["rank"], row["full_rank"])) for row in rows])
    scale = x.std(axis=0)

    def slopes(counts: Float64[np.ndarray, " groups"]) -> Vector:
        weights = counts[members] / np.bincount(members)[members]
        kept = weights > 0
        own = Ridge.fit(x[kept], y[kept], weights[kept], penalty=PENALTY, quadratic=False)
        return np.where(np.isfinite(own.scale), own.coefficients / own.scale * scale, 0.0)

    count = members.max() + 1
    drawn = np.array(
        [
            slopes(np.bincount(random.integers(count, size=count), minlength=count).astype(float))
            for _ in range(RESAMPLES // 5)
        ]
    )
    whole = slopes(np.ones(count))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        name: [float(a), float(b), float(c)]
        for name, a, b, c in zip(read, whole, low, high, strict=True)
    }
