"""Numbers of the READMEs come from the records."""

import json
from importlib.resources import files

import pytest

from rankdeficit.control.dial import stored_predictor
from rankdeficit.control.dial.calibrate import judge_all
from rankdeficit.control.dial.networks import (
    Judged,
    Trained,
    coverage,
    factor,
    inside,
    trained_of,
)
from rankdeficit.control.dial.predictor import TARGETS
from tests.conftest import ROOT

RESULTS = ROOT / "real_nets" / "results" / "dial"
PAGE = (RESULTS / "README.md").read_text()
README = (ROOT / "rankdeficit" / "control" / "README.md").read_text()
KINDS = {"ufm": "deep UFM", "mlp": "perceptron"}


def test_the_table_of_toys_is_that_of_the_stored_fit() -> None:
    record = json.loads(files("rankdeficit.control.dial").joinpath("predictor.json").read_text())
    assert f"{record['runs']:,} runs" in README
    assert f"{record['judging_runs']:,} runs" in README
    by = {(own["target"], own["kind"], own["start"]): own for own in record["coverage"]}
    for target in ("rank at 0.001", "rank at 0.01", "rank at 0.1", "depth"):
        for kind, name in KINDS.items():
            if (target, kind, "all") not in by:
                continue
            left, stuck = (by[target, kind, start] for start in ("left", "not left"))
            cells = [
                f"{own['coverage']:.0%} / {own['median_width']:.2f}".replace("%", " %")
                for own in (left, stuck)
            ]
            error = f"{by[target, kind, 'all']['error']:.3f}"
            change = f"{by[target, kind, 'all']['error_without_change']:.3f}"
            assert f"| {target} | {name} | {cells[0]} | {cells[1]} | {error} | {change} |" in README


@pytest.fixture(scope="module")
def trained() -> list[Trained]:
    return trained_of(json.loads((RESULTS / "trained.json").read_text()))


@pytest.fixture(scope="module")
def judged(trained: list[Trained]) -> dict[str, list[Judged]]:
    return judge_all(trained)


def test_the_table_of_networks_is_that_of_the_records(judged: dict[str, list[Judged]]) -> None:
    for name, own in judged.items():
        found = coverage(own)
        cells = [
            f"{found[kind]:.0%} / {found[width]:.2f}".replace("%", " %")  # type: ignore[literal-required]
            for kind, width in (("toys", "toys_width"), ("networks", "networks_width"))
        ]
        row = f"| {name} | {found['runs']} | {cells[0]} | {cells[1]} | {found['error']:.3f} | "
        row += f"{found['error_without_change']:.3f} |"
        assert row in PAGE
        assert name in ("rank at 0.0001", "rank at 0.03") or row in README


def test_coverage_by_architecture_is_that_of_the_records(
    trained: list[Trained], judged: dict[str, list[Judged]]
) -> None:
    names = ("rank at 0.001", "rank at 0.01", "rank at 0.1", "depth")
    for architecture in {one.architecture for one in trained}:
        cells = []
        for name in names:
            own = [row for row in judged[name] if row["architecture"] == architecture]
            hits = [sum(inside(row, row[kind]) for row in own) for kind in ("toys", "networks")]  # type: ignore[literal-required]
            cells.append(f"{hits[0]} / {hits[1]} of {len(own)}" if own else "-")
        assert f"| {architecture} | {' | '.join(cells)} |" in PAGE


def test_factors_of_the_package_are_those_of_the_records(trained: list[Trained]) -> None:
    stored = json.loads(files("rankdeficit.control.dial").joinpath("networks.json").read_text())
    assert stored["runs"] == len(trained)
    configurations = {one.configuration for one in trained}
    assert stored["configurations"] == len(configurations)
    listed = [line.split()[0] for line in (RESULTS / "configurations.txt").read_text().splitlines()]
    assert set(listed) == configurations
    for target in TARGETS:
        expected = factor(stored_predictor(target, "toys"), trained, stored["level"])
        assert stored["factors"][target.name] == pytest.approx(expected, rel=1e-5)


def test_pilots_that_left_their_start_are_told(
    trained: list[Trained], judged: dict[str, list[Judged]]
) -> None:
    left = sum(one.pilot.left for one in trained)
    assert f"all {left} trainings with such pilots" in PAGE
    assert f"All {left} trainings whose pilot had left" in README
    assert all(inside(row, row["toys"]) for own in judged.values() for row in own if row["left"])
    held = {
        name: sum(inside(row, row["toys"]) for row in own if not row["left"])
        for name, own in judged.items()
    }
    stuck = f"of the other {len(trained) - left} trainings the intervals of toys hold"
    assert f"{stuck} {held['rank at 0.001']} for the rank at 0.001" in PAGE
    assert f"{held['rank at 0.01']} at 0.01" in PAGE
