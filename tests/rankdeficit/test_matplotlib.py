"""The import of matplotlib under the user's MPLBACKEND."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_structure import ROOT

IMPORTED = ROOT / "rankdeficit" / "_matplotlib.py"
TELL = f"""
import os, runpy
runpy.run_path({str(IMPORTED)!r})
import matplotlib
print(os.environ["MPLBACKEND"], dict.__getitem__(matplotlib.rcParams, "backend"))
"""


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "none", "svg"])
def test_a_backend_that_is_not_installed_stops_nothing(backend: str, tmp_path: Path) -> None:
    """One that is installed is kept, and the variable remains for other programs."""
    found = subprocess.run(
        [sys.executable, "-c", TELL], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "MPLBACKEND": backend},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    variable, _, chosen = found.stdout.strip().partition(" ")
    assert variable == backend
    assert backend != "svg" or chosen == "svg"


def test_commands_import_it_before_their_own_figures() -> None:
    """Else matplotlib itself would fail: modules of simulations import it first."""
    for package in ("simulations", "rankdeficit"):
        lines = (ROOT / package / "__init__.py").read_text().splitlines()
        first = next(line for line in lines if line.startswith(("import", "from")))
        assert first.startswith(("import rankdeficit", "from rankdeficit import _matplotlib"))
