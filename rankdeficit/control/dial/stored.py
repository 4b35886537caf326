"""The fitted predictors that come with the package."""

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from rankdeficit.control.dial.predictor import Predictor, Target

Calibration = Literal["networks", "toys"]


def stored_predictor(target: Target, calibration: str = "networks") -> Predictor:
    """The predictor of a target, fitted to toys, with intervals of toys, or widened for networks.

    predictor.json is made by simulations.dial; networks.json by `calibrate`. Raises
    ValueError for an unknown calibration.
    """
    if calibration not in get_args(Calibration):
        raise ValueError(
            f"calibration is {calibration!r}; it must be {' or '.join(get_args(Calibration))}"
        )
    found = Predictor.of(target, _read("predictor.json")["targets"][target.name])
    if calibration == "networks":
        factor = _read("networks.json")["factors"].get(target.name)
        found = found.widened(math.inf if factor is None else max(1.0, factor))
    return found


@cache
def _read(name: str) -> Any:
    return json.loads(files("rankdeficit.control.dial").joinpath(name).read_text())
