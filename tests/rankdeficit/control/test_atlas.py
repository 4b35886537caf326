"""Where networks start, and what sets it."""

import pytest
import torch
from torch import Tensor, nn

from rankdeficit.control.atlas import (
    Start,
    look,
    norms_against_prediction,
    norms_by_family,
    summarise,
)

ROWS = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))


def network(*before: nn.Module, gain: float = 1.0) -> nn.Sequential:
    """A head of 400 features and 50 classes, without bias, behind other modules."""
    torch.manual_seed(0)
    head = nn.Linear(400, 50, bias=False)
    nn.init.normal_(head.weight, std=gain / 20)
    return nn.Sequential(nn.Linear(20, 400), *before, head)


def start(model: nn.Module, *, temperature: float = 1.0) -> Start:
    return summarise("own", "test", "net", [look(model, ROWS, temperature)])


def test_a_normalised_head() -> None:
    """Behind LayerNorm, features have norm sqrt(width), and the logits sqrt(c) times the gain."""
    found = start(network(nn.LayerNorm(400), nn.Dropout(0.0), gain=0.5), temperature=2.0)
    assert found.normalised == "LayerNorm"
    assert found.width == 400
    assert found.classes == 50
    assert found.parameters == 20 * 400 + 400 + 800 + 400 * 50
    assert found.head_gain == pytest.approx(0.5, rel=0.02)
    assert found.features_norm == pytest.approx(1, rel=1e-4)
    assert found.predicted == pytest.approx(0.5 * 50**0.5, rel=0.02)
    assert found.training == pytest.approx(found.predicted / 2, rel=0.1)
    assert found.deviation == pytest.approx(0.25, rel=0.1)


class NormAct(nn.BatchNorm1d):
    """A normalisation that holds its activation, as timm writes it."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.SiLU()

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.act(super().forward(rows))
        return found


class LinearNormAct(nn.Sequential):
    """A container that only sounds like a normalisation."""


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ([NormAct(400)], "NormAct, SiLU"),
        ([LinearNormAct(nn.Linear(400, 400), nn.BatchNorm1d(400))], "BatchNorm1d"),
        ([LinearNormAct(nn.BatchNorm1d(400), nn.Linear(400, 400))], "none"),
        ([nn.BatchNorm1d(400), nn.ReLU()], "BatchNorm1d, ReLU"),
        ([nn.BatchNorm1d(400), nn.Linear(400, 400)], "none"),
        ([nn.ReLU()], "none"),
    ],
    ids=[
        "activation within",
        "container",
        "container with a layer",
        "activation behind",
        "layer behind",
        "none",
    ],
)
def test_kind_of_normalisation(before: list[nn.Module], told: str) -> None:
    assert start(network(*before)).normalised == told


@pytest.mark.parametrize(("gain", "flag"), [(0.0, "zero"), (0.01, "hot"), (0.5, ""), (3.0, "cold")])
def test_flags(gain: float, flag: str) -> None:
    found = start(network(nn.LayerNorm(400), gain=gain))
    assert found.flag == flag
    assert found.head == "2"


def test_modes_of_batch_norm() -> None:
    """In training mode features have deviation 1; in evaluation mode they are as they come."""
    found = start(network(nn.BatchNorm1d(400)))
    assert found.features_norm == pytest.approx(1, rel=1e-2)
    assert found.evaluation < 0.8 * found.training


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.classifier = nn.Linear(20, 16), nn.Conv2d(4, 6, 1)

    def forward(self, rows: Tensor) -> Tensor:
        maps: Tensor = self.features(rows).unflatten(1, (4, 2, 2))
        logits: Tensor = self.classifier(maps).mean(dim=(2, 3))
        return logits


def test_a_convolution_as_head() -> None:
    model = Convolutional()
    found = start(model)
    assert (found.head, found.width) == ("classifier", 4)
    maps = model.features(ROWS).unflatten(1, (4, 2, 2)).detach()
    expected = float(maps.square().sum(dim=1).mean().sqrt()) / 2
    assert found.features_norm == pytest.approx(expected, rel=1e-5)


def test_median_and_range_over_seeds() -> None:
    looks = [look(network(nn.LayerNorm(400), gain=gain), ROWS) for gain in (0.1, 0.2, 0.4)]
    found = summarise("own", "test", "net", looks)
    assert found.seeds == 3
    assert found.lowest < found.training < found.highest
    assert found.training == looks[1].training


def test_wrong_use() -> None:
    for model, batch, told in (
        (network(), ROWS[:1], "batch.* one "),
        (nn.Sequential(nn.Linear(20, 4), nn.Tanh()), ROWS, "linear"),
        (nn.Flatten(), ROWS, "no linear layer"),
    ):
        with pytest.raises(ValueError, match=told):
            look(model, batch)
    with pytest.raises(ValueError, match="temperature"):
        look(network(), ROWS, 0.0)


def test_figures_show_every_network() -> None:
    """A point per network whose head is not zero; the title counts the others."""
    gains = (0.0, 0.01, 0.5, 3.0)
    starts = [start(network(nn.LayerNorm(400), gain=gain)) for gain in gains]
    (axes,) = norms_by_family(starts).axes
    drawn = sorted(x for line in axes.get_lines() for x in line.get_xdata())  # type: ignore[union-attr]
    assert drawn == sorted(own.training for own in starts if own.flag != "zero")
    assert "1" in axes.get_title()
    (axes,) = norms_against_prediction(starts).axes
    points = axes.get_lines()[0].get_xydata()
    assert points.tolist() == [[own.predicted, own.training] for own in starts[1:]]  # type: ignore[union-attr]
