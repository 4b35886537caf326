"""Cells of the paper and the jobs that fill them: networks, data, temperatures, what is left out."""

import hashlib
import json
from dataclasses import asdict, replace

import pytest

from rankdeficit.control.ruler import CURVE
from real_nets.data.catalogue import data_of_paper
from real_nets.jobs.job import Job
from real_nets.models import model_of_paper
from real_nets.paper import numbers as paper
from real_nets.paper.budgets import BUDGETS, GLYPH_OOD, GLYPHS, with_changes
from real_nets.paper.grid import BASELINE, LOW_NORM, OTHER, Cell, Grid, Setup
from real_nets.paper.targets import TARGETS, ruler
from real_nets.paper.targets.quick import SIZES
from tests.real_nets.fabricated import setup_of

MLP = [("CIFAR-10", "MLP")]
RESNET_34 = [("CIFAR-100", "ResNet-34")]
CIFAR = [
    ("CIFAR-10", "MLP"),
    ("CIFAR-10", "ResNet-18"),
    ("CIFAR-10", "ResNet-20"),
    ("CIFAR-100", "ResNet-18"),
    ("CIFAR-100", "ResNet-34"),
]
IMAGENET = [
    (data, network)
    for data in ("ImageNet-100", "ImageNet-1k")
    for network in ("ResNet-34", "ResNet-50")
]
VGG = [("CIFAR-10", "VGG-19"), ("CIFAR-100", "VGG-19")]

PAIRS = {
    "table1": CIFAR + IMAGENET,
    "table2": [(d, n) for n in ("ResNet-18", "ResNet-34", "ViT-B") for d in ("CIFAR-100", "CIFAR-10")],
    "table3": VGG,
    "quick": [("CIFAR-100", "ResNet-18")],
    "fig1": RESNET_34,
    "fig2": RESNET_34,
    "fig3": MLP,
    "fig4": MLP,
    "fig5": RESNET_34,
    "fig6": [],
    "fig7": RESNET_34,
    "alignment": [("CIFAR-10", "ResNet-18"), ("CIFAR-10", "VGG-19")],
    "hyperparameters": MLP,
    "mse": MLP,
    "neural-collapse": CIFAR + VGG,
    "ortho-dev": CIFAR,
    "trade-off": CIFAR + IMAGENET + VGG,
    "conventions": CIFAR + IMAGENET + VGG,
}  # fmt: skip
"""What each target trains at T = 1 and at low logit norm."""

UNTRAINED = ("VGG-19", "ResNet-18", "ResNet-20", "ResNet-34", "MLP")
OTHERS = {
    "fig8": [(data, net, "untrained") for data in ("CIFAR-10", "CIFAR-100") for net in UNTRAINED],
    "rank-two": [
        ("CIFAR-10", net, how) for net in ("MLP", "ResNet-18") for how in (BASELINE, "rank 2")
    ],
    "ruler": [
        (data, net, how)
        for data, net in (*MLP, ("CIFAR-100", "MLP"), ("CIFAR-100", "ResNet-18"))
        for how in (CURVE, *ruler.OTHERS)
    ],
}
"""What the others train."""


def named(grid: Grid) -> dict[tuple[str, str, str], list[Job]]:
    """Jobs by data set, network and condition."""
    return {(c.dataset, c.network, c.condition): [grid.jobs[k] for k in c.keys] for c in grid.cells}


def keys(setup: Setup, target: str, name: str, condition: str) -> tuple[str, ...]:
    """Of the one such cell."""
    cells = TARGETS[target].cells(setup).cells
    (found,) = [cell for cell in cells if (cell.name, cell.condition) == (name, condition)]
    return found.keys


KEYS = "c759fd1b284fc29c"
"""SHA-256 digest of the keys of the jobs of all tables and figures of the paper under all budgets."""


def test_keys_of_jobs_stay_the_same() -> None:
    """Networks that were trained are found by these keys: a change makes their results useless."""
    names = [*(f"table{n}" for n in (1, 2, 3)), *(f"fig{n}" for n in range(1, 9))]
    found = {
        f"{budget} {key}"
        for budget in BUDGETS
        for name in names
        for key in TARGETS[name].cells(setup_of(budget, others=())).jobs
    }
    assert hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16] == KEYS


