"""The cells of Tables 1 to 3, networks at T = 1 and at low logit norm: which are measured, and how."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from rankdeficit.page import Column, Table, TableCell
from real_nets.paper import numbers as paper
from real_nets.paper.compare import Measure, Pair, Side, Verdict, compare
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell
from real_nets.paper.measures import detections, representation
from real_nets.paper.store import Results, TargetRecord

Measures = Callable[[Pair], Sequence[Measure]]

TABLES: Mapping[str, tuple[str, Measures]] = {
    "table1": ("Table 1", representation),
    "table2": ("Table 2", detections),
    "table3": ("Table 3", representation),
}
"""The paper's name and the measures of each target."""

CONDITIONS = (BASELINE, LOW_NORM)


class Status(Enum):
    """How the directions that the paper reports of a pair come out, by the least favourable of them."""

    AGREES = "agrees"
    OPEN = "within the spread"
    NONE = "no verdict"
    DIFFERS = "disagrees"
    ALONE = "measured without its pair"
    MISSING = "not measured"


FROM_VERDICTS = {
    Verdict.DIFFERS: Status.DIFFERS,
    Verdict.NONE: Status.NONE,
    Verdict.OPEN: Status.OPEN,
    Verdict.AGREES: Status.AGREES,
}
"""The least favourable first."""


class Covered(NamedTuple):
    """A condition cell."""

    data: str
    network: str
    condition: str
    status: Status
    own_data: bool = False
    """Whether it was measured on the paper's data set."""
    used: str = ""
    """The data set with which it was measured, where it was."""

    @property
    def measured(self) -> bool:
        """Whether there is a network."""
        return self.status is not Status.MISSING


def covered(target: str, cells: Sequence[Cell], results: Results) -> Iterator[Covered]:
    """Every condition cell of a table."""
    table, measures = TABLES[target]
    found = {(cell.dataset, cell.network, cell.condition): cell for cell in cells}
    for network, data in paper.exhibit(table).networks:
        own = [found.get((data, network, condition)) for condition in CONDITIONS]
        sides = [Side(cell, results.outcomes(cell)) for cell in own if cell is not None]
        pair = Pair(*sides) if len(sides) == 2 and all(side.networks for side in sides) else None
        for condition, cell in zip(CONDITIONS, own, strict=True):
            if cell is None or not results.outcomes(cell):
                yield Covered(data, network, condition, Status.MISSING)
            else:
                status = status_of(pair, measures) if pair else Status.ALONE
                yield Covered(data, network, condition, status, cell.own_data, cell.data_name)


def status_of(pair: Pair, measures: Measures) -> Status:
    """Of a pair whose sides are both measured."""
    claimed = [one for one in measures(pair) if one.expected is not None]
    verdicts = {compare(pair, one).verdict for one in claimed}
    return next((s for verdict, s in FROM_VERDICTS.items() if verdict in verdicts), Status.NONE)


def cells_table(target: str) -> Callable[[Sequence[Cell], Results], Table]:
    """Makes the table of a target's condition cells."""

    def table(cells: Sequence[Cell], results: Results) -> Table:
        found = list(covered(target, cells, results))
        rows = []
        for cold, hot in zip(found[::2], found[1::2], strict=True):
            used = cold.used or hot.used or cold.data
            rows.append([used, cold.network, cold.status.value, hot.status.value])
        columns = [*map(Column, ("data", "network")), Column("T = 1"), Column(LOW_NORM)]
        caption = (
            f"The paper's {len(found)} cells, by the least favourable of the directions it reports"
        )
        return Table(caption, columns, [list(map(TableCell, row)) for row in rows])

    return table


def all_cells(records: Sequence[TargetRecord], results: Results) -> list[tuple[str, Covered]]:
    """Every condition cell of the three tables, with the name of its target."""
    cells = {record.name: record.cells for record in records}
    return [(name, one) for name in TABLES for one in covered(name, cells.get(name, []), results)]


def summary(records: Sequence[TargetRecord], results: Results) -> list[str]:
    """A sentence on a store that has some of the tables."""
    if not any(record.name in TABLES for record in records):
        return []
    found = [one for _, one in all_cells(records, results)]
    counts = Counter(one.status for one in found)
    told = "; ".join(f"{status.value}: {counts[status]}" for status in Status if counts[status])
    own = sum(one.own_data for one in found)
    return [
        f"Of the {len(found)} cells of Tables 1 to 3 (a network at T = 1 or at low logit norm), {own} "
        f"are measured on a data set of the paper's name. By direction: {told}."
    ]


def missing(records: Sequence[TargetRecord], results: Results) -> list[tuple[str, str]]:
    """Targets and cells, DATA/NETWORK, whose networks at either condition a store lacks."""
    found = all_cells(records, results)
    return list(
        dict.fromkeys((name, f"{c.data}/{c.network}") for name, c in found if not c.measured)
    )
