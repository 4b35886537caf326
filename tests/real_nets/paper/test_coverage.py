"""Which cells of the paper's tables a store has, and the commands that fill the others."""

import shlex
from pathlib import Path

import pytest

from real_nets import reproduce
from real_nets.paper import coverage
from real_nets.paper.coverage import Status
from real_nets.paper.store import Results, read_targets
from real_nets.paper.targets import TARGETS
from tests.real_nets.fabricated import Numbers, by_seed, fill, hundred, setup_of

AGREEING = [hundred(depth=0.7, drop=0.6, rank=50)] * 2
STATUSES: list[tuple[list[Numbers | None], Status]] = [
    (AGREEING, Status.AGREES),
    ([hundred(depth=0.7, drop=0.6, rank=50), hundred(depth=0.7, drop=0.2, rank=50)], Status.OPEN),
    ([hundred(depth=0.7, drop=0.1, rank=50)] * 2, Status.DIFFERS),
    ([hundred(depth=0.7, accuracy=0.01, drop=0.6, rank=50)] * 2, Status.NONE),
]


@pytest.mark.parametrize(("low", "status"), STATUSES, ids=lambda one: str(one)[:12])
def test_a_pair_has_the_status_of_its_least_favourable_direction(
    tmp_path: Path, low: list[Numbers | None], status: Status
) -> None:
    numbers = by_seed(baseline=[hundred(rank=99)] * 2, low=low)
    fill(tmp_path, ["table1"], numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    records = read_targets(tmp_path, list(TARGETS))
    found = [one for _, one in coverage.all_cells(records, Results(tmp_path))]
    assert len(found) == 34
    measured = [one for one in found if one.measured]
    assert [(one.data, one.network, one.status) for one in measured] == [
        ("CIFAR-100", "ResNet-18", status)
    ] * 2
    (told,) = coverage.summary(records, Results(tmp_path))
    assert f"{status.value}: 2" in told
    assert "not measured: 32" in told


def test_a_side_alone_is_measured_without_its_pair(tmp_path: Path) -> None:
    fill(tmp_path, ["table3"], by_seed(baseline=[Numbers()], low=[None]), setup_of())
    found = coverage.covered(
        "table3", read_targets(tmp_path, list(TARGETS))[0].cells, Results(tmp_path)
    )
    assert [one.status for one in found] == [Status.ALONE, Status.MISSING] * 2


def test_a_store_of_other_targets_has_no_such_sentence(tmp_path: Path) -> None:
    fill(tmp_path, ["fig1"], by_seed(baseline=[hundred()], low=[hundred()]), setup_of())
    assert coverage.summary(read_targets(tmp_path, list(TARGETS)), Results(tmp_path)) == []


def test_missing_cells_are_listed_as_commands_with_the_options_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(
        tmp_path, ["table1"], by_seed(baseline=AGREEING, low=AGREEING),
        setup_of(pick=["CIFAR-100/ResNet-18"]),
    )  # fmt: skip
    given = reproduce.Settings(
        missing=True, budget="small", data=Path("a folder"), seeds=2, download=True, out=tmp_path
    )
    reproduce.run(given)
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    cells = [(line[3], line[line.index("--cells") + 1]) for line in lines]
    assert len(cells) == len(set(cells)) == 8 + 6 + 2
    assert ("table1", "CIFAR-100/ResNet-18") not in cells
    assert ("table2", "CIFAR-100/ResNet-18") in cells
    for line in lines:
        assert line[:3] == ["python", "-m", "real_nets.reproduce"]
        assert line[6:] == [
            "--data", "a folder", "--budget", "small", "--seeds", "2", "--download",
            "--out", str(tmp_path),
        ]  # fmt: skip
