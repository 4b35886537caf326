"""The channels of a representation are found, whatever its sides measure."""

import math
from collections.abc import Callable
from random import Random

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import CNBlockConfig

import rankdeficit as rd
from rankdeficit.diagnostics.reading.axes import permutation, reshaped
from rankdeficit.diagnostics.reading.taps import find_layers
from tests.rankdeficit.diagnostics.taps.networks import read_layers, seeded

GROWTH = 8


class Dense(nn.Module):
    """Maps that grow by concatenation, as in DenseNet: with more channels than the layer before makes."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3 + GROWTH * block for block in range(4)]
        self.blocks = nn.ModuleList(nn.Conv2d(own, GROWTH, 3, padding=1) for own in widths)
        self.fc = nn.Linear(3 + GROWTH * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.cat([x, functional.relu(block(x))], 1)
        return self.fc(x.mean(dim=(2, 3)))


class Standardised(nn.Module):
    """A convolution by weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(GROWTH, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight / self.weight.norm(), padding=1)


def narrow_swin() -> nn.Module:
    return zoo.SwinTransformer([4, 4], GROWTH, [2, 2], [1, 2], [2, 2])


def narrow_convnext() -> nn.Module:
    return zoo.ConvNeXt([CNBlockConfig(GROWTH, 16, 2), CNBlockConfig(16, None, 1)])


def standardised() -> nn.Module:
    return nn.Sequential(Standardised(), nn.ReLU(), nn.Flatten(2), nn.Flatten(), nn.LazyLinear(5))


def whole_and_grouped() -> nn.Module:
    """A channel shuffle after a convolution."""
    return nn.Sequential(
        nn.Conv2d(3, GROWTH, 3, padding=1), nn.ChannelShuffle(2), nn.Conv2d(GROWTH, GROWTH, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(GROWTH, 5),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (Dense, GROWTH),
        (narrow_convnext, 4 * GROWTH),
        (narrow_swin, 4 * GROWTH),
        (standardised, GROWTH),
        (whole_and_grouped, GROWTH),
    ],
)
def test_maps_as_wide_as_their_channels_are_read_as_others(
    make: Callable[[], nn.Module], side: int
) -> None:
    found = []
    for pixels in (side, 2 * side):
        images = torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
        model = make().eval()
        model(images)
        chosen = find_layers(model, images).chosen
        found.append([(layer.name, layer.channels_last) for layer in chosen])
        if pixels == side:
            shapes = [tuple(own.shape[1:]) for own in read_layers(model, images).values()]
            assert (GROWTH,) * 3 in shapes or make is Dense
    assert found[0] == found[1]


def test_a_dense_block_has_as_many_features_as_channels() -> None:
    images = torch.randn(40, 3, GROWTH, GROWTH, generator=torch.Generator().manual_seed(0))
    batches = [(images, torch.arange(40) % 5)]
    report = rd.diagnose(seeded(Dense()), batches, batches)
    features = [layer["features"] for layer in report["layers"]]
    assert features[:3] == [4 * (3 + GROWTH * block) for block in range(1, 4)]


def _axes_of_channels(tensor: Tensor) -> set[int]:
    """The axes along which a tensor varies."""
    return {
        axis
        for axis in range(tensor.ndim)
        if tensor.shape[axis] > 1 and (tensor.amax(axis) != tensor.amin(axis)).any()
    }


@pytest.mark.parametrize("seed", range(5))
def test_axes_follow_permutations_and_reshapes(seed: int) -> None:
    draw = Random(seed)
    for _ in range(200):
        sizes = [draw.randint(1, 4) for _ in range(draw.randint(2, 5))]
        channels = draw.randrange(len(sizes))
        sizes[channels] = 6
        shape = [6 if axis == channels else 1 for axis in range(len(sizes))]
        tensor = torch.arange(6).reshape(shape).expand(sizes)

        order = draw.sample(range(tensor.ndim), tensor.ndim)
        moved = tensor.permute(order)
        told = permutation("permute", (tensor, order), moved.ndim)
        axes = frozenset(now for now, before in enumerate(told) if before == channels)
        assert axes == _axes_of_channels(moved)

        target, left = [1], moved.numel()
        while left > 1:
            target.append(draw.choice([size for size in range(1, left + 1) if left % size == 0]))
            left //= target[-1]
        after = moved.reshape(target)
        found, varies = reshaped(axes, moved.shape, after.shape), _axes_of_channels(after)
        if found is None:
            assert math.prod(after.shape[axis] for axis in varies) != 6
        else:
            assert found == varies


@pytest.mark.parametrize(
    ("operation", "arguments", "order"),
    [
        ("transpose", (1, -1), (0, 3, 2, 1)),
        ("permute", ((0, 2, 3, -3),), (0, 2, 3, 1)),
        ("relu", (), ()),
    ],
)
def test_permutations_are_those_of_torch(
    operation: str, arguments: tuple[object, ...], order: tuple[int, ...]
) -> None:
    assert permutation(operation, (None, *arguments), 4) == order
