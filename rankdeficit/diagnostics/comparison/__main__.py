"""Compare reports of `rankdeficit.diagnose`.

python -m rankdeficit.diagnostics.comparison cold/report.json hot/report.json --html comparison.html
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from rankdeficit.diagnostics.comparison import compare
from rankdeficit.diagnostics.report.outputs import Outputs
from rankdeficit.experiments import cli

PROGRAM = "rankdeficit.diagnostics.comparison"


@dataclass(frozen=True)
class Settings(Outputs):
    """Compare reports: print differences with intervals and paired tests."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """Files report.json, at least two; differences are from the first."""
    names: tuple[str, ...] = field(default=())
    """Names of the reports [default: network, data and temperature]."""


def run(settings: Settings) -> None:
    """Print the comparison and write what is asked for."""
    settings.check()
    settings.show(compare(*settings.reports, names=settings.names or None))


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
