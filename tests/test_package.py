"""The wheel: every package with all its files, found as setuptools finds them."""

from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.config.pyprojecttoml import apply_configuration

ROOT = Path(__file__).parents[1]
PACKAGES = ("rankdeficit", "proofs", "simulations", "real_nets")
RESULTS = ROOT / "real_nets" / "results"


def test_the_wheel_holds_every_module_template_and_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = Distribution({"script_name": "setup.py"})
    apply_configuration(found, "pyproject.toml")
    build = found.get_command_obj("build_py")
    build.ensure_finalized()
    modules = {Path(module[2]) for module in build.find_all_modules()}
    data = {Path(folder, name) for _, folder, _, names in build.data_files for name in names}
    expected = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and RESULTS not in path.parents
    }
    assert modules | data == expected
    assert {Path("rankdeficit/py.typed"), Path("proofs/rank_two.md")} < data
