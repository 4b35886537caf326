"""SR, kappa and rho of the same networks under every convention and preset, beside the paper's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.page import Column, Section, Table, TableCell
from rankdeficit.page.numbers import format_rank, format_share
from rankdeficit.spectrum import Convention
from real_nets.jobs.folder import RANKS, JobFolder
from real_nets.paper import numbers as paper
from real_nets.paper.chance import LAST_PROBE, ood_probe
from real_nets.paper.compare import (
    Comparison,
    Measure,
    Pair,
    Verdict,
    measured_pairs,
    tally,
    values,
)
from real_nets.paper.grid import BASELINE, LOW_NORM, Cell, Grid, Setup
from real_nets.paper.measures import depths, logits_ranks
from real_nets.paper.measures import drop as drop_of
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import (
    PLACE,
    compare_all,
    measured,
    of_probes,
    pair_table,
    place,
    seeds,
)
from real_nets.paper.targets.target import Computed, Target, register

PRESETS: tuple[Preset, ...] = get_args(Preset)
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

Ends = tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """A measure as one convention or preset defines it."""

    name: str
    """Convention or preset."""
    measure: Measure
    interval: Callable[[JobFolder], Ends | None]
    """Interval over samples of one network; None where it was not recorded."""


class Told(NamedTuple):
    """What one choice gives in one cell."""

    cell: Cell
    choice: Choice
    paper: float
    found: tuple[float, ...]
    """One number per network."""
    ends: Ends | None
    """The lowest and the highest end of all networks; of their numbers where there is no interval."""

    @property
    def verdict(self) -> str:
        """Whether the paper's number lies between the ends."""
        if self.ends is None:
            return "not recorded"
        if not self.cell.own_data:
            return "other data"
        low, high = self.ends
        return "compatible" if low <= self.paper <= high else "outside"


def ranks() -> list[Choice]:
    """The rank of the logits in every convention."""
    return [
        Choice(
            convention,
            Measure("SR", lambda one, c=convention: one.rank_under(c), format_rank),  # type: ignore[misc]
            lambda one, name=RANKS[convention]: ends_of(  # type: ignore[misc]
                one, f"train.rank_sampling.{name}.interval"
            ),
        )
        for convention in CONVENTIONS
    ]


def depth(preset: Preset) -> Choice:
    """kappa with the probes of a preset, from results under it."""
    measure = Measure("κ", lambda one: one.effective_depth, format_share, check=LAST_PROBE)
    return Choice(preset, measure, lambda one: ends_of(one, "effective_depth.interval"))


def drop(preset: Preset) -> Choice:
    """rho on the first OOD set."""

    def first(one: JobFolder) -> str:
        return next(iter(one.job.ood), "")

    measure = Measure("ρ", lambda one: one.ood_drop(first(one)), format_share, check=ood_probe(""))
    return Choice(preset, measure, lambda one: ends_of(one, f"ood_drop.{first(one)}.interval"))


def ends_of(one: JobFolder, name: str) -> Ends | None:
    """An interval in the report of a network."""
    found = one.found(name)
    return (float(found[0]), float(found[1])) if isinstance(found, list) else None


def tell(cell: Cell, choice: Choice, number: float, results: Results) -> Told:
    """One choice in one cell."""
    networks = results.outcomes(cell)
    found = tuple(values(networks, choice.measure.value))
    ends = [own for one in networks if (own := choice.interval(one))]
    every = [*found, *(end for own in ends for end in own)]
    return Told(cell, choice, number, found, (min(every), max(every)) if found else None)


def statement(choice: str, told: Sequence[Told]) -> str:
    """Where the paper's numbers lie outside of the intervals of a choice."""
    own = [one for one in told if one.cell.own_data and one.found]
    outside = [one for one in own if one.verdict == "outside"]
    if not own:
        return f"{choice}: not recorded on the paper's own data."
    form = outside[0].choice.measure.form if outside else str
    listed = "; ".join(
        f"{one.cell.where}, {one.cell.label}: {form(one.paper)} in the paper, "
        f"{form(one.ends[0])} to {form(one.ends[1])} here, n = {len(one.found)}"
        for one in outside
        if one.ends
    )
    whole = (
        f"{choice}: compatible with {len(own) - len(outside)} of {len(own)} of the paper's numbers"
    )
    return f"{whole}; outside: {listed}." if outside else f"{whole}."


def choice_table(caption: str, told: Sequence[Told], n: int, results: Results) -> Table:
    """A row per cell and choice: the paper's number, those measured, their ends, the verdict."""
    rows = []
    for one in told:
        measure, networks = one.choice.measure, results.outcomes(one.cell)
        ends = "" if one.ends is None else " to ".join(map(measure.form, one.ends))
        images = sorted({f"{int(own.measure('train.samples') or 0):,}" for own in networks})
        rows.append(
            [
                *place(one.cell),
                TableCell(one.choice.name),
                TableCell(measure.form(one.paper), "paper"),
                measured(networks, measure, n),
                TableCell(ends, "measured"),
                TableCell(", ".join(images)),
                TableCell(one.verdict),
            ]
        )
    titles = ("under", "paper", "measured", "over seeds and samples", "diagnosed images", "verdict")
    return Table(f"{caption} (n = {n})", [*PLACE, *map(Column, titles)], rows)


