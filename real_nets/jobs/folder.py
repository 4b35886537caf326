"""The folder of a job, and typed access to its files.

    settings.json            the job, and the identity of its data
    metrics.jsonl            measurements during training, one per row
    checkpoint.pt            the last training state; checkpoint.previous.pt is the one before
    accuracy-0.9.safetensors weights when the accuracy on followed train images first reached 0.9
    weights.safetensors      final weights
    summary.json             measures of the trained network on all images, written when training ends
    diagnoses/NAME.json      report on the weights of that name (`final` or `accuracy-0.9`)
    diagnoses/NAME+PRESET.json   its probes under another preset than `converged`
    environment.json         versions, device and seconds, which may differ between equal runs

Under torchrun, only the first process writes to it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.diagnostics.report import Report, records
from rankdeficit.experiments.runs import (
    read_json,
    read_rows,
    write_atomically,
)
from rankdeficit.spectrum import Convention
from real_nets.jobs.job import Job
from real_nets.jobs.records import Cards, Environment, JobSettings, Row, Summary

PROGRAM = "real_nets.job"
"""Name of the program in settings.json, the same since the first version."""

FINAL = "final"
"""Name of the final weights."""

OURS: Preset = "converged"
"""Preset of probes of a whole diagnosis."""

RECREATE = "delete {} and resume, which recreates both from the checkpoint"

Curve = Literal["rank_curve", "centred_rank_curve", "post_softmax_rank_curve"]

RANKS: Mapping[Convention, str] = {
    "matrix": "rank",
    "class-centred": "centred_rank",
    "sample-centred": "sample_centred_rank",
    "covariance": "covariance_rank",
}
"""Names of the ranks of the logits in records."""


def diagnosis_name(snapshot: str, preset: Preset) -> str:
    """Name of a diagnosis of these weights with probes of a preset."""
    return snapshot if preset == OURS else f"{snapshot}+{preset}"


def milestone_name(accuracy: float) -> str:
    """Name of the weights kept at a train accuracy."""
    return f"accuracy-{accuracy:g}"


@dataclass(frozen=True)
class JobFolder:
    """Read access to the folder of a job, and to the measures of its weights `snapshot`.

    Each file is read once, on first access. Damaged files raise ValueError naming file and remedy.
    """

    path: Path
    snapshot: str = FINAL
    preset: Preset = OURS
    """Preset of the probes that are read."""
    convention: Convention = "matrix"
    """Convention of `rank`."""

    @classmethod
    def named(cls, path: Path, name: str) -> "JobFolder":
        """The job with the weights and the preset of a diagnosis."""
        snapshot, _, preset = name.partition("+")
        return cls(path, snapshot, preset or OURS)  # type: ignore[arg-type]

    @classmethod
    def finished_at(
        cls, path: Path, preset: Preset = OURS, convention: Convention = "matrix"
    ) -> "JobFolder | None":
        """The folder of a finished job; None if it is not finished.

        Raises ValueError for damaged settings, summary or rows.
        """
        found = cls(path, FINAL, preset, convention)
        if not found.finished:
            return None
        _ = found.settings, found.summary, found.rows  # reads and checks them
        return found

    def at(self, snapshot: str) -> "JobFolder":
        """The same job with other weights; files already read are shared."""
        found = replace(self, snapshot=snapshot)
        own = ("snapshot", "report", "own_report")
        vars(found).update({name: value for name, value in vars(self).items() if name not in own})
        return found

    @property
    def key(self) -> str:
        """Name of the folder; within a store, the key of the job."""
        return self.path.name

    @property
    def begun(self) -> bool:
        """Whether the job was started."""
        return (self.path / "settings.json").is_file()

    @property
    def finished(self) -> bool:
        """Whether training has ended, by divergence included."""
        return (self.path / "summary.json").is_file()

    @property
    def diagnosed(self) -> bool:
        """Whether these weights were diagnosed with this preset."""
        return self.report_file.is_file()

    @property
    def diverged(self) -> bool:
        """Whether training stopped at a non-finite loss."""
        return self.summary["outcome"] == "diverged"

    @property
    def weights_file(self) -> Path:
        """File of these weights."""
        name = "weights" if self.snapshot == FINAL else self.snapshot
        return self.path / f"{name}.safetensors"

    @property
    def report_file(self) -> Path:
        """File of the report on these weights, or on its probes under another preset."""
        return self.path / "diagnoses" / f"{diagnosis_name(self.snapshot, self.preset)}.json"

    @cached_property
    def settings(self) -> JobSettings:
        """The job, and the identity of its data."""
        file = self.path / "settings.json"
        try:
            return JobSettings.of(read_json(file)["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file} is damaged or of another version ({error}); restore it, or delete the folder "
                f"{self.path} to train again"
            ) from error

    @property
    def job(self) -> Job:
        """The job."""
        return self.settings.job

    @property
    def last_temperature(self) -> float:
        """Softmax temperature at the end of training, that of all its diagnoses."""
        planned = self.job.temperature_after(self.job.temperature, 1, 1)
        return self.summary.get("last_temperature", planned) if self.finished else planned

    @property
    def notes(self) -> list[str]:
        """Notes on its training for a diagnosis."""
        return self.job.notes(self.last_temperature)

    @property
    def cards(self) -> Cards:
        """Cards of its data sets: `own`, and `ood` by name."""
        return self.settings.cards

    @cached_property
    def summary(self) -> Summary:
        """Measures of the trained network on all images."""
        found: Any = None
        with suppress(ValueError):
            found = read_json(self.path / "summary.json")
        if not isinstance(found, dict) or "outcome" not in found:
            raise ValueError(
                f"{self.path / 'summary.json'} is damaged; delete it to measure the network again"
            )
        return found  # type: ignore[return-value]

    @cached_property
    def rows(self) -> list[Row]:
        """Measurements during training; of a finished job, from the first step to the last."""
        rows: list[Any] = read_rows(self.path)
        steps = [row.get("step") if isinstance(row, dict) else None for row in rows]
        whole = not steps or steps[0] == 0
        if self.finished and not self.diverged:  # a diverged network's rows may stop earlier
            whole = steps[:1] == [0] and steps[-1] == self.summary.get("step")
        if self.finished and not whole:
            raise ValueError(
                f"{self.path / 'metrics.jsonl'} is damaged: rows were lost; delete the folder "
                f"{self.path} to train again"
            )
        return rows

    @cached_property
    def environment(self) -> Environment:
        """Versions, device and seconds; empty if not recorded."""
        file = self.path / "environment.json"
        if not file.is_file():
            return {}
        found: Any = None
        with suppress(ValueError):
            found = read_json(file)
        if not isinstance(found, dict) or not isinstance(found.get("diagnosis_seconds", {}), dict):
            raise ValueError(f"{file} is damaged; delete it, and pages will show it as unknown")
        return found  # type: ignore[return-value]

    @cached_property
    def report(self) -> records.Row | None:
        """The record of the diagnosis of these weights; None if there is none.

        Probes, kappa and rho are of the preset, and left out where it was not tried.
        """
        if self.preset != OURS:
            whole = replace(self, preset=OURS).report
            return whole and records.with_probes_of(whole, self.own_report)
        return self.own_report

    @cached_property
    def own_report(self) -> records.Row | None:
        """The record of `report_file`; None if there is none."""
        if not self.diagnosed:
            return None
        try:
            return Report.from_json(self.report_file).record
        except ValueError as error:
            raise ValueError(f"{error}; delete it to diagnose the network again") from error

    def read_weights(self) -> dict[str, Tensor]:
        """Load these weights. Raises ValueError with the remedy if they are missing or damaged."""
        file, mend = self.weights_file, f"delete the folder {self.path} to train again"
        if not file.is_file():
            mend = mend if self.snapshot != FINAL else RECREATE.format("summary.json")
            lost = f": {file.name} is missing; {mend}" if self._kept() else ""
            raise ValueError(f"{self.path} keeps no weights called {self.snapshot}{lost}")
        try:
            return safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            mend = mend if self.snapshot != FINAL else RECREATE.format("it and summary.json")
            raise ValueError(f"{file} cannot be read: it is damaged ({error}); {mend}") from error

    def write_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Write these weights atomically."""
        whole = {name: value.contiguous() for name, value in weights.items()}
        write_atomically(self.weights_file, safetensors.torch.save(whole))

    def _kept(self) -> bool:
        """Whether training has written these weights."""
        if not self.finished:
            return False
        if self.snapshot == FINAL:
            return not self.diverged
        return self.snapshot in map(milestone_name, self.summary["milestones"])

    @cached_property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the network's images; None if not recorded."""
        asked = self.job.image_size
        kept = self.cards["own"].get("image_size") if "own" in self.cards else None
        height, width = kept or (asked, asked)
        return (height, width) if height and width else None

    def found(self, name: str) -> Any:
        """What the report has under a dotted name; None if nothing."""
        found = records.find(self.report, name) if self.report else None
        return None if found is records.MISSING else found

    def measure(self, name: str) -> float | None:
        """A number of the report by its dotted name; None if it has none."""
        found = self.found(name)
        return None if found is None else float(found)

    @property
    def train_accuracy(self) -> float | None:
        """Accuracy on all train images; of weights before the end, on the diagnosed ones."""
        at_end = self.snapshot == FINAL
        return self.summary.get("accuracy") if at_end else self.measure("train.accuracy")

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy on all test images; of weights before the end, on the diagnosed ones."""
        at_end = self.snapshot == FINAL
        return self.summary.get("test_accuracy") if at_end else self.measure("test.accuracy")

    @property
    def rank(self) -> float | None:
        """Rank of the logits under this convention; see `rank_under`."""
        return self.rank_under(self.convention)

    def rank_under(self, convention: Convention) -> float | None:
        """Rank of the logits on the images of `train_accuracy`.

        Sample-centred and covariance ranks are on the diagnosed images, as no summary has them.
        """
        name = RANKS[convention]
        if self.snapshot == FINAL and name in self.summary:
            found: Any = self.summary.get(name)
            return None if found is None else float(found)
        return self.measure(f"train.logits.{name}")

    def ranks(self, curve: Curve) -> dict[float, int]:
        """Rank of the same logits by threshold gamma."""
        found: dict[str, int] | None = None
        if self.snapshot == FINAL:
            found = self.summary.get(curve)
        elif self.report:
            found = self.report["train"]["logits"][curve]
        return {float(gamma): rank for gamma, rank in (found or {}).items()}

    @property
    def effective_depth(self) -> float | None:
        """Effective depth kappa."""
        return self.measure("effective_depth.value")

    @property
    def probe_accuracies(self) -> Tensor | None:
        """Test accuracies of the linear probes, one per layer."""
        found = records.probe_accuracies(self.report) if self.report else []
        return torch.tensor(found, dtype=torch.float64) if found else None

    def ood_drop(self, ood: str) -> float | None:
        """OOD drop rho on an out-of-distribution set."""
        return self.measure(f"ood_drop.{ood}.value")

    def best_ood_accuracy(self, ood: str) -> float | None:
        """Highest accuracy, over layers, of the probes of an out-of-distribution set."""
        layers = self.report["layers"] if self.report else []
        probes = [layer["ood_probes"].get(ood) for layer in layers]
        return max((float(probe["accuracy"]) for probe in probes if probe), default=None)

    def neco(self, ood: str, measure: str = "auroc") -> float | None:
        """A measure of NECO on an OOD set, in its authors' variant for this kind of network."""
        if not self.report:
            return None
        return self.measure(f"detection.{ood}.{records.default_neco(self.report)}.{measure}")
