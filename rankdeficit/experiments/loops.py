"""Loops that write rows and checkpoints as they go, and end with the same bytes when resumed."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from rankdeficit.experiments import cli
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.experiments.settings import Row
from rankdeficit.experiments.signals import termination_deferred
from rankdeficit.experiments.tables import counted

U = TypeVar("U")


@runtime_checkable
class Batch(Protocol):
    """Runs that train side by side in one program."""

    @property
    def runs(self) -> Sequence[Any]:
        """The keys of the runs, for example temperature and seed."""

    def step(self) -> None:
        """One training step of every run."""

    def measure(self, step: int) -> list[Row]:
        """One row per run."""

    def state(self) -> Row:
        """The state to save in a checkpoint."""

    def restore(self, state: Row) -> None:
        """Continue from the state of a checkpoint."""


class OptimizedBatch:
    """State of a batch whose runs are the rows of `parameters`, stepped by `optimizer`."""

    parameters: torch.Tensor
    optimizer: torch.optim.Optimizer
    steps_done: int = 0

    def state(self) -> Row:
        """The state to save in a checkpoint."""
        return {
            "parameters": self.parameters,
            "optimizer": self.optimizer.state_dict(),
            "steps_done": self.steps_done,
        }

    def restore(self, state: Row) -> None:
        """Continue from the state of a checkpoint."""
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
        termination_deferred() as terminated,
        cli.progress(counted(runs, "run"), steps, "steps", first) as set_done,
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
    noun: str,
) -> None:
    """Append the rows of each unit of work in turn; a resumed run continues after the last one.

    noun: what the units are called in the progress lines.
    """
    done = 0

    def restore(state: Row) -> None:
        nonlocal done
        done = state["done"]

    if resumed:
        folder.restore_checkpoint("cpu", restore)
    with cli.progress("finished", len(units), noun, done) as set_done:
        for number, unit in enumerate(units[done:], start=done + 1):
            folder.append_rows(compute(unit))
            folder.save_checkpoint({"done": number})
            set_done(number)


def measured_steps(steps: int, every: int) -> set[int]:
    """0, powers of two up to the first interval, every interval, and the last step."""
    early = {2**i for i in range(min(every, steps).bit_length()) if 2**i < min(every, steps)}
    return {0, *early, *range(every, steps, every), steps}
