"""Stores of finished jobs that were never trained: copies of one tiny real job, with known numbers."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rankdeficit.page import Section, Table
from real_nets.jobs.folder import FINAL, milestone_name
from real_nets.jobs.job import Job
from real_nets.jobs.run import UNMEASURED, diagnose_job, train_job
from real_nets.paper.budgets import BUDGETS
from real_nets.paper.compare import Comparison, measured_pairs
from real_nets.paper.grid import Cell, Grid, Setup
from real_nets.paper.store import Results, TargetRecord, job_folder, write_target
from real_nets.paper.targets import TARGETS
from real_nets.paper.targets.pairs import PairTarget
from real_nets.paper.targets.parts import compare_all
from real_nets.report import of_paper
from tests.real_nets.tiny import data_of, tiny_job, write_root

Row = dict[str, Any]

T_1, T_10, T_50 = (f"T\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{t}" for t in (1, 10, 50))
COLD, HOT = f"baseline, {T_1}", f"low logit norm, {T_10}"
RESNET = ("CIFAR-100", "ResNet-18")


@dataclass(frozen=True)
class Numbers:
    """What a network is to have measured."""

    depth: float = 1.0
    drop: float = 0.25
    rank: int = 9
    auroc: float = 0.6
    fpr: float = 0.9
    ortho_dev: float = 0.5
    alignment: float = 0.4
    collapse: tuple[float, float, float, float] = (0.2, 0.1, 0.3, 0.4)
    """NC1 (traces), NC2 (deviations of norms and of cosines), NC3."""
    means_rank: int | None = None
    """Rank of the class means; full by default."""
    initial_norm: float = 1.0
    hidden_rank: int = 100
    accuracy: float = 1.0
    test_accuracy: float = 0.5
    classes: int = 10
    outcome: str = "interpolated"
    probes: tuple[float, ...] = ()
    """Accuracies of the probes of its three layers, instead of those that were fitted."""
    ood_probes: tuple[float, ...] = ()
    """The same of those of every OOD set, of three classes."""
    kept: Mapping[float, "Numbers | None"] = field(default_factory=dict)
    """By milestone, of the weights kept at it; None if they were not diagnosed."""


def hundred(**numbers: object) -> Numbers:
    """Of a hundred classes."""
    return replace(Numbers(classes=100, rank=99), **numbers)  # type: ignore[arg-type]


@cache
def real_job() -> tuple[dict[str, Row], list[Row]]:
    """Files of a job that was trained and diagnosed, and its rows."""
    with TemporaryDirectory() as folder:
        root = write_root(Path(folder))
        job, path = tiny_job(ood=("other",), epochs=1), root / "job"
        data = data_of(job, root)
        train_job(job, data, path)
        diagnose_job(job, data, path)
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        names = ("settings.json", "summary.json", "environment.json", f"diagnoses/{FINAL}.json")
        return {name: json.loads((path / name).read_text()) for name in names}, rows


def write_job(store: Path, job: Job, numbers: Numbers) -> None:
    """A finished job's folder, as far as pages read it."""
    files, rows = real_job()
    path = job_folder(store, job.key)
    settings = files["settings.json"]["settings"]
    cards, known = settings["data"], of_paper(job.data)
    side = job.image_size or (8 if known is None else known.pixels)
    own = {"job": job.record(), "data": cards | {"own": cards["own"] | {"image_size": [side] * 2}}}
    _write(path / "settings.json", files["settings.json"] | {"settings": settings | own})
    train, test = (known and known.images) or (120, 40)
    counts = {"train_images": train, "test_images": test}
    _write(path / "summary.json", _summary(files["summary.json"] | counts, numbers))
    _write(path / "environment.json", files["environment.json"])
    lines = [json.dumps(_row(row, job, numbers)) for row in rows]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if numbers.outcome == "diverged":
        return
    report = files[f"diagnoses/{FINAL}.json"]
    kept = {milestone_name(at): own for at, own in numbers.kept.items() if own}
    for name, own in {FINAL: numbers, **kept}.items():
        _write(path / "diagnoses" / f"{name}.json", _report(report, job, own))


def _summary(found: Row, numbers: Numbers) -> Row:
    measures = {
        "outcome": numbers.outcome,
        "milestones": sorted(numbers.kept),
        "classes": numbers.classes,
        "neural_collapse_rank": numbers.classes - 1,
    }
    if numbers.outcome == "diverged":
        message = "T = 1, seed 0: the loss is not finite at step 7"
        return found | measures | UNMEASURED | {"message": message}
    curve = dict.fromkeys(found["rank_curve"], numbers.rank)
    hidden = [numbers.hidden_rank] * len(found["layers"])
    return found | measures | {
        "accuracy": numbers.accuracy,
        "test_accuracy": numbers.test_accuracy,
        "rank": numbers.rank,
        "centred_rank": numbers.rank,
        "rank_curve": curve,
        "centred_rank_curve": curve,
        "train_layer_ranks": dict.fromkeys(found["train_layer_ranks"], hidden),
    }  # fmt: skip


def _row(row: Row, job: Job, numbers: Numbers) -> Row:
    norm = numbers.initial_norm
    first = {"effective_logits_norm": norm, "logits_norm": norm * job.temperature}
    others = dict.fromkeys(job.ood, numbers.ortho_dev)
    return row | {"ortho_dev": others} | (first if row["step"] == 0 else {})


