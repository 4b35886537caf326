"""The page of evidence on compression has the numbers of its records."""

import json
from statistics import median
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.real_nets.paper.evidence.spread import spread

FOLDER = ROOT / "real_nets" / "results" / "compression"
PAGE = (FOLDER / "README.md").read_text()
WIDTHS = {"mlp.json": 512, "resnet20.json": 64}
"""What the classifier reads of each network."""
NAMES = {"activations": "activations", "weights": "SVD of weights", "magnitude": "magnitude"}


def line(temperature: float, method: str, own: list[dict[str, Any]], width: int) -> str:
    """One row of the table: medians and ranges over seeds."""
    tested = [one["tested"] for one in own]
    relative = [
        [one["after"][what] / one["before"][what] for one in own]
        for what in ("parameters", "flops")
    ]
    times = [
        one["after"]["latency"][1]["median"] / one["before"]["latency"][1]["median"] for one in own
    ]
    kept = sum(one["loss"] < 0.01 for one in tested)
    cells = [
        f"{temperature:g}",
        NAMES[method],
        spread([100 * one["removed"] for one in own], ".1f"),
        spread([float(one["plan"]["rank"] or whole(one, width)) for one in own], ".0f"),
        *(spread(values, ".2f") for values in relative),
        spread(times, ".2f"),
        spread([100 * one["accuracy_before"] for one in tested], ".1f"),
        spread([0.0 - 100 * one["loss"] for one in tested], "+.2f"),
        f"{kept} of {len(tested)}",
    ]
    return f"| {' | '.join(cells)} |"


def whole(one: dict[str, Any], width: int) -> int:
    """What a head reads that was not projected: of a cut network, 2 x 2 cells of its last layer."""
    cut = [layer["before"] for layer in one["layers"] if layer["name"] == one["plan"]["cut"]]
    return 4 * cut[0] if cut else width


@pytest.mark.parametrize("name", WIDTHS)
def test_the_tables_are_those_of_the_records(name: str) -> None:
    records = json.loads((FOLDER / name).read_text())
    assert len(records) == 18
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for one in records:
        groups.setdefault((one["temperature"], one["method"]), []).append(one)
    for (temperature, method), own in groups.items():
        assert line(temperature, method, own, WIDTHS[name]) in PAGE


def test_all_tries_keep_the_promise() -> None:
    tries = [one for name in WIDTHS for one in json.loads((FOLDER / name).read_text())]
    kept = sum(one["tested"]["loss"] < 0.01 for one in tries)
    assert f"{kept} of {len(tries)} tries" in PAGE


def test_the_readme_of_the_lever_tells_the_same() -> None:
    records = json.loads((FOLDER / "mlp.json").read_text())
    readme = " ".join((ROOT / "rankdeficit" / "control" / "README.md").read_text().split())
    for temperature in (50.0, 1.0):
        removed = [
            round(100 * one["removed"])
            for one in records
            if (one["temperature"], one["method"]) == (temperature, "activations")
        ]
        assert f"{median(removed)} % ({min(removed)} to {max(removed)})" in readme
