"""All targets: verdicts, what is missing or diverged, sections whole and empty, names."""

import json
from pathlib import Path

import pytest

from real_nets.jobs.job import Job
from real_nets.page import Page, TableCell, render
from real_nets.page.numbers import share
from real_nets.paper.compare import sign, verdict
from real_nets.paper.store import Results, job_folder
from real_nets.paper.targets import TARGETS, find
from tests.real_nets.fabricated import (
    BEYOND,
    COLD,
    HOT,
    RESNET,
    WITHIN,
    by_seed,
    fill,
    hundred,
    row_of,
    said,
    section_of,
    setup_of,
    write_job,
)

ONE = ", judged by a single seed"
OPEN = "which leaves it open; in the paper it"


@pytest.mark.parametrize(
    ("baseline", "low", "expected", "sentence"),
    [
        ([0.9, 1.0], [0.5, 0.6], -1, f"falls{BEYOND} (95.0% to 55.0%), as in the paper"),
        ([0.5, 0.6], [0.9, 1.0], -1, f"rises{BEYOND} (55.0% to 95.0%), in the paper it falls"),
        (
            [0.5, 0.6],
            [0.9, 1.0],
            0,
            f"rises{BEYOND} (55.0% to 95.0%), in the paper it does not move",
        ),
        ([0.5, 0.9], [0.4, 0.6], -1, f"falls{WITHIN} (70.0% to 50.0%), {OPEN} falls"),
        ([0.5, 0.6], [0.5, 0.5], 1, f"falls{WITHIN} (55.0% to 50.0%), {OPEN} rises"),
        ([0.9], [0.5], -1, f"falls{ONE} (90.0% to 50.0%), as in the paper"),
        ([0.9], [0.5, 0.6], 1, f"falls{ONE} (90.0% to 55.0%), in the paper it rises"),
        ([0.5, 0.7], [0.6, 0.6], -1, "does not move (60.0% to 60.0%), in the paper it falls"),
        ([0.5], [0.5], 0, "does not move (50.0% to 50.0%), as in the paper"),
        ([0.50001], [0.50003], 1, "does not move (50.0% to 50.0%), in the paper it rises"),
        ([0.9, 1.0], [0.5, 0.6], None, f"falls{BEYOND} (95.0% to 55.0%)"),
        ([0.5, 0.9], [0.4, 0.6], None, f"falls{WITHIN} (70.0% to 50.0%), which leaves it open"),
        ([0.5], [0.5], None, "does not move (50.0% to 50.0%)"),
    ],
)
def test_verdicts(
    baseline: list[float], low: list[float], expected: int | None, sentence: str
) -> None:
    assert verdict("κ", baseline, low, expected, share) == f"κ {sentence}"


def test_no_verdict_without_numbers_on_both_sides() -> None:
    assert verdict("κ", [], [0.5], 1, share) is None
    assert verdict("κ", [0.5], [], 1, share) is None


def test_signs() -> None:
    assert [sign(value) for value in (-0.1, 0.0, 3.0)] == [-1, 0, 1]


def test_diverged_and_missing_seeds_do_not_count_and_are_told(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=0.9), hundred(outcome="diverged"), None],
        low=[hundred(depth=0.7), hundred(depth=0.5), hundred(outcome="diverged")],
    )
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert row_of(section.tables[0], *RESNET, COLD)[3] == "90.0%"
    assert row_of(section.tables[0], *RESNET, HOT)[3] == "60.0% (50.0–70.0), n = 2"
    message = "T = 1, seed 0: the loss is not finite at step 7"
    assert section.notes == [
        f"Diverged: ResNet-18 on CIFAR-100, {COLD}. {message}.",
        f"Diverged: ResNet-18 on CIFAR-100, {HOT}. {message}.",
        f"Not trained yet: ResNet-18 on CIFAR-100: 1 of 3 ({COLD}).",
    ]


def test_networks_are_told_by_the_one_seed_that_does_not_interpolate(tmp_path: Path) -> None:
    lower = [hundred(), hundred(), hundred(accuracy=0.99)]
    section = section_of(tmp_path, "quick", by_seed(baseline=[hundred()] * 3, low=lower))
    (note,) = (note for note in section.notes if "suppose networks that interpolate" in note)
    assert note.endswith(f"over seeds): ResNet-18 on CIFAR-100: 99.0% ({HOT}).")


