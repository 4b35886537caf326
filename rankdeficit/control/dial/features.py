"""A pilot as numbers for the regression."""

import math

import numpy as np
from jaxtyping import Float64

from rankdeficit.control.dial.pilots import Pilot
from rankdeficit.control.dial.shares import to_logit
from rankdeficit.spectrum import GAMMAS

NAMES = (
    *(f"logit of rank share at gamma {gamma:g}" for gamma in GAMMAS),
    "change of it since the start", "change of it since the last but one point",
    "change of it since its least value", "logit of rank share at gamma 0.1 at the start",
    "log norm at the start", "log norm",
    "change of log norm since the last but one point", "log loss", "log loss at the start",
    "logit of accuracy",
    "change of log loss since the last but one point", "log T", "log classes", "log full rank",
    "log layers", "log share", "log steps", "left",
)  # fmt: skip
SMALL = 1e-3


def features(
    pilot: Pilot, gamma: float, *, with_depth: bool = False
) -> Float64[np.ndarray, " features"]:
    """The numbers called NAMES, and with_depth the depth of the pilot as well.

    Ranks are shares of `full_rank` on the logit scale, losses shares of ln c. Changes of the rank are at
    this gamma, one of GAMMAS.
    """
    most, uniform, own = pilot.full_rank, math.log(pilot.classes), GAMMAS.index(gamma)
    points, last = pilot.points, pilot.points[-1]
    counts = np.array([point.ranks for point in points], float)
    ranks = to_logit(np.minimum(counts, most).ravel(), float(most)).reshape(counts.shape)
    losses = np.log(np.minimum([point.loss / uniform for point in points], 20.0) + SMALL)
    norms = np.log(np.array([point.norm for point in points]) + SMALL**2)
    found = [
        *ranks[-1].tolist(),
        ranks[-1, own] - ranks[0, own],
        ranks[-1, own] - ranks[-2, own],
        ranks[-1, own] - ranks[:, own].min(),
        ranks[0, -1],
        norms[0],
        norms[-1],
        norms[-1] - norms[-2],
        losses[-1],
        losses[0],
        math.log((last.accuracy + 0.01) / (1.01 - last.accuracy)),
        losses[-1] - losses[-2],
        math.log(pilot.temperature),
        math.log(pilot.classes),
        math.log(most),
        math.log(pilot.layers),
        math.log(pilot.share),
        math.log(last.step),
        float(pilot.left),
    ]
    if with_depth:
        if pilot.depth is None:
            raise ValueError(
                "the pilot has no depth; measure it with pilot_depth, or ask for a rank"
            )
        found.append(float(to_logit(pilot.depth * pilot.layers - 1, pilot.layers - 1)))
    return np.array(found)
