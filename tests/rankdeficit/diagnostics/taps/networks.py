"""Networks whose layers are known, and what is read from them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.diagnostics.reading.taps import Layers, find_layers, reading, undisturbed

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
VECTORS = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


def seeded(model: nn.Module) -> nn.Module:
    """The network with weights and BatchNorm statistics of a seed, in evaluation mode."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=generator)
            elif value.is_floating_point():
                value.normal_(0, 0.3, generator=generator)
    return model.eval()


def read_layers(
    model: nn.Module, inputs: Tensor, layers: Layers | None = None
) -> dict[str, Tensor]:
    """The representation after each layer, by name, in order of execution."""
    layers = layers or find_layers(model, inputs)
    seen: dict[Any, Tensor] = {}
    places = [layer.representation for layer in layers.chosen]
    with (
        torch.no_grad(),
        undisturbed(model),
        reading(model, places, lambda place, tensor: seen.setdefault(place, tensor.clone())),
    ):
        model(inputs)
    return {layer.name: seen[layer.representation] for layer in layers.chosen}


def assert_reads(model: nn.Module, inputs: Tensor, expected: dict[str, Tensor]) -> None:
    """These layers in this order, each with exactly this representation."""
    found = read_layers(model, inputs)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6, msg=name)


def names(model: nn.Module, inputs: Tensor, *patterns: str) -> list[str]:
    return [layer.name for layer in find_layers(model, inputs, patterns or None).chosen]


class CifarBlock(nn.Module):
    """A block of the CIFAR ResNets with functional ReLU, its shortcut run first or last."""

    def __init__(self, planes_in: int, planes: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.order, self.widened = shortcut, planes - planes_in
        self.shortcut = nn.Sequential()
        if self.widened and shortcut != "padded":
            projection = nn.Conv2d(planes_in, planes, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(planes))

    def short(self, x: Tensor) -> Tensor:
        if self.order == "padded" and self.widened:
            return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.widened))
        return self.shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.short(x) if self.order == "before" else None
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.order == "added in place":
            out += self.short(x)
            return functional.relu(out, inplace=True)
        return functional.relu(out + (self.short(x) if shortcut is None else shortcut))


class CifarResNet(nn.Module):
    """He et al.'s ResNet of 6 n + 2 layers for 32 x 32 images."""

    def __init__(self, blocks: int, shortcut: str, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList()
        planes_in = width
        for stage in range(3):
            for number in range(blocks):
                planes = width * 2**stage
                stride = 2 if stage and not number else 1
                self.blocks.append(CifarBlock(planes_in, planes, stride, shortcut))
                planes_in = planes
        self.fc = nn.Linear(planes_in, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Reused(nn.Module):
    """One ReLU and one linear layer for several steps, called with keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.first(input=x))
        x = self.activation(self.shared(input=x))
        x = x + self.activation(input=self.shared(x))
        return self.last(input=x)
