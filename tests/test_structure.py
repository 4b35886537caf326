"""Rules of structure: imports point one way only, and real_nets stays small enough to read."""

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

REAL_NETS = ROOT / "real_nets"
PARTS = ("data", "models", "training", "jobs", "paper")
"""Parts of real_nets from the ground up; commands stand above them."""
COMMANDS = ("train", "diagnose", "reproduce", "report")
LEVERS = ("norms", "dial", "compress", "distil")
"""Commands of single levers, which may be missing; their lines are not counted."""
LONGEST, LINES = 350, 9_000


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_modules(path)}


def height(part: str) -> int:
    """How high a part of real_nets stands."""
    return PARTS.index(part) if part in PARTS else len(PARTS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_use_only_the_library_and_themselves(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert imported_packages(path) & set(ALLOWED) <= ALLOWED[package]


@pytest.mark.parametrize(
    "path", sorted(REAL_NETS.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_part_of_real_nets_imports_a_higher_one(path: Path) -> None:
    own = height(path.relative_to(REAL_NETS).parts[0].removesuffix(".py"))
    imported = {
        name.split(".")[1] for name in imported_modules(path) if name.startswith("real_nets.")
    }
    assert all(height(part) <= own for part in imported)


def test_the_top_level_of_real_nets_is_its_commands_and_parts() -> None:
    entries = {path.name for path in REAL_NETS.iterdir()} - {"__pycache__"}
    commands = {f"{name}.py" for name in COMMANDS}
    levers = {f"{name}.py" for name in LEVERS}
    assert entries - levers == {"__init__.py", "README.md", "results", *PARTS, *commands}


def test_real_nets_is_small_enough_to_read() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in REAL_NETS.rglob("*.py")}
    assert max(lines.values()) <= LONGEST
    levers = {REAL_NETS / f"{name}.py" for name in LEVERS}
    assert sum(count for path, count in lines.items() if path not in levers) <= LINES
