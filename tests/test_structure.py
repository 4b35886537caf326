"""The one rule of structure: arrows point towards the library only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "rankdeficit": {"rankdeficit"},
    "proofs": {"rankdeficit", "proofs"},
    "simulations": {"rankdeficit", "simulations"},
    "real_nets": {"rankdeficit", "real_nets"},
}
MODULES = [path for package in ALLOWED for path in (ROOT / package).rglob("*.py")]


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_use_only_the_library_and_themselves(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert imported_packages(path) & set(ALLOWED) <= ALLOWED[package]


def test_the_top_level_of_real_nets_is_its_commands_and_parts() -> None:
    entries = {path.name for path in REAL_NETS.iterdir()} - {"__pycache__"}
    commands = {f"{name}.py" for name in COMMANDS}
    assert entries == {"__init__.py", "README.md", "results", *PARTS, *commands}


def test_real_nets_is_small_enough_to_read() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in REAL_NETS.rglob("*.py")}
    assert max(lines.values()) <= LONGEST
    assert sum(lines.values()) <= LINES
