"""How often each rule of advice is right, over stored networks and toy runs.

`python -m tests.rankdeficit.diagnostics.report.advice_rates` prints the table of
rankdeficit/diagnostics/ADVICE.md.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rankdeficit.diagnostics.report.advice import advice, rules
from rankdeficit.diagnostics.report.row_advice import NOT_GROWN, ROW_RULES, advise_rows
from simulations.ufm import Settings, Ufm

Row = dict[str, Any]
RESULTS = Path(__file__).parents[4] / "real_nets" / "results"

ADAM = Settings(
    temperature=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0), seeds=10, depth=(1, 2, 3), classes=20,
    samples_per_class=4, width=32, steps=1200, measure_every=300, init_scale=0.5, device="cpu",
)  # fmt: skip
TOYS = (ADAM, replace(ADAM, optimizer="sgd"))
LATER = {32: 128, 64: 256, 300: 1200}
"""Steps at which toy runs are judged, and four times as many."""

MORE = 0.05
"""A rank is higher where it exceeds the other by this share of min(c - 1, width)."""

RIGHT = {
    "stalled": "T = 1, or four times the steps, at least halves the train loss",
    "small logits": "four times the steps at least halve the train loss",
    "collapsed": "the network of T = 1 has a higher class-centred rank",
    "collapsed at baseline": "one layer less gives a higher class-centred rank",
    "not interpolating": "four times the steps change the class-centred rank",
    "rank depends on gamma": "whether the rank is below that of T = 1 depends on gamma up to 1e-2",
    "over-confident": "temperature scaling lowers the held-out NLL by 2 %",
    "transfer lost": "the layer is better than the last one by 2 % with another seed, too",
    NOT_GROWN: "T = 1, or four times the steps, at least halves the train loss",
}
"""Where the advice of each rule is right."""


class Case(NamedTuple):
    """A report, and the reports that tell whether advice is right."""

    record: Row
    cold: Row | None = None
    """Of the same network at T = 1."""
    later: Row | None = None
    """After four times the steps."""
    shallower: Row | None = None
    """With a layer less."""
    again: Row | None = None
    """With another seed."""
    rows: tuple[Row, ...] = ()
    """Of its training up to the report."""

    def told(self) -> set[str]:
        """Names of the advice."""
        found = [*advice(self.record), *advise_rows(self.rows, self.record["network"]["classes"])]
        return {own.name for own in found}


class Counts(NamedTuple):
    """Of cases in which the advice is right, and in which it is not."""

    hits: int
    right: int
    alarms: int
    wrong: int

    def __str__(self) -> str:
        return f"{self.hits} of {self.right} | {self.alarms} of {self.wrong}"


def is_right(rule: str, case: Case) -> bool | None:
    """None where the case cannot tell."""
    own, cold, later = case.record, case.cold, case.later
    if rule in ("stalled", NOT_GROWN):
        others = [x["train"]["loss"] for x in (cold, later) if x is not None]
        return min(others) <= 0.5 * own["train"]["loss"] if others else None
    if rule == "small logits":
        return None if later is None else later["train"]["loss"] <= 0.5 * own["train"]["loss"]
    if rule == "collapsed":
        return None if cold is None else differ(own, cold) > 0
    if rule == "collapsed at baseline":
        return None if case.shallower is None else differ(own, case.shallower) > 0
    if rule == "not interpolating":
        return None if later is None else differ(own, later) != 0
    if rule == "rank depends on gamma":
        gammas = ("0.0001", "0.001", "0.01")
        return None if cold is None else len({differ(own, cold, g) > 0 for g in gammas}) > 1
    if rule == "over-confident":
        found = own.get("calibration")
        return None if not found else found["after"]["nll"] <= 0.98 * found["before"]["nll"]
    assert rule == "transfer lost"
    sets = [name for name, drop in (own.get("ood_drop") or {}).items() if drop]
    if case.again is None or not sets:
        return None
    return any(better_again(name, own["layers"], case.again["layers"]) for name in sets)


def better_again(name: str, layers: list[Row], others: list[Row]) -> bool:
    """Whether the layer with the best OOD probe beats the last layer in the other network, too."""
    first, second = ([x["ood_probes"][name]["accuracy"] for x in own] for own in (layers, others))
    return bool(second[first.index(max(first))] >= 1.02 * second[-1])


def differ(own: Row, other: Row | None, gamma: str = "0.001") -> int:
    """1 where the other's rank is higher, -1 where it is lower, 0 where they are about the same."""
    assert other is not None
    network = own["network"]
    predicted = min(network["classes"] - 1, network["penultimate_width"])
    first, second = (x["train"]["logits"]["centred_rank_curve"][gamma] for x in (own, other))
    return 0 if abs(second - first) < MORE * predicted else 1 if second > first else -1


