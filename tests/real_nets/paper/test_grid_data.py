"""Data sets of cells: those of the paper, replacements, further sets, and what is left out."""

from dataclasses import replace

import pytest

from real_nets.paper.budgets import BUDGETS, GLYPH_OOD
from real_nets.paper.grid import Grid
from tests.real_nets.fabricated import only, setup_of


def test_ood_sets_are_those_of_the_paper() -> None:
    setup = setup_of()
    assert {job.ood for job in only(setup, "CIFAR-10", "MLP")} == {("svhn", "cifar100")}
    assert {job.ood for job in only(setup, "CIFAR-100", "ResNet-18")} == {("svhn", "cifar10")}
    assert {job.ood for job in only(setup, "ImageNet-100", "ResNet-50")} == {("cifar100",)}


def test_replaced_data_are_trained_on_and_named() -> None:
    setup = setup_of(replacements={"imagenet100": "tiny"})
    grid = setup.cell("ImageNet-100", "ResNet-34")
    (cell,) = grid.cells
    assert (cell.dataset, cell.data) == ("ImageNet-100", "tiny")
    assert {grid.jobs[key].data for key in cell.keys} == {"tiny"}
    (same,) = setup.cell("CIFAR-10", "MLP").cells
    assert same.data == "cifar10"


@pytest.mark.parametrize("budget", ["small", "paper"])
def test_replaced_data_are_trained_on_as_what_they_replace(budget: str) -> None:
    own = BUDGETS[budget].job("imagenet100", "resnet34")
    setup = setup_of(budget, replacements={"imagenet100": "tiny"})
    (job, *_) = only(setup, "ImageNet-100", "ResNet-34")
    assert replace(job, data="imagenet100", ood=()) == own
    assert (own.image_size, own.crop) == (64 if budget == "small" else 224, 0.875)


@pytest.mark.parametrize(
    ("replacements", "ood"),
    [
        ({"svhn": "tiny"}, ("tiny", "cifar100")),
        ({"svhn": "tiny", "cifar100": "tiny"}, ("tiny",)),
        ({"svhn": "cifar10"}, ("cifar100",)),
        ({"svhn": "cifar10", "cifar100": "cifar10"}, ()),
        ({"svhn": "cifar100"}, ("cifar100",)),
    ],
)
def test_replaced_ood_sets_are_neither_the_data_itself_nor_named_twice(
    replacements: dict[str, str], ood: tuple[str, ...]
) -> None:
    grid = setup_of(replacements=replacements).cell("CIFAR-10", "MLP")
    assert {job.ood for job in grid.jobs.values()} == {ood}
    assert not grid.left_out


def test_a_replaced_data_set_keeps_the_ood_sets_of_the_one_it_stands_for() -> None:
    setup = setup_of(replacements={"svhn": "tiny", "cifar100": "tiny"})
    assert {job.ood for job in only(setup, "CIFAR-100", "ResNet-18")} == {("cifar10",)}
    setup = setup_of(replacements={"cifar100": "tiny"})
    assert {job.ood for job in only(setup, "CIFAR-100", "ResNet-18")} == {("svhn", "cifar10")}


def test_further_ood_sets_follow_those_of_the_paper() -> None:
    setup = setup_of(further_ood=("tiny", "svhn"), replacements={"imagenet100": "tiny"})
    assert {job.ood for job in only(setup, "CIFAR-10", "MLP")} == {("svhn", "cifar100", "tiny")}
    assert {job.ood for job in only(setup, "ImageNet-100", "ResNet-50")} == {("cifar100", "svhn")}
    assert {
        job.ood for job in only(setup_of("smoke", further_ood=("tiny",)), "CIFAR-10", "MLP")
    } == {GLYPH_OOD}


def test_a_further_ood_set_that_is_missing_is_an_error() -> None:
    setup = setup_of(missing=("tiny",), further_ood=("tiny",))
    with pytest.raises(ValueError, match="no tiny here"):
        setup.cell("CIFAR-10", "MLP")


def test_missing_ood_sets_are_left_out_with_the_reason() -> None:
    grid = setup_of(missing=("svhn",)).cell("CIFAR-10", "MLP")
    assert {job.ood for job in grid.jobs.values()} == {("cifar100",)}
    assert grid.left_out == {"out-of-distribution set svhn": "no svhn here"}


def test_a_replacement_may_be_missing() -> None:
    setup = setup_of(missing=("tiny",), replacements={"svhn": "tiny", "cifar100": "tiny"})
    ten, hundred = setup.cell("CIFAR-10", "MLP"), setup.cell("CIFAR-100", "ResNet-18")
    assert {job.ood for job in ten.jobs.values()} == {()}
    assert hundred.cells == ()
    assert Grid.merged((ten, hundred)).left_out == {
        "out-of-distribution set tiny": "no tiny here",
        "CIFAR-100/ResNet-18": "no tiny here",
    }
