"""Appendices from stores with known numbers: comparisons, correlations, who is left out of them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rankdeficit.page import Table
from real_nets.jobs.job import Job
from real_nets.paper.budgets import with_changes
from real_nets.paper.chance import Cause
from real_nets.paper.compare import NoVerdict, Spread, Verdict, correlation
from real_nets.paper.grid import Grid
from real_nets.paper.store import Results
from real_nets.paper.targets import TARGETS
from real_nets.paper.targets.hyperparameters import at_chance
from real_nets.paper.targets.target import runs
from real_nets.paper.targets.trade_off import ALL
from tests.real_nets.fabricated import (
    COLD,
    T_1,
    Numbers,
    by_seed,
    compared,
    fill,
    hundred,
    row_of,
    section_of,
    setup_of,
    write_job,
)

AGREES, DIFFERS, UNCLAIMED = Verdict.AGREES, Verdict.DIFFERS, Verdict.UNCLAIMED


def test_alignment_rises(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(alignment=0.2)] * 3, low=[Numbers(alignment=0.6)] * 3)
    found = compared(tmp_path, "alignment", numbers)
    assert list(found) == ["ResNet-18 on CIFAR-10", "VGG-19 on CIFAR-10"]
    for (one,) in (own.values() for own in found.values()):
        assert (one.moved, one.verdict) == (1, AGREES)
    assert len(section_of(tmp_path, "alignment", numbers).pictures) == 4


def test_squared_error_is_judged_by_the_last_hidden_layer(tmp_path: Path) -> None:
    numbers = by_seed(
        baseline=[Numbers(hidden_rank=300), Numbers(hidden_rank=320)],
        low=[Numbers(hidden_rank=40), Numbers(hidden_rank=41)],
    )
    ((one,),) = (own.values() for own in compared(tmp_path, "mse", numbers).values())
    assert (one.before, one.after) == (Spread(310, 300, 320, 2), Spread(40.5, 40, 41, 2))
    assert one.verdict is AGREES


def spread_out(job: Job) -> Numbers:
    """Initial norms and ranks that differ from setting to setting, alike for all seeds."""
    position = sum(map(ord, replace(job, seed=0).key))
    return Numbers(initial_norm=float(position % 37 + 1), hidden_rank=position % 23 + 1)


def test_hyperparameters_are_correlated_over_settings(tmp_path: Path) -> None:
    setup = setup_of()
    interventions, correlations = section_of(tmp_path, "hyperparameters", spread_out, setup).tables
    jobs = TARGETS["hyperparameters"].cells(setup).jobs.values()
    settings = {replace(job, seed=0).key: spread_out(job) for job in jobs}
    found = correlation([(n.initial_norm, float(n.hidden_rank)) for n in settings.values()])
    assert found is not None
    assert len(settings) == 17
    assert row_of(correlations)[:3] == [f"{found.rho:.2f}", f"{found.p:.2g}", "17"]
    base = spread_out(setup.budget.job("cifar10", "mlp", ood=("svhn", "cifar100")))
    assert row_of(interventions, "CIFAR-10", "MLP", COLD)[:4] == [
        f"{base.initial_norm:g}",
        "9",
        "9",
        f"{base.hidden_rank}",
    ]


def test_settings_that_are_the_same_networks_count_once(tmp_path: Path) -> None:
    """A moderate temperature is the high one, where the latter is 10."""
    section = section_of(tmp_path, "hyperparameters", spread_out, setup_of(temperature=10.0))
    assert row_of(section.tables[1])[2] == "16"


def test_ranks_of_interventions_stand_under_the_threshold_of_their_networks(
    tmp_path: Path,
) -> None:
    plain = setup_of()
    asked = replace(plain, budget=with_changes(plain.budget, None, {"gamma": 0.02}))
    for setup, gamma in ((plain, "0.001"), (asked, "0.02")):
        section = section_of(tmp_path / gamma, "hyperparameters", spread_out, setup)
        titles = [column.title for column in section.tables[0].columns[4:7]]
        assert [title.partition("γ = ")[2] for title in titles] == [gamma, gamma, "0.01"]


def beside_the_curve(job: Job) -> Numbers:
    """Ranks 10 to 70, linear in the logarithm of the norm; LogitNorm's is higher, a head's the same."""
    norm = 2.0 * job.head_scale / job.temperature
    seen = job.norm_seen(norm, job.temperature) or norm
    higher = 15 if "logit-norm=1" in job.intervention else 0
    rank = 10 + round(10 * math.log10(seen * 1e3)) + job.seed + higher
    return Numbers(initial_norm=norm, rank=rank, test_accuracy=0.9)


def test_interventions_follow_the_curve_of_temperature_or_break_it(tmp_path: Path) -> None:
    pick = setup_of(pick=["CIFAR-10/MLP"])
    section = section_of(tmp_path, "ruler", beside_the_curve, pick)
    told = {text.partition(": ")[0]: text for text in section.paragraphs[1:]}
    (follow,) = (text for how, text in told.items() if "Follow" in how)
    (above,) = (text for how, text in told.items() if "higher" in how)
    (outside,) = (text for how, text in told.items() if "outside" in how)
    assert "classifier x 0.1" in follow
    assert "logit-norm=1" in above
    assert "logit-norm=0.04" in outside
    assert "elogit-norm" in outside
    (table,) = section.tables
    row = row_of(table, "CIFAR-10", "MLP", f"logit-norm=1, {T_1}")
    assert row[0] == "2"
    assert float(row[2].partition(" ")[0]) == pytest.approx(15, abs=1)
    assert len(section.pictures) == 1


def test_neural_collapse_is_compared_with_the_train_accuracy(tmp_path: Path) -> None:
    cold = [hundred(accuracy=0.999, collapse=(0.6, 0.1, 0.2, nc3)) for nc3 in (0.4, 0.5, 0.6)]
    hot = [
        hundred(accuracy=0.5, collapse=(0.2, 0.2, 0.3, nc3), means_rank=60)
        for nc3 in (0.3, 0.4, 0.5)
    ]
    found = compared(tmp_path, "neural-collapse", by_seed(baseline=cold, low=hot))
    assert len(found) == 7
    own = found["MLP on CIFAR-10"]
    told = {
        name: (one.moved, one.verdict)
        for name, one in own.items()
        if name.startswith(("NC1: tr", "NC2: dev", "NC3"))
    }
    assert list(told.values()) == [
        (-1, UNCLAIMED),
        (1, UNCLAIMED),
        (1, AGREES),
        (-1, Verdict.OPEN),
    ]
    assert all(one.unequal for one in own.values())
    assert own["train accuracy"].train_accuracies == (0.999, 0.5)


def test_the_angles_of_the_means_bear_no_verdict_where_their_rank_is_full(tmp_path: Path) -> None:
    hot = [hundred(means_rank=98), hundred(), hundred(means_rank=60)]
    numbers = by_seed(baseline=[hundred()] * 3, low=hot)
    found = compared(tmp_path, "neural-collapse", numbers)["ResNet-18 on CIFAR-100"]
    own = found["NC2: deviation of cosines"]
    assert own.no_verdict == NoVerdict(Cause.FULL_RANK, (0, 1))
    table = section_of(tmp_path, "neural-collapse", numbers).tables[0]
    notes = [row[-1].note for row in table.rows if row[2].text == own.measure.name]
    told = "class means of full rank, of which the claim does not speak: 0 at T = 1, 1 at low logit norm"
    assert told in notes


@pytest.mark.parametrize(
    ("accuracies", "whole", "fewest"),
    [([1.0, 1.0], 2, "0"), ([0.9, 1.0], 1, "2,500"), ([0.9, 1 - 4 / 50_000], 0, "2,502")],
)
def test_rank_two_counts_networks_that_fit_all_images(
    accuracies: list[float], whole: int, fewest: str, tmp_path: Path
) -> None:
    def numbers(job: Job) -> Numbers | None:
        if job.head_rank is None:
            return Numbers(test_accuracy=0.9)
        if job.seed == 2:
            return None
        return Numbers(rank=2, accuracy=accuracies[job.seed], test_accuracy=0.6 + job.seed / 100)

    section = section_of(tmp_path, "rank-two", numbers)
    told = f"MLP on CIFAR-10: {whole} of 2 networks with rank 2 fit all train images."
    assert told in section.headline
    table = section.tables[0]
    row = row_of(table, "CIFAR-10", "MLP", f"rank 2, {T_1}")
    assert [text.partition(",")[0] for text in row[:2]] == ["2", "2"]
    assert row[4].startswith(fewest)
    assert row[5] == "60.5% (60.0–61.0), n = 2"
    assert row_of(table, "CIFAR-10", "MLP", COLD)[5] == "90.0%"


def test_ortho_dev_of_all_networks_and_sets(tmp_path: Path) -> None:
    numbers = by_seed(baseline=[Numbers(ortho_dev=0.6)] * 3, low=[Numbers(ortho_dev=0.7)] * 3)
    found = compared(tmp_path, "ortho-dev", numbers)
    assert len(found) == 5
    for own in found.values():
        told = [(one.moved, one.verdict) for one in own.values()]
        assert told == [(1, DIFFERS), (1, UNCLAIMED)]
    assert list(found["ResNet-34 on CIFAR-100"]) == ["OrthoDev (svhn)", "OrthoDev (cifar10)"]
    assert len(section_of(tmp_path, "ortho-dev", numbers).pictures) == 5


def scattered(job: Job) -> Numbers:
    position = sum(map(ord, job.key))
    return hundred(drop=position % 41 / 41, auroc=0.5 + position % 29 / 60)


def counts(table: Table, ood: str) -> dict[str, str]:
    """Numbers of points of each kind of network."""
    return {row[1].text: row[4].text for row in table.rows if row[0].text == ood}


def test_the_trade_off_is_the_correlation_over_networks_within_their_kinds(tmp_path: Path) -> None:
    setup = setup_of(missing=("svhn",))
    section = section_of(tmp_path, "trade-off", scattered, setup)
    jobs = TARGETS["trade-off"].cells(setup).jobs.values()
    for ood in ("cifar100", "cifar10"):
        every = [job for job in jobs if ood in job.ood]
        for kind, chosen, kinds in (
            (ALL, every, [f"{job.model} on {job.data}" for job in every]),
            ("mlp on cifar10", [job for job in every if job.model == "mlp"], None),
        ):
            found = correlation([(one.drop, one.auroc) for one in map(scattered, chosen)], kinds)
            if found is not None:
                assert found.n == len(chosen)
                numbers = [f"{found.rho:.2f}", f"{found.p:.2g}", str(found.n)]
                assert row_of(section.tables[0], ood, kind)[:3] == numbers
    assert len(section.pictures) == 1


def test_networks_of_images_of_another_size_are_another_kind(tmp_path: Path) -> None:
    setup = setup_of()
    grid = Grid.merged(
        setup.pair("CIFAR-100", "ResNet-18", **options) for options in ({}, {"image_size": 64})
    )
    for job in grid.jobs.values():
        write_job(tmp_path, job, scattered(job))
    (table,) = TARGETS["trade-off"].section(grid.cells, Results(tmp_path), {}).tables
    kinds = {f"resnet18 on cifar100, {size} px": "6" for size in (32, 64)}
    assert counts(table, "svhn") == {ALL: "12"} | kinds


def test_figures_tell_replaced_data_of_two_sizes_apart(tmp_path: Path) -> None:
    setup = setup_of(replacements={"cifar100": "mine", "imagenet100": "mine"}, pick=["*/ResNet-34"])
    (picture,) = section_of(tmp_path, "table1", scattered, setup).pictures
    titles = {axes.get_title() for axes in picture.figure.axes}
    assert titles >= {f"resnet34 on mine, {size} px" for size in (8, 64)}


def test_networks_that_cells_share_count_once(tmp_path: Path) -> None:
    setup = setup_of("smoke")
    cells = fill(tmp_path, ["trade-off"], scattered, setup)["trade-off"]
    assert sum(len(cell.keys) for cell in cells) == 22
    assert len(runs(cells, Results(tmp_path))) == 12
    (table,) = TARGETS["trade-off"].section(cells, Results(tmp_path), {}).tables
    assert counts(table, "glyph-fonts:50")[ALL] == "12"


def test_a_constant_trade_off_has_no_correlation(tmp_path: Path) -> None:
    section = section_of(tmp_path, "trade-off", lambda job: Numbers())
    assert not section.tables[0].rows
    assert len(section.pictures) == 1


def test_points_at_which_probes_guess_do_not_enter_the_trade_off(tmp_path: Path) -> None:
    def numbers(job: Job) -> Numbers:
        blind = job.model == "mlp" and job.seed == 0
        return replace(scattered(job), ood_probes=(0.3, 0.34, 0.32) if blind else (0.8, 0.9, 0.9))

    section = section_of(tmp_path, "trade-off", numbers, setup_of(missing=("svhn",)))
    assert counts(section.tables[0], "cifar100")["mlp on cifar10"] == "4"
    assert any("2 points" in note for note in section.notes)


def some_at_chance(unlearned: Callable[[Job], bool]) -> Callable[[Job], Numbers]:
    def numbers(job: Job) -> Numbers:
        position = sum(map(ord, job.key))
        own = {"initial_norm": position % 37 + 1.0, "hidden_rank": position % 23 + 1}
        return replace(scattered(job), accuracy=0.012 if unlearned(job) else 1.0, **own)  # type: ignore[arg-type]

    return numbers


def test_settings_at_chance_do_not_enter_the_correlation(tmp_path: Path) -> None:
    numbers = some_at_chance(lambda job: job.init == "lecun" or (job.depth == 4 and job.seed == 1))
    section = section_of(tmp_path, "hyperparameters", numbers)
    assert row_of(section.tables[1])[2] == "15"
    cells = TARGETS["hyperparameters"].cells(setup_of()).cells
    labels = [cell.condition for cell in at_chance(cells, Results(tmp_path))]
    assert labels == ["LeCun initialisation", "4 layers"]
    assert any(all(label in note for label in labels) for note in section.notes)


def test_networks_at_chance_do_not_enter_the_trade_off(tmp_path: Path) -> None:
    numbers = some_at_chance(lambda job: job.model == "mlp" and job.seed == 0)
    section = section_of(tmp_path, "trade-off", numbers, setup_of(missing=("svhn",)))
    assert any("2 of 66 networks" in note for note in section.notes)
    assert counts(section.tables[0], "cifar100")["mlp on cifar10"] == "4"
