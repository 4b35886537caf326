"""Verdicts are left out of networks that stalled, guess, or whose last layer tells nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from real_nets.jobs.job import Job
from tests.real_nets.fabricated import (
    BEYOND,
    COLD,
    HOT,
    Numbers,
    by_seed,
    hundred,
    said,
    section_of,
    setup_of,
)

GUESSING = "did not leave their start or hardly beat guessing on their train images"
STALLED = hundred(outcome="stalled", accuracy=0.3)
AT_CHANCE = hundred(accuracy=0.012)
TRAINED = hundred(depth=0.5, drop=0.6, rank=50, auroc=0.9, ortho_dev=0.2, alignment=0.8)
PICK = ["CIFAR-100/ResNet-18", "CIFAR-10/ResNet-18", "CIFAR-10/MLP"]


def nothing_moves(section_text: str) -> bool:
    return not any(word in section_text for word in (" falls", " rises", "does not move"))


@pytest.mark.parametrize("unlearned", [STALLED, AT_CHANCE])
@pytest.mark.parametrize(
    "target", ["quick", "table1", "table2", "alignment", "mse", "neural-collapse", "ortho-dev"]
)
def test_networks_at_chance_bear_no_verdict(
    target: str, unlearned: Numbers, tmp_path: Path
) -> None:
    numbers = by_seed(baseline=[TRAINED] * 3, low=[unlearned, TRAINED, unlearned])
    text = said(section_of(tmp_path, target, numbers, setup_of(pick=PICK)))
    low = HOT.replace("10", "50") if target == "mse" else HOT
    told = f"no verdict, as networks {GUESSING} (1.0%): 2 of 3 ({low})."
    assert told in text
    verdicts = [line for line in text.splitlines() if "paper's claim" not in line]
    assert nothing_moves("\n".join(verdicts))
    both = by_seed(baseline=[unlearned], low=[unlearned])
    text = said(section_of(tmp_path / "both", target, both, setup_of(pick=PICK)))
    assert f"(1.0%): 1 of 1 ({COLD}), 1 of 1 ({low})." in text


@pytest.mark.parametrize("target", ["table2", "ortho-dev"])
def test_a_pair_at_chance_is_told_once_however_many_ood_sets_it_has(
    target: str, tmp_path: Path
) -> None:
    numbers = by_seed(baseline=[TRAINED], low=[AT_CHANCE])
    section = section_of(tmp_path, target, numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert said(section).count("no verdict") == 1


@pytest.mark.parametrize(("accuracy", "bears"), [(0.0149, False), (0.0151, True), (1.0, True)])
def test_guessing_is_judged_as_in_reports(accuracy: float, bears: bool, tmp_path: Path) -> None:
    """From one and a half times the odds on: of a hundred classes, at an accuracy of 1.49 percent."""
    numbers = by_seed(baseline=[TRAINED] * 2, low=[replace(TRAINED, accuracy=accuracy)] * 2)
    text = said(section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"])))
    assert ("no verdict" not in text) == bears


def test_at_equal_accuracy_networks_are_judged_by_the_accuracy_they_had_then(
    tmp_path: Path,
) -> None:
    kept = {0.2: hundred(accuracy=0.012)}
    numbers = by_seed(baseline=[hundred(kept=kept)], low=[hundred(kept=kept)])
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    final, then = section.paragraphs[1:]
    assert "no verdict" not in final
    assert then.startswith("At equal train accuracy (20%), ResNet-18 on CIFAR-100: no verdict, as")
    left = {0.2: hundred(accuracy=0.2, depth=0.5)}
    numbers = by_seed(
        baseline=[hundred(kept=left)], low=[replace(STALLED, depth=0.5, kept=left)]
    )  # it stalled later
    section = section_of(tmp_path / "b", "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    final, then = section.paragraphs[1:]
    assert "no verdict" in final
    assert "κ does not move (50.0% to 50.0%)" in then


def test_a_last_layer_that_guesses_bears_no_verdict_on_depth_alone(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(depth=1.0, probes=(0.2, 0.3, 0.4))] * 3,
        low=[hundred(depth=1 / 3, rank=50, probes=(0.2, 0.4, last)) for last in (0.01, 0.4, 0.012)],
    )
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert section.paragraphs[1].startswith(
        "ResNet-18 on CIFAR-100: no verdict on κ, as the last layer's probe hardly beats guessing "
        f"(1.0%): 2 of 3 ({HOT}); κ against the best layer's probe falls{BEYOND} (100.0% to 66.7%); ρ"
    )
    assert f"the rank falls{BEYOND} (99 to 50), as in the paper." in section.paragraphs[1]


def test_where_all_layers_guess_there_is_no_depth_at_all(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[hundred(probes=(0.2, 0.3, 0.4))],
        low=[hundred(depth=1 / 3, probes=(0.01, 0.012, 0.01))],
    )
    section = section_of(tmp_path, "table1", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    assert "no verdict on κ, as" in section.paragraphs[1]
    assert "best layer" not in section.paragraphs[1]


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
    text = section_of(tmp_path, target, numbers, pick).paragraphs[1]
    assert (
        "no verdict on ρ (cifar10), as the best layer's probe hardly beats guessing (33.3%): 1 of 2 "
        f"({HOT})"
    ) in text
    assert "κ does not move" in text


def test_points_at_which_probes_guess_do_not_enter_the_trade_off(tmp_path: Path) -> None:
    def numbers(job: Job) -> Numbers:
        blind = job.model == "mlp" and job.seed == 0
        position = sum(map(ord, job.key))
        probes = (0.3, 0.34, 0.32) if blind else (0.8, 0.9, 0.9)
        return hundred(drop=position % 41 / 41, auroc=0.5 + position % 29 / 60, ood_probes=probes)

    section = section_of(tmp_path, "trade-off", numbers, setup_of(missing=("svhn",)))
    told = "2 points of OOD sets on which the best layer's probe hardly beats guessing."
    assert f"Left out of correlations: {told}" in said(section)
    own = [row for row in section.tables[0].rows if row[1].text == "mlp on cifar10"]
    assert [row[-1].text for row in own] == ["4"]


def some_at_chance(unlearned: Callable[[Job], bool]) -> Callable[[Job], Numbers]:
    def numbers(job: Job) -> Numbers:
        position = sum(map(ord, job.key))
        accuracy = 0.012 if unlearned(job) else 1.0
        return hundred(
            accuracy=accuracy, drop=position % 41 / 41, auroc=0.5 + position % 29 / 60,
            initial_norm=position % 37 + 1.0, hidden_rank=position % 23 + 1,
        )  # fmt: skip

    return numbers


def test_settings_at_chance_do_not_enter_the_correlation(tmp_path: Path) -> None:
    numbers = some_at_chance(lambda job: job.init == "lecun" or (job.depth == 4 and job.seed == 1))
    text = said(section_of(tmp_path, "hyperparameters", numbers))
    assert ", n = 15)" in text
    t_1 = COLD.partition(", ")[2]
    assert (
        f"Left out of the correlation, as networks {GUESSING}: LeCun initialisation, {t_1}; 4 layers, "
        f"{t_1}."
    ) in text


def test_networks_at_chance_do_not_enter_the_trade_off(tmp_path: Path) -> None:
    numbers = some_at_chance(lambda job: job.model == "mlp" and job.seed == 0)
    section = section_of(tmp_path, "trade-off", numbers, setup_of(missing=("svhn",)))
    text = said(section)
    assert f"Left out of correlations: 2 of 66 networks, which {GUESSING}." in text
    (table,) = section.tables
    own = [row for row in table.rows if row[1].text == "mlp on cifar10"]
    assert [row[-1].text for row in own] == ["4"]
