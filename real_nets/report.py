"""Write the self-contained HTML page on a store of results, and export stores.

    python -m real_nets.report RUNS

RUNS is the --out folder of real_nets.reproduce, or an export of one: the same files without weights and
checkpoints, small enough to share.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.diagnostics.report.glossary import glossary_section, named_terms
from rankdeficit.experiments import cli
from rankdeficit.experiments.figure_style import default_style
from rankdeficit.page import Page, Section, write
from rankdeficit.page.terminal import open_console, print_section
from rankdeficit.spectrum import Convention
from real_nets.data.catalogue import Definition, definition_of
from real_nets.jobs.folder import OURS, JobFolder
from real_nets.paper import coverage
from real_nets.paper.conditions import conditions
from real_nets.paper.export import check_new, export
from real_nets.paper.grid import Cell, replaceable
from real_nets.paper.store import PAGE, Results, TargetRecord, read_targets
from real_nets.paper.targets import TARGETS

PROGRAM = "real_nets.report"


@dataclass(frozen=True)
class Settings:
    """Write the page on a store of results."""

    runs: tyro.conf.Positional[Path]
    """Folder that real_nets.reproduce wrote."""
    out: Path | None = None
    """File of the page [default: RUNS/report.html]."""
    convention: Convention = "matrix"
    """How logits are centred before their rank is compared with the paper's: matrix (not at all),
    class-centred, sample-centred, or covariance."""
    probe_preset: Preset = OURS
    """Protocol of the probes behind κ and ρ, as in real_nets.diagnose; what was not tried is missing."""
    export: Path | None = None
    """New folder for an export: results without weights, figures, and the page as Markdown."""


def run(settings: Settings) -> Path:
    """Write the page and the export; returns the path of the page."""
    if settings.export is not None:
        check_new(settings.export)
    path = settings.out or settings.runs / PAGE
    check_place(path)
    records = read_targets(settings.runs, list(TARGETS))
    page = build_page(settings.runs, records, settings.probe_preset, settings.convention)
    write(page, path)
    if settings.export is not None:
        export(settings.runs, records, page, settings.export)
        print(f"The results are in {settings.export}.")
    print(f"The page is {path}.")
    return path


@default_style()
def build_page(
    store: Path,
    records: Sequence[TargetRecord],
    preset: Preset = OURS,
    convention: Convention = "matrix",
) -> Page:
    """The page on the records of a store, with probes of a preset and ranks in a convention."""
    results = Results(store, preset, convention)
    sections = [section_of(record, results) for record in records]
    if terms := named_terms(table for section in sections for table in section.tables):
        sections.append(glossary_section(terms))
    return Page(
        "Unpacking Softmax: the paper’s numbers and those measured",
        summary(records, results),
        sections,
        list(conditions(records, list(results.all_outcomes(records)))),
    )


def section_of(record: TargetRecord, results: Results) -> Section:
    """The section of a target, with notes on what was left out, and without empty tables."""
    section = TARGETS[record.name].section(record.cells, results, record.computed)
    left_out = [f"Left out: {name}: {reason}." for name, reason in record.left_out.items()]
    tables = [table for table in section.tables if table.rows]
    return replace(section, tables=tables, notes=[*section.notes, *left_out])


def summary(records: Sequence[TargetRecord], results: Results) -> list[str]:
    """Paragraphs on the networks and data of the page."""
    outcomes = list(results.all_outcomes(records))
    lines = [
        *coverage.summary(records, results),
        "The paper is Masarczyk et al., “Unpacking Softmax” (arXiv 2506.01562, 2025). Its training "
        "recipe is in an appendix that is not at hand here, so its directions can be expected to come "
        "out, its numbers cannot.",
        f"{trained(outcomes)}. Numbers are medians over n seeds, with the range in brackets where seeds "
        "differ in print. Rises, falls: the ranges of both sides do not overlap. Unchanged: all values "
        "print alike. Open: anything else. Directions count on the paper's OOD set or its stand-in.",
    ]
    if others := other_data(records, outcomes):
        lines.append(
            f"These are not the paper's data: {'; '.join(others)}. Differences from its numbers are "
            "no evidence for or against them."
        )
    lines += reasons(cell for record in records for cell in record.cells)
    if results.preset != OURS:
        lines.append(f"Probes, and with them κ and ρ, are of the preset {results.preset}.")
    if results.convention != "matrix":
        lines.append(f"SR is the {results.convention} rank of the logits.")
    used = [definition_of(name) for one in outcomes for name in (one.job.data, *one.job.ood)]
    synthetic = {f"{own.name}: {own.about}" for own in used if own is not None and own.synthetic}
    if synthetic:
        lines.append(f"Drawn by a program, not photographed: {'; '.join(sorted(synthetic))}.")
    return lines


def reasons(cells: Iterable[Cell]) -> list[str]:
    """One sentence per temperature that stands for "low logit norm", with the reason."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.reason:
            found.setdefault(f"T = {cell.temperature:g}: {cell.reason}", {})[cell.where] = None
    return [f"Low logit norm is {why} ({', '.join(where)})." for why, where in found.items()]


