"""Types of the records in a job's folder; fields have their names in the JSON files.

Rank curves and ranks of layers are keyed by the threshold gamma.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from real_nets.data.images import Card
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
    """A `LogitsRow` with all singular values of the logits."""

    singular_values: list[float]


class Measured(LogitsRow):
    """Measures of the followed images at one step of a training."""

    temperature: NotRequired[float]
    """Softmax temperature at this step; absent from earlier records, like the summary's."""
    test_accuracy: float
    test_loss: float
    alignment: float | None
    layer_alignments: list[float | None]
    layer_ranks: LayerRanks
    layer_singular_values: list[list[float]]
    ortho_dev: dict[str, float | None]
    evaluation_logits_norm: NotRequired[float]
    """Of the untrained network, with BatchNorm's running averages; absent from earlier records."""


class Row(Measured):
    """A line of metrics.jsonl."""

    step: int
    epoch: float


class FinalMeasures(LogitsRecord):
    """Measures of the trained network on all train images (`test_*`: on all test images).

    Ranks of layers are those of test images, unless their name says otherwise.
    """

    test_accuracy: float
    test_loss: float
    test_logits: LogitsRecord
    layers: list[str]
    layer_ranks: LayerRanks
    layer_rank_intervals: dict[str, list[list[int]]]
    train_layer_ranks: LayerRanks


class Summary(FinalMeasures):
    """summary.json. If training diverged, all of `FinalMeasures` is None."""

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
    last_temperature: NotRequired[float]
    """Softmax temperature at the end of training, at which the network is measured."""
    message: str | None
    """The error that stopped a diverged training."""


class Cards(TypedDict, total=False):
    """Cards of all data sets of a job; empty in the earliest records."""

    own: Card
    ood: dict[str, Card]


@dataclass(frozen=True)
class JobSettings:
    """settings.json."""

    job: Job
    cards: Cards
    root: Path | None
    """Folder that held the data sets."""

    @classmethod
    def of(cls, record: dict[str, Any]) -> "JobSettings":
        """The settings of a record read from JSON; options missing in older records have their defaults.

        Raises KeyError, TypeError or ValueError for malformed records.
        """
        root = record.get("root")
        return cls(Job.of(record["job"]), record.get("data", {}), root and Path(root))


class Environment(TypedDict, total=False):
    """environment.json, which may differ between equal runs."""

    python: str
    torch: str
    platform: str
    device: str
    device_name: str
    threads: int
    processes: int
    wall_seconds_of_last_process: float
    diagnosis_seconds: dict[str, float]
    """Keyed by the name of the weights."""