def toys() -> Iterator[Case]:
    """Toy runs at several steps."""
    for settings in TOYS:
        run = Ufm().results(settings)
        found = {
            (row["depth"], row["temperature"], row["seed"], row["step"]): toy_record(row)
            for row in run.rows
            if row["loss"] is not None
        }
        for (depth, T, seed, step), record in found.items():
            if step in LATER or step == settings.steps:
                own = [row for row in run.rows if _run(row) == (depth, T, seed)]
                yield Case(
                    record,
                    cold=found.get((depth, 1.0, seed, step)) if T > 1 else None,
                    later=found.get((depth, T, seed, LATER.get(step, -1))),
                    shallower=found.get((depth - 1, T, seed, step)) if T == 1 else None,
                    rows=tuple(row for row in own if row["step"] <= step),
                )


def _run(row: Row) -> tuple[int, float, int]:
    return row["depth"], row["temperature"], row["seed"]


def toy_record(row: Row) -> Row:
    """A report's record of a row of `simulations.ufm`."""
    samples = ADAM.classes * ADAM.samples_per_class
    data = {"samples": samples, "accuracy": row["accuracy"], "loss": row["loss"], "logits": row}
    return {
        "network": {"name": "ufm", "classes": ADAM.classes, "penultimate_width": ADAM.width},
        "train": data,
        "test": data,
        "layers": [],
        "conditions": {"temperature": row["temperature"], "gamma": ADAM.gamma},
    }


def stored() -> Iterator[Case]:
    """Diagnoses in real_nets/results, with those of T = 1 and of the next seed, otherwise the same."""
    found: dict[tuple[str, str, float, int], Row] = {}
    rows: dict[tuple[str, str, float, int], tuple[Row, ...]] = {}
    for file in sorted(RESULTS.glob("**/jobs/*/diagnoses/*.json")):
        job = json.loads((file.parents[1] / "settings.json").read_text())["settings"]["job"]
        T, seed = job.pop("temperature"), job.pop("seed")
        key = json.dumps(job, sort_keys=True), f"{file.parents[3]}/{file.stem}", T, seed
        found[key] = json.loads(file.read_text())
        written = (file.parents[1] / "metrics.jsonl").read_text().splitlines()
        rows[key] = tuple(json.loads(line) for line in written)
    for (job, place, T, seed), record in found.items():
        yield Case(
            record,
            cold=found.get((job, place, 1.0, seed)) if T > 1 else None,
            again=found.get((job, place, T, (seed + 1) % 3)),
            rows=rows[job, place, T, seed],
        )


def counts(cases: list[Case]) -> dict[str, Counts | None]:
    """By rule; None where no case tells."""
    raised = [case.told() for case in cases]
    result: dict[str, Counts | None] = {}
    for rule in (*rules(), *ROW_RULES):
        told = [
            (rule in names, is_right(rule, case))
            for names, case in zip(raised, cases, strict=True)
            if case.rows or rule not in ROW_RULES
        ]
        right = [said for said, truth in told if truth is True]
        wrong = [said for said, truth in told if truth is False]
        known = Counts(sum(right), len(right), sum(wrong), len(wrong))
        result[rule] = known if right or wrong else None
    return result


def table() -> str:
    """The rates as Markdown."""
    columns = [counts([*stored()]), counts([*toys()])]
    lines = [
        "| rule | the advice is right where | networks: told where right | told where wrong "
        "| toys: told where right | told where wrong |",
        "|---|---|---|---|---|---|",
    ]
    for rule in RIGHT:
        cells = " | ".join("- | -" if own[rule] is None else str(own[rule]) for own in columns)
        lines.append(f"| {rule} | {RIGHT[rule]} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
