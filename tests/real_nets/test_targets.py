"""Sections of all targets, from stores with known numbers: tables, verdicts, what is missing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from real_nets import paper
from real_nets.cells import BASELINE, LOW_NORM
from real_nets.job import Job
from real_nets.outcomes import Results
from real_nets.page import Cell, Page, Section, Table, render
from real_nets.page.numbers import share
from real_nets.targets import TARGETS, find
from real_nets.targets.correlation import Correlation, correlation
from real_nets.targets.shown import equal_accuracy, sign, verdict
from real_nets.targets.target import runs
from tests.real_nets.fabricated import (
    Numbers,
    by_seed,
    computed,
    fill,
    row_of,
    section_of,
    setup_of,
    write_job,
)

T_1, T_10, T_50 = (f"T\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{t}" for t in (1, 10, 50))
COLD, HOT = f"baseline, {T_1}", f"low logit norm, {T_10}"
RESNET = ("CIFAR-100", "ResNet-18")
NOTHING = ["", "", ""]


def hundred(**numbers: object) -> Numbers:
    """Of a hundred classes."""
    return replace(Numbers(classes=100, rank=99), **numbers)  # type: ignore[arg-type]


def said(section: Section) -> str:
    return "\n".join([*section.paragraphs, *section.notes])


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
        *("100.0%, n = 3", "70.0% (69.0–71.0), n = 3"),
    ]
    assert row_of(table, *RESNET, HOT) == [
        *("83%", "50%", "59"),
        *("60.0% (50.0–70.0), n = 3", "50.0% (40.0–60.0), n = 3", "50 (40–60), n = 3"),
        *("−23.0 pp", "0.0 pp", "−9"),
        *("97.0% (95.0–100.0), n = 3", "50.0%, n = 3"),
    ]
    kinds = [cell.kind for cell in table.rows[0][3:]]
    assert kinds == ["paper"] * 3 + ["measured"] * 3 + ["difference"] * 3 + ["measured"] * 2
    assert table.rows[0][7].note == "out of distribution: svhn"


def test_table_1_says_how_each_measure_moves(tmp_path: Path) -> None:
    section = section_of(tmp_path, "table1", THREE, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert section.paragraphs[0].startswith("The paper's claim: At low logit norm")
    assert section.paragraphs[1:] == [
        "ResNet-18 on CIFAR-100: κ falls beyond the spread of seeds (90.0% to 60.0%), as in the paper; "
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


BEYOND, WITHIN = " beyond the spread of seeds", " within the spread of seeds"
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
    ],
)
def test_verdicts(baseline: list[float], low: list[float], expected: int, sentence: str) -> None:
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
    assert row_of(section.tables[0], *RESNET, COLD)[3] == "90.0%, n = 1"
    assert row_of(section.tables[0], *RESNET, HOT)[3] == "60.0% (50.0–70.0), n = 2"
    message = "T = 1, seed 0: the loss is not finite at step 7"
    assert section.notes == [
        f"Diverged: ResNet-18 on CIFAR-100, {COLD}. {message}.",
        f"Diverged: ResNet-18 on CIFAR-100, {HOT}. {message}.",
        f"Not trained yet: ResNet-18 on CIFAR-100: 1 of 3 ({COLD}).",
    ]


def test_networks_that_did_not_leave_their_start_are_told(tmp_path: Path) -> None:
    stalled = hundred(outcome="stalled", accuracy=0.01)
    numbers = by_seed(baseline=[hundred()] * 3, low=[stalled, hundred(), stalled])
    section = section_of(tmp_path, "quick", numbers)
    assert (
        "These networks did not leave their start: the loss is that of uniform predictions. They need "
        f"more steps or a higher learning rate: ResNet-18 on CIFAR-100: 2 of 3 ({HOT})."
    ) in section.notes


def test_a_half_empty_store_shows_what_there_is(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred()])
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert row_of(section.tables[0], *RESNET, HOT) == ["83%", "50%", "59"] + [""] * 8
    assert len(section.paragraphs) == 1
    assert section.notes == [
        f"Not trained yet: ResNet-18 on CIFAR-100: 2 of 3 ({COLD}), 3 of 3 ({HOT})."
    ]


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
    assert "the rank falls, judged by a single seed (97 to 60), as in the paper" in ten


def test_the_quick_look_does_not_claim_the_papers_numbers_on_other_data(tmp_path: Path) -> None:
    hint = "this shows whether the paper's effect is there, not whether its numbers come out."
    glyphs = section_of(tmp_path / "glyphs", "quick", THREE, setup_of("smoke"))
    assert glyphs.paragraphs[0] == f"Trained on glyphs:50 in place of CIFAR-100: {hint}"
    real = section_of(tmp_path / "real", "quick", THREE)
    assert hint not in said(real)
    for section in (glyphs, real):
        assert "κ falls" in said(section)


def test_the_quick_look_shows_all_measures(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred(auroc=0.61, ortho_dev=0.52)], low=[hundred(depth=0.5)])
    table = section_of(tmp_path, "quick", numbers).tables[0]
    assert row_of(table, *RESNET, COLD) == [
        f"{text}, n = 1" for text in ("100.0%", "25.0%", "99", "61.00%", "0.520", "100.0%", "50.0%")
    ]


KEPT = {0.2: hundred(), 0.5: hundred(depth=0.8, rank=70, accuracy=0.52), 0.8: hundred()}
LESS = {0.2: hundred(), 0.5: hundred(depth=0.4, rank=35, accuracy=0.51)}


def test_equal_train_accuracy_takes_the_highest_milestone_that_all_reached(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred(kept=KEPT)] * 3, low=[hundred(kept=LESS)] * 3)
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    table = section.tables[2]
    assert table.caption == "At equal train accuracy: after the epoch that first reached 50%"
    cold, hot = (row_of(table, *RESNET, condition) for condition in (COLD, HOT))
    assert [cold[3], cold[5], cold[9]] == ["80.0%, n = 3", "70, n = 3", "52.0%, n = 3"]
    assert [hot[3], hot[5], hot[9]] == ["40.0%, n = 3", "35, n = 3", "51.0%, n = 3"]
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
    assert len(section.tables) == 2
    assert "At equal" not in said(section)


def test_diverged_networks_have_no_say_in_the_common_milestone(tmp_path: Path) -> None:
    broken = hundred(outcome="diverged")
    numbers = by_seed(baseline=[hundred(kept=KEPT), broken], low=[broken, hundred(kept=KEPT)])
    setup = setup_of(pick=["CIFAR-100/ResNet-18"])
    cells = fill(tmp_path, ["table1"], numbers, setup)["table1"]
    assert list(equal_accuracy(cells, Results(tmp_path))) == ["accuracy-0.8"]


def test_ranks_over_gamma_stand_beside_what_neural_collapse_predicts(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table1", THREE, setup_of(pick=["CIFAR-100/ResNet-18"])).tables[1]
    row = row_of(table, *RESNET, HOT)
    assert row == ["50 (40–60), n = 3"] * 10 + ["99"]


def detected(auroc: float, fpr: float) -> Numbers:
    return hundred(auroc=auroc, fpr=fpr)


DETECTED = by_seed(
    baseline=[detected(0.60, 0.92), detected(0.62, 0.90), detected(0.64, 0.94)],
    low=[detected(0.75, 0.80), detected(0.77, 0.78), detected(0.79, 0.82)],
)


def test_table_2_compares_auroc_and_false_positives(tmp_path: Path) -> None:
    section = section_of(tmp_path, "table2", DETECTED, setup_of(pick=["CIFAR-100/ResNet-18"]))
    table = section.tables[0]
    assert row_of(table, *RESNET, COLD, "cifar10") == [
        *("63.66%", "90.44%"),
        *("62.00% (60.00–64.00), n = 3", "92.00% (90.00–94.00), n = 3"),
        *("−1.7 pp", "+1.6 pp"),
    ]
    assert row_of(table, *RESNET, HOT, "cifar10") == [
        *("77.04%", "80.13%"),
        *("77.00% (75.00–79.00), n = 3", "80.00% (78.00–82.00), n = 3"),
        *("0.0 pp", "−0.1 pp"),
    ]
    assert row_of(table, *RESNET, HOT, "svhn")[0:2] == ["", ""]
    assert section.paragraphs[2] == (
        f"ResNet-18 on CIFAR-100 against cifar10: the AUROC rises{BEYOND} (62.00% to 77.00%), as in the "
        f"paper; the FPR falls{BEYOND} (92.00% to 80.00%), as in the paper."
    )


def notes_of(table: Table, ood: str) -> set[str | None]:
    return {cell.note for row in table.rows if row[3].text == ood for cell in row[4:6] if cell.text}


def test_table_2_notes_where_the_papers_ood_set_is_another(tmp_path: Path) -> None:
    setup = setup_of(missing=("cifar10",), replacements={"svhn": "tiny"}, pick=["CIFAR-100/*"])
    table = section_of(tmp_path, "table2", DETECTED, setup).tables[0]
    assert notes_of(table, "tiny") == {
        "the paper's out-of-distribution set is CIFAR-10",
        "the paper's out-of-distribution set is CIFAR-10; the paper's network was pretrained on "
        "ImageNet-21k",
    }


def test_table_2_notes_pretraining(tmp_path: Path) -> None:
    setup = setup_of(pick=["CIFAR-10/ViT-B"])
    table = section_of(tmp_path, "table2", DETECTED, setup).tables[0]
    assert notes_of(table, "cifar100") == {"the paper's network was pretrained on ImageNet-21k"}
    plain = setup_of(pick=["CIFAR-10/ResNet-34"])
    table = section_of(tmp_path / "plain", "table2", DETECTED, plain).tables[0]
    assert notes_of(table, "cifar100") == {None}


def test_table_2_without_any_ood_set_still_shows_the_paper(tmp_path: Path) -> None:
    missing = setup_of(missing=("svhn", "cifar10"), pick=["CIFAR-100/ResNet-18"])
    section = section_of(tmp_path, "table2", DETECTED, missing)
    assert row_of(section.tables[0], *RESNET, COLD, "") == ["63.66%", "90.44%", *NOTHING, ""]


def test_table_2_shows_every_variant_and_equal_accuracy(tmp_path: Path) -> None:
    kept = {0.5: detected(0.7, 0.7)}
    numbers = by_seed(baseline=[replace(detected(0.6, 0.9), kept=kept)] * 3, low=[
        replace(detected(0.8, 0.8), kept=kept)] * 3)  # fmt: skip
    section = section_of(tmp_path, "table2", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    _, variants, equal = section.tables
    assert [c.title for c in variants.columns[4:]] == [
        f"neco-{name}" for name in ("deit", "equation", "resnet", "swin", "vit")
    ]
    assert row_of(variants, *RESNET, HOT, "svhn") == ["80.00%, n = 3"] * 5
    assert row_of(equal, *RESNET, HOT, "cifar10")[2:4] == ["70.00%, n = 3"] * 2
    assert (
        sum(text.startswith("At equal train accuracy (50%), ") for text in section.paragraphs) == 2
    )


def test_alignment_moves(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(alignment=0.2)] * 3, low=[Numbers(alignment=0.6)] * 3)
    section = section_of(tmp_path, "alignment", numbers)
    assert [text.partition(":")[0] for text in section.paragraphs[1:]] == [
        "ResNet-18 on CIFAR-10",
        "VGG-19 on CIFAR-10",
    ]
    assert section.paragraphs[1].endswith(
        "the mean alignment rises beyond the spread of seeds (0.20 to 0.60), as in the paper."
    )
    assert len(section.pictures) == 4


def test_squared_error_is_judged_by_the_last_hidden_layer(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[Numbers(hidden_rank=300), Numbers(hidden_rank=320)],
        low=[Numbers(hidden_rank=40), Numbers(hidden_rank=41)],
    )
    section = section_of(tmp_path, "mse", numbers)
    assert section.paragraphs[1] == (
        f"The rank of the last hidden layer at γ = 1e-2 falls{BEYOND} (310 to 40.5), as in the paper."
    )


def spread_out(job: Job) -> Numbers:
    """Initial norms and ranks that differ from setting to setting, alike for all seeds."""
    position = sum(map(ord, replace(job, seed=0).key))
    return Numbers(initial_norm=float(position % 37 + 1), hidden_rank=position % 23 + 1)


def test_hyperparameters_are_correlated_over_settings(tmp_path: Path) -> None:
    setup = setup_of()
    section = section_of(tmp_path, "hyperparameters", spread_out, setup)
    settings = {replace(job, seed=0).key: spread_out(job) for job in setup.jobs.values()}
    rho, p = spearmanr(
        *zip(*((n.initial_norm, n.hidden_rank) for n in settings.values()), strict=True)
    )
    assert len(settings) == 17
    agreement = Correlation(rho, p, 17).agreement
    assert section.paragraphs[1] == (
        "Initial effective norm and rank of the last hidden layer at γ = 1e-2, medians over seeds of "
        f"each setting: Spearman's correlation {rho:.2f} (p = {p:.2g}, n = 17), {agreement}. Widths "
        "bound the rank, too."
    )
    base = spread_out(setup.budget.job("cifar10", "mlp", ood=("svhn", "cifar100")))
    assert row_of(section.tables[0], "CIFAR-10", "MLP", COLD)[:3] == [
        f"{base.initial_norm:g}, n = 3",
        "9, n = 3",
        f"{base.hidden_rank}, n = 3",
    ]


def test_correlations_need_points_that_differ() -> None:
    points = [(1.0, 4.0), (2.0, 3.0), (3.0, 1.0), (4.0, 2.0)]
    found = correlation(points)
    assert found is not None
    assert found.rho == pytest.approx(-0.8)
    assert str(found) == f"Spearman's correlation -0.80 (p = {found.p:.2g}, n = 4)"
    assert correlation(points[:3]) is None
    assert correlation([(1.0, y) for _, y in points]) is None
    assert correlation([(x, 1.0) for x, _ in points]) is None
    assert correlation([]) is None


@pytest.mark.parametrize(
    ("rho", "p", "text"),
    [
        (0.9, 0.01, "as in the paper"),
        (-0.9, 0.01, "in the paper it is positive"),
        (0.2, 0.3, "which leaves it open; in the paper it is positive"),
        (-0.2, 0.3, "which leaves it open; in the paper it is positive"),
    ],
)
def test_correlations_that_may_be_chance_agree_with_nothing(
    rho: float, p: float, text: str
) -> None:
    assert Correlation(rho, p, 20).agreement == text


def test_neural_collapse_shows_its_measures_with_the_train_accuracy(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[hundred(accuracy=0.999)] * 3, low=[hundred(accuracy=0.5)] * 3)
    section = section_of(tmp_path, "neural-collapse", numbers)
    table = section.tables[0]
    assert [len(table.rows), table.columns[-1].title] == [4, "train accuracy"]
    assert row_of(table, "CIFAR-10", "ResNet-18", HOT)[-1] == "50.0%, n = 3"
    measured = row_of(table, "CIFAR-10", "ResNet-18", COLD)
    assert all(text.endswith("n = 3") for text in measured)
    assert "99.9%: " not in said(section)


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ([0.9, 1.0], "reaches 100 % train accuracy"),
        ([0.9, 116 / 120], "does not reach 100 % train accuracy (wrong on 4 of 120 images)"),
    ],
)
def test_rank_two_says_whether_all_images_are_fitted(
    accuracies: list[float], sentence: str, tmp_path: Path
) -> None:
    def numbers(job: Job) -> Numbers | None:
        if job.head_rank is None:
            return Numbers(test_accuracy=0.9)
        if job.seed == 2:
            return None
        return Numbers(rank=2, accuracy=accuracies[job.seed], test_accuracy=0.6 + job.seed / 100)

    section = section_of(tmp_path, "rank-two", numbers)
    for network in ("MLP", "ResNet-18"):
        assert (
            f"{network} on CIFAR-10 with rank 2 {sentence}; test accuracy 61.0% (best of 2)."
            in section.paragraphs
        )
    row = row_of(section.tables[0], "CIFAR-10", "MLP", f"rank 2, {T_1}")
    assert row[0] == "2, n = 2"
    assert row_of(section.tables[0], "CIFAR-10", "MLP", COLD)[3] == "90.0%, n = 3"


def test_ortho_dev_of_all_networks_and_sets(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(ortho_dev=0.6)] * 3, low=[Numbers(ortho_dev=0.7)] * 3)
    section = section_of(tmp_path, "ortho-dev", numbers)
    table = section.tables[0]
    assert len(table.rows) == 5 * 2 * 2
    assert row_of(table, "CIFAR-10", "MLP", COLD, "cifar100") == ["0.600, n = 3"]
    assert (
        f"ResNet-34 on CIFAR-100 against svhn: OrthoDev rises{BEYOND} (0.600 to 0.700), in the paper it "
        "falls."
    ) in section.paragraphs
    assert len(section.pictures) == 5


def scattered(job: Job) -> Numbers:
    position = sum(map(ord, job.key))
    return hundred(drop=position % 41 / 41, auroc=0.5 + position % 29 / 60)


def test_the_trade_off_is_scipys_correlation_over_all_networks(tmp_path: Path) -> None:
    setup = setup_of(missing=("svhn",))
    section = section_of(tmp_path, "trade-off", scattered, setup)
    for ood in ("cifar100", "cifar10"):
        points = [
            (found.drop, found.auroc)
            for job in setup.jobs.values()
            if ood in job.ood
            for found in [scattered(job)]
        ]
        rho, p = spearmanr(*zip(*points, strict=True))
        agreement = Correlation(rho, p, len(points)).agreement
        assert (
            f"{ood}: Spearman's correlation {rho:.2f} (p = {p:.2g}, n = {len(points)}), {agreement}."
            in section.paragraphs
        )
    assert "not independent" in section.paragraphs[-1]
    assert len(section.pictures) == 1
    mlp = [scattered(job) for job in setup.jobs.values() if job.model == "mlp"]
    rho, p = spearmanr([found.drop for found in mlp], [found.auroc for found in mlp])
    within = row_of(section.tables[0], "cifar100", "mlp on cifar10")
    assert within == [f"{rho:.2f}", f"{p:.2g}", str(len(mlp))]


def test_networks_that_cells_share_count_once(tmp_path: Path) -> None:
    setup = setup_of("smoke")
    cells = fill(tmp_path, ["trade-off"], scattered, setup)["trade-off"]
    assert sum(len(cell.keys) for cell in cells) == 22
    found = runs(cells, Results(tmp_path))
    assert len(found) == len(setup.jobs) == 12
    section = TARGETS["trade-off"].section(cells, Results(tmp_path), {})
    assert "n = 12)" in said(section)


def test_a_constant_trade_off_has_no_correlation(tmp_path: Path) -> None:
    section = section_of(tmp_path, "trade-off", lambda job: Numbers())
    assert "Spearman" not in said(section)
    assert len(section.pictures) == 1


def untrained(norms: dict[str, float]) -> Callable[[Job], Numbers]:
    return lambda job: Numbers(initial_norm=norms[job.model] * (1 + job.seed))


@pytest.mark.parametrize(
    ("vgg", "verdict"),
    [
        (0.02, "VGG-19 starts below all ResNets, as in the paper"),
        (0.5, "VGG-19 does not start below all ResNets, unlike in the paper"),
    ],
)
def test_initial_norms_are_compared(vgg: float, verdict: str, tmp_path: Path) -> None:
    norms = {"vgg19": vgg, "resnet18": 0.4, "resnet20": 0.8, "resnet34": 0.6, "mlp": 0.1}
    setup = setup_of(missing=("cifar100",))
    section = section_of(tmp_path, "fig8", untrained(norms), setup)
    assert section.paragraphs[1:] == [
        f"Median initial norm on cifar10: VGG-19 {5.5 * vgg:.3g}, ResNet-18 2.2, ResNet-20 4.4, "
        f"ResNet-34 3.3, MLP 0.55; {verdict}."
    ]
    assert len(section.pictures) == 1


def test_figure_6_is_computed_and_tells_the_peaks(tmp_path: Path) -> None:
    rows = computed("fig6")["rows"]
    assert {row["k"] for row in rows} == {1, 2, 3, 4, 5}
    assert all(row["low"] <= row["rank"] <= row["high"] for row in rows)
    # At small scales softmax(sM) is (1 1^T + s M) / n to first order: all singular values but the
    # first are below the threshold.
    assert {row["rank"] for row in rows if row["scale"] == 1e-4} == {1}
    peaks = {k: max(row["rank"] for row in rows if row["k"] == k) for k in range(1, 6)}
    assert list(peaks.values()) == sorted(peaks.values())
    section = TARGETS["fig6"].section([], Results(tmp_path), {"rows": rows})
    for k, peak in peaks.items():
        best = max((row for row in rows if row["k"] == k), key=lambda row: row["rank"])
        last = [row for row in rows if row["k"] == k][-1]
        assert last["rank"] < peak
        told = (
            f"{peak} at s = {best['scale']:.3g} and {last['rank']} at {last['scale']:.3g} (k = {k})"
        )
        assert told in section.paragraphs[1]
    assert len(section.pictures) == 1


WHOLE = by_seed(baseline=[hundred()] * 10, low=[hundred(depth=0.5)] * 10)


@pytest.mark.parametrize("target", TARGETS)
def test_every_section_renders_with_its_numbers(target: str, tmp_path: Path) -> None:
    section = section_of(tmp_path, target, WHOLE, setup_of(missing=("imagenet", "imagenet100")))
    page = render(Page("Page", [], [section], []))
    for table in section.tables:
        assert table.rows
        for cell in (cell for row in table.rows for cell in row if cell.kind == "measured"):
            assert Cell(cell.text, "measured").parts[0] in page
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
        assert row[3:6] == ["", "", "99, n = 3"]
        assert row[9:] == ["100.0%, n = 3", "50.0%, n = 3"]


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
