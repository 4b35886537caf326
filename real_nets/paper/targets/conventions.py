"""SR, kappa and rho of the same networks under every convention and preset, beside the paper's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
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

HALF_PERCENT = 0.005

Ends = tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """A measure as one convention or preset defines it."""

    name: str
    """Convention or preset."""
    measure: Measure
    interval: str
    """Where a report has the interval over samples; {ood} stands for the first OOD set."""
    rounding: float = 0.0
    """Largest error of the paper's number, which it prints in whole percent."""


class Told(NamedTuple):
    """What one choice gives in one cell."""

    cell: Cell
    choice: Choice
    paper: float
    networks: Sequence[JobFolder]
    found: tuple[float, ...]
    """One number per network."""
    ends: Ends | None
    """The lowest and the highest end of all networks; of their numbers where there is no interval."""

    @property
    def verdict(self) -> str:
        """Whether the paper's number, as rounded there, lies between the ends."""
        if self.ends is None:
            return "not recorded"
        if not self.cell.own_data:
            return "other data"
        (low, high), error = self.ends, self.choice.rounding
        return "compatible" if low - error <= self.paper <= high + error else "outside"


def ranks() -> list[Choice]:
    """The rank of the logits in every convention."""
    return [
        Choice(
            convention,
            Measure("SR", lambda one, c=convention: one.rank_under(c), format_rank),  # type: ignore[misc]
            f"train.rank_sampling.{RANKS[convention]}.interval",
        )
        for convention in CONVENTIONS
    ]


def depth(preset: Preset) -> Choice:
    """kappa with the probes of a preset, from results under it."""
    measure = Measure("κ", lambda one: one.effective_depth, format_share, check=LAST_PROBE)
    return Choice(preset, measure, "effective_depth.interval", HALF_PERCENT)


def drop(preset: Preset) -> Choice:
    """rho on the first OOD set."""
    measure = Measure("ρ", lambda one: one.ood_drop(first(one)), format_share, check=ood_probe(""))
    return Choice(preset, measure, "ood_drop.{ood}.interval", HALF_PERCENT)


def first(one: JobFolder) -> str:
    """The first OOD set of a network."""
    return next(iter(one.job.ood), "")


def tell(cell: Cell, choice: Choice, number: float, results: Results) -> Told:
    """One choice in one cell."""
    networks = results.outcomes(cell)
    found = tuple(values(networks, choice.measure.value))
    ends = [one.found(choice.interval.format(ood=first(one))) or [] for one in networks]
    every = [*found, *map(float, chain(*ends))]
    return Told(cell, choice, number, networks, found, (min(every), max(every)) if found else None)


def choice_table(caption: str, told: Sequence[Told]) -> Table:
    """A row per cell and choice: the paper's number, those measured, their ends, the verdict."""
    rows = []
    n = seeds(one.cell for one in told)
    for one in told:
        measure, networks = one.choice.measure, one.networks
        images = sorted({f"{int(own.measure('train.samples') or 0):,}" for own in networks})
        rows.append(
            [
                *place(one.cell),
                TableCell(one.choice.name),
                TableCell(measure.form(one.paper), "paper"),
                measured(networks, measure, n),
                TableCell(told_ends(one), "measured"),
                TableCell(", ".join(images)),
                TableCell(one.verdict),
            ]
        )
    titles = ("under", "paper", "measured", "over seeds and samples", "diagnosed images", "verdict")
    return Table(f"{caption} (n = {n})", [*PLACE, *map(Column, titles)], rows)


def ranks_of(pair: Pair) -> list[Measure]:
    """SR with the paper's direction, under each convention."""
    own = next(
        (one for one in logits_ranks(pair) if one.expected is not None), logits_ranks(pair)[0]
    )
    return [replace(own, name=f"SR, {one.name}", value=one.measure.value) for one in ranks()]


def probes_of(pair: Pair, preset: Preset) -> list[Measure]:
    """kappa and rho with the paper's directions, from results under a preset."""
    own = {"κ": depths(pair)[0], "ρ": drop_of(pair, next(iter(pair.ood), None))}
    return [replace(one, name=f"{name}, {preset}") for name, one in own.items()]


