"""What the jobs of a store measured, read from their files alone."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankdeficit.diagnostics.report import records
from rankdeficit.experiments.runs import read_json
from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.jobs.job import Job

Row = dict[str, Any]

DEFAULTS = Job().record()
"""Options of jobs that were trained before these existed."""
OF_RUNS = ("model", "data", "temperature", "seed")
"""Options that runs have under names of their own, or in which seeds and temperatures differ."""


@dataclass(frozen=True)
class Outcome:
    """One trained network, at the end of its training or when it first reached an accuracy."""

    key: str
    path: Path
    job: Row
    summary: Row
    rows: list[Row]
    """Measures during training."""
    snapshot: str = FINAL

    @classmethod
    def read(cls, path: Path) -> "Outcome | None":
        """From a job's folder; None unless it came to an end. Raises ValueError naming a damaged file."""
        files = JobFolder(path)
        if not files.finished:
            return None
        job = _job_record(path / "settings.json")
        return cls(path.name, path, job, files.summary(), files.rows())

    @property
    def diverged(self) -> bool:
        """Whether training broke off with a loss that was no number."""
        return bool(self.summary["outcome"] == "diverged")

    @cached_property
    def report(self) -> Row | None:
        """The diagnosis; None where there is none."""
        files = JobFolder(self.path)
        if not files.diagnosis(self.snapshot).is_file():
            return None
        return files.report(self.snapshot).record

    @cached_property
    def environment(self) -> Row:
        """Versions, device, seconds."""
        return JobFolder(self.path).environment()

    @cached_property
    def cards(self) -> Row:
        """What its data sets were: `own`, and those out of distribution by name below `ood`."""
        found: Row = read_json(self.path / "settings.json")["settings"].get("data", {})
        return found

    @cached_property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the network's images, as far as that was kept."""
        asked = self.job["image_size"]
        height, width = self.cards.get("own", {}).get("image_size") or (asked, asked)
        return (height, width) if height and width else None

    def at(self, snapshot: str) -> "Outcome":
        """The same network at another time of its training."""
        return replace(self, snapshot=snapshot)

    def measure(self, name: str) -> float | None:
        """A number of the diagnosis by its dotted name."""
        found = records.find(self.report, name) if self.report else None
        return None if found in (None, records.MISSING) else float(found)

    @property
    def train_accuracy(self) -> float | None:
        """On all train images at the end, on diagnosed ones else."""
        if self.snapshot == FINAL:
            found: float | None = self.summary.get("accuracy")
            return found
        return self.measure("train.accuracy")

    @property
    def test_accuracy(self) -> float | None:
        """On all test images at the end, on diagnosed ones else."""
        if self.snapshot == FINAL:
            found: float | None = self.summary.get("test_accuracy")
            return found
        return self.measure("test.accuracy")

    @property
    def rank(self) -> float | None:
        """Rank of the logits of all train images at the end, of the diagnosed ones else."""
        if self.snapshot == FINAL:
            found = self.summary.get("rank")
            return None if found is None else float(found)
        return self.measure("train.logits.rank")

    def ranks(self, kind: str) -> dict[float, int]:
        """Rank by gamma: `rank_curve`, `centred_rank_curve` or `post_softmax_rank_curve`."""
        if self.snapshot == FINAL:
            curve = self.summary.get(kind)
        else:
            curve = self.report["train"]["logits"][kind] if self.report else None
        return {float(gamma): rank for gamma, rank in (curve or {}).items()}

    @property
    def effective_depth(self) -> float | None:
        """kappa."""
        return self.measure("effective_depth.value")

    @property
    def probe_accuracies(self) -> Tensor | None:
        """Accuracies (layers) of the probes on test images."""
        found = records.probe_accuracies(self.report) if self.report else []
        return torch.tensor(found, dtype=torch.float64) if found else None

    def ood_drop(self, name: str) -> float | None:
        """rho on an out-of-distribution set."""
        return self.measure(f"ood_drop.{name}.value")

    def best_ood_accuracy(self, name: str) -> float | None:
        """The best layer's accuracy of the probes of an out-of-distribution set."""
        layers = self.report["layers"] if self.report else []
        probes = [layer["ood_probes"].get(name) for layer in layers]
        return max((float(probe["accuracy"]) for probe in probes if probe), default=None)

    def ood_accuracy(self, name: str) -> float | None:
        """Accuracy of the last layer's probe of an out-of-distribution set."""
        layers = self.report["layers"] if self.report else []
        probe = layers[-1]["ood_probes"].get(name) if layers else None
        return probe and float(probe["accuracy"])

    def neco(self, name: str, measure: str = "auroc") -> float | None:
        """NECO, in the variant of its authors for this network, on an out-of-distribution set."""
        if not self.report:
            return None
        return self.measure(f"detection.{name}.{records.default_neco(self.report)}.{measure}")

    @property
    def run(self) -> Row:
        """As figures take it."""
        report = self.report
        options = {name: value for name, value in self.job.items() if name not in OF_RUNS}
        return {
            "label": f"{self.job['model']} {self.job['data']}",
            "temperature": self.job["temperature"],
            "seed": self.job["seed"],
            "network": self.job["model"],
            "data": self.job["data"],
            "options": options | {"image_size": self.image_size},
            "layers": len(report["layers"]) if report else len(self.summary.get("layers") or []),
            "rows": self.rows,
            "report": report,
        }


def _job_record(file: Path) -> Row:
    """The job's options, those that did not exist yet at their defaults."""
    try:
        return DEFAULTS | read_json(file)["settings"]["job"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is damaged; restore it, or delete the folder {file.parent} to train again"
        ) from error
