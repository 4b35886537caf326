"""What a pilot tells: the first share of a training, seen through its train logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_temperature
from rankdeficit.diagnostics.measures.depth import effective_depth
from rankdeficit.diagnostics.measures.probes import fit_probe, predict
from rankdeficit.softmax import cross_entropy
from rankdeficit.spectrum import GAMMAS, resolved_spectrum

LEFT = 0.9
"""A pilot has left its start when its loss is below this share of ln c."""


@dataclass(frozen=True)
class Point:
    """The train logits M (n, c) after some steps of a training at temperature T."""

    step: int
    ranks: tuple[int, ...]
    """Class-centred numerical rank at each of GAMMAS."""
    norm: float
    """Effective norm ||M||_F / (sqrt(n) T)."""
    loss: float
    """Mean cross-entropy of M / T."""
    accuracy: float

    def __post_init__(self) -> None:
        check_at_least(0, step=self.step)
        if len(self.ranks) != len(GAMMAS):
            raise ValueError(
                f"ranks has {len(self.ranks)} values; give the class-centred rank at each of {GAMMAS}"
            )
        for name in ("norm", "loss", "accuracy"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"{name} is {value} at step {self.step}; it must be finite and not negative. Return "
                    "None for a pilot that diverged"
                )


@dataclass(frozen=True)
class Pilot:
    """A pilot at a temperature.

    width: dimension of what the layer of the logits reads, or of any narrower layer below it.
    layers: number of weight layers, the classifier included.
    share: share of the training's steps that the pilot has done.
    points: of the pilot in the order of their steps: before the first step, some between, the last step.
    """

    temperature: float
    classes: int
    width: int
    layers: int
    share: float
    points: tuple[Point, ...]
    depth: float | None = None
    """Effective depth on train samples at its end (`pilot_depth`), from which that of the trained network
    is predicted."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_at_least(2, classes=self.classes)
        check_at_least(1, width=self.width, layers=self.layers)
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must lie in (0, 1]")
        if self.depth is not None and not 0 < self.depth <= 1:
            raise ValueError(f"depth is {self.depth}; it must lie in (0, 1]")
        steps = [point.step for point in self.points]
        if len(steps) < 2 or steps != sorted(set(steps)) or steps[0] != 0:
            raise ValueError(
                f"points are of steps {steps}; give at least two, in order, the first of step 0"
            )

    @property
    def full_rank(self) -> int:
        """Largest class-centred rank of the logits, min(c - 1, width)."""
        return min(self.classes - 1, self.width)

    @property
    def left(self) -> bool:
        """Whether the training has left its start: the loss is clearly below ln c, that of guessing."""
        return self.points[-1].loss < LEFT * math.log(self.classes)


def point_of(
    logits: Float[Tensor, "n c"],
    labels: Int64[Tensor, " n"],
    temperature: float,
    step: int,
) -> Point:
    """The point of a training whose network gives these logits on (some of) its train samples.

    Raises ValueError as `cross_entropy`, and for fewer than two samples, of which a rank says nothing.
    """
    check_floating("logits", logits, 2)
    if len(logits) < 2:
        raise ValueError(
            f"logits are of {len(logits)} sample; measure a pilot on hundreds of train samples"
        )
    logits = logits.detach()
    loss = float(cross_entropy(logits.double(), labels, temperature))
    ranks = resolved_spectrum(logits, GAMMAS, centred=True).rank_curve()
    norm = float(logits.double().norm()) / math.sqrt(len(logits)) / temperature
    accuracy = float((logits.argmax(dim=-1) == labels).double().mean())
    return Point(step, tuple(ranks.tolist()), norm, loss, accuracy)


def pilot_depth(
    layers: Sequence[Float[Tensor, "n _"]], labels: Int64[Tensor, " n"]
) -> float | None:
    """Effective depth on train samples: probes are fitted on two thirds and tested on the others.

    layers: the representation after each weight layer, the logits last, of samples in random order or
    sorted by class. None where these samples are too few for it.
    """
    labels = labels.to(layers[0].device)
    held_out = torch.arange(len(labels), device=labels.device) % 3 == 2
    fitted, tested = labels[~held_out], labels[held_out]
    if len(tested) == 0 or len(fitted.unique()) < 2:
        return None
    flat = [own.flatten(1).float() for own in layers]
    return probed_depth(
        [own[~held_out] for own in flat], fitted, [own[held_out] for own in flat], tested
    )


def probed_depth(
    train: Sequence[Float[Tensor, "n _"]],
    labels: Int64[Tensor, " n"],
    test: Sequence[Float[Tensor, "m _"]],
    test_labels: Int64[Tensor, " m"],
) -> float:
    """Effective depth by linear probes of each layer, fitted on train and tested on test samples."""
    classes = int(max(labels.max(), test_labels.max())) + 1
    accuracies = []
    for fitted, tested in zip(train, test, strict=True):
        right = predict(fit_probe(fitted, labels, classes), tested) == test_labels
        accuracies.append(float(right.double().mean()))
    return float(effective_depth(torch.tensor(accuracies, dtype=torch.float64)))


def measured_steps(last: int) -> list[int]:
    """Steps of a pilot at which to measure: 0, the powers of 4 and the last one."""
    return [0, *(4**i for i in range(16) if 4**i < last), last]


def last_step(steps: int, share: float) -> int:
    """Number of steps of a pilot that is this share of a training of `steps` steps."""
    check_at_least(1, steps=steps)
    return max(1, math.ceil(share * steps - 1e-9))
