"""Tables 1 and 3 and the quick look, from stores with known numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from real_nets.jobs.folder import JobFolder
from real_nets.paper import numbers as paper
from real_nets.paper.chance import Cause, chance
from real_nets.paper.compare import NoVerdict, Spread, Verdict, equal_accuracy
from real_nets.paper.store import Results
from real_nets.paper.targets import TARGETS
from tests.real_nets.fabricated import (
    HOT,
    RESNET,
    Numbers,
    by_seed,
    compared,
    fill,
    hundred,
    numbers_of,
    row_of,
    section_of,
    setup_of,
)

DEPTH, BY_BEST = "κ: effective depth", "κ relative to the best layer's probe"
RANK, CENTRED = "SR: rank of the logits", "rank of the class-centred logits"
DROP = "ρ: OOD drop (svhn)"
ONE = setup_of(pick=["CIFAR-100/ResNet-18"])
WHERE = "ResNet-18 on CIFAR-100"

THREE = by_seed(
    baseline=[
        hundred(depth=0.9, drop=0.10, rank=97, accuracy=1.0, test_accuracy=0.71),
        hundred(depth=1.0, drop=0.30, rank=99, accuracy=1.0, test_accuracy=0.70),
        hundred(depth=0.8, drop=0.20, rank=98, accuracy=1.0, test_accuracy=0.69),
    ],
    low=[
        hundred(depth=0.5, drop=0.6, rank=60, accuracy=0.95),
        hundred(depth=0.7, drop=0.4, rank=50, accuracy=0.97),
        hundred(depth=0.6, drop=0.5, rank=40, accuracy=1.0),
    ],
)


def test_table_1_sets_paper_medians_ranges_and_differences_side_by_side(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table1", THREE, ONE).tables[0]
    groups = [column.group for column in table.columns[4:-1]]
    assert groups == ["paper"] * 2 + ["measured"] * 2 + ["difference"] * 2
    assert numbers_of(table, "κ: ") == [
        *("100%", "83%"),
        *("90.0% (80.0–100.0)", "60.0% (50.0–70.0)"),
        *("−10.0 pp", "−23.0 pp"),
    ]
    assert numbers_of(table, DROP) == [
        *("19%", "50%"),
        *("20.0% (10.0–30.0)", "50.0% (40.0–60.0)"),
        *("+1.0 pp", "0.0 pp"),
    ]
    assert numbers_of(table, RANK) == [
        *("99", "59"), *("98 (97–99)", "50 (40–60)"), *("−1", "−9"),
    ]  # fmt: skip
    ranks = ["98 (97–99)", "50 (40–60)"]
    assert numbers_of(table, CENTRED) == ["99", "59", *ranks, "−1", "−9"]
    accuracies = ["100.0%", "97.0% (95.0–100.0)"]
    assert numbers_of(table, "train accuracy") == ["", "", *accuracies, "", ""]
    kinds = [cell.kind for cell in table.rows[0][4:-1]]
    assert kinds == ["paper"] * 2 + ["measured"] * 2 + ["difference"] * 2
    assert {row[3].text for row in table.rows} == {"10"}


def test_table_1_compares_every_measure(tmp_path: Path) -> None:
    found = compared(tmp_path, "table1", THREE, ONE)[WHERE]
    assert (found[DEPTH].before, found[DEPTH].after) == (
        Spread(0.9, 0.8, 1.0, 3), Spread(0.6, 0.5, 0.7, 3),
    )  # fmt: skip
    assert {found[name].verdict for name in (DEPTH, DROP, CENTRED)} == {Verdict.AGREES}
    assert [found[name].moved for name in (DEPTH, BY_BEST, DROP, RANK, CENTRED)] == [
        -1,
        0,
        1,
        -1,
        -1,
    ]
    assert {found[name].verdict for name in (BY_BEST, RANK)} == {Verdict.UNCLAIMED}


def test_all_rows_of_table_1_show_the_papers_own_numbers(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table1", lambda job: None).tables[0]
    shown = {
        (*(cell.text for cell in row[:3]), i): row[4 + i] for row in table.rows for i in (0, 1)
    }
    for row in paper.TABLE_1:
        for i, theirs in enumerate((row.baseline, row.low_norm)):
            own = [
                shown[row.data, row.architecture, name, i] for name in (DEPTH, "ρ: OOD drop", RANK)
            ]
            printed = [f"{theirs.effective_depth:.0%}", f"{theirs.ood_drop:.0%}", str(theirs.rank)]
            assert [cell.text for cell in own] == printed
            assert (own[2].note is not None) == theirs.bounded_by_classifier
    assert not any(cell.text for row in table.rows for cell in row[6:])


def test_all_temperatures_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    setup = setup_of(pick=["CIFAR-100/ResNet-18"], others=(0.3, 50.0), seeds=1)
    ranks = {0.3: 100, 1.0: 99, 10.0: 60, 50.0: 6}
    section = section_of(
        tmp_path, "table1", lambda job: hundred(rank=ranks[job.temperature]), setup
    )
    (table,) = [own for own in section.tables if "every temperature" in own.caption]
    (column,) = [i for i, own in enumerate(table.columns) if own.title.startswith(RANK)]
    assert [row[column].text for row in table.rows] == ["100", "99", "60", "6"]
    assert numbers_of(section.tables[0], RANK)[2:4] == ["99", "60"]
    assert not any("T = 10" in note for note in section.notes)


def test_on_ten_classes_the_rank_is_not_expected_to_move(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(rank=9)] * 2, low=[Numbers(rank=9)] * 2)
    found = compared(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-10/MLP"]))[
        "MLP on CIFAR-10"
    ]
    for name, expected in ((CENTRED, (0, Verdict.AGREES)), (RANK, (None, Verdict.UNCLAIMED))):
        assert (found[name].measure.expected, found[name].verdict) == expected


def test_on_other_numbers_of_classes_no_direction_of_the_rank_is_known(tmp_path: Path) -> None:
    found = compared(tmp_path, "table1", THREE, setup_of("smoke"))["MLP on glyphs:50 for CIFAR-10"]
    for name in (RANK, CENTRED):
        assert (found[name].measure.expected, found[name].verdict) == (None, Verdict.UNCLAIMED)
    assert found[DEPTH].evidence == "single seed"


def test_vgg_is_held_against_what_the_paper_found_of_it(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=0.5, drop=0.6)] * 2, low=[hundred(depth=0.5, drop=0.7)] * 2
    )
    found = compared(tmp_path, "table3", numbers)
    told = [
        (one[name].measure.expected, one[name].verdict)
        for one in found.values()
        for name in (DEPTH, DROP)
    ]
    assert told == [(0, Verdict.AGREES), (0, Verdict.DIFFERS)] * 2
    assert found["VGG-19 on CIFAR-100"][CENTRED].measure.expected == -1


def test_replaced_data_are_named_wherever_they_appear(tmp_path: Path) -> None:
    setup = setup_of(replacements={"cifar100": "tiny"}, pick=["CIFAR-100/ResNet-18"])
    section = section_of(tmp_path, "table1", THREE, setup)
    *others, cells = section.tables
    for table in others:
        assert {row[0].text for row in table.rows} == {"tiny for CIFAR-100"}
    assert [row[1].text for row in cells.rows if "tiny" in row[0].text] == ["ResNet-18"]
    assert all("ResNet-18 on tiny for CIFAR-100" in note for note in section.notes)


def test_the_quick_look_is_at_equal_train_accuracy_too(tmp_path: Path) -> None:
    cold = hundred(depth=1.0, kept={0.5: hundred(depth=0.9, accuracy=0.51)})
    hot = hundred(depth=0.5, kept={0.5: hundred(depth=0.6, accuracy=0.52)})
    section = section_of(tmp_path, "quick", by_seed(baseline=[cold] * 3, low=[hot] * 3))
    first, _, then = section.tables
    assert "50%" in then.caption
    assert numbers_of(first, DEPTH)[2:4] == ["100.0%", "50.0%"]
    assert numbers_of(then, DEPTH)[2:4] == ["90.0%", "60.0%"]
    assert numbers_of(then, "train accuracy")[2:4] == ["51.0%", "52.0%"]


@pytest.mark.parametrize("target", ["table1", "table2", "quick"])
def test_equal_accuracy_is_the_highest_that_both_sides_reached(target: str, tmp_path: Path) -> None:
    low, high = hundred(depth=0.3), hundred(depth=0.7)
    cold, hot = hundred(kept={0.2: low, 0.5: high}), hundred(kept={0.2: low, 0.5: high, 0.8: high})
    last = hundred(kept={0.2: low, 0.5: None})
    numbers = by_seed(baseline=[cold] * 3, low=[hot, hot, last])
    section = section_of(tmp_path, target, numbers, ONE)
    (equal,) = [table for table in section.tables if "equal train accuracy" in table.caption]
    assert "50%" in equal.caption
    found = compared(tmp_path / "records", target, numbers, ONE, 0.5)[WHERE].values()
    assert {one.before.n for one in found if one.before} == {3}
    assert {one.after.n for one in found if one.after} == {2}  # the third was not diagnosed there


def test_without_a_common_accuracy_there_is_no_such_table(tmp_path: Path) -> None:
    cold, hot = hundred(kept={0.8: hundred()}), hundred(kept={0.2: hundred()})
    section = section_of(tmp_path, "table1", by_seed(baseline=[cold] * 3, low=[hot] * 3), ONE)
    assert not any("equal train accuracy" in table.caption for table in section.tables)


def test_a_pair_with_networks_on_one_side_alone_has_no_equal_accuracy(tmp_path: Path) -> None:
    alone = by_seed(baseline=[hundred(kept={0.8: None})])
    cells = fill(tmp_path, ["table1"], alone, ONE)["table1"]
    assert len(cells) == 2
    assert equal_accuracy(cells, Results(tmp_path)) == {}


def test_effective_depth_is_told_against_both_bars(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=1.0, probes=(0.2, 0.3, 0.4))] * 3,
        low=[hundred(depth=1 / 3, probes=(0.2, found, 0.2)) for found in (0.4, 0.5, 0.25)],
    )
    found = compared(tmp_path, "table1", numbers, ONE)[WHERE]
    ratio = "accuracy of the last layer's probe / of the best layer's"
    medians = [
        (one.before and one.before.median, one.after and one.after.median)
        for one in (found[DEPTH], found[BY_BEST], found[ratio])
    ]
    assert medians == [(1.0, pytest.approx(1 / 3)), (1.0, pytest.approx(2 / 3)), (1.0, 0.5)]
    verdicts = [found[DEPTH].verdict, found[BY_BEST].verdict]
    assert verdicts == [Verdict.AGREES, Verdict.UNCLAIMED]  # the paper did not measure the second


def test_a_last_layer_that_guesses_bears_no_verdict_on_depth_alone(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=1.0, probes=(0.2, 0.3, 0.4))] * 3,
        low=[hundred(depth=1 / 3, rank=50, probes=(0.2, 0.4, last)) for last in (0.01, 0.4, 0.012)],
    )
    found = compared(tmp_path, "table1", numbers, ONE)[WHERE]
    assert found[DEPTH].no_verdict == NoVerdict(Cause.LAST_PROBE, (0, 2), 0.01)
    assert (found[BY_BEST].moved, found[BY_BEST].verdict) == (-1, Verdict.UNCLAIMED)
    assert found[CENTRED].verdict is Verdict.AGREES


def test_where_all_layers_guess_there_is_no_verdict_on_depth_at_all(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(probes=(0.2, 0.3, 0.4))],
        low=[hundred(depth=1 / 3, probes=(0.01, 0.012, 0.01))],
    )
    found = compared(tmp_path, "table1", numbers, ONE)[WHERE]
    causes = [one.no_verdict and one.no_verdict.cause for one in (found[DEPTH], found[BY_BEST])]
    assert causes == [Cause.LAST_PROBE, Cause.ALL_PROBES]


@pytest.mark.parametrize("target", ["table1", "fig1"])
def test_where_all_probes_of_an_ood_set_guess_there_is_no_verdict_on_its_drop(
    target: str, tmp_path: Path
) -> None:
    """Three classes: guessing is right on a third of the images."""
    numbers = by_seed(
        baseline=[hundred(drop=0.1, ood_probes=(0.5, 0.9, 0.6))] * 2,
        low=[hundred(drop=0.4, ood_probes=(0.2, best, 0.2)) for best in (0.35, 0.9)],
    )
    pick = setup_of(pick=["CIFAR-100/*"], missing=("svhn",))
    found, *_ = compared(tmp_path, target, numbers, pick).values()
    none = found["ρ: OOD drop (cifar10)"].no_verdict
    assert none == NoVerdict(Cause.OOD_PROBES, (0, 1), pytest.approx(1 / 3))
    assert found[DEPTH].no_verdict is None


def test_guessing_finds_the_largest_class_or_without_a_diagnosis_one_of_all(tmp_path: Path) -> None:
    cells = fill(tmp_path, ["table1"], by_seed(baseline=[hundred()]), ONE)["table1"]
    (one,) = (network for cell in cells for network in Results(tmp_path).outcomes(cell))
    report = json.loads(one.report_file.read_text())
    one.report_file.write_text(
        json.dumps(report | {"train": report["train"] | {"largest_class": 0.4}})
    )
    assert chance(JobFolder(one.path), "train") == 0.4
    one.report_file.unlink()
    assert chance(JobFolder(one.path), "train") == 1 / 100


@pytest.mark.parametrize(("accuracy", "bears"), [(0.0149, False), (0.0151, True), (1.0, True)])
def test_guessing_is_judged_as_in_reports(accuracy: float, bears: bool, tmp_path: Path) -> None:
    """From one and a half times the odds on: of a hundred classes, at an accuracy of 1.49 percent."""
    trained = hundred(depth=0.5)
    numbers = by_seed(baseline=[trained] * 2, low=[replace(trained, accuracy=accuracy)] * 2)
    found = compared(tmp_path, "table1", numbers, ONE)[WHERE]
    assert all((one.no_verdict is None) == bears for one in found.values())


def test_at_equal_accuracy_networks_are_judged_by_the_accuracy_they_had_then(
    tmp_path: Path,
) -> None:
    cold, stalled = hundred(kept={0.2: hundred(accuracy=0.012)}), hundred(outcome="stalled")
    numbers = by_seed(baseline=[cold], low=[cold])
    for accuracy, cause in ((None, None), (0.2, Cause.UNTRAINED)):
        found = compared(tmp_path / "a", "table1", numbers, ONE, accuracy)[WHERE]
        assert {one.no_verdict and one.no_verdict.cause for one in found.values()} == {cause}
    left = {0.2: hundred(accuracy=0.2, depth=0.5)}
    numbers = by_seed(baseline=[hundred(kept=left)], low=[replace(stalled, kept=left)])
    for accuracy, cause in ((None, Cause.UNTRAINED), (0.2, None)):  # it stalled later
        found = compared(tmp_path / "b", "table1", numbers, ONE, accuracy)[WHERE]
        assert {one.no_verdict and one.no_verdict.cause for one in found.values()} == {cause}


def test_ranks_over_gamma_stand_beside_what_neural_collapse_predicts(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table1", THREE, ONE).tables[1]
    assert row_of(table, *RESNET, HOT) == ["50 (40–60)"] * 10 + ["99"]


def test_results_of_one_target_fill_another(tmp_path: Path) -> None:
    """Table 1 and the quick look have the same numbers of the network that they share."""
    cells = fill(tmp_path, ["table1", "quick"], THREE, ONE)
    results = Results(tmp_path)
    first, second = (
        {row[2].text: [cell.text for cell in row] for row in section.tables[0].rows}
        for section in (TARGETS[name].section(cells[name], results, {}) for name in cells)
    )
    assert first == {name: row for name, row in second.items() if name in first}
