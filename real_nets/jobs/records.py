"""Records in a job's folder: fields have the names that its JSON files give them.

Curves of ranks, and ranks of layers, are keyed by the threshold gamma.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from real_nets.jobs.job import Job

Ranks = dict[str, int]
LayerRanks = dict[str, list[int]]


class LogitsRow(TypedDict):
    """Accuracy, mean loss and the logits' measures (`LogitsMeasures`) on one set of images."""

    accuracy: float
    loss: float
    rank: int
    rank_interval: list[int]
    rank_curve: Ranks
    centred_rank: int
    centred_rank_interval: list[int]
    centred_rank_curve: Ranks
    post_softmax_rank: int
    post_softmax_rank_curve: Ranks
    stable_rank: float
    effective_rank: float
    logits_norm: float
    effective_logits_norm: float


class LogitsRecord(LogitsRow):
    """The same with all singular values."""

    singular_values: list[float]


class Measured(LogitsRow):
    """Measures of the followed images, at one step of a training."""

    test_accuracy: float
    test_loss: float
    alignment: float | None
    layer_alignments: list[float | None]
    layer_ranks: LayerRanks
    layer_singular_values: list[list[float]]
    ortho_dev: dict[str, float | None]


class Row(Measured):
    """A line of metrics.jsonl."""

    step: int
    epoch: float


class FinalMeasures(TypedDict):
    """Measures of all train images (and test images, `test_*`) at the end; None if training diverged.

    Layers' ranks are of test images, unless their name says otherwise.
    """

    accuracy: float | None
    loss: float | None
    test_accuracy: float | None
    test_loss: float | None
    test_logits: LogitsRecord | None
    layers: list[str] | None
    layer_ranks: LayerRanks | None
    layer_rank_intervals: dict[str, list[list[int]]] | None
    train_layer_ranks: LayerRanks | None
    rank: int | None
    rank_interval: list[int] | None
    rank_curve: Ranks | None
    centred_rank: int | None
    centred_rank_interval: list[int] | None
    centred_rank_curve: Ranks | None
    post_softmax_rank: int | None
    post_softmax_rank_curve: Ranks | None
    stable_rank: float | None
    effective_rank: float | None
    logits_norm: float | None
    effective_logits_norm: float | None
    singular_values: list[float] | None


class Summary(FinalMeasures):
    """summary.json."""

    step: int
    epoch: float
    stopped_early: bool
    milestones: list[float]
    classes: int
    neural_collapse_rank: int
    train_images: int
    test_images: int
    outcome: str
    """Of `rankdeficit.experiments.tables.outcome`: "interpolated", "diverged", ..."""
    message: str | None
    """What made training diverge."""


class Card(TypedDict):
    """A data set, as `Dataset.card` describes it."""

    name: str
    train_images: int
    test_images: int
    classes: int
    image_size: list[int]
    skipped: int
    """Images that could not be read."""
    fingerprint: str


class Cards(TypedDict, total=False):
    """All data sets of a job; empty in the earliest records."""

    own: Card
    ood: dict[str, Card]


@dataclass(frozen=True)
class JobSettings:
    """settings.json."""

    job: Job
    cards: Cards
    root: Path | None
    """Folder that the data sets were in."""

    @classmethod
    def of(cls, record: dict[str, Any]) -> "JobSettings":
        """From JSON; options that an older record lacks have their defaults.

        Raises KeyError, TypeError or ValueError for anything else.
        """
        root = record.get("root")
        return cls(Job.of(record["job"]), record.get("data", {}), root and Path(root))


class Environment(TypedDict, total=False):
    """environment.json: what may differ between equal runs."""

    python: str
    torch: str
    platform: str
    device: str
    device_name: str
    threads: int
    processes: int
    wall_seconds_of_last_process: float
    diagnosis_seconds: dict[str, float]
    """By the name of the weights."""