def _report(found: Row, job: Job, numbers: Numbers) -> Row:
    detector = {"auroc": numbers.auroc, "fpr_id_positive": numbers.fpr}
    detectors = {
        name: own | detector
        for name, own in found["detection"]["other"].items()
        if name.startswith("neco")
    }
    fitted = [layer["probe"]["accuracy"] for layer in found["layers"]]
    outside = [layer["ood_probes"]["other"]["accuracy"] for layer in found["layers"]]
    layers = [
        layer
        | {
            "ood_probes": dict.fromkeys(
                job.ood, layer["ood_probes"]["other"] | {"accuracy": strange}
            )
        }
        | {"probe": layer["probe"] | {"accuracy": accuracy}}
        for layer, accuracy, strange in zip(
            found["layers"], numbers.probes or fitted, numbers.ood_probes or outside, strict=True
        )
    ]
    names = "within_to_between", "equinorm", "cosine_deviation", "self_duality"
    collapse = dict(zip(names, numbers.collapse, strict=True))
    full = numbers.classes - 1
    means = {"predicted_rank": full, "retained_rank": numbers.means_rank or full}
    logits = found["train"]["logits"]
    curve = dict.fromkeys(logits["rank_curve"], numbers.rank)
    balanced = {"largest_class": 1 / numbers.classes}
    ranks = dict.fromkeys(("rank", "centred_rank"), numbers.rank)
    curves = dict.fromkeys(("rank_curve", "centred_rank_curve"), curve)
    train = balanced | {"accuracy": numbers.accuracy, "logits": logits | ranks | curves}
    return found | {
        "train": found["train"] | train,
        "test": found["test"] | balanced | {"accuracy": numbers.test_accuracy},
        "network": found["network"] | {"classes": numbers.classes, "penultimate_width": 512},
        "layers": layers,
        "alignment": numbers.alignment,
        "neural_collapse": found["neural_collapse"] | collapse | means,
        "effective_depth": found["effective_depth"] | {"value": numbers.depth},
        "ood_drop": {
            name: found["ood_drop"]["other"] | {"value": numbers.drop} for name in job.ood
        },
        "detection": dict.fromkeys(job.ood, detectors),
        "ortho_dev": dict.fromkeys(job.ood, numbers.ortho_dev),
        "ood": dict.fromkeys(job.ood, found["ood"]["other"]),
    }


def _write(path: Path, content: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def setup_of(budget: str = "small", missing: Collection[str] = (), **options: Any) -> Setup:
    """All data sets are there, but for the missing ones."""
    return Setup(
        BUDGETS[budget], lambda name: f"no {name} here" if name in missing else None, **options
    )


def fill(
    store: Path,
    names: Iterable[str],
    numbers: Callable[[Job], Numbers | None],
    setup: Setup | None = None,
) -> dict[str, list[Cell]]:
    """Targets with all their jobs finished, but for those without numbers; the targets' cells."""
    setup = setup or setup_of()
    grids = {name: TARGETS[name].cells(setup) for name in names}
    for job in Grid.merged(grids.values()).jobs.values():
        found = numbers(job)
        if found is not None:
            write_job(store, job, found)
    for name, own in grids.items():
        left_out = dict(own.left_out)
        write_target(store, TargetRecord(name, "small", list(own.cells), left_out, computed(name)))
    return {name: list(own.cells) for name, own in grids.items()}


def section_of(
    store: Path,
    name: str,
    numbers: Callable[[Job], Numbers | None],
    setup: Setup | None = None,
) -> Section:
    """A target's section on such a store."""
    cells = fill(store, [name], numbers, setup)[name]
    return TARGETS[name].section(cells, Results(store), computed(name))


def compared(
    store: Path,
    name: str,
    numbers: Callable[[Job], Numbers | None],
    setup: Setup | None = None,
    accuracy: float | None = None,
) -> dict[str, dict[str, Comparison]]:
    """A target's comparisons on such a store, by network and data, and by measure without threshold."""
    cells, target = fill(store, [name], numbers, setup)[name], TARGETS[name]
    assert isinstance(target, PairTarget)
    pairs = measured_pairs(cells, Results(store), accuracy)
    return {
        pair.baseline.cell.where: {one.measure.name.partition(", γ")[0]: one for one in own}
        for pair, own in compare_all(pairs, target.measures)
    }


@cache
def computed(name: str) -> Row:
    """What a target computes without networks, computed once."""
    return dict(TARGETS[name].compute())


def row_of(table: Table, *labels: str) -> list[str]:
    """Texts of the row that starts with these labels, less the labels, with plain spaces."""
    (found,) = [
        row for row in table.rows if [cell.text for cell in row[: len(labels)]] == list(labels)
    ]
    return [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in found[len(labels) :]]


def by_seed(**conditions: Iterable[Numbers | None]) -> Callable[[Job], Numbers | None]:
    """Numbers of `baseline` (T = 1) and `low` (any other T) networks, a value per seed."""
    cold, hot = (list(conditions.get(name, ())) for name in ("baseline", "low"))

    def numbers(job: Job) -> Numbers | None:
        own = cold if job.temperature == 1 else hot
        return own[job.seed] if job.seed < len(own) else None

    return numbers


def said(section: Section) -> str:
    """All of a section's text outside of tables."""
    return "\n".join([*section.paragraphs, *section.notes])


def only(setup: Setup, *asked: str) -> list[Job]:
    """Jobs of these cells."""
    return list(setup.cell(*asked).jobs.values())


def numbers_of(table: Table, measure: str) -> list[str]:
    """The row of a measure of one pair, from the temperature to the verdict, with plain spaces."""
    (found,) = [row for row in table.rows if row[2].text.startswith(measure)]
    return [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in found[4:-1]]
