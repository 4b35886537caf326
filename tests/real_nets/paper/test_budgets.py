"""Budgets: which options win, and that changes reach every job."""

from dataclasses import replace
from typing import Any

import pytest

from real_nets.data.catalogue import data_of_paper
from real_nets.jobs.job import Job
from real_nets.models import MODELS, Definition, HighTemperatures, mlp
from real_nets.paper.budgets import BUDGETS, PAPER, USUAL, Budget, with_changes
from real_nets.paper.numbers import LAYERS
from real_nets.paper.targets import TARGETS
from tests.real_nets.fabricated import setup_of

SEVEN = HighTemperatures(7.0, "seven", others=(8.0,))

NETWORKS = ("mlp", "resnet18", "resnet20", "resnet34", "resnet50", "vgg19", "vit_b16")
"""Those of the paper."""
CONVOLUTIONAL = NETWORKS[1:-1]

LAYERED = Budget(
    "small",
    seeds=2,
    common={"epochs": 1, "lr": 0.1, "batch_size": 8, "width": 4},
    convolutional={"lr": 0.3, "momentum": 0.5},
    photographs={"batch_size": 32, "width": 6},
    convolutional_temperatures=HighTemperatures(9.0, "nine"),
)


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """`own`, a network with options and a temperature of its own, and `conv`, a convolutional one."""
    options: dict[str, Any] = {"lr": 0.2, "batch_size": 16, "width": 5}
    own = Definition(mlp.mlp, "Own", False, {"small": options}, {"small": SEVEN})
    monkeypatch.setitem(MODELS, "own", own)
    monkeypatch.setitem(MODELS, "conv", replace(own, convolutional=True, temperatures={}))


def test_the_particular_wins_over_the_general() -> None:
    job = LAYERED.job("imagenet", "own", width=7)
    assert (job.epochs, job.lr, job.batch_size, job.width, job.momentum) == (1, 0.2, 32, 7, 0.9)
    conv = LAYERED.job("cifar100", "conv")
    assert (conv.lr, conv.batch_size, conv.width, conv.momentum) == (0.2, 16, 5, 0.5)
    for other in ("vit", "torchvision:resnet18"):
        job = LAYERED.job("cifar100", other)
        assert (job.epochs, job.lr, job.batch_size, job.width) == (1, 0.1, 8, 4)
    assert replace(LAYERED, name="paper").job("cifar100", "own").lr == 0.1


def test_jobs_are_of_the_first_seed_at_temperature_one() -> None:
    job = LAYERED.job("cifar10", "mlp")
    assert (job.data, job.model, job.temperature, job.seed) == ("cifar10", "mlp", 1.0, 0)


def test_a_network_may_have_a_temperature_of_its_own() -> None:
    assert LAYERED.high_temperatures("own") == SEVEN
    assert LAYERED.high_temperatures("conv").low_norm == 9
    for name in ("vit", "timm:resnet18"):
        assert replace(LAYERED, name="paper").high_temperatures(name) == USUAL
    assert replace(LAYERED, name="paper").high_temperatures("own") == USUAL


def test_every_network_has_a_reason_for_its_temperature() -> None:
    for budget in BUDGETS.values():
        for name in MODELS:
            found = budget.high_temperatures(name)
            assert found.low_norm > 1
            assert found.reason
            assert not found.reason.endswith(".")


@pytest.mark.parametrize("network", ["own", "conv", "vit"])
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_changes_win_over_every_layer(network: str, data: str) -> None:
    changes = {"epochs": 9, "lr": 0.9, "batch_size": 99, "width": 90, "gamma": None}
    job = with_changes(LAYERED, None, changes).job(data, network)
    assert (job.epochs, job.lr, job.batch_size, job.width) == (9, 0.9, 99, 90)
    assert job.gamma == Job().gamma


def test_changes_that_say_nothing_change_nothing() -> None:
    for budget in BUDGETS.values():
        assert with_changes(budget, None, {"epochs": None, "width": None}) == budget
        assert with_changes(budget, 7, {}) == replace(budget, seeds=7)


def test_changes_may_be_nought() -> None:
    assert (
        with_changes(LAYERED, None, {"diagnosed_images": 0}).job("a", "mlp").diagnosed_images == 0
    )


@pytest.mark.parametrize("budget", BUDGETS)
def test_changes_reach_every_job_of_every_target(budget: str) -> None:
    changes: dict[str, Any] = {
        "epochs": 2, "width": 12, "lr": 0.125, "lr_rule": "reparametrised", "batch_size": 17,
        "gamma": 0.02, "diagnosed_images": 123,
    }  # fmt: skip
    if budget == "paper":
        del changes["width"]  # the pretrained network has but one
    setup = setup_of(budget)
    setup = replace(setup, budget=with_changes(setup.budget, 1, changes))
    own = {"fig8": {"epochs": 0, "diagnosed_images": 1000}, "rank-two": {"epochs": 6}}
    for name, target in TARGETS.items():
        grid = target.cells(setup)
        for cell in grid.cells:
            for job in map(grid.jobs.__getitem__, cell.keys):
                exempt = own.get(name, {}) if cell.condition in ("untrained", "rank 2") else {}
                if "the width" in cell.condition and "width" in changes:
                    exempt = {"width": {"half": 6, "twice": 24}[cell.condition.split()[0]]}
                wanted = changes | exempt
                assert {key: getattr(job, key) for key in wanted} == wanted, cell


@pytest.mark.parametrize(("epochs", "warmup"), [(None, 5.0), (25, 5.0), (2, 0.4), (0, 0.0)])
def test_warming_up_takes_a_fifth_of_training_at_most(epochs: int | None, warmup: float) -> None:
    job = with_changes(PAPER, None, {"epochs": epochs}).job("imagenet", "resnet50")
    assert (job.warmup_epochs, job.lr) == (warmup, 0.1)


@pytest.mark.parametrize("budget", BUDGETS)
def test_budgets_make_jobs_that_can_be_trained(budget: str) -> None:
    for network in NETWORKS:
        for data in data_of_paper().values():
            job = BUDGETS[budget].job(data, network)
            job.check()  # raises for what makes no sense
            assert job.architecture(100, (3, 224, 224)).name == job.model


def test_the_paper_budget_has_the_usual_recipes() -> None:
    mlp = PAPER.job("cifar10", "mlp")
    assert (mlp.width, mlp.weight_decay) == (512, 0.0)
    for network in CONVOLUTIONAL:
        job = PAPER.job("cifar10", network)
        recipe = (job.lr, job.momentum, job.nesterov, job.weight_decay, job.batch_size)
        assert recipe == (0.1, 0.9, True, 5e-4, 128)
        assert (job.epochs, job.augmentation, job.width) == (160, "crop-flip", None)
    imagenet = PAPER.job("imagenet", "resnet50")
    assert (imagenet.epochs, imagenet.image_size, imagenet.weight_decay) == (90, 224, 1e-4)
    vit = PAPER.job("cifar100", "vit_b16")
    assert (vit.pretrained, vit.optimizer, vit.image_size) == (True, "adamw", 224)
    assert {PAPER.high_temperatures(name).low_norm for name in NETWORKS} == {50.0}


def test_networks_of_the_paper_have_their_names_and_kinds() -> None:
    assert set(NETWORKS) <= set(MODELS)
    assert {name for name in NETWORKS if MODELS[name].convolutional} == set(CONVOLUTIONAL)
    assert {MODELS[name].paper_name for name in NETWORKS} == {*LAYERS, "ViT-B"}
