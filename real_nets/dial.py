"""The temperature at which a training ends with a given rank or effective depth, found by short pilots.

    python -m real_nets.dial --model resnet20 --data FOLDER --target-rank 40
    python -m real_nets.dial --model mlp --data cifar10 --root ROOT --target-depth 0.5 --train

The options of real_nets.train apply to the training. Each pilot is the first part of a training at one
temperature, in a folder such as T10-seed0 of the run; --train resumes that of the chosen temperature.
"""

from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as distributed

from rankdeficit.control.dial import Answer, Pilot, Point, dial, last_step, pilot_depth
from rankdeficit.control.dial.answer import (
    TEMPERATURES,
    check_rank,
    check_target,
    check_temperatures,
    spell,
)
from rankdeficit.control.dial.figure import draw_answer
from rankdeficit.control.dial.networks import pilot_of
from rankdeficit.control.dial.stored import Calibration
from rankdeficit.diagnostics.diagnose import diagnose
from rankdeficit.diagnostics.reading.needs import Rows, Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.reading.streams import LOGITS, LOSS
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.reading.unfolding import weight_matrix
from rankdeficit.experiments import cli
from rankdeficit.experiments.figure_style import default_style, save
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.runs import RunFolder, check_new, read_json, write_json
from rankdeficit.experiments.tables import print_sentences
from rankdeficit.spectrum import GAMMAS
from real_nets import train
from real_nets.data.catalogue import listing
from real_nets.jobs.data import JobData
from real_nets.jobs.execute import Execution, Work, train_here
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job, JobOptions
from real_nets.jobs.measures import Follower, logits_row, pass_over
from real_nets.jobs.opening import open_folder
from real_nets.jobs.run import TrainingInFolder, initial_network
from real_nets.training.loop import DivergedError

PROGRAM = "real_nets.dial"
PILOT, END = "pilot.json", "end.json"
"""Files in a job's folder with what its pilot told and what its training ended with."""
SHARES = (0.05, 0.2)
"""Least and largest share of training that the predictor was fitted for."""


