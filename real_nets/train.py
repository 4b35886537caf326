"""Train networks on images, at one or several softmax temperatures.

    python -m real_nets.train --data FOLDER --model resnet18 --temperature 50
    python -m real_nets.train --data glyphs --temperature 1 50 --seeds 3
    torchrun --nproc-per-node 8 -m real_nets.train ...

Each network has a folder within the run folder, for example T50-seed0, which real_nets.diagnose takes
as --trained.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypedDict

import torch
from rich.table import Table

from rankdeficit.control.schedules import last_temperatures
from rankdeficit.distributed import from_first, is_first
from rankdeficit.experiments import cli, figure_style, plots, tables
from rankdeficit.experiments.cli import joined
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.records import write_summary
from rankdeficit.experiments.runs import RunFolder, read_json
from rankdeficit.experiments.settings import CommonSettings, check_values
from real_nets.data.catalogue import definition_of, listing
from real_nets.data.opening import DataSource, check_folder, is_folder
from real_nets.jobs.data import JobData
from real_nets.jobs.execute import Execution, Work, train_here
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job, JobOptions
from real_nets.jobs.records import Summary
from real_nets.training.loop import DivergedError

PROGRAM = "real_nets.train"

SHOWN_GAMMA = 1e-2
"""Second threshold at which ranks of layers are shown, besides the run's gamma."""


@dataclass(frozen=True)
class Settings(JobOptions, CommonSettings):
    """Train a network at several softmax temperatures on images."""

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
    temperature: tuple[float, ...] = (1.0, 50.0)
    """Softmax temperatures T; logits are divided by T."""
    seeds: int = 1
    """Number of networks per temperature, each with its own seed."""
    tensorboard: bool = False
    """Also write measurements during training for TensorBoard."""

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = super().unused()
        if set(self.temperature) == {1.0}:
            of_others = ("lr_rule", "temperature_schedule")
            found |= dict.fromkeys(of_others, "at T = 1; give another --temperature")
        if self.data is None:
            return found
        folder = Path(self.data).is_dir() or is_folder(self.data, self.root)
        own = None if folder else definition_of(self.data)
        if own is not None and own.downloadable:
            of_folders = ("on_corrupt", "workers")
            return found | dict.fromkeys(
                of_folders, "on an archive; give a folder of images as --data"
            )
        found["download"] = "on --data that is no archive; name cifar10, cifar100 or svhn"
        if Path(self.data).is_dir():
            found["root"] = "beside a folder as --data; name a data set in it"
        if own is not None and own.synthetic:
            reason = f"on --data {self.data}, which a program draws; name other data"
            found |= dict.fromkeys(("root", "on_corrupt", "workers"), reason)
        return found


class TrainedNetwork(Summary):
    """Summary of a network within a run."""

    temperature: float
    model: str
    seed: int


class RunSummary(TypedDict):
    """summary.json of a run."""

    runs: list[TrainedNetwork]
    verdict: list[str]
    gamma: float
    folders: list[str]
    """Folder of each network, in the order of `runs`."""
    classes: int
    train_images: int
    test_images: int


@dataclass(frozen=True)
class Prepared:
    """Checked settings as jobs by folder name, with the settings of their execution."""

    jobs: dict[str, Job]
    execution: Execution


def run(settings: Settings, program: str = PROGRAM) -> Path:
    """Train all networks, write the run folder, print the table; returns the folder.

    Afterwards the first process raises DivergedError if a network diverged.
    """
    settings = with_full_paths(settings)
    with joined(settings.device) as device:
        prepared = None if settings.resume else prepare(settings, device)
        folder = None
        if is_first():
            folder, settings, _ = cli.open_run(settings, program, program.split(".")[1])
        settings, path = from_first((settings, folder.path) if folder else None)
        try:
            with cli.resumable(folder, program):
                summary = work(settings, prepared or prepare(settings, device), path, device)
                if folder is not None:
                    finish(folder, summary, device)
        finally:
            if folder is not None:
                folder.close()
        diverged = [run["message"] for run in summary["runs"] if run["message"]]
        if diverged and is_first():
            raise DivergedError("; ".join(diverged))
    return path


def with_full_paths(settings: Settings) -> Settings:
    """The settings with absolute paths, so that they do not depend on the working directory."""
    data, root = settings.data, settings.root
    if data is not None and Path(data).is_dir():
        data = str(Path(data).resolve())
    return replace(settings, data=data, root=root and root.resolve())


