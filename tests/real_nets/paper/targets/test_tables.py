"""Tables 1 and 3 and the quick look, from stores with known numbers: cells, sentences, notes."""

from pathlib import Path

from real_nets.paper import numbers as paper
from real_nets.paper.grid import BASELINE, LOW_NORM
from real_nets.paper.store import Results
from real_nets.paper.targets import TARGETS
from real_nets.paper.targets.parts import equal_accuracy
from tests.real_nets.fabricated import (
    BEYOND,
    COLD,
    HOT,
    RESNET,
    T_10,
    Numbers,
    by_seed,
    fill,
    hundred,
    row_of,
    said,
    section_of,
    setup_of,
)

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
    section = section_of(tmp_path, "table1", THREE, setup_of(pick=["CIFAR-100/ResNet-18"]))
    table = section.tables[0]
    assert [(column.group, column.title) for column in table.columns[3:]] == [
        *((group, name) for group in ("paper", "measured", "difference") for name in "κ ρ SR".split()),
        ("accuracy", "train"),
        ("accuracy", "test"),
    ]  # fmt: skip
    assert row_of(table, *RESNET, COLD) == [
        *("100%", "19%", "99"),
        *("90.0% (80.0–100.0), n = 3", "20.0% (10.0–30.0), n = 3", "98 (97–99), n = 3"),
        *("−10.0 pp", "+1.0 pp", "−1"),
        *("100.0%", "70.0% (69.0–71.0), n = 3"),
    ]
    assert row_of(table, *RESNET, HOT) == [
        *("83%", "50%", "59"),
        *("60.0% (50.0–70.0), n = 3", "50.0% (40.0–60.0), n = 3", "50 (40–60), n = 3"),
        *("−23.0 pp", "0.0 pp", "−9"),
        *("97.0% (95.0–100.0), n = 3", "50.0%"),
    ]
    kinds = [cell.kind for cell in table.rows[0][3:]]
    assert kinds == ["paper"] * 3 + ["measured"] * 3 + ["difference"] * 3 + ["measured"] * 2
    assert table.rows[0][7].note == "out of distribution: svhn"


def test_table_1_says_how_each_measure_moves(tmp_path: Path) -> None:
    section = section_of(tmp_path, "table1", THREE, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert section.paragraphs[0].startswith("The paper's claim: At low logit norm")
    assert section.paragraphs[1:] == [
        "ResNet-18 on CIFAR-100: κ falls beyond the spread of seeds (90.0% to 60.0%), as in the paper; "
        "κ against the best layer's probe does not move (33.3% to 33.3%); "
        "ρ (svhn) rises beyond the spread of seeds (20.0% to 50.0%), as in the paper; the rank falls "
        "beyond the spread of seeds (98 to 50), as in the paper."
    ]
    assert section.notes == [
        "Neural Collapse, and the ranks it predicts, suppose networks that interpolate. These do not "
        "(train accuracy below 99.9%; the lowest over seeds): ResNet-18 on CIFAR-100: 95.0% (low logit "
        f"norm, {T_10})."
    ]


def test_all_rows_of_table_1_show_the_papers_own_numbers(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table1", lambda job: None).tables[0]
    assert len(table.rows) == 2 * len(paper.TABLE_1)
    for row in paper.TABLE_1:
        for condition, theirs in ((BASELINE, row.baseline), (LOW_NORM, row.low_norm)):
            (found,) = [
                own
                for own in table.rows
                if (own[0].text, own[1].text) == (row.data, row.architecture)
                and own[2].text.startswith(condition)
            ]
            printed = [f"{theirs.effective_depth:.0%}", f"{theirs.ood_drop:.0%}", str(theirs.rank)]
            assert [cell.text for cell in found[3:]] == printed + [""] * 8
            assert (found[5].note is not None) == theirs.bounded_by_classifier


def test_on_ten_classes_the_rank_is_not_expected_to_move(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(rank=9)] * 2, low=[Numbers(rank=9)] * 2)
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-10/MLP"]))
    assert "the rank does not move (9 to 9), as in the paper." in section.paragraphs[1]


def test_vgg_is_held_against_what_the_paper_found_of_it(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=0.5, drop=0.6)] * 2, low=[hundred(depth=0.5, drop=0.6)] * 2
    )
    section = section_of(tmp_path, "table3", numbers)
    ten, many = section.paragraphs[1:3]
    assert "κ does not move (50.0% to 50.0%), in the paper it rises" in ten
    assert "ρ (svhn) does not move (60.0% to 60.0%), as in the paper" in ten
    assert "κ does not move (50.0% to 50.0%), as in the paper" in many
    assert "ρ (svhn) does not move (60.0% to 60.0%), in the paper it falls" in many


