"""Tables and sentences on compressed networks."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.promise import Paired
from rankdeficit.control.compression.record import Numbers
from rankdeficit.experiments.tables import counted

LONGEST = 14
"""Characters of a name in the table."""


@dataclass(frozen=True)
class Row:
    """One network compressed by one method."""

    network: str
    temperature: float
    method: Method
    found: Numbers


def report(rows: Sequence[Row]) -> tuple[Table, list[str]]:
    """A table with a line for each network and method, and sentences; those on groups come last."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in (
        "network", "T", "method", "dimensions\nremoved", "layers", "head\nreads", "para-\nmeters",
        "\nFLOPs", "time\nof 1", "time\nof 64", "accuracy\nbefore", "\nchange", "\n95 %",
    ):  # fmt: skip
        table.add_column(
            head, justify="left" if head in ("network", "method") else "right", no_wrap=True
        )
    for row in rows:
        found = row.found
        before, after = found.before, found.after
        left = sum(own.after > 0 for own in found.layers) + 1
        times = [
            f"{new.median / old.median:.2f}"
            for old, new in zip(before.latency, after.latency, strict=True)
        ]
        table.add_row(
            _shorter(row.network), f"{row.temperature:g}", row.method, f"{found.removed:.1%}",
            f"{left}/{len(found.layers) + 1}",
            "" if found.plan.rank is None else str(found.plan.rank),
            f"{after.parameters / before.parameters:.2f}", f"{after.flops / before.flops:.2f}",
            *(times or ["", ""]), *_accuracy(found.tested),
        )  # fmt: skip
        for method, paired in found.rivals.items():
            cells = [f"= {method}", f"{found.removed:.1%}", *[""] * 6]
            table.add_row("", "", *cells, *_accuracy(paired))
    sentences = [f"{row.network}, {row.method}: {note}" for row in rows for note in row.found.notes]
    counts = sorted({own.samples for row in rows if (own := row.found.tested) is not None})
    sentences.append(
        "Parameters, FLOPs and times (medians) are relative to the original's. Accuracies are "
        f"percentages of {' or '.join(map(str, counts))} test images that had no influence on the "
        "compression; changes are in percentage points with a paired interval. Lines with = show other "
        "methods at the dimensions of the line above."
    )
    return table, [*sentences, *summaries(rows)]


def summaries(rows: Sequence[Row]) -> list[str]:
    """A sentence for each temperature and method, with medians and ranges over networks."""
    groups: dict[tuple[float, Method], list[Numbers]] = {}
    for row in rows:
        groups.setdefault((row.temperature, row.method), []).append(row.found)
    lines = []
    for (temperature, method), found in groups.items():
        tested = [own.tested for own in found if own.tested is not None]
        kept = sum(own.loss < own.margin for own in tested)
        changes = _range([0.0 - 100 * own.loss for own in tested], "+.2f")
        removed = _range([100 * own.removed for own in found], ".1f")
        lines.append(
            f"T = {temperature:g}, {method}: {removed} % of the dimensions removed, accuracy changed by "
            f"{changes} points; {kept} of {counted(len(tested), 'network')} lost less than the limit on "
            "the test images."
        )
    return lines


def _shorter(name: str) -> str:
    """The end of a name that is too long for the table."""
    return name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"


def _range(values: Sequence[float], form: str) -> str:
    """Median and range."""
    low, high = format(min(values), form), format(max(values), form)
    return f"{statistics.median(values):{form}}" + (f" ({low} to {high})" if low != high else "")


def _accuracy(paired: Paired | None) -> list[str]:
    assert paired is not None
    low, high = (100 * end for end in paired.interval)
    return [
        f"{100 * paired.accuracy_before:.2f}",
        f"{0.0 - 100 * paired.loss:+.2f}",
        f"{low:+.2f} to {high:+.2f}",
    ]
