"""Conventions and presets: what a store with known numbers gives under each of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.page import Section, Table
from real_nets.jobs.folder import RANKS, JobFolder
from real_nets.paper.grid import Setup
from real_nets.paper.plan import Plan
from real_nets.paper.store import Results, job_folder, read_targets
from real_nets.paper.targets import TARGETS
from real_nets.paper.targets.conventions import Told, depth, drop, ranks
from real_nets.report import build_page
from tests.real_nets.fabricated import (
    COLD,
    HOT,
    RESNET,
    Numbers,
    computed,
    fill,
    hundred,
    row_of,
    setup_of,
)

ONE = setup_of(pick=["CIFAR-100/ResNet-18"], seeds=2)
INTERVALS = {"rank": [97, 99], "centred_rank": [98, 99], "sample_centred_rank": [90, 95]}
NUMBERS = {1.0: hundred(rank=99, depth=1.0, drop=0.2), 10.0: hundred(rank=60, depth=0.5, drop=0.5)}


def store_of(path: Path, setup: Setup = ONE, **changes: Any) -> list[Any]:
    """Networks with known ranks in all conventions, intervals at T = 1, and tunnel probes at T = 1."""
    cells = fill(path, ["conventions"], lambda job: NUMBERS[job.temperature], setup)["conventions"]
    for cell in cells:
        for seed, key in enumerate(cell.keys):
            file = job_folder(path, key) / "diagnoses" / "final.json"
            report = json.loads(file.read_text())
            report["train"]["logits"] |= {"sample_centred_rank": 93 + seed, "covariance_rank": 87}
            report["train"]["rank_sampling"] = None
            report["effective_depth"]["interval"] = [report["effective_depth"]["value"]] * 2
            for own in report["ood_drop"].values():
                own["interval"] = [0.1, 0.3]
            if cell.temperature == 1:
                report["train"]["rank_sampling"] = {
                    name: {"interval": ends, "value": ends[1], "settled_at": 100}
                    for name, ends in INTERVALS.items()
                }
                rho = {"value": 0.9, "interval": [0.85, 0.95]}
                others = {name: own | rho for name, own in report["ood_drop"].items()}
                depth = report["effective_depth"] | {"value": 0.25, "interval": [0.2, 0.3]}
                tunnel = report | {"effective_depth": depth, "ood_drop": others}
                (file.parent / "final+tunnel.json").write_text(json.dumps(tunnel))
            file.write_text(json.dumps(report | changes))
    return cells


def section(path: Path, setup: Setup = ONE) -> Section:
    cells = store_of(path, setup)
    return TARGETS["conventions"].section(cells, Results(path), computed("conventions"))


def told(table: Table, condition: str, choice: str) -> list[str]:
    return row_of(table, RESNET[0], RESNET[1], condition, choice)


def test_ranks_stand_under_every_convention_with_their_intervals(tmp_path: Path) -> None:
    ranks = section(tmp_path).tables[1]
    last = ranks.rows[0][-2].text
    assert told(ranks, COLD, "matrix") == ["99", "99", "97 to 99", last, "compatible"]
    assert told(ranks, COLD, "class-centred") == ["99", "99", "98 to 99", last, "compatible"]
    assert told(ranks, COLD, "sample-centred") == [
        *("99", "93.5 (93–94)", "90 to 95", last, "outside"),
    ]
    assert told(ranks, COLD, "covariance") == ["99", "87", "87", last, "outside"]
    assert told(ranks, HOT, "matrix") == ["59", "60", "60", last, "outside"]


@pytest.mark.parametrize(
    ("number", "ends", "verdict"),
    [
        (0.47, (9 / 19, 12 / 19), "compatible"),  # 47 % stands for 47.4
        (0.53, (9 / 19, 10 / 19), "compatible"),  # 53 % stands for 52.6
        (0.46, (9 / 19, 12 / 19), "outside"),
        (0.54, (9 / 19, 10 / 19), "outside"),
    ],
)
def test_the_papers_percentages_stand_for_all_that_round_to_them(
    number: float, ends: tuple[float, float], verdict: str, tmp_path: Path
) -> None:
    cell = store_of(tmp_path)[0]
    assert Told(cell, depth("tunnel"), number, [], ends, ends).verdict == verdict
    assert Told(cell, drop("tunnel"), number, [], ends, ends).verdict == verdict


def test_ranks_of_the_paper_are_exact(tmp_path: Path) -> None:
    cell = store_of(tmp_path)[0]
    for choice in ranks():
        assert Told(cell, choice, 99, [], (98.0,), (98.0, 98.0)).verdict == "outside"


def test_statements_count_what_is_compatible_and_name_what_is_not(tmp_path: Path) -> None:
    found = section(tmp_path).paragraphs
    assert (
        "Rank (matrix) fits 1 of the paper's 2 numbers and excludes 59 of ResNet-18 on CIFAR-100, low "
        "logit norm, T\u00a0=\u00a010 (60 here, n = 2)."
    ) in found
    assert "Effective depth κ (kanan) is not recorded on the paper's own data." in found


def test_directions_are_told_under_every_convention_and_preset(tmp_path: Path) -> None:
    found = section(tmp_path)
    verdicts = {row[2].text: row[-1].text for row in found.tables[0].rows}
    assert list(verdicts) == [
        *(f"SR, {name}" for name in RANKS),
        *(f"{name}, {preset}" for preset in ("converged", "tunnel", "kanan") for name in "κρ"),
    ]
    assert verdicts["SR, matrix"] == "falls, as in the paper"
    assert verdicts["SR, covariance"] == "unchanged; paper: falls"
    assert verdicts["ρ, converged"] == "rises, as in the paper"
    assert verdicts["ρ, tunnel"] == verdicts["κ, kanan"] == ""
    assert found.headline == found.paragraphs[0]
    assert found.headline == (
        "Networks in which a measure moves as in the paper: SR in 1 of 1 (matrix), 1 of 1 "
        "(class-centred), 0 of 1 (sample-centred), 0 of 1 (covariance); κ in 1 of 1 (converged); ρ in "
        "1 of 1 (converged)."
    )


def test_probes_of_a_preset_that_was_not_tried_are_missing(tmp_path: Path) -> None:
    _, _, depths, drops = section(tmp_path).tables
    assert told(depths, COLD, "converged")[:3] == ["100.0%", "100.0%", "100.0%"]
    assert told(depths, COLD, "tunnel")[:3] == ["100.0%", "25.0%", "20.0% to 30.0%"]
    assert told(depths, COLD, "kanan")[1::3] == ["", "not recorded"]
    assert told(depths, HOT, "tunnel")[-1] == "not recorded"
    assert told(drops, COLD, "tunnel")[-1] == "outside"


def test_other_data_bear_no_verdict(tmp_path: Path) -> None:
    setup = setup_of(pick=["CIFAR-100/ResNet-18"], seeds=1, replacements={"cifar100": "tiny"})
    found = section(tmp_path, setup)
    assert {row[-1].text for row in found.tables[1].rows} == {"other data"}
    assert all("is not recorded on the paper's own data" in own for own in found.paragraphs[1:-1])


def test_a_whole_page_may_be_under_a_preset_and_a_convention(tmp_path: Path) -> None:
    cells = fill(tmp_path, ["table1"], lambda job: NUMBERS[job.temperature], ONE)["table1"]
    store_of(tmp_path)
    results = Results(tmp_path, "tunnel", "covariance")
    (cold, *_), (hot, *_) = (results.outcomes(cell) for cell in cells)
    assert (cold.effective_depth, cold.rank) == (0.25, 87)
    assert (hot.effective_depth, hot.rank) == (None, 87)
    assert cold.measure("alignment") == JobFolder(cold.path).measure("alignment")
    (table,) = [
        own
        for own in TARGETS["table1"].section(cells, results, {}).tables
        if own.caption.startswith("Medians")
    ]
    ranks = [[cell.text for cell in row] for row in table.rows if "covariance" in row[2].text]
    assert [row[6:8] for row in ranks] == [["87", "87"]]


def test_a_plan_has_the_diagnoses_of_all_presets(tmp_path: Path) -> None:
    target = TARGETS["conventions"]
    (work, *_) = Plan.of([target], ONE, tmp_path).work
    assert work.snapshots == ("final", "final+tunnel", "final+kanan")
    (work, *_) = Plan.of([TARGETS["table1"]], ONE, tmp_path, "kanan").work
    assert work.snapshots == ("final", "final+kanan")
    (work, *_) = Plan.of([TARGETS["fig2"]], setup_of(seeds=1), tmp_path, "kanan").work
    assert not work.snapshots


@pytest.mark.parametrize("convention", RANKS)
def test_a_rank_that_no_record_has_is_none(convention: str, tmp_path: Path) -> None:
    (cell,) = fill(
        tmp_path,
        ["fig2"],
        lambda job: Numbers() if job.temperature == 1 else None,
        setup_of(seeds=1),
    )["fig2"][:1]
    folder = job_folder(tmp_path, cell.keys[0])
    (folder / "diagnoses" / "final.json").unlink()
    summary = json.loads((folder / "summary.json").read_text())
    summary = {k: v for k, v in summary.items() if k not in RANKS.values()}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert JobFolder(folder).rank_under(convention) is None  # type: ignore[arg-type]


def test_tables_tell_how_ranks_depend_on_samples(tmp_path: Path) -> None:
    cells = fill(tmp_path, ["table1"], lambda job: NUMBERS[job.temperature], ONE)["table1"]
    rank = {"value": 60, "interval": [58, 61], "settled_at": 1000}
    single = {"median": 5, "least": 3, "most": 9}
    for cell in cells:
        for seed, key in enumerate(cell.keys):
            file = job_folder(tmp_path, key) / "diagnoses" / "final.json"
            report = json.loads(file.read_text())
            own = {"samples": 5000, "class_rank": single, "balanced_rank": 59, "rank": rank}
            own["centred_rank"] = rank | {
                "settled_at": 2000 if seed else None,
                "interval": [57, 60],
            }
            report["train"]["rank_sampling"] = own if cell.temperature > 1 else None
            file.write_text(json.dumps(report))
    tables = TARGETS["table1"].section(cells, Results(tmp_path), {}).tables
    (table,) = [own for own in tables if "over samples" in own.caption]
    assert told(table, HOT, "matrix") == ["60", "58 to 61", "5,000", "1,000", "", "", ""]
    assert told(table, HOT, "class-centred") == [
        *("60", "57 to 60", "5,000", "not yet", "59", "3", "9"),
    ]
    assert len(table.rows) == 2


def test_pages_tell_what_they_are_under(tmp_path: Path) -> None:
    store_of(tmp_path)
    records = read_targets(tmp_path, list(TARGETS))
    told = " ".join(build_page(tmp_path, records, "tunnel", "covariance").summary)
    assert "tunnel" in told
    assert "covariance" in told