def directions(cells: Sequence[Cell], results: Results) -> list[tuple[Pair, Sequence[Comparison]]]:
    """T = 1 compared with low logit norm under each choice, pair by pair."""
    by_choice = [compare_all(measured_pairs(cells, results), ranks_of)]
    for preset in PRESETS:
        found = measured_pairs(cells, results.under(preset))
        by_choice.append(compare_all(found, partial(probes_of, preset=preset)))
    return list(chain(*zip(*by_choice, strict=True)))


def agreeing(compared: Sequence[tuple[Pair, Sequence[Comparison]]]) -> str:
    """A sentence with the number of directions that agree under each choice; empty if none is known."""
    every = [one for _, own in compared for one in own]
    told: dict[str, list[str]] = {name: [] for name in ("SR", "κ", "ρ")}
    for name in dict.fromkeys(one.measure.name for one in every):
        of, choice = name.split(", ")
        if counts := tally(one for one in every if one.measure.name == name):
            agree = f"{counts.get(Verdict.AGREES, 0)} of {sum(counts.values())}"
            told[of].append(f"{agree} ({choice})")
    listed = "; ".join(f"{of} in {', '.join(own)}" for of, own in told.items() if own)
    return f"Networks in which a measure moves as in the paper: {listed}." if listed else ""


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
        under = [(preset, results.under(preset)) for preset in PRESETS]
        known = list(in_paper(cells, results))
        for name, caption, choices, number in (
            ("Rank", "Rank of the train logits under each convention",
             [(one, results) for one in ranks()], lambda row: row.rank),
            ("Effective depth κ", "Effective depth κ with the probes of each preset",
             [(depth(preset), own) for preset, own in under], lambda row: row.effective_depth),
            ("OOD drop ρ", "OOD drop ρ with the probes of each preset",
             [(drop(preset), own) for preset, own in under], lambda row: row.ood_drop),
        ):  # fmt: skip
            told = [
                tell(cell, choice, float(number(row)), own)
                for cell, row in known
                for choice, own in choices
            ]
            tables.append(choice_table(caption, told))
            paragraphs += statements(name, told)
        paragraphs.append(
            "Compatible: the paper's number, within its rounding, lies between the lowest and the "
            "highest end of the 95 % intervals over samples of all seeds (the range over seeds where a "
            "record has no intervals). "
            "What lies outside is excluded for the recipe and the width of these networks, which are not "
            "the paper's. Matrix and class-centred ranks are on all train images, the others and all "
            "intervals on the diagnosed ones."
        )
        notes = of_probes(cells, results)
        return Section(self.name, self.title, paragraphs, tables, [], notes, result)


def statements(of: str, told: Sequence[Told]) -> Iterator[str]:
    """A sentence on each choice of a measure, with the paper's numbers outside of its intervals."""
    for name in dict.fromkeys(one.choice.name for one in told):
        own = [one for one in told if one.choice.name == name and one.cell.own_data and one.found]
        outside = [one for one in own if one.verdict == "outside"]
        if not own:
            yield f"{of} ({name}) is not recorded on the paper's own data."
            continue
        whole = f"{of} ({name}) fits {len(own) - len(outside)} of the paper's {len(own)} numbers"
        listed = "; ".join(
            f"{one.choice.measure.form(one.paper)} of {one.cell.where}, {one.cell.label} "
            f"({told_ends(one)} here, n = {len(one.found)})"
            for one in outside
        )
        yield f"{whole}{' and excludes ' * bool(outside)}{listed}."


def told_ends(one: Told) -> str:
    """The lowest and the highest end, once if they print alike; empty where none is known."""
    return " to ".join(dict.fromkeys(map(one.choice.measure.form, one.ends or ())))


def in_paper(
    cells: Sequence[Cell], results: Results
) -> Iterator[tuple[Cell, paper.Representation]]:
    """Trained cells with the paper's numbers."""
    for cell in cells:
        row = paper.representation_row(cell.network, cell.dataset)
        if row is not None and cell.condition in (BASELINE, LOW_NORM) and results.outcomes(cell):
            yield cell, row.baseline if cell.condition == BASELINE else row.low_norm