def other_data(records: Sequence[TargetRecord], outcomes: Sequence[JobFolder]) -> list[str]:
    """Data that are not the paper's: other sets, parts of its sets, and images of another size."""
    cells = [cell for record in records for cell in record.cells]
    others = sorted({cell.data_name for cell in cells if not cell.own_data})
    others_ood = {name for one in outcomes for name in one.job.ood} - set(replaceable())
    if others_ood:
        others.append(f"{', '.join(sorted(others_ood))} as out-of-distribution data")
    return [*others, *parts_of_data(outcomes), *other_sizes(outcomes)]


def parts_of_data(outcomes: Sequence[JobFolder]) -> list[str]:
    """Numbers of images of the data sets that are not the paper's or lack some images.

    The size of ImageNet-100 is unknown, as the choice of its classes is not standardised.
    """
    found = {
        (one.job.data, one.summary["train_images"], one.summary["test_images"]) for one in outcomes
    }
    return [
        f"{name} with {train:,} train and {test:,} test images"
        for name, train, test in sorted(found)
        if (own := of_paper(name)) is None or own.images not in (None, (train, test))
    ]


def other_sizes(outcomes: Sequence[JobFolder]) -> list[str]:
    """The paper's data sets whose images have another size than in the paper.

    Networks that start pretrained are excluded: their input size is that of the pretraining.
    """
    found = {
        (one.job.data, own.pixels, size)
        for one in outcomes
        if (own := of_paper(one.job.data)) is not None and not one.job.pretrained
        if (size := one.image_size) is not None
    }
    return [
        f"{name} at {height} x {width} pixels"
        for name, pixels, (height, width) in sorted(found)
        if {height, width} != {pixels}
    ]


def of_paper(name: str) -> Definition | None:
    """The definition of a data set if the paper trains networks on it."""
    own = definition_of(name)
    return own if own is not None and own.paper_name else None


def trained(outcomes: Sequence[JobFolder]) -> str:
    """Number of networks and their data sets."""
    if not outcomes:
        return "No networks were trained"
    diverged = sum(one.diverged for one in outcomes)
    data = ", ".join(sorted({one.job.data for one in outcomes}))
    plural = "s" if len(outcomes) > 1 else ""
    broken = f", of which {diverged} diverged" if diverged else ""
    return f"{len(outcomes)} network{plural} on {data}{broken}"


def check_place(page: Path) -> None:
    """Raise ValueError for a path where no page can be written."""
    if page.is_dir():
        raise ValueError(f"out {page} is a folder; name a file such as {page / PAGE}")
    above = next(folder for folder in page.parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"out {page} cannot be written, as {above} is a file; name another place")


def show(
    store: Path, names: Sequence[str], preset: Preset = OURS, convention: Convention = "matrix"
) -> None:
    """Print the sections of the named targets, and write the page on the whole store."""
    records = read_targets(store, list(TARGETS))
    page = build_page(store, records, preset, convention)
    console = open_console()
    try:
        for section in page.sections:
            if section.identifier in names:
                print_section(section, console)
    finally:  # also where standard output is closed
        write(page, store / PAGE)
    closing = f"The page, with all tables and figures, is {store / PAGE}."
    console.print(closing, soft_wrap=True, markup=False)


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
