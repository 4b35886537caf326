"""Calibration on trainings of networks: records, coverage by hand, architectures left out."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rankdeficit.control.dial import Predictor, Target, calibrate
from rankdeficit.control.dial.calibrate import Settings
from rankdeficit.control.dial.networks import (
    Trained,
    coverage,
    factor,
    judge,
    pilot_of,
    read_run,
    records_of,
    trained_of,
)
from tests.rankdeficit.control.dial.pilots import pilot, world


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.fit(Target("rank"), world(12, seed=0, noise=0.2), 0.5)


def trained(
    architecture: str, number: int, rank: int, end: int, temperature: float = 1.0
) -> Trained:
    one = pilot(rank, temperature=temperature, depth=0.6)
    return Trained(f"{architecture}-{number}", architecture, one, (end,) * 5, 0.8, 0.9)


def networks() -> list[Trained]:
    """Ten configurations of `steady`, which end where they were, and ten of `falling` ones."""
    return [
        trained(name, number, 10 + number, 10 + number - fall)
        for name, fall in (("steady", 0), ("falling", 9))
        for number in range(10)
    ]


def test_records_come_back() -> None:
    found = networks()
    assert trained_of(json.loads(json.dumps(records_of(found)))) == found
    assert pilot_of(json.loads(json.dumps(asdict(pilot())))) == pilot()


def test_an_architecture_takes_no_part_in_its_own_intervals(predictor: Predictor) -> None:
    own = networks()
    judged = judge(predictor, own, 0.8)
    others = [one for one in own if one.architecture == "steady"]
    outside = predictor.widened(factor(predictor, others, 0.8))
    for one, row in zip(own, judged, strict=True):
        assert row["toys"] == predictor(one.pilot)[1:]
        if one.architecture == "falling":
            assert row["networks"] == outside(one.pilot)[1:]
            assert row["end"] == one.ranks[1]
    changed = [
        replace(one, ranks=(0,) * 5) if one.architecture == "falling" else one for one in own
    ]
    again = judge(predictor, changed, 0.8)
    assert [row["networks"] for row in again[10:]] == [row["networks"] for row in judged[10:]]
    assert [row["networks"] for row in again[:10]] != [row["networks"] for row in judged[:10]]


def test_factors_are_infinite_for_few_configurations(predictor: Predictor) -> None:
    assert math.isfinite(factor(predictor, networks(), 0.8))
    assert math.isinf(factor(predictor, networks()[:3], 0.8))
    assert math.isinf(factor(predictor, [], 0.8))


def test_the_least_factor_is_where_coverage_begins(predictor: Predictor) -> None:
    for end in (0, 3, 9, 15, 20, 21, 30, 40):
        example = trained("steady", 0, 20, end).example(Target("rank"))
        assert example is not None
        least = predictor.least_factor(example)
        assert predictor.widened(1.001 * least + 1e-6).covers(example)
        assert least == 0 or not predictor.widened(0.999 * least).covers(example)
    assert predictor.least_factor(example) > 1


def test_coverage_and_widths_are_counted(predictor: Predictor) -> None:
    (row,) = judge(predictor, networks(), 0.8)[:1]
    hit = row | {
        "end": 10.0,
        "toys": (8.0, 12.0),
        "networks": (0.0, 40.0),
        "predicted": 11.0,
        "now": 10.0,
    }
    miss = hit | {"end": 13.0}
    found = coverage([hit, miss])  # type: ignore[list-item]
    assert (found["runs"], found["toys"], found["networks"]) == (2, 0.5, 1.0)
    assert (found["toys_width"], found["networks_width"]) == (0.1, 1.0)
    assert found["error"] == pytest.approx((1 + 2) / 2 / 40)
    assert found["error_without_change"] == pytest.approx(3 / 2 / 40)


def write_run(path: Path, own: list[Trained], diverged: bool = False) -> Path:
    path.mkdir()
    (path / "settings.json").write_text(json.dumps({"settings": {"model": own[0].architecture}}))
    for one in own:
        job = path / f"T{one.pilot.temperature:g}-seed0"
        job.mkdir()
        told = {"diverged": None, "pilot": asdict(one.pilot)}
        (job / "pilot.json").write_text(json.dumps(told))
        end = {
            "diverged": "at step 3" if diverged else None,
            "ranks": one.ranks,
            "depth": one.depth,
        }
        (job / "end.json").write_text(json.dumps(end | {"accuracy": one.accuracy}))
    return path


def test_runs_are_read_and_calibrated_again_from_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(
            tmp_path / f"{name}{number}",
            [trained(name, number, 20, 20 - number)],
        )
        for name in ("steady", "falling")
        for number in range(2)
    ]
    gone = write_run(tmp_path / "gone", [trained("steady", 7, 20, 20)], diverged=True)
    assert read_run(gone) == []
    one = read_run(runs[1])[0]
    assert (one.configuration, one.architecture) == ("steady1", "steady")
    calibrate.run(Settings((*runs, gone), out=tmp_path / "first"))
    first = capsys.readouterr().out
    file = tmp_path / "first" / "trained.json"
    calibrate.run(Settings(trained=file, out=tmp_path / "second"))
    assert capsys.readouterr().out == first
    for name in ("networks.json", "networks.csv", "trained.json"):
        parts = [(tmp_path / folder / name).read_bytes() for folder in ("first", "second")]
        assert parts[0] == parts[1]
    record = json.loads((tmp_path / "first" / "networks.json").read_text())
    assert (record["runs"], record["configurations"]) == (4, 4)
    assert record["factors"]["depth"] is None
    lines = (tmp_path / "first" / "networks.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 6


def test_wrong_use_of_the_calibration_is_refused(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [trained("steady", 0, 20, 20)])
    damaged = write_run(tmp_path / "damaged", [trained("steady", 0, 20, 20)])
    (damaged / "T1-seed0" / "end.json").write_text("{")
    for settings, word in (
        (Settings(), "--trained"),
        (Settings((one,), trained=tmp_path / "x"), "--trained"),
        (Settings((tmp_path / "missing",)), "no run folder"),
        (Settings((damaged,)), "damaged"),
        (Settings((one,)), "two architectures"),
        (Settings(trained=tmp_path / "x.json"), "cannot be read"),
        (Settings((one,), out=tmp_path), "not empty"),
    ):
        with pytest.raises(ValueError, match=word):
            calibrate.run(settings)
