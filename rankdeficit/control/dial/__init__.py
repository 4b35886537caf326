"""The dial: the temperature at which a training ends with a given rank or effective depth."""

from rankdeficit.control.dial.answer import Answer, dial
from rankdeficit.control.dial.pilots import (
    Pilot,
    Point,
    last_step,
    measured_steps,
    pilot_depth,
    point_of,
)
from rankdeficit.control.dial.predictor import Example, Prediction, Predictor, Target
from rankdeficit.control.dial.stored import stored_predictor

__all__ = [
    "Answer",
    "Example",
    "Pilot",
    "Point",
    "Prediction",
    "Predictor",
    "Target",
    "dial",
    "last_step",
    "measured_steps",
    "pilot_depth",
    "point_of",
    "stored_predictor",
]
