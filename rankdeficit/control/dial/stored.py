"""The fitted predictors that come with the package."""

import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from rankdeficit.control.dial.predictor import Predictor, Quantiles, Target

Calibration = Literal["toys"]


def stored_predictor(target: Target, calibration: str = "toys") -> Predictor:
    """The predictor of a target, fitted to toys, with intervals from residuals of real networks or toys.

    predictor.json is made by simulations.dial; networks.json has the quantiles of real networks.
    """
    if calibration not in get_args(Calibration):
        raise ValueError(
            f"calibration is {calibration!r}; it must be {' or '.join(get_args(Calibration))}"
        )
    found = Predictor.of(target, _read("predictor.json")["targets"][target.name])
    if calibration == "networks":
        found = found.with_quantiles(Quantiles.of(_read("networks.json")["quantiles"][target.name]))
    return found


@cache
def _read(name: str) -> Any:
    return json.loads(files("rankdeficit.control.dial").joinpath(name).read_text())