def test_every_target_is_known_here() -> None:
    assert set(PAIRS) | set(OTHERS) == set(TARGETS)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("target", TARGETS)
def test_targets_train_their_networks_in_their_conditions(target: str, budget: str) -> None:
    setup = setup_of(budget)
    found = named(TARGETS[target].cells(setup))
    if target in OTHERS:
        assert list(found) == OTHERS[target]
        return
    wanted = [(data, net, how) for data, net in PAIRS[target] for how in (BASELINE, LOW_NORM)]
    extra = {name for name in set(found) - set(wanted) if name[2] != OTHER}
    wanted += [name for name in found if name[2] == OTHER]
    assert {name for name in found if name not in extra} == set(wanted)
    assert (not extra) == (target != "hyperparameters")


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("target", TARGETS)
def test_jobs_are_what_their_cell_says(target: str, budget: str) -> None:
    setup = setup_of(budget)
    grid = TARGETS[target].cells(setup)
    for cell in grid.cells:
        jobs = [grid.jobs[key] for key in cell.keys]
        seeds = 10 if target == "fig8" else BUDGETS[budget].seeds
        assert [job.seed for job in jobs] == list(range(seeds))
        assert {job.temperature for job in jobs} == {cell.temperature}
        if cell.condition in (BASELINE, LOW_NORM):
            assert (cell.temperature == 1) == (cell.condition == BASELINE)
        small_vit = cell.network == "ViT-B" and budget != "paper"
        assert {job.model for job in jobs} == {"vit" if small_vit else model_of_paper(cell.network)}
        data = GLYPHS if budget == "smoke" else data_of_paper()[cell.dataset]
        assert {job.data for job in jobs} == {data} == {cell.data}
        for job in jobs:
            job.check()


@pytest.mark.parametrize("budget", BUDGETS)
def test_low_norm_is_at_a_temperature_that_the_paper_names(budget: str) -> None:
    setup = setup_of(budget)
    for name in set(TARGETS) - {"ruler"}:  # whose curve needs others
        for cell in TARGETS[name].cells(setup).cells:
            assert cell.condition == OTHER or cell.temperature in paper.TEMPERATURES
            assert bool(cell.reason) == (cell.condition == LOW_NORM)


def test_networks_have_all_temperatures_where_their_budget_or_the_user_names_some() -> None:
    def temperatures(setup: Setup, target: str) -> list[float]:
        cells = TARGETS[target].cells(setup).cells
        return [cell.temperature for cell in cells if cell.name == "CIFAR-10/MLP"]

    assert temperatures(setup_of(), "table1") == [1, 50, 10, 100, 200]
    assert temperatures(setup_of("paper"), "table1") == [1, 50]
    assert temperatures(setup_of("paper", others=(0.3, 50.0)), "fig3") == [1, 50, 0.3]
    assert temperatures(setup_of(temperature=10.0), "table1") == [1, 10, 100, 200]
    assert temperatures(setup_of(others=()), "table1") == [1, 50]
    assert temperatures(setup_of(), "mse") == [1, 50]


def test_the_smoke_budget_takes_glyphs_for_everything() -> None:
    setup = setup_of("smoke", missing=("cifar10", "cifar100", "svhn"))
    grid = TARGETS["table1"].cells(setup)
    assert {(job.data, job.ood) for job in grid.jobs.values()} == {(GLYPHS, GLYPH_OOD)}
    assert not grid.left_out


