"""What every experiment shares: common options, a run from settings to report, resumable loops."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from rich.table import Table

from rankdeficit.checks import check_at_least, check_gamma, check_seeds, check_temperature
from rankdeficit.experiments import cli, plots, tables
from rankdeficit.experiments.runs import RunFolder

Row = dict[str, Any]


@dataclass(frozen=True)
class CommonSettings:
    """Options that all experiments have."""

    seeds: int = 4
    """Runs per configuration, each with its own seed."""
    seed: int = 0
    """First seed."""
    gamma: float = 1e-3
    """Threshold of the numerical rank, relative to the largest singular value."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New folder for the run [default: runs/NAME-DATE-TIME]."""
    resume: Path | None = None
    """Go on with the run in this folder, with its settings; give no other option."""

    def check_common(self) -> None:
        """Raise ValueError unless seeds, gamma and device make sense."""
        check_gamma(self.gamma)
        check_seeds(self.seed, self.seeds)
        cli.resolve_device(self.device)

    @property
    def seed_range(self) -> range:
        """All seeds."""
        return range(self.seed, self.seed + self.seeds)


@dataclass(frozen=True)
class TrainingSettings(CommonSettings):
    """Options of experiments that train batches of runs step by step."""

    steps: int = 1200
    """Training steps."""
    measure_every: int = 200
    """Steps between measurements; before the first of them, measure at powers of two as well."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""

    def check_common(self) -> None:
        """Raise ValueError unless seeds, gamma, device and numbers of steps make sense."""
        super().check_common()
        check_at_least(
            1,
            steps=self.steps,
            measure_every=self.measure_every,
            checkpoint_every=self.checkpoint_every,
        )

    def train(
        self,
        batches: Sequence["Batch"],
        folder: RunFolder,
        resumed: bool,
        leave_out: Iterable[str] = (),
    ) -> None:
        """`train_together` with these settings."""
        train_together(
            batches,
            folder,
            resumed,
            steps=self.steps,
            measured=measured_steps(self.steps, self.measure_every),
            checkpoint_every=self.checkpoint_every,
            device=cli.resolve_device(self.device),
            leave_out=leave_out,
        )


S = TypeVar("S", bound=CommonSettings)
P = TypeVar("P")
U = TypeVar("U")


def conduct(
    settings: S,
    program: str,
    prepare: Callable[[S], P],
    work: Callable[[S, P, RunFolder, bool], Row],
    draw: Callable[[Path], None],
    report: Callable[[Row], tuple[Table, Sequence[str]]],
) -> Path:
    """Prepare, work in a run folder, summarise, draw, print; returns the folder.

    prepare: checks the settings and builds what the work needs; it raises ValueError before any
    folder exists. work: from settings, what was prepared, the folder, and whether it is resumed, to
    the summary. draw: figures from the folder's files alone. report: table and sentences.
    """
    prepared = None if settings.resume else prepare(settings)
    folder, settings, resumed = cli.open_run(settings, program, program.rpartition(".")[2])
    try:
        if prepared is None:
            prepared = prepare(settings)
        summary = work(settings, prepared, folder, resumed)
        folder.write_json("summary.json", summary)
        folder.write_environment(cli.resolve_device(settings.device))
        table, sentences = report(summary)
        tables.print_report(table, sentences)
        with plots.default_style():
            draw(folder.path)
        tables.print_sentences([f"Figures and records are in {folder.path}."])
    finally:
        folder.close()
    return folder.path


@runtime_checkable
class Batch(Protocol):
    """Runs that train side by side in one program."""

    @property
    def runs(self) -> Sequence[Any]:
        """What tells the runs apart."""

    def step(self) -> None:
        """One training step of every run."""

    def measure(self, step: int) -> list[Row]:
        """One row per run."""

    def state(self) -> Row:
        """What a checkpoint keeps."""

    def restore(self, state: Row) -> None:
        """Go on from a checkpoint."""


class OptimizedBatch:
    """State of a batch whose runs are the rows of `parameters`, stepped by `optimizer`."""

    parameters: torch.Tensor
    optimizer: torch.optim.Optimizer
    steps_done: int = 0

    def state(self) -> Row:
        """What a checkpoint keeps."""
        return {
            "parameters": self.parameters,
            "optimizer": self.optimizer.state_dict(),
            "steps_done": self.steps_done,
        }

    def restore(self, state: Row) -> None:
        """Go on from a checkpoint."""
        self.parameters.copy_(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps_done = state["steps_done"]


def train_together(
    batches: Sequence[Batch],
    folder: RunFolder,
    resumed: bool,
    *,
    steps: int,
    measured: Collection[int],
    checkpoint_every: int,
    device: torch.device,
    leave_out: Iterable[str] = (),
) -> None:
    """Train all batches in step, from the start or from the folder's last checkpoint.

    measured: the steps after which rows go to the folder, without the fields in leave_out.
    """
    first, unwanted = 0, set(leave_out)

    def restore(state: Row) -> None:
        nonlocal first
        first = state["step"]
        for batch, saved in zip(batches, state["batches"], strict=True):
            batch.restore(saved)

    def record(step: int) -> None:
        for batch in batches:
            rows = batch.measure(step)
            folder.append_rows({k: v for k, v in row.items() if k not in unwanted} for row in rows)

    if not (resumed and folder.restore_checkpoint(device, restore)) and 0 in measured:
        record(0)
    runs = sum(len(batch.runs) for batch in batches)
    with (
        cli.termination_deferred() as terminated,
        cli.progress(f"{runs} runs", steps, first) as set_done,
    ):
        for step in range(first + 1, steps + 1):
            for batch in batches:
                batch.step()
            if step in measured:
                record(step)
            if step % checkpoint_every == 0 or step == steps or terminated():
                states = [batch.state() for batch in batches]
                folder.save_checkpoint({"step": step, "batches": states})
            if terminated():
                break
            set_done(step)


def work_through(
    units: Sequence[U],
    compute: Callable[[U], Iterable[Row]],
    folder: RunFolder,
    resumed: bool,
    description: str,
) -> None:
    """Append the rows of each unit of work in turn; a resumed run goes on after the last one done."""
    done = 0

    def restore(state: Row) -> None:
        nonlocal done
        done = state["done"]

    if resumed:
        folder.restore_checkpoint("cpu", restore)
    with cli.progress(description, len(units), done) as set_done:
        for number, unit in enumerate(units[done:], start=done + 1):
            folder.append_rows(compute(unit))
            folder.save_checkpoint({"done": number})
            set_done(number)


def measured_steps(steps: int, every: int) -> set[int]:
    """0, powers of two up to the first interval, every interval, and the last step."""
    early = {2**i for i in range(min(every, steps).bit_length()) if 2**i < min(every, steps)}
    return {0, *early, *range(every, steps, every), steps}


def check_values(**lists: Sequence[Any]) -> None:
    """Raise ValueError for options that are lists and were left empty, and for bad temperatures."""
    for name, values in lists.items():
        if not values:
            raise ValueError(f"{name} is empty; give at least one value")
        if name == "temperature":
            for value in values:
                check_temperature(value)
