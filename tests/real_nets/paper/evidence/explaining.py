"""Stored networks as rows of `simulations.explain`: of all stores, of the ruler, and of the dial.

`python -m tests.real_nets.paper.evidence.explaining` writes the table anew.
"""

import csv
import io
import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import correlation, median
from typing import Any

from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from simulations.explain.fits import MODELS, PAIRS, summarise
from simulations.explain.rows import COLUMNS, read_networks
from tests.real_nets.paper.evidence.telling import FEWER, LOSSLESS, STORE, TENTH

FOLDER = STORE / "explained"
GAMMA = "0.01"
LEFT = 0.9
LEARNED = 1.5
"""Networks of the dial whose train accuracy is less than so many times that of guessing are left out."""
STRICTER = 2.0
"""Another such number, to see what depends on it."""
RULER = ("temperature", "classifier x 0.1", "initial weights x 0.8")
"""Conditions of the ruler that change temperature or initial scale alone."""
DIAL_GAMMA = 2
"""Place of 1e-2 among the ranks of the dial's records."""

Row = dict[str, Any]


def of_stores() -> Iterator[Row]:
    """Trained networks with cross-entropy and their own classifier."""
    for store in (STORE, FEWER, TENTH, LOSSLESS):
        for path in sorted((store / "jobs").iterdir()):
            one = JobFolder(path)
            job = one.job
            if job.epochs == 0 or job.loss != "cross-entropy" or job.head_rank is not None:
                continue
            report = one.report
            assert report is not None
            classes = one.summary["classes"]
            left = [row["step"] for row in one.rows if row["loss"] < LEFT * math.log(classes)]
            part = "" if store == STORE else f", {store.name}"
            yield {
                "group": f"{job.model} on {job.data}{part}",
                "optimizer": job.optimizer,
                "norm": one.rows[0]["effective_logits_norm"],
                "temperature": job.temperature,
                "lr": job.lr,
                "decay": job.weight_decay,
                "depth": len(report["layers"]),
                "width": report["network"]["penultimate_width"],
                "classes": classes,
                "steps_after": one.summary["step"] - left[0] if left else 0,
                "rank": one.summary["centred_rank_curve"][GAMMA],
                "full_rank": one.summary["neural_collapse_rank"],
            }


def of_ruler() -> Iterator[Row]:
    """The MLP on CIFAR-100 at every temperature, and with smaller weights or classifier."""
    with (STORE / "ruler" / "networks.csv").open() as file:
        for row in csv.DictReader(file):
            if row["condition"] in RULER and row["learned"] == "True":
                yield {
                    "group": "mlp on cifar100, ruler",
                    "optimizer": "sgd",
                    "norm": float(row["initial_norm"]),
                    "temperature": float(row["temperature"]),
                    "lr": 0.05,
                    "decay": 0.0,
                    "depth": 8,
                    "width": 256,
                    "classes": 100,
                    "steps_after": "",
                    "rank": int(row["centred_rank"]),
                    "full_rank": 99,
                }


def of_dial(learned: float = LEARNED) -> Iterator[Row]:
    """The trainings of the dial, whose records end with the pilot."""
    options: dict[str, list[str]] = {}
    for line in (STORE / "dial" / "configurations.txt").read_text().splitlines():
        name, *words = shlex.split(line)
        options[name] = words

    def option(name: str, key: str, usual: Any) -> Any:
        words = options[name]
        flag = f"--{key.replace('_', '-')}"
        return type(usual)(words[words.index(flag) + 1]) if flag in words else usual

    for one in json.loads((STORE / "dial" / "trained.json").read_text()):
        name, pilot = one["configuration"], one["pilot"]
        if one["accuracy"] < learned / pilot["classes"]:
            continue
        yield {
            "group": f"{name}, dial",
            "optimizer": option(name, "optimizer", Job().optimizer),
            "norm": pilot["points"][0]["norm"],
            "temperature": pilot["temperature"],
            "lr": option(name, "lr", Job().lr),
            "decay": option(name, "weight_decay", Job().weight_decay),
            "depth": pilot["layers"],
            "width": pilot["width"],
            "classes": pilot["classes"],
            "steps_after": "",
            "rank": one["ranks"][DIAL_GAMMA],
            "full_rank": min(pilot["classes"] - 1, pilot["width"]),
        }


def table(learned: float = LEARNED) -> str:
    """The CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, "gamma"], lineterminator="\n")
    writer.writeheader()
    for own in (of_stores(), of_ruler(), of_dial(learned)):
        for row in own:
            fixed = {"source": "network", "homogeneous": False, "gamma": GAMMA}
            writer.writerow({**row, "norm": f"{row['norm']:.6g}", **fixed})
    return text.getvalue()


def together() -> float:
    """Correlation of ln T and ln norm over the networks."""
    rows = list(csv.DictReader(io.StringIO((FOLDER / "networks.csv").read_text())))
    return correlation(
        *([math.log(float(row[name])) for row in rows] for name in ("temperature", "norm"))
    )


def stricter(folder: Path) -> Row:
    """The regressions on networks with the other threshold."""
    path = folder / "networks.csv"
    path.write_text(table(STRICTER))
    (found,) = summarise(read_networks(path, summary()["gamma"]))["sources"]
    return found


def gain(found: Row, name: str) -> str:
    """Decrease of the error when a regression also reads a number, with its interval."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*(round(v, 3) + 0.0 for v in found["gains"][name]))


def summary() -> Row:
    """What `simulations.explain` found on these networks and on toys."""
    return json.loads((FOLDER / "summary.json").read_text())  # type: ignore[no-any-return]


def of(source: str) -> Row:
    (found,) = [own for own in summary()["sources"] if own["source"] == source]
    return found  # type: ignore[no-any-return]


def errors_table() -> str:
    """Held-out error of each regression by source."""
    sources = summary()["sources"]
    names = [f"{own['source']} ({own['runs']} / {own['groups']})" for own in sources]
    lines = [f"| regression on | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for model in MODELS:
        cells = []
        for own in sources:
            error, low, high = own["errors"][model]["error"]
            cells.append(f"{error:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains_table() -> str:
    """By how much one number lowers the error of a regression on others."""
    sources = summary()["sources"]
    lines = [
        f"| error less by | {' | '.join(own['source'] for own in sources)} |",
        "|---" * (1 + len(sources)) + "|",
    ]
    for name in PAIRS:
        lines.append(f"| {name} | {' | '.join(gain(own, name) for own in sources)} |")
    return "\n".join(lines)


def ruler(condition: str, temperature: float, what: str, form: str) -> str:
    """Median initial norm or rank of a condition of the ruler."""
    name = {"norm": "initial_norm", "rank": "centred_rank"}[what]
    with (STORE / "ruler" / "networks.csv").open() as file:
        found = [
            float(row[name])
            for row in csv.DictReader(file)
            if (row["condition"], float(row["temperature"])) == (condition, temperature)
        ]
    return format(median(found), form)


def slope(source: str, name: str) -> str:
    """A coefficient with its interval."""
    return "{:+.2f} ({:+.2f} to {:+.2f})".format(*of(source)["coefficients"][name])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "networks.csv").write_text(table())