@dataclass(frozen=True)
class Settings(JobOptions):
    """Find the temperature of a training that ends with a given rank or effective depth."""

    data: str | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val/CLASS/*) images, or name of a data set."""
    root: Path | None = None
    """Folder that holds data sets by name: folders of images, or archives as torchvision unpacks them."""
    download: bool = False
    """Download missing archives into --root."""
    on_corrupt: Literal["stop", "skip"] = "stop"
    """Treatment of unreadable images: stop before training, or leave them out (skip)."""
    workers: int = 4
    """Number of processes that decode images of data sets too large for memory."""
    target_rank: int | None = None
    """Class-centred numerical rank, at --gamma, that the logits of the train images shall end with."""
    target_depth: float | None = None
    """Effective depth kappa that the network shall end with."""
    temperature: tuple[float, ...] = TEMPERATURES
    """Softmax temperatures of the pilots; the answer lies between the lowest and the highest."""
    pilot_share: float = 0.1
    """Share of the training that a pilot does, 0.05 to 0.2."""
    train: bool = False
    """Train at the answer, and compare the end with the prediction."""
    train_all: bool = False
    """Train at all temperatures of the pilots, and compare with all predictions."""
    calibration: Calibration = "networks"
    """Intervals: widened for real networks, or as narrow as toys allow."""
    seed: int = 0
    """Seed of initial weights, order of the images, augmentation and dropout."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New folder for the run [default: runs/dial-DATE-TIME]."""
    resume: Path | None = None
    """Continue the run in this folder with its settings; takes no other option."""

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = trained_as(self, self.temperature).unused()
        found.pop("temperature_schedule", None)
        return found

    def check_dial(self) -> None:
        """Raise ValueError for options that no pilots can be made with."""
        check_target(self.target_rank, self.target_depth, self.gamma)
        check_temperatures(self.temperature)
        if not SHARES[0] <= self.pilot_share <= SHARES[1]:
            raise ValueError(
                f"pilot_share is {self.pilot_share}; the predictor knows {SHARES[0]} to {SHARES[1]}"
            )
        for name, plain in (("stop_accuracy", None), ("temperature_schedule", "constant")):
            if getattr(self, name) != plain:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, but the predictor knows whole trainings at one "
                    f"temperature; leave out {name}"
                )
        if not self.epochs:
            raise ValueError("epochs is 0; give the epochs of the training that pilots are part of")


def trained_as(settings: Settings, temperatures: tuple[float, ...]) -> train.Settings:
    """The settings of real_nets.train with the same options."""
    own = {field.name for field in fields(train.Settings)} & {f.name for f in fields(Settings)}
    shared = {name: getattr(settings, name) for name in own - {"temperature", "resume"}}
    return train.Settings(**shared, temperature=temperatures)


@dataclass(frozen=True)
class Prepared:
    """Checked settings, images and the sizes of the network."""

    settings: Settings
    device: torch.device
    execution: Execution
    data: JobData
    job: Job
    """At the lowest temperature."""
    width: int
    layers: int

    def job_at(self, temperature: float) -> tuple[str, Job]:
        """Name and job of a training at a temperature."""
        name = f"T{str(temperature).removesuffix('.0')}-seed{self.settings.seed}"
        return name, replace(self.job, temperature=temperature)

    def data_of(self, job: Job) -> JobData:
        """The images of a job."""
        return JobData(job, self.execution.source, self.device)


def prepare(settings: Settings) -> Prepared:
    """Open the images and build the network. Raises ValueError for impossible settings and targets."""
    settings.check_dial()
    if distributed.is_torchelastic_launched():
        raise ValueError(
            "pilots run in one process; leave out torchrun, and use it for real_nets.train"
        )
    if settings.out is not None and settings.resume is None:
        check_new(settings.out)
    device = cli.resolve_device(settings.device)
    lowest = (min(settings.temperature),)
    found = train.prepare(replace(trained_as(settings, lowest), out=None), device)
    (job,) = found.jobs.values()
    data = JobData(job, found.execution.source, device)
    width, layers = sizes(job, data)
    if settings.target_rank is not None:
        check_rank(settings.target_rank, data.classes, width)
    return Prepared(settings, device, found.execution, data, job, width, layers)


def sizes(job: Job, data: JobData) -> tuple[int, int]:
    """Width of the classifier's input, and number of weight layers."""
    example = next(iter(data.train.some(1)))[0].cpu()
    network = Network.of(initial_network(job, data), example, None, pick_logits)
    weight = weight_matrix(network.module(network.layers.classifier.module))
    return data.classes if weight is None else weight.shape[1], len(network.layers.chosen)


def run(settings: Settings) -> Path:
    """Run the pilots, print the answer, train if asked; returns the run folder."""
    settings = with_full_paths(settings)
    prepared = None if settings.resume else prepare(settings)
    folder, settings, _ = cli.open_run(settings, PROGRAM, "dial")
    try:
        with cli.resumable(folder, PROGRAM):
            work(prepared or prepare(settings), folder)
    finally:
        folder.close()
    return folder.path


def with_full_paths(settings: Settings) -> Settings:
    """The settings with absolute paths, so that they do not depend on the working directory."""
    full = train.with_full_paths(trained_as(settings, settings.temperature))
    return replace(settings, data=full.data, root=full.root)


def work(prepared: Prepared, folder: RunFolder) -> None:
    """The pilots, the answer, and the training."""
    settings = prepared.settings
    found = dial(
        partial(pilot, prepared, folder.path),
        target_rank=settings.target_rank,
        target_depth=settings.target_depth,
        temperatures=settings.temperature,
        gamma=settings.gamma,
        calibration=settings.calibration,
    )
    lines = str(found).splitlines()
    print_sentences(lines)
    ends = []
    for temperature in wanted(settings, found):
        ends.append(end(prepared, folder.path, temperature, found))
        print_sentences([ends[-1]["sentence"]])
    summary = {"answer": asdict(found), "lines": lines, "trained": ends}
    folder.write_json("summary.json", summary)
    folder.write_environment(prepared.device)
    with default_style():
        reached = {own["temperature"]: own["value"] for own in ends if own["value"] is not None}
        save(draw_answer(found, reached), folder.path / "dial.png")
    print_sentences([f"Pilots, the answer and a figure are in {folder.path}."])


def pilot(prepared: Prepared, path: Path, temperature: float) -> Pilot | None:
    """The pilot of a temperature, read from its folder or run now; None if it diverges."""
    name, job = prepared.job_at(temperature)
    file = path / name / PILOT
    if not file.is_file():
        told = run_pilot(prepared, path / name, job)
        write_json(file, told)
    told = read_json(file)["pilot"]
    return None if told is None else pilot_of(told)


def run_pilot(prepared: Prepared, path: Path, job: Job) -> dict[str, Any]:
    """Train the first share of a job, with a checkpoint at its end; what the pilot tells."""
    settings, data = prepared.settings, prepared.data_of(job)
    steps = job.epochs * data.batches.steps_per_epoch
    last = last_step(steps, settings.pilot_share)
    prepared.execution.trials.check(job, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = open_folder(job, data, path)
    try:
        with cli.progress(f"pilot {path.name}", last, "steps") as on_step:
            training = TrainingInFolder(job, data, path, folder, on_step, lambda row: None)
            training.stops = [*(own for own in training.stops if own < last), last]
            follower = Follower(training.training.model, job, data)
            try:
                training.advance(follower)
            except DivergedError as error:
                return {"diverged": str(error), "pilot": None}
        rows = [row for row in JobFolder(path).rows if row["step"] < last]
        row, depth = at_end(follower, training, settings.target_depth is not None)
    finally:
        folder.close()
    points = tuple(point(own) for own in (*rows, row | {"step": last}))
    sizes = data.classes, prepared.width, prepared.layers, settings.pilot_share
    found = Pilot(job.temperature, *sizes, points, depth)
    return {"diverged": None, "pilot": asdict(found)}


def at_end(
    follower: Follower, training: TrainingInFolder, with_depth: bool
) -> tuple[dict[str, Any], float | None]:
    """Measures of the train logits, and the effective depth on train images if asked for."""
    with RowStore() as store, training.as_trained(follower):
        wanted = Wanted((LOSS, LOGITS, *((Rows("features"),) if with_depth else ())))
        temperature = training.job.temperature
        found = pass_over(follower.network, follower.train, wanted, temperature, store)
        depth = None
        if with_depth:
            names = [layer.name for layer in follower.network.layers.chosen]
            features = [own for name in names if (own := found.features(name)) is not None]
            order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
            depth = pilot_depth([own[order] for own in features], found.labels.cpu()[order])
        return {**logits_row(found, training.job.gamma)}, depth


def point(row: Any) -> Point:
    """The point of a row of measures."""
    ranks = tuple(row["centred_rank_curve"][str(gamma)] for gamma in GAMMAS)
    return Point(row["step"], ranks, row["effective_logits_norm"], row["loss"], row["accuracy"])


def wanted(settings: Settings, found: Answer) -> list[float]:
    """The temperatures to train at."""
    alive = [own.temperature for own in found.tries if own.pilot is not None]
    chosen = {
        *(alive if settings.train_all else ()),
        *([found.temperature] if settings.train else ()),
    }
    return sorted(chosen)


def end(prepared: Prepared, path: Path, temperature: float, found: Answer) -> dict[str, Any]:
    """Train at a temperature, from its pilot if there is one; how it ended, and as a sentence."""
    name, job = prepared.job_at(temperature)
    file = path / name / END
    if not file.is_file():
        write_json(file, trained(prepared, path / name, job))
    told = read_json(file)
    predicted = next((own.predicted for own in found.tries if own.temperature == temperature), None)
    predicted = found.predicted if temperature == found.temperature else predicted
    value = None
    if not told["diverged"]:
        rank = told["ranks"][GAMMAS.index(job.gamma)]
        value = float(told["depth"] if found.kind == "depth" else rank)
    shared = {"temperature": temperature, "folder": name, "value": value}
    if value is None or predicted is None:
        return shared | {"inside": None, "sentence": f"T = {temperature:g}: {told['diverged']}"}
    _, low, high = predicted
    inside = low - 1e-9 <= value <= high + 1e-9
    sentence = (
        f"trained at T = {temperature:g}: {found.kind} {spell(found.kind, value)}, "
        f"{'inside' if inside else 'outside'} the interval {spell(found.kind, low)} to "
        f"{spell(found.kind, high)}; train accuracy {told['accuracy']:.1%}"
    )
    return shared | {"inside": inside, "sentence": sentence}


def trained(prepared: Prepared, path: Path, job: Job) -> dict[str, Any]:
    """What a whole training ends with: ranks of the followed train images, and the depth if asked for."""
    data = prepared.data_of(job)
    summary = train_here(Work(job, path, ()), data, prepared.execution)
    told: dict[str, Any] = {"diverged": summary["message"], "ranks": None, "depth": None}
    if summary["message"]:
        return told
    last = asdict(point(JobFolder(path).rows[-1]))
    if prepared.settings.target_depth is not None:
        model = initial_network(job, data)
        model.load_state_dict(JobFolder(path).read_weights())
        count = job.diagnosed_images
        report = diagnose(
            model.to(data.device).eval(),
            data.train.some(count),
            data.test.some(count),
            temperature=job.temperature,
            measures=["effective_depth"],
        )
        told["depth"] = float(report["effective_depth.value"])
    return told | last


def main() -> None:
    """The command."""
    cli.main(Settings, run, PROGRAM, details=listing())


if __name__ == "__main__":
    main()