def test_networks_that_did_not_leave_their_start_are_told(tmp_path: Path) -> None:
    stalled = hundred(outcome="stalled", accuracy=0.01)
    numbers = by_seed(baseline=[hundred()] * 3, low=[stalled, hundred(), stalled])
    section = section_of(tmp_path, "quick", numbers)
    assert (
        "The loss of these networks ends within 1 % of that of uniform predictions. They need more steps "
        "or a higher learning rate, unless what bounds their logits over T keeps it there: ResNet-18 on "
        f"CIFAR-100: 2 of 3 ({HOT})."
    ) in section.notes


def test_probes_that_did_not_converge_are_told(tmp_path: Path) -> None:
    pick = setup_of(pick=["CIFAR-100/ResNet-18"])
    (cells,) = fill(
        tmp_path, ["table1"], by_seed(baseline=[hundred()], low=[hundred()]), pick
    ).values()
    files = job_folder(tmp_path, cells[1].keys[0]) / "diagnoses" / "final.json"
    report = json.loads(files.read_text())
    report["layers"][0]["probe"]["converged"] = False
    report["layers"][1]["ood_probes"]["svhn"] |= {"converged": False}
    files.write_text(json.dumps(report))
    notes = TARGETS["table1"].section(cells, Results(tmp_path), {}).notes
    (told,) = (note for note in notes if "converged" in note)
    assert told == (
        "Linear probes that stopped before they converged, so that their accuracies may be off: "
        f"ResNet-18 on CIFAR-100: 2 of 9 ({HOT})."
    )


def test_a_half_empty_store_shows_what_there_is(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred()])
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert row_of(section.tables[0], *RESNET, HOT) == ["83%", "50%", "59"] + [""] * 8
    assert len(section.paragraphs) == 1
    assert section.notes == [
        f"Not trained yet: ResNet-18 on CIFAR-100: 2 of 3 ({COLD}), 3 of 3 ({HOT})."
    ]


WHOLE = by_seed(baseline=[hundred()] * 10, low=[hundred(depth=0.5)] * 10)


@pytest.mark.parametrize("target", TARGETS)
def test_every_section_renders_with_its_numbers(target: str, tmp_path: Path) -> None:
    section = section_of(tmp_path, target, WHOLE, setup_of(missing=("imagenet", "imagenet100")))
    page = render(Page("Page", [], [section], []))
    for table in section.tables:
        assert table.rows
        for cell in (cell for row in table.rows for cell in row if cell.kind == "measured"):
            assert TableCell(cell.text, "measured").parts[0] in page
    assert section.tables or section.pictures
    assert "not trained yet" not in said(section).lower()


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "fig6"])
def test_sections_of_an_empty_store_say_what_is_missing(target: str, tmp_path: Path) -> None:
    section = section_of(tmp_path, target, lambda job: None)
    assert not section.pictures
    assert section.notes[-1].startswith("Not trained yet: ")
    assert "of 10" in section.notes[-1] if target == "fig8" else "3 of 3" in section.notes[-1]
    render(Page("Page", [], [section], []))


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "fig6"])
def test_networks_that_were_not_diagnosed_show_what_was_measured_in_training(
    target: str, tmp_path: Path
) -> None:
    cells = fill(tmp_path, [target], WHOLE, setup_of(missing=("imagenet", "imagenet100")))[target]
    for report in tmp_path.rglob("diagnoses/*.json"):
        report.unlink()
    section = TARGETS[target].section(cells, Results(tmp_path), {})
    assert bool(section.pictures) == (target not in UNDRAWN)
    if target in ("table1", "table3"):
        row = row_of(section.tables[0], "CIFAR-10", cells[0].network, COLD)
        assert row[3:6] == ["", "", "99"]
        assert row[9:] == ["100.0%", "50.0%"]


UNDRAWN = {
    *("table1", "table2", "table3", "fig1", "fig4", "hyperparameters", "neural-collapse"),
    *("rank-two", "trade-off"),
}
"""Targets that have no figure, or only figures of diagnoses."""


def test_targets_are_found_by_name_or_with_close_names() -> None:
    assert find("table1") is TARGETS["table1"]
    with pytest.raises(
        ValueError, match=r"no target 'tabel1'; close names are table1, table3, table2"
    ):
        find("tabel1")
    with pytest.raises(ValueError, match=r"no target 'xyz'; --list shows them all"):
        find("xyz")


def test_targets_say_what_they_are_in_a_line() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert 10 < len(target.about) < 90
        assert not target.about.endswith(".")


def test_jobs_of_other_targets_do_not_disturb(tmp_path: Path) -> None:
    alone = section_of(tmp_path, "table3", WHOLE)
    write_job(tmp_path, Job(temperature=3.0), hundred(depth=0.1))
    again = section_of(tmp_path, "table3", WHOLE)
    assert alone.tables == again.tables
