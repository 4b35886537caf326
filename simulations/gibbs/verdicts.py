"""Statements of the theory, each with its measured errors."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TypedDict

from scipy.stats import norm

from rankdeficit.experiments.settings import Row

CHANCE = 1e-3
"""Probability that one run of the command rejects a true statement about sampled values."""
EXACT = 1e-6
"""Allowed error of identities and of trained minima."""
WITHIN = 1 + 1e-9
"""Allowed share of a bound; some bounds are attained."""


class Verdict(TypedDict):
    """A statement and its measured errors."""

    statement: str
    measured: str
    n: int
    median: float
    least: float
    largest: float
    allowed: float
    holds: bool


class ClusterFit(TypedDict):
    """Fits of one arrangement at one sigma, a value per seed; None without a finite optimum."""

    arrangement: str
    sigma: float
    temperature: float
    fitted: list[float | None]
    span: int
    predicted_rank: int
    ranks: list[int]


class Heating(TypedDict):
    """Effect of raising the decay on the predictions of one model."""

    model: str
    n: int
    residual: float
    """Largest share of the logits' norm that no temperature explains."""
    heats: bool


STANDARD_ERRORS = "standard errors"

SAMPLED: list[tuple[str, str, str]] = [
    ("states", "entropy of draws is H", "entropy_error"),
    ("states", "mean energy of draws is -E_p z", "energy_error"),
    ("states", "fluctuation of draws is Var_p(z)", "variance_error"),
    ("clusters", "best T of Gaussian clusters is 2 sigma^2", "temperature_error"),
    ("noise", "gap under label noise is T ln(q / (1 - q))", "gap_error"),
]
HEATED = 1e-4
"""Share of the logits' norm below which decay counts as heating."""
EXACTLY: list[tuple[str, str, str, str, float]] = [
    ("states", "F(q) - F(p) = T KL(q || p)", "relative error", "gibbs_error", EXACT),
    ("first states", "T dH/dT = Var(z) / T^2", "error", "entropy_slope_error", EXACT),
    ("first states", "dF/dT = -H", "error, nats", "free_energy_slope_error", EXACT),
    (
        "first states", "cold: p off the top <= (c - m) / m e^(-g/T)", "share of bound",
        "cold_share", WITHIN,
    ),
    ("first states", "hot: H = ln c - Var(z) / (2 T^2)", "share of bound", "hot_share", WITHIN),
    (
        "clusters", "NLL convex in 1/T, slope E_p z - z_y", "relative excess",
        "convexity_error", EXACT,
    ),
    ("noise", "cross-entropy least at z = T ln q", "error of gap / T", "fit_error", EXACT),
    (
        "two factors", "two factors: wrong probability min(tau, 1/c)", "error",
        "wrong_probability_error", EXACT,
    ),
    ("two factors", "two factors: decay is heating", "share of logits", "residual", HEATED),
    ("linear", "two inputs: margins from u (1 + e^u)", "relative error", "margins_error", 1e-5),
]  # fmt: skip
"""Part, statement, what is measured, its field in the rows, and the allowed value."""


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Verdicts on all statements with measured errors."""
    found = []
    counts = {s: len(_values(_part(rows, part), field)) for part, s, field in SAMPLED}
    tests = sum(counts.values())
    for part, statement, field in SAMPLED:
        errors = [abs(value) for value in _values(_part(rows, part), field)]
        allowed = float(norm.isf(CHANCE / 2 / tests)) if tests else 0.0
        found.append(_verdict(statement, STANDARD_ERRORS, errors, allowed))
    for part, statement, measured, field, allowed in EXACTLY:
        found.append(_verdict(statement, measured, _values(_part(rows, part), field), allowed))
    found += [_verdict(*values) for values in _compared(rows)]
    return [verdict for verdict in found if verdict is not None]


def _compared(rows: Sequence[Row]) -> list[tuple[str, str, list[float], float]]:
    """Statements on pairs of values: measured and predicted, at equal tau, or at neighbouring decays."""
    clusters, model, linear = (_part(rows, part) for part in ("clusters", "two factors", "linear"))
    by_tau: dict[str, list[Row]] = {}
    for row in model:
        by_tau.setdefault(f"{row['tau']:.9g}", []).append(row)
    minima = [
        [row["objective"] for row in same]
        for same in by_tau.values()
        if len({row["temperature"] for row in same}) > 1
    ]
    norms, losses = _rises(rows, "squared_norm"), _rises(rows, "loss")
    return [
        (
            "Gaussian logits: rank of span, + 1 off a sphere", "difference",
            [float(abs(row["rank"] - row["predicted_rank"])) for row in clusters], 0.0,
        ),
        (
            "two factors: minimum in tau", "error, nats",
            [abs(row["objective"] - row["predicted_objective"]) for row in model], EXACT,
        ),
        (
            "two factors: equal tau, equal minimum", "range, nats",
            [max(same) - min(same) for same in minima], EXACT,
        ),
        (
            "two inputs: share no temperature explains", "error",
            [
                abs(row["residual"] - row["predicted_residual"])
                for row in linear
                if row["residual"] is not None
            ],
            1e-5,
        ),
        (
            "norm does not rise with decay", "relative rise",
            [rise / start for start, rise in norms], EXACT,
        ),
        (
            "cross-entropy does not fall with decay", "fall, nats",
            [-rise for _, rise in losses], EXACT,
        ),
    ]  # fmt: skip


def cluster_fits(rows: Sequence[Row]) -> list[ClusterFit]:
    """Fits by arrangement and sigma."""
    clusters = _part(rows, "clusters")
    found: list[ClusterFit] = []
    for arrangement, sigma in dict.fromkeys((r["arrangement"], r["sigma"]) for r in clusters):
        same = [r for r in clusters if (r["arrangement"], r["sigma"]) == (arrangement, sigma)]
        found.append(
            {
                "arrangement": arrangement,
                "sigma": sigma,
                "temperature": same[0]["temperature"],
                "fitted": [row["fitted"] for row in same],
                "span": max(row["span"] for row in same),
                "predicted_rank": max(row["predicted_rank"] for row in same),
                "ranks": [row["rank"] for row in same],
            }
        )
    return found


def heating(rows: Sequence[Row]) -> list[Heating]:
    """Whether raising the decay acts as heating, by model."""
    found: list[Heating] = []
    for model in ("two factors", "linear"):
        residuals = _values(_part(rows, model), "residual")
        if residuals:
            largest = max(residuals)
            found.append(
                {
                    "model": model,
                    "n": len(residuals),
                    "residual": largest,
                    "heats": largest <= HEATED,
                }
            )
    return found


def _rises(rows: Sequence[Row], field: str) -> list[tuple[float, float]]:
    """The field at the least decay, and its rise from one decay to the next, in both models."""
    own = _part(rows, "decay")
    keys = ("model", "temperature", "seed")
    courses = [
        [row[field] for row in own if all(row[k] == v for k, v in zip(keys, key, strict=True))]
        for key in dict.fromkeys(tuple(row[k] for k in keys) for row in own)
    ]
    return [(course[0], b - a) for course in courses for a, b in pairwise(course)]


def _part(rows: Sequence[Row], name: str) -> list[Row]:
    """Rows of a part, of a model of the decay part, or of the states with the first seed.

    Seeds of the states differ in the draws only, not in the logits.
    """
    if name == "first states":
        return [row for row in rows if (row["part"], row["seed"]) == ("states", rows[0]["seed"])]
    return [row for row in rows if name in (row["part"], row.get("model"))]


def _values(rows: Sequence[Row], field: str) -> list[float]:
    return [row[field] for row in rows if row[field] is not None]


def _verdict(
    statement: str, measured: str, errors: Sequence[float], allowed: float
) -> Verdict | None:
    if not errors:
        return None
    return {
        "statement": statement,
        "measured": measured,
        "n": len(errors),
        "median": median(errors),
        "least": min(errors),
        "largest": max(errors),
        "allowed": allowed,
        "holds": max(errors) <= allowed,
    }