def test_replaced_data_are_named_wherever_they_appear(tmp_path: Path) -> None:
    setup = setup_of(replacements={"cifar100": "tiny"}, pick=["CIFAR-100/ResNet-18"])
    section = section_of(tmp_path, "table1", THREE, setup)
    for table in section.tables:
        assert {row[0].text for row in table.rows} == {"tiny for CIFAR-100"}
    assert all(
        "on tiny for CIFAR-100" in text for text in (section.paragraphs[1], section.notes[0])
    )


def test_on_glyphs_every_row_says_so(tmp_path: Path) -> None:
    section = section_of(tmp_path, "table1", THREE, setup_of("smoke"))
    for row in section.tables[0].rows:
        assert row[0].text.startswith("glyphs:50 for ")
    ten = next(text for text in section.paragraphs if "MLP on glyphs:50 for CIFAR-10" in text)
    # ten classes in the paper, a hundred here
    assert ten.endswith("; the rank falls, judged by a single seed (97 to 60).")


def test_the_quick_look_does_not_claim_the_papers_numbers_on_other_data(tmp_path: Path) -> None:
    hint = "this shows whether the paper's effect is there, not whether its numbers come out."
    glyphs = section_of(tmp_path / "glyphs", "quick", THREE, setup_of("smoke"))
    assert glyphs.paragraphs[0] == f"Trained on glyphs:50 in place of CIFAR-100: {hint}"
    real = section_of(tmp_path / "real", "quick", THREE)
    assert hint not in said(real)
    for section in (glyphs, real):
        assert "κ falls" in said(section)


def test_the_quick_look_is_at_equal_train_accuracy_too(tmp_path: Path) -> None:
    cold = hundred(depth=1.0, kept={0.5: hundred(depth=0.9, accuracy=0.51)})
    hot = hundred(depth=0.5, accuracy=0.7, kept={0.5: hundred(depth=0.6, accuracy=0.52)})
    section = section_of(tmp_path, "quick", by_seed(baseline=[cold], low=[hot]))
    final, then = section.paragraphs[-2:]
    assert final.startswith("ResNet-18 on CIFAR-100 (train accuracy 100.0% and 70.0%): κ falls")
    assert then.startswith("At equal train accuracy (50%), ResNet-18 on CIFAR-100: κ falls")
    table = section.tables[-1]
    assert row_of(table, *RESNET, HOT)[0] == "60.0%"
    assert row_of(table, *RESNET, HOT)[-2] == "52.0%"


def test_the_quick_look_shows_all_measures(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred(auroc=0.61, ortho_dev=0.52)], low=[hundred(depth=0.5)])
    table = section_of(tmp_path, "quick", numbers).tables[0]
    assert row_of(table, *RESNET, COLD) == [
        "100.0%",
        "25.0%",
        "99",
        "61.00%",
        "0.520",
        "100.0%",
        "50.0%",
    ]


KEPT = {0.2: hundred(), 0.5: hundred(depth=0.8, rank=70, accuracy=0.52), 0.8: hundred()}
LESS = {0.2: hundred(), 0.5: hundred(depth=0.4, rank=35, accuracy=0.51)}


