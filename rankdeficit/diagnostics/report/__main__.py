"""Print a report of `rankdeficit.diagnose`, and write it as a page, a table or figures.

python -m rankdeficit.diagnostics.report report.json --html report.html
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.outputs import Outputs
from rankdeficit.experiments import cli

PROGRAM = "rankdeficit.diagnostics.report"


@dataclass(frozen=True)
class Settings(Outputs):
    """Print a report, and write it in other forms."""

    report: tyro.conf.Positional[Path]
    """File report.json."""


def run(settings: Settings) -> None:
    """Print the report and write what is asked for."""
    settings.check()
    settings.show(Report.from_json(settings.report))


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
