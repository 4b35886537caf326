"""Training, measuring and diagnosing a job in its folder, resumable after a kill at any time."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from torch import nn

from rankdeficit.diagnostics.diagnose import diagnose
from rankdeficit.diagnostics.measures.probes import ProbeSettings
from rankdeficit.diagnostics.report import Report
from rankdeficit.distributed import buffers_from_first, from_first, is_first
from rankdeficit.experiments import tables
from rankdeficit.experiments.no_folder import NoFolder
from rankdeficit.experiments.runs import RunFolder, write_json
from rankdeficit.images import Images
from real_nets.jobs.data import JobData
from real_nets.jobs.folder import FINAL, OURS, JobFolder, milestone_name
from real_nets.jobs.job import Job
from real_nets.jobs.measures import Follower, final_measures, measured_at
from real_nets.jobs.opening import open_folder
from real_nets.jobs.records import FinalMeasures, Measured, Row, Summary
from real_nets.jobs.teacher import loss_of
from real_nets.jobs.trial import Trials
from real_nets.training.loop import DivergedError, Training

CHECKPOINT_SECONDS = 60.0
"""Interval of the checkpoints between measurements, after each of which there is one too."""

UNMEASURED = cast("FinalMeasures", dict.fromkeys(FinalMeasures.__annotations__))
"""The measures in the summary of a diverged network, all None."""

OnRow = Callable[[Row], None]
OnStep = Callable[[int], object]


def initial_network(job: Job, data: JobData) -> nn.Module:
    """The untrained network of a job, on the CPU."""
    return job.architecture(data.classes, data.inputs).build(job.seed)


def train_job(
    job: Job,
    data: JobData,
    path: Path,
    *,
    trials: Trials | None = None,
    on_step: OnStep = lambda step: None,
    on_row: OnRow = lambda row: None,
) -> Summary:
    """Train a job, from its last checkpoint if there is one; returns its summary.

    A finished job is left unchanged. trials: those passed before. on_step receives the number of steps
    done, on_row each measurement.
    Raises ValueError for a folder in use, with another job or of other data, for damaged files, and as
    `try_training` before anything is written.
    """
    if from_first(not JobFolder(path).begun):
        (trials or Trials()).check(job, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = open_folder(job, data, path) if is_first() else NoFolder()
    try:
        if from_first(JobFolder(path).finished):
            return JobFolder(path).summary
        summary = TrainingInFolder(job, data, path, folder, on_step, on_row).run()
        found: Summary = from_first(summary)  # others wait until all is written
        return found
    finally:
        folder.close()


class TrainingInFolder:
    """A training with its folder, which only the first process opens."""

    def __init__(
        self,
        job: Job,
        data: JobData,
        path: Path,
        folder: RunFolder | NoFolder,
        on_step: OnStep,
        on_row: OnRow,
    ) -> None:
        self.job, self.data, self.path, self.folder = job, data, path, folder
        self.on_step, self.on_row = on_step, on_row
        self.training = Training(
            initial_network(job, data),
            data.batches,
            job,
            temperature=job.temperature,
            seed=job.seed,
            device=data.device,
            criterion=loss_of(job, data),
        )
        per_epoch = self.training.batches.steps_per_epoch
        self.measured = measured_at(job.epochs, per_epoch)
        self.ends = {epoch * per_epoch for epoch in range(1, job.epochs + 1)}
        """Steps at the end of an epoch."""
        self.stops = sorted(self.measured | self.ends)
        self.reached: list[float] = []
        """Milestones reached so far."""
        self.stopped = False
        self.saved_at = time.monotonic()

    def run(self) -> Summary:
        """Train to the end, from the last checkpoint; returns the summary."""
        training = self.training
        follower = Follower(training.model, self.job, self.data)
        self.predicted_rank = tables.neural_collapse_rank(self.data.classes, follower.features)
        try:
            self.advance(follower)
        except DivergedError as error:
            sound = max((stop for stop in self.stops if stop < training.step), default=0)
            return self._conclude(sound, UNMEASURED, "diverged", str(error))
        training.model.eval()
        with self.as_trained(follower):
            measured = final_measures(
                follower.network, self.job, self.data, training.temperature_now
            )
        self._save_weights(FINAL)
        uniform = math.log(self.data.classes)
        loss, accuracy = measured["loss"], measured["accuracy"]
        outcome = tables.outcome(loss, accuracy, uniform, tables.INTERPOLATION)
        return self._conclude(training.step, measured, outcome)

    def advance(self, follower: Follower) -> None:
        """Train up to the last of `stops` from the last checkpoint. Raises DivergedError."""
        training, resumed = self.training, self._restore()
        self.on_step(training.step)
        for stop in [stop for stop in self.stops if stop > training.step or not resumed]:
            if self.stopped:
                break
            training.run_until(stop, self._after_step)
            buffers_from_first(training.model)
            self._check_finite(follower)
            with self.as_trained(follower):
                now = training.temperature_now
                row = follower.measure(now) if stop in self.measured else None
            if row and not stop:
                row["evaluation_logits_norm"] = follower.logits_norm()
            if stop in self.ends:
                self._note(row["accuracy"] if row else follower.accuracy(), follower)
            if row or self.stopped:
                self._record(row or follower.measure(now))
            self._save()

    def as_trained(self, follower: Follower) -> AbstractContextManager[None]:
        """In the first epoch, a context in which BatchNorm uses batch statistics, as training does."""
        early = self.training.step < min(self.ends, default=1)
        return follower.calibrated() if early else nullcontext()

    def _after_step(self, step: int) -> None:
        self.on_step(step)
        due = time.monotonic() - self.saved_at > CHECKPOINT_SECONDS
        if due and step not in self.stops and self._is_sound():
            self._save()

    def _is_sound(self) -> bool:
        """Whether all weights are finite; losses are not checked after every step."""
        weights = self.training.model.state_dict().values()
        return all(bool(value.isfinite().all()) for value in weights)

    def _check_finite(self, follower: Follower) -> None:
        """Raise DivergedError for non-finite logits after the last step, which no loss shows yet."""
        if not from_first(follower.is_finite()):
            raise self.training.diverged("the squared logits are", self.training.step)

    def _record(self, measured: Measured) -> None:
        training = self.training
        row: Row = {"step": training.step, "epoch": training.epoch, **measured}
        self.folder.append_rows([{**row}])
        self.on_row(row)

    def _note(self, accuracy: float, follower: Follower) -> None:
        """Write weights at newly reached milestones, and decide whether to stop early."""
        for milestone in sorted(self.job.milestones):
            if accuracy >= milestone and milestone not in self.reached:
                self.reached.append(milestone)
                self._save_weights(milestone_name(milestone))
        goal = self.job.stop_accuracy
        self.stopped = goal is not None and accuracy >= goal and follower.accuracy_on_all() >= goal

    def _save(self) -> None:
        state = {
            "training": self.training.state(),
            "reached": self.reached,
            "stopped": self.stopped,
        }
        self.folder.save_checkpoint(state)
        self.saved_at = time.monotonic()

    def _restore(self) -> bool:
        """Restore the last checkpoint; returns whether there was one."""
        found: list[dict[str, Any]] = []
        self.folder.restore_checkpoint("cpu", found.append)
        state = from_first(found[0] if found else None)
        if state is None:
            return False
        self.training.restore(state["training"])
        self.reached, self.stopped = list(state["reached"]), state["stopped"]
        return True

    def _save_weights(self, name: str) -> None:
        if is_first():
            JobFolder(self.path, name).write_weights(self.training.model.state_dict())

    def _conclude(
        self, step: int, measured: FinalMeasures, outcome: str, message: str | None = None
    ) -> Summary:
        """Write the summary of the network at `step`, the end or the last finite measurement."""
        summary: Summary = {
            "step": step,
            "epoch": step / self.training.batches.steps_per_epoch,
            "stopped_early": self.stopped,
            "milestones": sorted(self.reached),
            "classes": self.data.classes,
            "neural_collapse_rank": self.predicted_rank,
            "train_images": len(self.data.train),
            "test_images": len(self.data.test),
            **measured,
            "outcome": outcome,
            "last_temperature": self.training.temperature_now,
            "message": message,
        }
        self.folder.write_environment(self.data.device)
        self.folder.write_json("summary.json", summary)
        return summary


def note_seconds(path: Path, name: str, seconds: float) -> None:
    """Record the duration of a diagnosis in environment.json."""
    environment = JobFolder(path).environment  # not cached: training has just written it
    taken = environment.get("diagnosis_seconds", {}) | {name: round(seconds, 1)}
    write_json(path / "environment.json", environment | {"diagnosis_seconds": taken})


def diagnose_job(
    job: Job,
    data: JobData,
    path: Path,
    name: str = FINAL,
    on_progress: Callable[[str, int], None] | None = None,
) -> Report:
    """The report on weights of a trained job, read from its file or else made now.

    name: of the weights, or `diagnosis_name` for probes of a preset alone.

    Raises ValueError for damaged files, and for weights that were never kept.
    """
    files = JobFolder.named(path, name)
    if from_first(files.diagnosed):
        assert files.own_report is not None
        return Report(files.own_report)
    weights = files.read_weights()
    model = initial_network(job, data)
    model.load_state_dict(weights)
    count, started = job.diagnosed_images, time.monotonic()

    def own(images: Images) -> Images:
        return images.some(count).share()

    found = diagnose(
        model.to(data.device).eval(),
        own(data.train),
        own(data.test),
        {
            name: (own(data.ood_images(name, "train")), own(data.ood_images(name, "test")))
            for name in data.ood
        },
        files.last_temperature,
        measures=None if files.preset == OURS else ("effective_depth", "ood_drop"),
        probes=ProbeSettings(files.preset),
        gamma=job.gamma,
        loss=job.loss_of(model),
        on_progress=on_progress,
    )
    record = found.record
    conditions = {k: v for k, v in record["conditions"].items() if k != "seconds"}
    if count:
        conditions["images_of_each_split"] = count
    notes = [*record["notes"], *job.notes(files.last_temperature)]
    report = Report(record | {"conditions": conditions, "notes": notes})
    if is_first():
        report.to_json(files.report_file)
        note_seconds(path, name, time.monotonic() - started)
    from_first(None)  # others wait until all is written
    return report