def test_equal_train_accuracy_takes_the_highest_milestone_that_all_reached(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred(kept=KEPT)] * 3, low=[hundred(kept=LESS)] * 3)
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    table = section.tables[3]
    assert table.caption == "At equal train accuracy: after the epoch that first reached 50%"
    cold, hot = (row_of(table, *RESNET, condition) for condition in (COLD, HOT))
    assert [cold[3], cold[5], cold[9]] == ["80.0%", "70", "52.0%"]
    assert [hot[3], hot[5], hot[9]] == ["40.0%", "35", "51.0%"]
    (sentence,) = [text for text in section.paragraphs if text.startswith("At equal")]
    assert sentence.startswith("At equal train accuracy (50%), ResNet-18 on CIFAR-100: κ falls ")
    assert "(80.0% to 40.0%), as in the paper" in sentence


def test_equal_train_accuracy_needs_both_sides_and_a_diagnosis(tmp_path: Path) -> None:
    setup = setup_of(pick=["CIFAR-100/ResNet-18"])
    alone = by_seed(baseline=[hundred(kept=KEPT)] * 3)
    cells = fill(tmp_path / "alone", ["table1"], alone, setup)["table1"]
    assert equal_accuracy(cells, Results(tmp_path / "alone")) == {}
    apart = by_seed(baseline=[hundred(kept={0.8: None})], low=[hundred(kept={0.2: None})])
    cells = fill(tmp_path / "apart", ["table1"], apart, setup)["table1"]
    assert equal_accuracy(cells, Results(tmp_path / "apart")) == {}
    both = by_seed(baseline=[hundred(kept={0.8: None})], low=[hundred(kept={0.8: None})])
    cells = fill(tmp_path / "both", ["table1"], both, setup)["table1"]
    assert equal_accuracy(cells, Results(tmp_path / "both")) == {"accuracy-0.8": cells}
    section = TARGETS["table1"].section(cells, Results(tmp_path / "both"), {})
    assert len(section.tables) == 3
    assert "At equal" not in said(section)


def test_diverged_networks_have_no_say_in_the_common_milestone(tmp_path: Path) -> None:
    broken = hundred(outcome="diverged")
    numbers = by_seed(baseline=[hundred(kept=KEPT), broken], low=[broken, hundred(kept=KEPT)])
    setup = setup_of(pick=["CIFAR-100/ResNet-18"])
    cells = fill(tmp_path, ["table1"], numbers, setup)["table1"]
    assert list(equal_accuracy(cells, Results(tmp_path))) == ["accuracy-0.8"]


def test_effective_depth_is_shown_against_the_best_layer_too(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=1.0, probes=(0.2, 0.3, 0.4))] * 3,
        low=[hundred(depth=1 / 3, probes=(0.2, found, 0.2)) for found in (0.4, 0.5, 0.25)],
    )
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert (
        f"κ falls{BEYOND} (100.0% to 33.3%), as in the paper; κ against the best layer's probe "
        f"falls{BEYOND} (100.0% to 66.7%); ρ"  # which the paper did not measure
    ) in said(section)
    assert row_of(section.tables[2], *RESNET, COLD) == ["100.0%"] * 3
    assert row_of(section.tables[2], *RESNET, HOT) == [
        "33.3%", "66.7%", "50.0% (40.0–80.0), n = 3",
    ]  # fmt: skip


def test_effective_depth_is_told_once_where_the_last_layer_is_the_best(tmp_path: Path) -> None:
    rising = by_seed(
        baseline=[hundred(depth=1.0, probes=(0.2, 0.3, 0.4))],
        low=[hundred(depth=2 / 3, probes=(0.2, 0.4, 0.4))],
    )
    section = section_of(tmp_path, "table1", rising, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert "κ falls, judged by a single seed (100.0% to 66.7%)" in said(section)
    assert "best layer" not in said(section)


def test_ranks_over_gamma_stand_beside_what_neural_collapse_predicts(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table1", THREE, setup_of(pick=["CIFAR-100/ResNet-18"])).tables[1]
    row = row_of(table, *RESNET, HOT)
    assert row == ["50 (40–60), n = 3"] * 10 + ["99"]
