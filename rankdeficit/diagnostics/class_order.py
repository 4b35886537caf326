"""Whether the labels of the data are in the order of classes in which a network was trained."""

import math

import torch
from jaxtyping import Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rankdeficit.diagnostics.reading.survey import Survey

MOST_CLASSES = 2_000
"""Classes up to which orders are compared: the best one takes a matrix of all pairs."""

TIMES = 3
"""How many times as often a network is right in another order, from which it is noted."""

GAIN, ERRORS = 0.05, 5
"""How much more often it is right at least, also in standard errors."""

SHARE = 0.8
"""Share of the moved classes that must gain; untrained networks predict only some classes."""


def order_note(train: Survey, test: Survey, classes: int) -> str | None:
    """A note on another order of the classes that fits the network's predictions far better.

    The order with the most right predictions on the train samples is judged on test samples, of the
    classes that it moves. None where it moves none, or is hardly better there.
    """
    if classes > MOST_CLASSES:
        return None
    order = best_order(train.labels, train.predictions, classes)
    moved = order[test.labels] != test.labels
    labels, predictions = test.labels[moved], test.predictions[moved]
    if not len(labels):
        return None
    before, after = (
        labels[predictions == wanted].bincount(minlength=classes)
        for wanted in (labels, order[labels])
    )
    least, found = (float(right.sum()) / len(labels) for right in (before, after))
    least = max(TIMES * least, least + GAIN, least + ERRORS * math.sqrt(found / len(labels)))
    gaining = int((after > before).sum()) / len(labels.unique())
    if found < least or gaining < SHARE:
        return None
    first = int(labels.min())
    right = float((test.predictions == order[test.labels]).double().mean())
    return (
        f"in another order of classes the network is right on {right:.1%} of the test samples instead of "
        f"{test.accuracy:.1%} (samples of class {first} are its class {int(order[first])}, say); if it "
        "was trained with another order of labels, all numbers by class are wrong here"
    )


def best_order(
    labels: Int64[Tensor, " n"], predictions: Int64[Tensor, " n"], classes: int
) -> Int64[Tensor, " classes"]:
    """Which class is predicted for each class, one for one, on most samples; its own where equal."""
    pairs = (labels * classes + predictions).bincount(minlength=classes**2)
    counts = pairs.view(classes, classes).double() + torch.eye(classes) / 2
    return torch.from_numpy(linear_sum_assignment(counts.numpy(), maximize=True)[1])
