"""The paper's numbers, read a second time: column by column where the module has rows."""

import pytest

from real_nets.paper import numbers as paper
from real_nets.paper.numbers import Representation, RepresentationRow

BOTH = (*paper.TABLE_1, *paper.TABLE_3)
REPRESENTATIONS = [(row, own) for row in BOTH for own in (row.baseline, row.low_norm)]


def percent(values: list[float]) -> list[float]:
    return [round(100 * value, 2) for value in values]


def test_the_columns_of_table_1() -> None:
    rows = paper.TABLE_1
    assert [row.data for row in rows] == (
        ["CIFAR-10"] * 3 + ["CIFAR-100"] * 2 + ["ImageNet-100"] * 2 + ["ImageNet-1k"] * 2
    )
    numbers = [row.architecture.removeprefix("ResNet-") for row in rows]
    assert numbers == ["MLP", "18", "20", "18", "34", "34", "50", "34", "50"]
    base, low = [row.baseline for row in rows], [row.low_norm for row in rows]
    assert percent([r.effective_depth for r in base]) == [75] + [100] * 8
    assert percent([r.ood_drop for r in base]) == [67, 29, 10, 19, 16, 6, 5, 5, 5]
    assert [r.rank for r in base] == [9, 9, 9, 99, 99, 99, 99, 512, 947]
    assert percent([r.effective_depth for r in low]) == [38, 67, 75, 83, 68, 85, 78, 82, 78]
    assert percent([r.ood_drop for r in low]) == [78, 54, 34, 50, 51, 52, 50, 23, 22]
    assert [r.rank for r in low] == [9, 9, 9, 59, 72, 42, 27, 122, 128]


def test_the_columns_of_table_2() -> None:
    assert [row.architecture for row in paper.TABLE_2[::2]] == ["ResNet-18", "ResNet-34", "ViT-B"]
    halves = {"CIFAR-100": paper.TABLE_2[::2], "CIFAR-10": paper.TABLE_2[1::2]}
    for data, rows in halves.items():
        assert {(row.data, row.ood) for row in rows} == {(data, *(set(halves) - {data}))}
        assert [row.pretrained_on for row in rows] == [None, None, "ImageNet-21k"]
    hundred, ten = halves.values()
    assert percent([r.baseline.auroc for r in hundred]) == [63.66, 62.36, 92.38]
    assert percent([r.baseline.fpr for r in hundred]) == [90.44, 91.13, 40.01]
    assert percent([r.low_norm.auroc for r in hundred]) == [77.04, 76.37, 93.96]
    assert percent([r.low_norm.fpr for r in hundred]) == [80.13, 79.27, 30.92]
    assert percent([r.baseline.auroc for r in ten]) == [77.75, 73.96, 98.09]
    assert percent([r.baseline.fpr for r in ten]) == [73.29, 73.6, 9.51]
    assert percent([r.low_norm.auroc for r in ten]) == [87.53, 86.18, 98.33]
    assert percent([r.low_norm.fpr for r in ten]) == [55.87, 57.23, 8.87]


def test_table_3() -> None:
    ten, hundred = paper.TABLE_3
    assert ten == RepresentationRow(
        "VGG-19", "CIFAR-10", Representation(0.47, 0.64, 9), Representation(0.53, 0.64, 9)
    )
    assert hundred == RepresentationRow(
        "VGG-19", "CIFAR-100", Representation(0.58, 0.58, 73), Representation(0.58, 0.53, 45)
    )


@pytest.mark.parametrize(("row", "own"), REPRESENTATIONS)
def test_every_kappa_is_a_whole_number_of_layers(
    row: RepresentationRow, own: Representation
) -> None:
    layers = paper.LAYERS[row.architecture]
    shares = {round(layer / layers, 2) for layer in range(1, layers + 1)}
    assert own.effective_depth in shares


def test_other_depths_would_not_explain_the_kappas() -> None:
    for architecture in ("MLP", "VGG-19", "ResNet-34"):
        layers = paper.LAYERS[architecture]
        own = [found for row, found in REPRESENTATIONS if row.architecture == architecture]
        kappas = {found.effective_depth for found in own}
        for other in (layers - 2, layers - 1, layers + 1):
            assert not kappas <= {round(layer / other, 2) for layer in range(1, other + 1)}


@pytest.mark.parametrize(("row", "own"), REPRESENTATIONS)
def test_ranks_fit_the_number_of_classes(row: RepresentationRow, own: Representation) -> None:
    assert own.rank <= paper.CLASSES[row.data] - 1


def test_the_dagger_is_on_the_one_classifier_that_is_narrower_than_its_classes() -> None:
    bounded = [(row, own) for row, own in REPRESENTATIONS if own.bounded_by_classifier]
    ((row, own),) = bounded
    assert (row.architecture, row.data, own.rank) == ("ResNet-34", "ImageNet-1k", 512)
    assert own is row.baseline


def test_the_tables_bear_out_their_own_claims() -> None:
    for row in paper.TABLE_1:
        assert row.low_norm.effective_depth < row.baseline.effective_depth
        assert row.low_norm.ood_drop > row.baseline.ood_drop
        assert (row.low_norm.rank < row.baseline.rank) == (paper.CLASSES[row.data] >= 100)
    for found in paper.TABLE_2:
        assert found.low_norm.auroc > found.baseline.auroc
        assert found.low_norm.fpr < found.baseline.fpr


def test_exhibits_are_three_tables_and_eight_figures_of_known_networks() -> None:
    names = [found.name for found in paper.EXHIBITS]
    assert names == [f"Table {i}" for i in (1, 2, 3)] + [f"Figure {i}" for i in range(1, 9)]
    for found in paper.EXHIBITS:
        assert found.claim.count(". ") == 0
        assert found.claim.endswith(".")
        for architecture, data in found.networks:
            assert architecture in paper.LAYERS or architecture == "ViT-B"
            assert data in paper.CLASSES
    assert paper.exhibit("Figure 3").networks == (("MLP", "CIFAR-10"),)
    assert paper.exhibit("Figure 1").networks == (("ResNet-34", "CIFAR-100"),)
    with pytest.raises(ValueError, match=r"'Figure 9'.*Table 1"):
        paper.exhibit("Figure 9")


def test_numbers_are_found_by_network_and_data() -> None:
    found = paper.representation_row("ResNet-50", "ImageNet-1k")
    assert found is not None
    assert found.low_norm.rank == 128
    assert paper.representation_row("VGG-19", "CIFAR-100") == paper.TABLE_3[1]
    assert paper.representation_row("VGG-19", "ImageNet-1k") is None
    detection = paper.detection_row("ViT-B", "CIFAR-10", "CIFAR-100")
    assert detection is not None
    assert detection.low_norm.fpr == 0.0887
    assert paper.detection_row("ViT-B", "CIFAR-10", "CIFAR-10") is None


def test_the_baseline_is_the_lowest_temperature() -> None:
    assert paper.TEMPERATURES == (1, 10, 50, 100, 1000)
    assert paper.BASELINE_TEMPERATURE == min(paper.TEMPERATURES) == 1
