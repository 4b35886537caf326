"""How well intervals from toys hold for networks, and by how much to widen them.

    python -m rankdeficit.control.dial.calibrate runs/dial/* --out runs/calibrated

Each run is a folder of `real_nets.dial --train-all`. The new folder has networks.json, with the factors
by which `rankdeficit.control.dial` widens intervals for networks; networks.csv, with a row for each
training and target; and trained.json, from which `--trained` does all of it again.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich import box
from rich.table import Table

from rankdeficit.checks import check_not_empty
from rankdeficit.control.dial.networks import (
    Coverage,
    Judged,
    Trained,
    coverage,
    factor,
    judge,
    read_run,
    records_of,
    trained_of,
)
from rankdeficit.control.dial.predictor import TARGETS
from rankdeficit.control.dial.stored import stored_predictor
from rankdeficit.experiments import cli
from rankdeficit.experiments.records import csv_text
from rankdeficit.experiments.runs import check_new, read_json, write_atomically
from rankdeficit.experiments.tables import print_report

PROGRAM = "rankdeficit.control.dial.calibrate"
LEVEL = 0.9


@dataclass(frozen=True)
class Settings:
    """Calibrate the intervals of the dial on trainings of networks."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders of real_nets.dial --train-all."""
    trained: Path | None = None
    """File trained.json of an earlier calibration, instead of run folders."""
    out: Path | None = None
    """New folder for the results [default: print them only]."""


def run(settings: Settings) -> None:
    """Judge the predictions, print the table, and write the folder."""
    if (settings.trained is None) == (not settings.runs):
        raise ValueError("give run folders of real_nets.dial, or --trained FILE")
    if settings.out is not None:
        check_new(settings.out, resumable=False)
    trained = read(settings)
    check_not_empty(trained=trained)
    architectures = {one.architecture for one in trained}
    if len(architectures) < 2:
        raise ValueError(
            f"all trainings are of {min(architectures)}; judging needs two architectures or more"
        )
    judged = judge_all(trained)
    print_report(coverage_table(judged), sentences(trained, judged))
    if settings.out is not None:
        write(settings.out, trained, judged)


def read(settings: Settings) -> list[Trained]:
    """All trainings."""
    if settings.trained is None:
        return [one for path in settings.runs for one in read_run(path)]
    try:
        return trained_of(read_json(settings.trained))
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"trained {settings.trained} cannot be read ({error}); name a file trained.json"
        ) from error


def judge_all(trained: Sequence[Trained]) -> dict[str, list[Judged]]:
    """By target, those with trainings alone."""
    found = {
        own.name: judge(stored_predictor(own, "toys"), trained, LEVEL)
        for own in TARGETS
        if any(one.example(own) is not None for one in trained)
    }
    return {name: own for name, own in found.items() if own}


def coverage_table(judged: dict[str, list[Judged]]) -> Table:
    """A line for each target and start of the pilots."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Coverage and median width of {LEVEL:.0%} intervals: those of toys, and the same "
        "widened as networks of other architectures than the one judged ask for. Widths and errors "
        "are shares of the full rank min(c - 1, width), or depths.",
        caption_justify="left",
    )
    for name in (
        "predicted", "pilots", "runs", "toys: coverage", "width", "networks: coverage", "width",
        "error", "error of no change",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name in ("predicted", "pilots") else "right")
    for own in judged.values():
        for start, part in starts(own).items():
            found = coverage(part)
            table.add_row(
                found["target"], start, str(found["runs"]),
                f"{found['toys']:.0%}", f"{found['toys_width']:.2f}",
                f"{found['networks']:.0%}", f"{found['networks_width']:.2f}",
                f"{found['error']:.3f}", f"{found['error_without_change']:.3f}",
            )  # fmt: skip
    return table


def starts(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """All trainings, those whose pilot has left its start, and the others."""
    found = {
        "all": list(judged),
        "left": [own for own in judged if own["left"]],
        "not left": [own for own in judged if not own["left"]],
    }
    return {name: own for name, own in found.items() if own}


def sentences(trained: Sequence[Trained], judged: dict[str, list[Judged]]) -> list[str]:
    """What was judged, and the coverage of each architecture."""
    configurations = {one.configuration for one in trained}
    found = [f"{len(trained)} trainings of {len(configurations)} configurations."]
    for architecture in dict.fromkeys(one.architecture for one in trained):
        parts: list[Coverage] = [
            coverage(part)
            for own in judged.values()
            if (part := [one for one in own if one["architecture"] == architecture])
        ]
        told = ", ".join(
            f"{own['target']} {own['toys']:.0%} / {own['networks']:.0%}" for own in parts
        )
        found.append(f"{architecture}, coverage by toys / other architectures: {told}.")
    return found


def flat(judged: Judged) -> dict[str, object]:
    """A row of the table, with the ends of intervals as columns."""
    found: dict[str, object] = {
        name: value for name, value in judged.items() if name not in ("toys", "networks")
    }
    for name, (low, high) in (("toys", judged["toys"]), ("networks", judged["networks"])):
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def finite(value: float) -> float | None:
    """Six digits of a factor; None where it is infinite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def write(out: Path, trained: Sequence[Trained], judged: dict[str, list[Judged]]) -> None:
    """The files of the new folder."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [flat(row) for own in judged.values() for row in own]
    write_atomically(out / "networks.csv", csv_text(rows).encode())
    content = {
        "level": LEVEL,
        "made_by": f"python -m {PROGRAM}",
        "runs": len(trained),
        "configurations": len({one.configuration for one in trained}),
        "factors": {
            own.name: finite(factor(stored_predictor(own, "toys"), trained, LEVEL))
            for own in TARGETS
            if own.name in judged
        },
    }
    write_atomically(out / "networks.json", (json.dumps(content) + "\n").encode())
    lines = ",\n".join(json.dumps(own) for own in records_of(trained))
    write_atomically(out / "trained.json", f"[\n{lines}\n]\n".encode())


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