def ranks_of(pair: Pair) -> list[Measure]:
    """SR with the paper's direction, under each convention."""
    own = logits_ranks(pair)[0]
    return [replace(own, name=f"SR, {one.name}", value=one.measure.value) for one in ranks()]


def probes_of(pair: Pair, preset: Preset) -> list[Measure]:
    """kappa and rho with the paper's directions, from results under a preset."""
    own = {"κ": depths(pair)[0], "ρ": drop_of(pair, next(iter(pair.ood), None))}
    return [replace(one, name=f"{name}, {preset}") for name, one in own.items()]


def directions(cells: Sequence[Cell], results: Results) -> list[tuple[Pair, Sequence[Comparison]]]:
    """T = 1 compared with low logit norm under each choice, pair by pair."""
    by_choice: list[list[tuple[Pair, list[Comparison]]]] = [
        compare_all(measured_pairs(cells, results), ranks_of)
    ]
    for preset in PRESETS:
        found = measured_pairs(cells, results.under(preset))
        by_choice.append(compare_all(found, lambda pair, own=preset: probes_of(pair, own)))  # type: ignore[misc]
    return [one for same in zip(*by_choice, strict=True) for one in same]


def agreeing(compared: Sequence[tuple[Pair, Sequence[Comparison]]]) -> str:
    """A sentence with the number of directions that agree under each choice; empty if none is known."""
    every = [one for _, own in compared for one in own]
    names = dict.fromkeys(one.measure.name for one in every)
    told = []
    for name in sorted(names, key=lambda name: ("SR", "κ", "ρ").index(name.split(",")[0])):
        counts = tally(one for one in every if one.measure.name == name)
        if counts:
            told.append(f"{name}: {counts.get(Verdict.AGREES, 0)} of {sum(counts.values())}")
    return (
        f"Directions that agree with the paper, by convention. {'; '.join(told)}." if told else ""
    )


@register
class Conventions(Target):
    """What the numbers of Tables 1 and 3 are under other conventions."""

    name = "conventions"
    title = "Conventions of rank and protocols of probes"
    about = (
        "SR, κ and ρ of the networks of Tables 1 and 3 under each convention and preset of probes, and "
        "which fit the paper's numbers."
    )
    presets = PRESETS

    def cells(self, setup: Setup) -> Grid:
        """Both conditions of the networks of Tables 1 and 3."""
        rows = [(row.data, row.architecture) for row in (*paper.TABLE_1, *paper.TABLE_3)]
        return setup.pairs(rows)

    def section(self, cells: Sequence[Cell], results: Results, computed: Computed) -> Section:
        """Tables of directions, ranks, kappa and rho, with a statement on each choice."""
        compared = directions(cells, results)
        result = agreeing(compared)
        tables = [pair_table("Direction of the change under each convention and preset", compared)]
        paragraphs = [result] if result else []
        known = list(in_paper(cells, results))
        n = seeds(cells)
        told = [tell(c, choice, float(row.rank), results) for c, row in known for choice in ranks()]
        tables.append(
            choice_table("Rank of the train logits under each convention", told, n, results)
        )
        paragraphs += statements("Rank", told)
        for name, make, number in (
            ("Effective depth κ", depth, lambda row: row.effective_depth),
            ("OOD drop ρ", drop, lambda row: row.ood_drop),
        ):
            told = []
            rows: list[Sequence[TableCell]] = []
            for preset in PRESETS:
                own = results.under(preset)
                part = [tell(cell, make(preset), number(row), own) for cell, row in known]
                told += part
                rows += choice_table("", part, n, own).rows
            table = choice_table(f"{name} with the probes of each preset", [], n, results)
            order = {cell.keys: i for i, (cell, _) in enumerate(known)}
            pairs = sorted(zip(told, rows, strict=True), key=lambda own: order[own[0].cell.keys])
            tables.append(Table(table.caption, table.columns, [row for _, row in pairs]))
            paragraphs += statements(name, told)
        paragraphs.append(
            "Compatible: the paper's number lies between the lowest and the highest end of the 95 % "
            "intervals over samples of all seeds (the range over seeds where a record has no intervals). "
            "What lies outside is excluded for the recipe and the width of these networks, which are not "
            "the paper's. Matrix and class-centred ranks are on all train images, the others and all "
            "intervals on the diagnosed ones."
        )
        notes = of_probes(cells, results)
        return Section(self.name, self.title, paragraphs, tables, [], notes, result)


def statements(of: str, told: Sequence[Told]) -> Iterator[str]:
    """A statement on each choice of a measure."""
    for name in dict.fromkeys(one.choice.name for one in told):
        own = [one for one in told if one.choice.name == name]
        yield f"{of}, {statement(name, own)}"


def in_paper(
    cells: Sequence[Cell], results: Results
) -> Iterator[tuple[Cell, paper.Representation]]:
    """Trained cells with the paper's numbers."""
    for cell in cells:
        row = paper.representation_row(cell.network, cell.dataset)
        if row is not None and cell.condition in (BASELINE, LOW_NORM) and results.outcomes(cell):
            yield cell, row.baseline if cell.condition == BASELINE else row.low_norm
