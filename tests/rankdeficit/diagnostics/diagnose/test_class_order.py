"""Labels in another order than those of the training are told."""

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.class_order import best_order
from tests.rankdeficit.diagnostics.diagnose.problems import QUICK, batches, blobs

CLASSES = 10


def told(model: nn.Module, order: torch.Tensor, spread: float = 0.3) -> list[str]:
    """Notes on the order of classes, for labels in this order."""
    centres = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(3))
    splits = []
    for n, seed in ((600, 0), (400, 1)):
        x, y = blobs(n, centres, spread, seed)
        splits.append(batches(x, order[y]))
    notes = rd.diagnose(model, *splits, **QUICK)["notes"]
    return [own for own in notes if "order of classes" in own]


def nearest_centre() -> nn.Module:
    """Classifies by the nearest centre of the blobs."""
    centres = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(3))
    layer = nn.Linear(6, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(centres)
        layer.bias.copy_(-centres.square().sum(1) / 2)
    return nn.Sequential(nn.Identity(), layer)


@pytest.mark.parametrize("moved", [2, 3, CLASSES])
@pytest.mark.parametrize("spread", [0.1, 0.8])
def test_labels_in_another_order_are_told_of_good_and_bad_networks(
    moved: int, spread: float
) -> None:
    order = torch.arange(CLASSES)
    order[:moved] = order[:moved].roll(1)
    (note,) = told(nearest_centre(), order, spread)
    assert "samples of class 0 are its class 1" in note or moved == 2
    assert not told(nearest_centre(), torch.arange(CLASSES), spread)


@pytest.mark.parametrize("seed", range(10))
def test_untrained_networks_are_not_told_so(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    assert not told(model, torch.arange(CLASSES), 1.5)


def test_the_best_order_keeps_what_is_as_good() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    predictions = torch.tensor([1, 1, 0, 0, 2, 2])
    assert best_order(labels, predictions, 5).tolist() == [1, 0, 2, 3, 4]