@pytest.mark.parametrize(
    ("one", "other", "name", "condition"),
    [
        ("table1", "fig3", "CIFAR-10/MLP", BASELINE),
        ("table1", "fig4", "CIFAR-10/MLP", LOW_NORM),
        ("table1", "fig1", "CIFAR-100/ResNet-34", LOW_NORM),
        ("table1", "table2", "CIFAR-10/ResNet-18", LOW_NORM),
        ("table1", "rank-two", "CIFAR-10/ResNet-18", BASELINE),
        ("table1", "hyperparameters", "CIFAR-10/MLP", LOW_NORM),
        ("table3", "alignment", "CIFAR-10/VGG-19", LOW_NORM),
        ("table3", "trade-off", "CIFAR-100/VGG-19", BASELINE),
    ],
)
def test_targets_share_their_networks(one: str, other: str, name: str, condition: str) -> None:
    for budget in BUDGETS:
        setup = setup_of(budget)
        assert keys(setup, one, name, condition) == keys(setup, other, name, condition)


def test_the_quick_look_shares_networks_but_under_the_smoke_budget() -> None:
    asked = "CIFAR-100/ResNet-18", LOW_NORM
    for budget in BUDGETS:
        setup = setup_of(budget)
        shared = keys(setup, "table1", *asked) == keys(setup, "quick", *asked)
        assert shared == (budget != "smoke")
    setup = setup_of("smoke")
    (usual,), (short,) = (
        [TARGETS[name].cells(setup).jobs[key] for key in keys(setup, name, *asked)]
        for name in ("table1", "quick")
    )
    assert short.diagnosed_images < usual.diagnosed_images
    assert replace(usual, **SIZES["smoke"]) == short
    changed = replace(setup, budget=with_changes(setup.budget, None, {"epochs": 30}))
    (asked_for,) = {job.epochs for job in TARGETS["quick"].cells(changed).jobs.values()}
    assert asked_for == 30


def test_another_loss_and_other_epochs_are_other_networks() -> None:
    setup = setup_of()
    usual = keys(setup, "table1", "CIFAR-10/MLP", BASELINE)
    assert not set(usual) & set(keys(setup, "mse", "CIFAR-10/MLP", BASELINE))
    assert not set(usual) & set(keys(setup, "rank-two", "CIFAR-10/MLP", "rank 2"))
    assert {job.loss for job in TARGETS["mse"].cells(setup).jobs.values()} == {"mse"}
    assert not set(usual) & set(keys(setup, "fig8", "CIFAR-10/MLP", "untrained"))
    assert {job.epochs for job in TARGETS["fig8"].cells(setup).jobs.values()} == {0}


def test_a_network_is_one_job_however_many_targets_ask_for_it() -> None:
    setup, names = setup_of(), ("table1", "fig3", "fig4", "ortho-dev")
    grid = Grid.merged(TARGETS[name].cells(setup) for name in names)
    more = sum(cell.condition == OTHER for cell in TARGETS["table1"].cells(setup).cells)
    assert len(grid.jobs) == 3 * (2 * len(PAIRS["table1"]) + more)
    assert all(job.key == key for key, job in grid.jobs.items())


@pytest.mark.parametrize(("budget", "width"), [("smoke", 256), ("small", 512), ("paper", 512)])
def test_interventions_change_one_thing_of_the_baseline(budget: str, width: int) -> None:
    setup = setup_of(budget)
    found = named(TARGETS["hyperparameters"].cells(setup))
    base = found.pop(("CIFAR-10", "MLP", BASELINE))[0]
    assert base.width == width
    assert len({jobs[0].key for jobs in found.values()} | {base.key}) == len(found) + 1
    for (_, _, condition), (job, *_) in found.items():
        changed = {k for k, v in job.record().items() if v != base.record()[k]}
        assert len(changed) == 1, condition
        if "width" in condition:
            assert (
                job.width == {"half the width": width // 2, "twice the width": 2 * width}[condition]
            )


def test_rank_two_networks_have_a_narrow_classifier_and_a_goal() -> None:
    setup = setup_of()
    found = named(TARGETS["rank-two"].cells(setup))
    plain, narrow = (found["CIFAR-10", "MLP", how][0] for how in (BASELINE, "rank 2"))
    assert (plain.head_rank, plain.stop_accuracy) == (None, None)
    assert (narrow.head_rank, narrow.stop_accuracy) == (2, 1.0)
    for network in ("MLP", "ResNet-18"):
        plain, narrow = (found["CIFAR-10", network, how][0] for how in (BASELINE, "rank 2"))
        assert narrow.epochs == 3 * plain.epochs


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["CIFAR-10/MLP"], ["CIFAR-10/MLP"]),
        (["cifar-10/mlp"], ["CIFAR-10/MLP"]),
        (["CIFAR-100/*"], ["CIFAR-100/ResNet-18", "CIFAR-100/ResNet-34"]),
        (["*/ResNet-2?"], ["CIFAR-10/ResNet-20"]),
        (["*/mlp", "*-100/resnet-50"], ["CIFAR-10/MLP", "ImageNet-100/ResNet-50"]),
        (["MLP"], []),
    ],
)
def test_patterns_pick_cells(patterns: list[str], names: list[str]) -> None:
    grid = TARGETS["table1"].cells(setup_of(pick=patterns))
    assert list(dict.fromkeys(cell.name for cell in grid.cells)) == names
    assert set(grid.jobs) == {key for cell in grid.cells for key in cell.keys}
    assert grid.names == tuple(f"{data}/{net}" for data, net in PAIRS["table1"])


