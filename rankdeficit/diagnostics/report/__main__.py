"""Print a report of `rankdeficit.diagnose`, and write it as a page, a table or figures.

python -m rankdeficit.diagnostics.report report.json --html report.html
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from rankdeficit.diagnostics.report import Report
from rankdeficit.experiments import cli

PROGRAM = "rankdeficit.diagnostics.report"


@dataclass(frozen=True)
class Settings:
    """Print a report, and write it in other forms."""

    report: tyro.conf.Positional[Path]
    """File report.json."""
    html: Path | None = None
    """File of a page to write."""
    csv: Path | None = None
    """File of a table of all numbers to write."""
    figures: Path | None = None
    """Folder for the figures."""


def run(settings: Settings) -> None:
    """Print the report and write what is asked for."""
    report = Report.from_json(settings.report)
    if settings.csv is not None:
        report.to_csv(settings.csv)
    if settings.html is not None:
        report.to_html(settings.html)
    if settings.figures is not None:
        report.plot(settings.figures)
    print(report)


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
