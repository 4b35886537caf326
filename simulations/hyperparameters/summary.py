"""Initial norms and final ranks by intervention, beside the curve of temperature alone."""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from rankdeficit.correlation import spearman
from rankdeficit.experiments import tables
from rankdeficit.experiments.settings import Row

TEMPERATURES = "temperature"
"""The family whose runs make the dashed curve."""


def summarise(classes: int, width: int, gamma: float, seeds: int, rows: list[Row]) -> Row:
    """Medians per intervention, the rank each should have by its initial norm, and the correlations."""
    uniform = math.log(classes)
    for row in rows:
        row["outcome"] = tables.outcome(row["loss"], row["accuracy"], uniform)
    cells = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        alive = [row for row in own if row["loss"] is not None]
        ranks = [row["rank"] for row in alive]
        cells.append(
            {
                "family": own[0]["family"],
                "name": name,
                "temperature": own[0]["temperature"],
                "initial_effective_norm": median(row["initial_effective_norm"] for row in own),
                "accuracy": median(row["accuracy"] for row in alive) if alive else None,
                "final_effective_norm": median(row["effective_logits_norm"] for row in alive)
                if alive
                else None,
                "rank": median(ranks) if alive else None,
                "rank_range": [min(ranks), max(ranks)] if alive else None,
                "hidden_rank": median(row["hidden_rank"] for row in alive) if alive else None,
                "interpolated": sum(row["outcome"] == "interpolated" for row in own),
                "runs": len(own),
            }
        )
    curve = sorted(
        (cell["initial_effective_norm"], cell["rank"])
        for cell in cells
        if cell["family"] == TEMPERATURES and cell["interpolated"] == cell["runs"]
    )
    for cell in cells:
        cell["predicted_rank"] = read_off(curve, cell["initial_effective_norm"])
    return {
        "classes": classes,
        "gamma": gamma,
        "seeds": seeds,
        "neural_collapse_rank": tables.neural_collapse_rank(classes, width),
        "cells": cells,
        "curve_family": TEMPERATURES,
        "curve": curve,
        "runs": rows,
        "correlations": correlations(cells),
    }


def read_off(curve: Sequence[tuple[float, float]], norm: float) -> float | None:
    """The rank on the temperature curve at this norm, linear in its logarithm; None outside of it."""
    if not curve or not curve[0][0] <= norm <= curve[-1][0]:
        return None
    norms, ranks = zip(*curve, strict=True)
    return float(np.interp(math.log(norm), np.log(norms), ranks))


def correlations(cells: Sequence[Row]) -> Row:
    """Spearman's rho of initial norm and final rank over interpolating interventions, by group."""
    settled = [cell for cell in cells if cell["interpolated"] == cell["runs"]]
    groups = {
        "all": settled,
        "without temperature": [c for c in settled if c["family"] != TEMPERATURES],
        "without temperature and normalisation": [
            c for c in settled if c["family"] not in (TEMPERATURES, "normalisation")
        ],
    }
    found = {}
    for name, own in groups.items():
        norms = [cell["initial_effective_norm"] for cell in own]
        ranks = [cell["rank"] for cell in own]
        if (correlation := spearman(norms, ranks)) is not None:
            found[name] = correlation._asdict()
    return found
