"""What a training started from and what it ended with: rows of toys and of a table of networks."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from rankdeficit.control.dial.pilots import LEFT
from rankdeficit.experiments.settings import Row
from rankdeficit.spectrum import GAMMAS
from simulations.dial.toys import Toys, Training

SOURCES = {"ufm": "deep UFM", "mlp": "perceptron"}

NUMBERS = (
    "norm", "temperature", "lr", "decay", "depth", "width", "classes", "steps_after", "rank",
    "full_rank",
)  # fmt: skip
"""Columns of numbers: initial effective norm, T, peak learning rate, weight decay, number of weight
layers (factors of a UFM), width of what the classifier reads, classes, steps after the loss was first
measured below 90 % of ln c (empty where it was not recorded), class-centred rank of the train logits at
the end, and the largest that it can be."""
COLUMNS = ("source", "group", "optimizer", "homogeneous", *NUMBERS)
"""group: configurations that differ in temperature, seed or scale alone. homogeneous: whether scaling all
weights by a scales the logits by a^depth, so that temperature has an exact equivalent."""


def follow(toys: Toys, batch: int, gamma: float, device: torch.device) -> Iterator[Row]:
    """Train a batch; a row for each run that does not diverge. Raises ValueError for unknown gammas."""
    if gamma not in GAMMAS:
        raise ValueError(f"gamma is {gamma}; it must be one of {GAMMAS}")
    shape = toys.shape
    measured = {0, shape.steps, *(round(2 ** (k / 2)) for k in range(2 * shape.steps.bit_length()))}
    training = Training(toys, device)
    points = []
    for step in range(shape.steps + 1):
        if step in measured:
            points.append(training.points(step))
        if step < shape.steps:
            training.step(step)
    for run, own in zip(toys.runs, zip(*points, strict=True), strict=True):
        alive = [point for point in own if point is not None]
        if len(alive) < len(own):
            continue
        left = [p["step"] for p in alive if p["loss"] < LEFT * math.log(shape.classes)]
        yield {
            "source": SOURCES[shape.kind],
            "group": f"{shape.kind} {batch}.{run.number}",
            "optimizer": shape.optimizer,
            "homogeneous": shape.activation != "tanh" and shape.normalisation == "none",
            "norm": alive[0]["norm"],
            "temperature": run.temperature,
            "lr": run.lr,
            "decay": run.decay,
            "depth": shape.depth + (shape.kind == "ufm"),
            "width": shape.width,
            "classes": shape.classes,
            "steps_after": shape.steps - left[0] if left else 0,
            "rank": alive[-1]["ranks"][GAMMAS.index(gamma)],
            "full_rank": min(shape.classes - 1, shape.width),
        }


def read_networks(path: Path, gamma: float) -> list[Row]:
    """Rows of a CSV file with the columns COLUMNS and `gamma`, whose values must be this one.

    Raises ValueError for a file that cannot be read, lacks a column, or has values out of range.
    """
    try:
        with path.open(newline="") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"networks {path} cannot be read ({error}); name a CSV file") from error
    lacking = {*COLUMNS, "gamma"} - set(found[0] if found else {})
    if lacking:
        raise ValueError(f"networks {path} lacks the columns {', '.join(sorted(lacking))}")
    return [_network(row, line, path, gamma) for line, row in enumerate(found, start=2)]


def _network(row: dict[str, str], line: int, path: Path, gamma: float) -> Row:
    where = f"networks {path}, line {line}"
    try:
        empty = ("steps_after",) if row["steps_after"] == "" else ()
        numbers = {name: float(row[name]) for name in NUMBERS if name not in empty}
        own_gamma = float(row["gamma"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}; give a number in every such column") from error
    if own_gamma != gamma:
        raise ValueError(f"{where}: gamma is {own_gamma:g}; pass --gamma {own_gamma:g}")
    positive = set(NUMBERS) - {"decay", "steps_after", "rank"}
    for name, value in numbers.items():
        if not (math.isfinite(value) and (value > 0 if name in positive else value >= 0)):
            raise ValueError(f"{where}: {name} is {value:g}; it must be finite and positive")
    own = {name: row[name] for name in ("source", "group", "optimizer")}
    told = {"homogeneous": row["homogeneous"] == "True", **dict.fromkeys(empty), **numbers}
    return own | told