@pytest.mark.parametrize("target", ["fig1", "fig3", "table1", "alignment"])
def test_figures_alone_show_a_network_that_the_paper_has_elsewhere(target: str) -> None:
    found = TARGETS[target].cells(setup_of(pick=["CIFAR-100/VGG-19"])).cells
    assert bool(found) == target.startswith("fig")
    assert {cell.name for cell in found} <= {"CIFAR-100/VGG-19"}
    assert not TARGETS[target].cells(setup_of(pick=["CIFAR-100/VGG-1?"])).cells


def test_cells_without_their_data_are_left_out_with_the_reason() -> None:
    grid = TARGETS["table1"].cells(setup_of(missing=("imagenet", "imagenet100"), others=()))
    assert [cell.name for cell in grid.cells[::2]] == [f"{data}/{net}" for data, net in CIFAR]
    assert grid.left_out == {
        f"{data}/{net}": f"no {data_of_paper()[data]} here" for data, net in IMAGENET
    }


def test_the_temperature_of_low_norm_can_be_chosen_and_nothing_else_is_touched() -> None:
    usual, chosen = setup_of(), setup_of(temperature=100.0)
    baseline, low = chosen.pair("CIFAR-10", "MLP").cells
    assert (baseline.temperature, low.temperature) == (1.0, 100.0)
    assert baseline == usual.pair("CIFAR-10", "MLP").cells[0]
    cells = TARGETS["hyperparameters"].cells(chosen).cells
    assert sum(cell.temperature == 100 for cell in cells) == 1
    assert [cell.temperature for cell in cells].count(10.0) == 1


def test_budgets_choose_a_temperature_for_each_network() -> None:
    setup = setup_of("small")
    pairs = {name: setup.pair("CIFAR-10", name).cells for name in ("MLP", "ResNet-18")}
    assert {name: low.temperature for name, (_, low) in pairs.items()} == {
        "MLP": 50.0, "ResNet-18": 10.0,
    }  # fmt: skip
    _, low = setup_of("paper").pair("CIFAR-10", "ResNet-18").cells
    assert low.temperature == 50.0


def test_cells_survive_being_kept_as_json() -> None:
    for cell in TARGETS["table1"].cells(setup_of()).cells:
        assert Cell.of(json.loads(json.dumps(asdict(cell)))) == cell


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "word"),
    [({"gamma": 0.0}, "gamma is 0.0"), ({"width": 0}, "width is 0"), ({"lr": -1.0}, "lr is -1.0")],
)
def test_bad_options_are_refused_before_anything_runs(options: dict[str, float], word: str) -> None:
    setup = setup_of()
    with pytest.raises(ValueError, match=word):
        setup.cell("CIFAR-10", "MLP", **options)


def test_cells_are_the_same_however_often_and_in_whatever_order_they_are_asked_for() -> None:
    setup = setup_of(missing=("svhn",))
    first = {name: target.cells(setup) for name, target in TARGETS.items()}
    for name, target in reversed(TARGETS.items()):
        assert target.cells(setup) == first[name]
