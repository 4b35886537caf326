"""Compare reports of `rankdeficit.diagnose`.

python -m rankdeficit.diagnostics.comparison cold/report.json hot/report.json --html comparison.html
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from rankdeficit.diagnostics.comparison import compare
from rankdeficit.experiments import cli

PROGRAM = "rankdeficit.diagnostics.comparison"


@dataclass(frozen=True)
class Settings:
    """Compare reports: print differences with intervals and paired tests."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """Files report.json, at least two; differences are from the first."""
    names: tuple[str, ...] = field(default=())
    """Names of the reports [default: network, data and temperature]."""
    html: Path | None = None
    """File of a page to write."""
    csv: Path | None = None
    """File of a table of all numbers to write."""
    figures: Path | None = None
    """Folder for figures of all reports in common axes."""


def run(settings: Settings) -> None:
    """Print the comparison and write what is asked for."""
    comparison = compare(*settings.reports, names=settings.names or None)
    if settings.csv is not None:
        comparison.to_csv(settings.csv)
    if settings.html is not None:
        comparison.to_html(settings.html)
    if settings.figures is not None:
        comparison.plot(settings.figures)
    print(comparison)


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