def prepare(settings: Settings, device: torch.device) -> Prepared:
    """Check the settings and open the images. Raises ValueError for invalid settings and data."""
    settings.check()
    settings.check_common()
    check_values(temperature=settings.temperature)
    root, name = find_data(settings)
    shared = {f.name: getattr(settings, f.name) for f in fields(Job) if hasattr(settings, f.name)}
    jobs = {}
    for seed in settings.seed_range:
        for temperature in sorted(set(settings.temperature)):
            job = Job(**shared | {"data": name, "temperature": temperature, "seed": seed})
            job.check()
            jobs[f"T{str(temperature).removesuffix('.0')}-seed{seed}"] = job
    source = DataSource(root, settings.download, settings.on_corrupt, settings.workers)
    data = JobData(next(iter(jobs.values())), source, device)
    execution = Execution(source, settings.device, tensorboard=settings.tensorboard)
    # Not at T = 1, where any lr_rule applies to any network.
    execution.trials.check(next((job for job in jobs.values() if job.temperature != 1), job), data)
    return Prepared(jobs, execution)


def find_data(settings: Settings) -> tuple[Path | None, str]:
    """The folder that holds the data set, and its name in that folder.

    Raises ValueError for a path that is no folder, and as `check_folder`.
    """
    if settings.data is None:
        raise ValueError(
            "data is missing; name a folder of images with --data, or use --data glyphs"
        )
    folder = Path(settings.data)
    if folder.is_absolute() and folder.is_dir():
        check_folder(folder)
        return folder.parent, folder.name
    if "/" in settings.data:
        said = "is no folder" if folder.exists() else "does not exist"
        raise ValueError(f"data {settings.data} {said}; name a folder of images, or a data set")
    return settings.root, settings.data


def work(settings: Settings, prepared: Prepared, path: Path, device: torch.device) -> RunSummary:
    """Train all jobs, each in its folder; returns the summary of the run."""
    runs: list[TrainedNetwork] = []
    for number, (name, job) in enumerate(prepared.jobs.items(), start=1):
        data = JobData(job, prepared.execution.source, device)
        prefix = f"{number}/{len(prepared.jobs)} "
        found = train_here(Work(job, path / name, ()), data, prepared.execution, prefix)
        runs.append({"temperature": job.temperature, "model": job.model, "seed": job.seed, **found})
    return {
        "runs": runs,
        "verdict": tables.verdicts(runs, "model"),
        "gamma": settings.gamma,
        "folders": list(prepared.jobs),
        "classes": runs[0]["classes"],
        "train_images": runs[0]["train_images"],
        "test_images": runs[0]["test_images"],
    }


def finish(folder: RunFolder, summary: RunSummary, device: torch.device) -> None:
    """Write, print and draw the results."""
    write_summary(folder, summary)
    folder.write_environment(device)
    tables.print_report(*report(summary))
    draw(folder.path)
    tables.print_sentences([f"Figures and records are in {folder.path}."])


def report(summary: RunSummary) -> tuple[Table, list[str]]:
    """The table of results, and sentences on the ranks of layers and the verdict."""
    layers = tables.layer_sentences(summary["runs"], shown_gammas(summary["gamma"]))
    table = tables.results_table(summary["runs"], "model", summary["gamma"])
    runs = [(run["temperature"], run.get("last_temperature")) for run in summary["runs"]]
    return table, [*layers, *last_temperatures(runs), *summary["verdict"]]


def shown_gammas(gamma: float) -> list[float]:
    """Thresholds at which ranks of layers are shown: the run's own, and SHOWN_GAMMA."""
    return sorted({gamma, SHOWN_GAMMA})


@figure_style.default_style()
def draw(path: Path) -> None:
    """Draw the figures of a run folder from its files alone."""
    summary: RunSummary = read_json(path / "summary.json")
    runs, classes, gamma = summary["runs"], summary["classes"], summary["gamma"]
    rows = [
        {**row, "temperature": run["temperature"], "model": run["model"]}
        for run, name in zip(runs, summary["folders"], strict=True)
        for row in JobFolder(path / name).rows
    ]
    predicted = runs[0]["neural_collapse_rank"]
    figures = {
        "ranks": plots.ranks_over_training(rows, classes, predicted, "epoch", "model"),
        "spectra": plots.spectra(runs, predicted, gamma, "model"),
        "layer_ranks": plots.layer_ranks(runs, "model", shown_gammas(gamma)),
        "alignment": plots.alignment_over_training(rows, "epoch", "model"),
    }
    for name, figure in figures.items():
        figure_style.save(figure, path / f"{name}.png")


def main() -> None:
    """The command."""
    cli.main(Settings, run, PROGRAM, details=listing())


if __name__ == "__main__":
    main()
