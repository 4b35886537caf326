"""What the appendices are said to show, from stores with known numbers."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from real_nets.jobs.job import Job
from real_nets.paper.budgets import with_changes
from real_nets.paper.correlation import Correlation, correlation
from real_nets.paper.store import Results
from real_nets.paper.targets import TARGETS
from real_nets.paper.targets.target import runs
from tests.real_nets.fabricated import (
    BEYOND,
    COLD,
    HOT,
    T_1,
    WITHIN,
    Numbers,
    by_seed,
    fill,
    hundred,
    row_of,
    said,
    section_of,
    setup_of,
    write_job,
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
        "MLP on CIFAR-10: the rank of the last hidden layer at γ = 1e-2 "
        f"falls{BEYOND} (310 to 40.5), as in the paper."
    )


def spread_out(job: Job) -> Numbers:
    """Initial norms and ranks that differ from setting to setting, alike for all seeds."""
    position = sum(map(ord, replace(job, seed=0).key))
    return Numbers(initial_norm=float(position % 37 + 1), hidden_rank=position % 23 + 1)


def test_hyperparameters_are_correlated_over_settings(tmp_path: Path) -> None:
    setup = setup_of()
    section = section_of(tmp_path, "hyperparameters", spread_out, setup)
    settings = {replace(job, seed=0).key: spread_out(job) for job in setup.jobs.values()}
    found = correlation([(n.initial_norm, float(n.hidden_rank)) for n in settings.values()])
    assert found is not None
    assert len(settings) == 17
    assert section.paragraphs[1] == (
        "Initial effective norm and rank of the last hidden layer at γ = 1e-2, medians over seeds of "
        f"each setting: {found}, {found.agreement}. Widths bound the rank, too."
    )
    base = spread_out(setup.budget.job("cifar10", "mlp", ood=("svhn", "cifar100")))
    assert row_of(section.tables[0], "CIFAR-10", "MLP", COLD)[:3] == [
        f"{base.initial_norm:g}",
        "9",
        str(base.hidden_rank),
    ]


def test_settings_that_are_the_same_networks_count_once(tmp_path: Path) -> None:
    """A moderate temperature is the high one, where the latter is 10."""
    section = section_of(tmp_path, "hyperparameters", spread_out, setup_of(temperature=10.0))
    assert ", n = 16)" in section.paragraphs[1]


def test_ranks_of_interventions_stand_under_the_threshold_of_their_networks(
    tmp_path: Path,
) -> None:
    setup = setup_of()
    setup.budget = with_changes(setup.budget, None, {"gamma": 0.02})
    for name, own, gamma in (("plain", setup_of(), "0.001"), ("asked", setup, "0.02")):
        section = section_of(tmp_path / name, "hyperparameters", spread_out, own)
        titles = [column.title for column in section.tables[0].columns[4:6]]
        assert titles == [f"logits, γ = {gamma}", "last hidden layer, γ = 0.01"]


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
    cold = [hundred(accuracy=0.999, collapse=(0.6, 0.1, 0.2, nc3)) for nc3 in (0.4, 0.5, 0.6)]
    hot = [hundred(accuracy=0.5, collapse=(0.2, 0.2, 0.3, nc3)) for nc3 in (0.3, 0.4, 0.5)]
    section = section_of(tmp_path, "neural-collapse", by_seed(baseline=cold, low=hot))
    table = section.tables[0]
    assert [len(table.rows), table.columns[-1].title] == [14, "train accuracy"]
    assert row_of(table, "CIFAR-10", "ResNet-18", HOT)[-1] == "50.0%"
    measured = row_of(table, "CIFAR-10", "ResNet-18", COLD)
    assert all(text[:1].isdigit() for text in measured)
    assert sum(text.endswith(", n = 3") for text in measured) == 1
    assert "99.9%: " not in said(section)
    assert len(section.paragraphs) == 1 + 7
    assert section.paragraphs[1] == (
        f"MLP on CIFAR-10 (train accuracy 99.9% and 50.0%): tr S_W / tr S_B (NC1) falls{BEYOND} (0.6 to "
        f"0.2); the deviation of norms (NC2) rises{BEYOND} (0.100 to 0.200); the deviation of cosines "
        f"(NC2) rises{BEYOND} (0.200 to 0.300), as in the paper; the distance from self-duality (NC3) "
        f"falls{WITHIN} (0.500 to 0.400), which leaves it open."
    )


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ([1.0, 1.0], "reaches 100 % train accuracy in 2 of 2 runs"),
        ([0.9, 1.0], "reaches 100 % train accuracy in 1 of 2 runs"),
        (
            [0.9, 1 - 4 / 50_000],
            "does not reach 100 % train accuracy (at best wrong on 4 of 50,000 images)",
        ),
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
            f"{network} on CIFAR-10 with rank 2 {sentence}; "
            "test accuracy 60.5% (60.0–61.0), n\u00a0=\u00a02." in section.paragraphs
        )
    row = row_of(section.tables[0], "CIFAR-10", "MLP", f"rank 2, {T_1}")
    assert row[0] == "2"
    assert row_of(section.tables[0], "CIFAR-10", "MLP", COLD)[3] == "90.0%"


def test_ortho_dev_of_all_networks_and_sets(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(ortho_dev=0.6)] * 3, low=[Numbers(ortho_dev=0.7)] * 3)
    section = section_of(tmp_path, "ortho-dev", numbers)
    table = section.tables[0]
    assert len(table.rows) == 5 * 2 * 2
    assert row_of(table, "CIFAR-10", "MLP", COLD, "cifar100") == ["0.600"]
    rises = f"rises{BEYOND} (0.600 to 0.700), in the paper it falls"
    both = f"OrthoDev (svhn) {rises}; OrthoDev (cifar10) {rises}"
    assert f"ResNet-34 on CIFAR-100: {both}." in section.paragraphs
    assert len(section.pictures) == 5


def scattered(job: Job) -> Numbers:
    position = sum(map(ord, job.key))
    return hundred(drop=position % 41 / 41, auroc=0.5 + position % 29 / 60)


def test_the_trade_off_is_the_correlation_over_all_networks(tmp_path: Path) -> None:
    setup = setup_of(missing=("svhn",))
    section = section_of(tmp_path, "trade-off", scattered, setup)
    for ood in ("cifar100", "cifar10"):
        points = [
            (found.drop, found.auroc)
            for job in setup.jobs.values()
            if ood in job.ood
            for found in [scattered(job)]
        ]
        overall = correlation(points)
        assert overall is not None
        assert overall.n == len(points)
        assert f"{ood}: {overall}, {overall.agreement}." in section.paragraphs
    assert "not independent" in section.paragraphs[-1]
    assert len(section.pictures) == 1
    mlp = [scattered(job) for job in setup.jobs.values() if job.model == "mlp"]
    own = correlation([(found.drop, found.auroc) for found in mlp])
    assert own is not None
    within = row_of(section.tables[0], "cifar100", "mlp on cifar10")
    assert within == [f"{own.rho:.2f}", f"{own.p:.2g}", str(len(mlp))]


@pytest.mark.parametrize("second", [[3, 1, 2, 4, 6, 5], [0, 0, 0, 5, 7, 9], [6, 5, 3, 4, 2, 1]])
def test_p_of_few_points_counts_all_permutations(second: list[float]) -> None:
    first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = correlation(list(zip(first, map(float, second), strict=True)))
    assert found is not None
    all_rho = [spearmanr(first, order).statistic for order in permutations(second)]
    rho = spearmanr(first, second).statistic
    tail = min(sum(r >= rho - 1e-9 for r in all_rho), sum(r <= rho + 1e-9 for r in all_rho))
    assert found.rho == pytest.approx(rho)
    assert found.p == pytest.approx(min(1.0, 2 * tail / len(all_rho)))


def test_p_of_many_points_is_scipys_but_for_chance() -> None:
    points = [(float(i), float((7 * i) % 23 + i)) for i in range(20)]
    found = correlation(points)
    assert found is not None
    rho, p = spearmanr(*zip(*points, strict=True))
    assert found.rho == pytest.approx(rho)
    assert found.p == pytest.approx(p, abs=0.01)
    assert correlation(points) == found


def test_networks_of_images_of_another_size_are_another_kind(tmp_path: Path) -> None:
    setup = setup_of()
    cells = [
        cell
        for options in ({}, {"image_size": 64})
        for cell in setup.pair("CIFAR-100", "ResNet-18", **options)
    ]
    for job in setup.jobs.values():
        write_job(tmp_path, job, scattered(job))
    (table,) = TARGETS["trade-off"].section(cells, Results(tmp_path), {}).tables
    kinds = [(row[1].text, row[-1].text) for row in table.rows if row[0].text == "svhn"]
    assert kinds == [(f"resnet18 on cifar100, {size} px", "6") for size in (32, 64)]


def test_figures_tell_replaced_data_of_two_sizes_apart(tmp_path: Path) -> None:
    setup = setup_of(replacements={"cifar100": "mine", "imagenet100": "mine"}, pick=["*/ResNet-34"])
    (picture,) = section_of(tmp_path, "table1", scattered, setup).pictures
    titles = {axes.get_title() for axes in picture.figure.axes}
    assert titles >= {f"resnet34 on mine, {size} px" for size in (8, 64)}


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
