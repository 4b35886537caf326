"""Sentences of README.md and FINDINGS.md hold in the records: conditions, directions without a number."""

from collections.abc import Callable
from statistics import median

import pytest

from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.paper.measures import collapse
from tests.conftest import ROOT
from tests.real_nets.paper.evidence.telling import (
    FEWER,
    FINDINGS,
    PAIRS,
    STORE,
    STORES,
    TENTH,
    Pair,
    apart,
    depth,
    drop,
    neco,
    penultimate_rank,
)
from tests.real_nets.paper.evidence.telling import train_accuracy as accuracy_on_train

PAGE = " ".join(FINDINGS.read_text().split())
README = " ".join((ROOT / "README.md").read_text().split())


def jobs(*keys: str) -> list[JobFolder]:
    return [one for key in keys for side in (PAIRS[key].cold, PAIRS[key].hot) for one in side]


def only(networks: list[JobFolder], value: Callable[[JobFolder], object]) -> str:
    """What all of them have."""
    (found,) = {value(one) for one in networks}
    return (
        f"{found:g}"
        if isinstance(found, float)
        else f"{found:,}"
        if isinstance(found, int)
        else str(found)
    )


def test_the_conditions_are_those_of_the_jobs() -> None:
    mlp, narrow = jobs("mlp"), jobs("resnet20", "vgg19", "resnet18")
    others = [*narrow, *jobs("tenth", "fewer")]
    everything = [*mlp, *others]
    tenth, fewer = jobs("tenth"), jobs("fewer")
    assert {one.job.optimizer for one in mlp} == {"sgd"}
    assert {(one.job.optimizer, one.job.weight_decay) for one in others} == {("adamw", 0.0)}
    assert {(one.job.augmentation, one.job.precision) for one in everything} == {
        ("none", "float32")
    }
    assert {one.job.seed for one in everything} == {0, 1, 2}
    versions = {str(one.environment["torch"]).rpartition(".")[0] for one in everything}
    told = [
        *(f"torch {version}" for version in versions),
        f"MLP: width {only(mlp, lambda one: one.job.width)}, SGD with peak rate "
        f"{only(mlp, lambda one: one.job.lr)}, {only(mlp, lambda one: one.job.epochs)} epochs",
        f"Others: width {only(others, lambda one: one.job.width)}, AdamW with peak rate "
        f"{only(others, lambda one: one.job.lr)}",
        f"{only(narrow, lambda one: one.job.epochs)} epochs. No augmentation",
        f"{only(tenth, lambda one: one.summary['train_images'] // 10)} train images per class of "
        f"CIFAR-10 for {only(tenth, lambda one: one.job.epochs)} epochs",
        f"{only(fewer, lambda one: one.summary['train_images'] // 100)} per class of Tiny "
        f"ImageNet-100 for {only(fewer, lambda one: one.job.epochs)} epochs",
        f"at most {only(everything, lambda one: one.job.diagnosed_images)} images of each split",
    ]
    for text in told:
        assert text in PAGE, text


def test_equal_accuracies_are_those_told() -> None:
    names = {"mlp": "the MLP", "resnet20": "ResNet-20", "vgg19": "VGG-19", "resnet18": "ResNet-18"}
    reached = {key: round(100 * float(pair.milestone.split("-")[1])) for key, pair in PAIRS.items()}
    assert reached["mlp"] == reached["tenth"] == reached["fewer"]
    for key, name in names.items():
        part = " and for parts of a data set" if key == "mlp" else ""
        assert f"{reached[key]} % for {name}{part}" in PAGE


def moves(pair: Pair, measure: Callable[[JobFolder], float | None], snapshot: str = FINAL) -> int:
    return apart(*pair.values(measure, snapshot))


@pytest.mark.parametrize("key", PAIRS)
def test_the_rank_of_the_features_falls_everywhere(key: str) -> None:
    for snapshot in (FINAL, PAIRS[key].milestone):
        assert moves(PAIRS[key], penultimate_rank, snapshot) == -1


@pytest.mark.parametrize("key", PAIRS)
def test_directions_are_those_told(key: str) -> None:
    pair = PAIRS[key]
    both = (FINAL, pair.milestone)
    fits = min(pair.values(accuracy_on_train)[1]) > 0.99
    assert (moves(pair, depth) == -1) == fits
    worse = [moves(pair, drop, at) for at in both]
    assert worse == {
        "mlp": [0, 0], "vgg19": [0, 0], "resnet18": [1, 0], "lossless": [0, -1],
    }.get(key, [1, 1])  # fmt: skip
    assert (moves(pair, neco) == 1) == (key in ("resnet18", "fewer"))
    sides = {
        name: [median(values) for values in pair.values(collapse(name))]
        for name in ("within_to_between", "self_duality", "cosine_deviation")
    }
    fall = [after < before for before, after in sides.values()]
    assert (fall == [True, True, False]) == (key != "vgg19")
    equal = moves(pair, collapse("cosine_deviation"), pair.milestone)
    assert (equal == -1) == (key == "resnet20")


def test_one_number_of_the_text_without_a_range() -> None:
    (hot,) = {round(1000 * (depth(one) or 0)) / 10 for one in PAIRS["fewer"].hot}
    assert f"At {hot:g} % the bar is low" in README


def test_networks_of_rank_two_had_the_time_told() -> None:
    narrow = [
        one
        for store in (STORE, TENTH)
        for one in map(JobFolder, (store / "jobs").iterdir())
        if one.job.head_rank == 2
    ]
    for model, text in (("mlp", "all {:,} images"), ("resnet18", "of {:,} images wrong")):
        own = [one for one in narrow if one.job.model == model]
        images = {one.summary["train_images"] for one in own}
        assert len(images) == 1
        assert text.format(*images) in PAGE
    (epochs,) = {one.job.epochs for one in narrow if one.job.model == "resnet18"}
    assert f"within {epochs} epochs" in PAGE


def test_all_stores_are_told() -> None:
    for store in STORES:
        link = "(README.md)" if store == STORE else f"({store.name}/README.md)"
        assert link in PAGE
    assert FEWER in STORES
