"""The predictors of all targets, fitted to rows of toys, and how often their intervals hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rankdeficit.control.dial.conformal import group_weights
from rankdeficit.control.dial.pilots import Pilot, Point, last_step, measured_steps
from rankdeficit.control.dial.predictor import TARGETS, Example, Predictor, Target
from rankdeficit.experiments.settings import Row
from rankdeficit.spectrum import GAMMAS
from simulations.dial.toys import SHARES

JUDGED_SHARE = 0.1
"""Share of training of the pilots that judge."""


def pilot_of(row: Row, share: float) -> Pilot:
    """The pilot of a run that ends at a share of its training."""
    kept = set(measured_steps(last_step(row["steps"], share)))
    points = [point | {"ranks": tuple(point["ranks"])} for point in row["points"]]
    return Pilot(
        row["temperature"], row["classes"], row["width"], row["depth"], share,
        tuple(Point(**point) for point in points if point["step"] in kept),
        row["depths"][str(share)],
    )  # fmt: skip


def examples_of(rows: Sequence[Row], target: Target, shares: Sequence[float]) -> list[Example]:
    """All pilots with what they predict; those of a batch are one group.

    Toys of one layer have no depth to predict.
    """
    found = []
    for row in rows:
        for share in shares:
            pilot, group = pilot_of(row, share), (row["kind"], row["batch"])
            if target.kind == "rank":
                end = row["points"][-1]["ranks"][GAMMAS.index(target.gamma)]
                found.append(Example(pilot, float(end), group))
            elif pilot.depth is not None and pilot.layers > 1:
                found.append(Example(pilot, row["depth_at_end"], group))
    return found


def summarise(rows: Sequence[Row], level: float, gamma: float) -> Row:
    """The predictors, coverage and width of the intervals on the toys that judge, and examples.

    Raises ValueError where the toys are too few for a fit.
    """
    fit, judging = ([row for row in rows if row["judging"] is own] for own in (False, True))
    predictors: dict[str, Predictor] = {}
    coverage: list[Row] = []
    shown: list[Row] = []
    for target in TARGETS:
        fitted = Predictor.fit(target, examples_of(fit, target, SHARES), level)
        predictors[target.name] = fitted
        held_out = examples_of(judging, target, (JUDGED_SHARE,))
        for kind in sorted({own.group[0] for own in held_out}):  # type: ignore[index]
            of_kind = [own for own in held_out if own.group[0] == kind]  # type: ignore[index]
            for start, own in (
                ("all", of_kind),
                ("left", [one for one in of_kind if one.pilot.left]),
                ("not left", [one for one in of_kind if not one.pilot.left]),
            ):
                if own:
                    told = {"target": target.name, "kind": kind, "start": start}
                    coverage.append(told | judged(fitted, own))
            if target.kind == "depth" or target.gamma == gamma:
                shown += [
                    {"target": target.name, "kind": kind, **seen(fitted, own)} for own in of_kind
                ]
    return {
        "level": level,
        "gamma": gamma,
        "fitted_runs": len(fit),
        "judging_runs": len(judging),
        "coverage": coverage,
        "examples": shown,
        "predictor": {
            "level": level,
            "made_by": "python -m simulations.dial",
            "runs": len(fit),
            "judging_runs": len(judging),
            "coverage": rounded(coverage),
            "targets": {name: own.record() for name, own in predictors.items()},
        },
    }


def rounded(coverage: Sequence[Row]) -> list[Row]:
    """The same with four digits."""
    return [
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in coverage
    ]


def judged(predictor: Predictor, examples: Sequence[Example]) -> dict[str, Any]:
    """Coverage, widths and errors as shares of the largest value; each batch counts once."""
    weights = group_weights([own.group for own in examples])
    most = np.array([_most(predictor, own) for own in examples])
    found = np.array([predictor(own.pilot) for own in examples]) / most[:, None]
    ends = np.array([own.end for own in examples]) / most
    target = predictor.target
    now = [target.value(target.now(own.pilot), own.pilot) for own in examples] / most
    width = found[:, 2] - found[:, 1]
    return {
        "runs": len(examples),
        "batches": len({own.group for own in examples}),
        "coverage": float(np.average([predictor.covers(own) for own in examples], weights=weights)),
        "median_width": float(np.median(width)),
        "mean_width": float(np.average(width, weights=weights)),
        "error": float(np.average(abs(found[:, 0] - ends), weights=weights)),
        "error_without_change": float(np.average(abs(now - ends), weights=weights)),
    }


def seen(predictor: Predictor, example: Example) -> dict[str, Any]:
    """An example as shares, for a figure."""
    most = _most(predictor, example)
    value, low, high = (own / most for own in predictor(example.pilot))
    return {
        "predicted": value, "low": low, "high": high, "end": example.end / most,
        "left": example.pilot.left, "temperature": example.pilot.temperature,
    }  # fmt: skip


def _most(predictor: Predictor, example: Example) -> float:
    return 1.0 if predictor.target.kind == "depth" else float(example.pilot.full_rank)
