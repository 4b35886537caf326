"""Where the representation after each layer is read."""

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.diagnostics.reading.taps import find_layers, reading
from tests.rankdeficit.diagnostics.taps.networks import (
    IMAGES,
    VECTORS,
    CifarResNet,
    Reused,
    assert_reads,
    names,
    read_layers,
    seeded,
)


@pytest.mark.parametrize("shortcut", ["before", "after", "padded", "added in place"])
def test_cifar_resnet20_has_20_layers_read_after_activation_and_residual_sum(shortcut: str) -> None:
    model = seeded(CifarResNet(3, shortcut))
    expected = {}
    with torch.no_grad():
        x = expected["conv"] = functional.relu(model.bn(model.conv(IMAGES)))
        for number, block in enumerate(model.blocks):
            inner = functional.relu(block.bn1(block.conv1(x)))
            x = functional.relu(block.bn2(block.conv2(inner)) + block.short(x))
            expected[f"blocks.{number}.conv1"] = inner
            expected[f"blocks.{number}.conv2"] = x.clone()
        expected["fc"] = model.fc(x.mean(dim=(2, 3)))
    assert len(expected) == 20
    assert_reads(model, IMAGES, expected)
    assert names(model.to(memory_format=torch.channels_last), IMAGES) == list(expected)


class PlainNet(nn.Module):
    """Orders of normalisation, activation, pooling and dropout, each in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.pool = nn.Conv2d(4, 5, 3), nn.MaxPool2d(2)
        self.conv3, self.conv4 = nn.Conv2d(5, 6, 3), nn.Conv2d(6, 6, 1)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(24, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = functional.pad(x, (1, 0, 1, 0))
        x = self.pool(functional.relu(self.conv2(x)))  # functional ReLU, pooling module
        x = functional.relu(functional.max_pool2d(self.conv3(x), 2))  # pooled first
        x = functional.max_pool2d(
            self.relu(self.conv4(functional.pad(x, (1, 1, 1, 1)))), 4
        ).flatten(1)
        x = self.dropout(functional.relu(self.fc1(x)))
        return self.fc2(x)


def test_representations_follow_normalisation_and_activation_and_come_before_pooling() -> None:
    model = seeded(PlainNet())
    with torch.no_grad():
        one = functional.relu(model.bn1(model.conv1(IMAGES)))
        two = functional.relu(model.conv2(functional.pad(one, (1, 0, 1, 0))))
        three = functional.relu(
            functional.max_pool2d(model.conv3(functional.max_pool2d(two, 2)), 2)
        )
        padded = functional.pad(three, (1, 1, 1, 1))
        four = functional.relu(model.conv4(padded))
        five = functional.relu(model.fc1(functional.max_pool2d(four, 4).flatten(1)))
        logits = model.fc2(five)
    # The third ReLU is followed by functional padding, and what conv4 reads is the first to be seen.
    expected = {"conv1": one, "conv2": two, "conv3": padded, "conv4": four}
    assert_reads(model, IMAGES, {**expected, "fc1": five, "fc2": logits})


class PreActivationNet(nn.Module):
    """A pre-activation residual block: the sum is normalised and activated by the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.projection, self.bn3 = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        active = functional.relu(self.bn1(x))
        short = self.projection(active)
        x = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        x += short
        return self.fc(functional.relu(self.bn3(x)).mean((2, 3)))


def test_pre_activation_blocks_are_read_before_the_next_weights() -> None:
    model = seeded(PreActivationNet())
    with torch.no_grad():
        stem = functional.relu(model.bn1(model.stem(IMAGES)))
        one = functional.relu(model.bn2(model.conv1(stem)))
        summed = model.bn3(model.conv2(one) + model.projection(stem))
        logits = model.fc(functional.relu(summed).mean((2, 3)))
    # A functional ReLU between two modules, followed by a mean, is seen by no module: bn3's output is
    # the last that is not pooled, and what the classifier reads the first that is.
    expected = {
        "stem": stem,
        "conv1": one,
        "conv2": functional.relu(summed).mean((2, 3)),
        "fc": logits,
    }
    assert_reads(model, IMAGES, expected)


def test_calls_are_counted_anew_in_every_forward_pass() -> None:
    model, seen = seeded(Reused()), []
    places = [layer.input for layer in find_layers(model, VECTORS).chosen]
    with torch.no_grad(), reading(model, places, lambda place, _: seen.append(place)):
        for _ in range(3):
            model(VECTORS)
    assert seen == 3 * places


def test_modules_that_run_several_times_are_told_apart() -> None:
    model = seeded(Reused())
    with torch.no_grad():
        one = functional.relu(model.first(VECTORS))
        two = functional.relu(model.shared(one))
        three = two + functional.relu(model.shared(two))
    logits = model.last(three).detach()
    expected = {"first": one, "shared": two, "shared:2": three, "last": logits}
    assert_reads(model, VECTORS, expected)
    assert names(model, VECTORS, "shared") == ["shared", "shared:2"]
    activations = read_layers(model, VECTORS, find_layers(model, VECTORS, ["activation"]))
    assert list(activations) == ["activation", "activation:2", "activation:3"]
    torch.testing.assert_close(
        activations["activation:3"], functional.relu(model.shared(two)).detach()
    )


def test_a_vision_transformer_is_read_token_by_token_with_its_channels_last() -> None:
    model = zoo.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5)
    layers = find_layers(model, IMAGES)
    kinds = ["convolution", *["attention", "linear", "linear"] * 2, "linear"]
    assert [layer.kind for layer in layers.chosen] == kinds
    assert all(layer.channels_last for layer in layers.chosen[:-1])
    shapes = [tuple(tensor.shape) for tensor in read_layers(model, IMAGES, layers).values()]
    block = [(3, 17, 16), (3, 17, 24), (3, 17, 16)]
    assert shapes == [(3, 17, 16), *block, *block, (3, 5)]
