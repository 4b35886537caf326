"""Layers found in networks of many kinds, and the tensors read after each of them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import (
    Layers,
    find_layers,
    pick_logits,
    reading,
    undisturbed,
    unwrap,
)

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


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (zoo.resnet18, 18),
        (zoo.resnet34, 34),
        (zoo.resnet50, 50),
        (zoo.vgg11_bn, 11),
        (zoo.vgg19_bn, 19),
        (zoo.densenet121, 121),
        (zoo.mobilenet_v2, 53),
        # Squeeze-and-excitation, on maps that shrink to 1 x 1, where gate and map have one shape.
        (zoo.mobilenet_v3_small, 36),
        (zoo.efficientnet_b0, 50),
    ],
)
def test_layers_of_torchvision_networks_are_as_many_as_their_names_say(
    make: Callable[..., nn.Module], count: int
) -> None:
    with torch.device(
        "meta"
    ):  # weights have shapes but no values, so that large networks are quick
        model = make(num_classes=10)
    layers = find_layers(model, IMAGES.to("meta"))
    assert len(layers.chosen) == count
    assert layers.chosen[-1] == layers.classifier
    assert layers.penultimate == layers.classifier.input
    assert not [layer.name for layer in layers.chosen if "downsample" in layer.name]


@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_has_22_layers_with_and_without_auxiliary_classifiers(auxiliary: bool) -> None:
    model = zoo.googlenet(num_classes=10, init_weights=False, aux_logits=auxiliary)
    assert len(find_layers(model, IMAGES).chosen) == 22


@pytest.mark.parametrize(("name", "count"), [("seresnet18", 18), ("resnet18", 18)])
def test_layers_of_timm_networks_leave_gates_out(name: str, count: int) -> None:
    timm = pytest.importorskip("timm")
    for side in (32, 64):
        model = timm.create_model(name, num_classes=10)
        assert len(find_layers(model, torch.randn(2, 3, side, side)).chosen) == count


def test_swin_attention_whose_weights_are_used_without_calls_is_one_layer() -> None:
    model = zoo.SwinTransformer([2, 2], 12, [2, 2], [2, 2], [2, 2], num_classes=5)
    layers = find_layers(model, IMAGES).chosen
    # patches, (attention and two linear layers) x 4 blocks, one merging of patches, classifier
    assert len(layers) == 1 + 3 * 4 + 1 + 1
    attention = [layer for layer in layers if layer.name.endswith("attn")]
    assert [layer.kind for layer in attention] == ["composite"] * 4
    assert all(layer.channels_last for layer in layers[:-1])
    found = read_layers(model, IMAGES)
    with torch.no_grad():
        model.eval()
        block = model.features[1][0]
        x = model.features[0](IMAGES)
        x = x + block.attn(block.norm1(x))
        torch.testing.assert_close(found["features.1.0.attn"], block.norm2(x))
        last = model.norm(model.features(IMAGES))
        torch.testing.assert_close(found["features.3.1.mlp.3"], last)


class NormalisedClassifier(nn.Module):
    """Uses the classifier's weight without calling it; the unused layer is never read."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.classifier = nn.Linear(6, 5), nn.Linear(5, 4)
        self.unused = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(
            torch.relu(self.hidden(x)), functional.normalize(self.classifier.weight)
        )


def test_weights_that_no_module_could_be_read_around_are_an_error_or_left_out_by_name() -> None:
    with pytest.raises(ValueError, match=r"after hidden.*module of its own"):
        names(NormalisedClassifier(), VECTORS)
    found = find_layers(NormalisedClassifier(), VECTORS, ["hidden"])
    assert [layer.name for layer in found.chosen] == ["hidden"]


class OwnLinear(nn.Module):
    """A linear layer of another type, with its weight in its own hands."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(width_in, width))
        self.register_buffer("blur", torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix @ self.blur


class Blur(nn.Module):
    """Multiplies by a matrix that is no parameter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.kernel


def test_a_module_with_a_weight_matrix_of_its_own_is_a_layer_and_one_with_a_buffer_is_not() -> None:
    model = nn.Sequential(OwnLinear(6, 5), nn.ReLU(), Blur(5), OwnLinear(5, 4))
    layers = find_layers(model, VECTORS).chosen
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("0", "composite"),
        ("3", "composite"),
    ]
    inner = nn.Sequential(
        nn.Linear(6, 5), nn.Sequential(OwnLinear(5, 5), nn.ReLU()), nn.Linear(5, 4)
    )
    assert names(inner, VECTORS) == ["0", "1.0", "2"]


def test_a_module_whose_weights_are_not_used_is_no_layer() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x)

    assert names(nn.Sequential(nn.Linear(6, 5), Idle(), nn.Linear(5, 4)), VECTORS) == ["0", "2"]


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


class FunctionalMLP(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)


def test_an_mlp_of_8_layers_has_8_functional_and_sequential() -> None:
    functional = seeded(FunctionalMLP([6, *[5] * 7, 4]))
    parts = [m for layer in functional.layers for m in (layer, nn.ReLU(inplace=True))][:-1]
    expected, x = [], VECTORS
    for layer in functional.layers:
        x = layer(x).detach()
        x = x if layer is functional.layers[-1] else x.relu()
        expected.append(x)
    assert_reads(functional, VECTORS, {f"layers.{i}": r for i, r in enumerate(expected)})
    assert_reads(nn.Sequential(*parts), VECTORS, {str(2 * i): r for i, r in enumerate(expected)})


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


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_encoder_has_three_layers_per_block(
    norm_first: bool, batch_first: bool
) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            block = nn.TransformerEncoderLayer(
                6, 2, 8, norm_first=norm_first, batch_first=batch_first
            )
            self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
            self.head = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x if batch_first else x.transpose(0, 1)
            return self.head(self.encoder(x).mean(1 if batch_first else 0))

    model = seeded(Encoder())
    tokens = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(3))
    found = read_layers(model, tokens)
    inner = [
        f"encoder.layers.{i}.{name}" for i in (0, 1) for name in ("self_attn", "linear1", "linear2")
    ]
    assert list(found) == [*inner, "head"]
    block = model.encoder.layers[0]
    with torch.no_grad():
        x = tokens if batch_first else tokens.transpose(0, 1)
        if norm_first:
            y = block.norm1(x)
            x = x + block.self_attn(y, y, y)[0]
            attended = block.norm2(x)
            hidden = functional.relu(block.linear1(attended))
            following = model.encoder.layers[1].norm1(x + block.linear2(hidden))
        else:
            attended = block.norm1(x + block.self_attn(x, x, x)[0])
            hidden = functional.relu(block.linear1(attended))
            following = block.norm2(attended + block.linear2(hidden))
        logits = model(tokens)
    for name, tensor in zip(inner, (attended, hidden, following), strict=False):
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["head"], logits, rtol=1e-5, atol=1e-5)


def test_a_vision_transformer_is_read_token_by_token_with_its_channels_last() -> None:
    model = zoo.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5)
    layers = find_layers(model, IMAGES)
    kinds = ["convolution", *["attention", "linear", "linear"] * 2, "linear"]
    assert [layer.kind for layer in layers.chosen] == kinds
    assert all(layer.channels_last for layer in layers.chosen[:-1])
    shapes = [tuple(tensor.shape) for tensor in read_layers(model, IMAGES, layers).values()]
    block = [(3, 17, 16), (3, 17, 24), (3, 17, 16)]
    assert shapes == [(3, 17, 16), *block, *block, (3, 5)]


def test_a_gate_of_the_same_shape_is_no_layer() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.gate, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            return self.last(self.gate(x).sigmoid() * x)

    assert names(Gated(), VECTORS) == ["first", "last"]


def test_a_smaller_gate_made_beside_the_path_is_no_layer() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 4)
            self.gate = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid())

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.gate(x) * self.first(x))

    assert names(Conditioned(), VECTORS) == ["first", "last"]


def test_a_mask_made_from_the_input_is_not_mistaken_for_the_path() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last((x > 0).float() * self.first(x))

    assert names(Masked(), VECTORS) == ["first", "last"]


def test_a_network_without_weight_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match="no path of convolutions or linear layers"):
        find_layers(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6)), VECTORS)


def test_patterns_choose_modules_in_order_of_execution() -> None:
    model = seeded(CifarResNet(1, "after"))
    assert names(model, IMAGES, "blocks.*.conv2", "conv") == [
        "conv",
        "blocks.0.conv2",
        "blocks.1.conv2",
        "blocks.2.conv2",
    ]
    assert names(model, IMAGES, "blocks.?.shortcut.0") == [
        "blocks.1.shortcut.0",
        "blocks.2.shortcut.0",
    ]
    # A weight layer on the path is read as ever, any other module at its output.
    found = read_layers(model, IMAGES, find_layers(model, IMAGES, ["blocks.0", "blocks.0.conv1"]))
    with torch.no_grad():
        x = functional.relu(model.bn(model.conv(IMAGES)))
        block = model.blocks[0]
        torch.testing.assert_close(found["blocks.0"], block(x))
        torch.testing.assert_close(
            found["blocks.0.conv1"], functional.relu(block.bn1(block.conv1(x)))
        )
    assert find_layers(model, IMAGES, ["conv"]).classifier.name == "fc"


def test_a_pattern_that_matches_nothing_names_what_is_close() -> None:
    model = CifarResNet(1, "after")
    with pytest.raises(ValueError, match=r"'blocks.0.conv3'.*blocks\.0\.conv[12]"):
        find_layers(model, IMAGES, ["conv", "blocks.0.conv3"])
    with pytest.raises(ValueError, match="'nothing at all'"):
        find_layers(model, IMAGES, ["nothing at all"])
    for wrong in ("conv", []):
        with pytest.raises(ValueError, match="must be a list of names or patterns"):
            find_layers(model, IMAGES, wrong)


class Returning(nn.Module):
    """Two linear layers, and an output in a form of choice."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.hidden, self.last, self.form = nn.Linear(6, 5), nn.Linear(5, 4), form

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.hidden(x))
        return self.form(self.last(hidden), hidden)


@dataclass
class Output:
    features: Tensor
    logits: Tensor


@dataclass
class Unnamed:
    score: Tensor


@pytest.mark.parametrize(
    "form",
    [
        lambda logits, _: logits,
        lambda logits, _: (logits,),
        lambda logits, _: [logits, None],
        lambda logits, hidden: (hidden[:, :, None], logits),
        lambda logits, _: {"loss": torch.zeros(()), "scores": logits},
        lambda logits, hidden: {"features": hidden, "logits": logits},
        lambda logits, hidden: Output(hidden, logits),
    ],
)
def test_logits_are_found_in_what_the_network_returns(form: Callable[..., Any]) -> None:
    model = seeded(Returning(form))
    assert names(model, VECTORS) == ["hidden", "last"]
    with torch.no_grad():
        expected = model.last(torch.relu(model.hidden(VECTORS)))
        torch.testing.assert_close(pick_logits(model(VECTORS)), expected)
        network = Network.of(model, VECTORS, None, pick_logits)
        torch.testing.assert_close(network.logits(VECTORS), expected)
    assert network.classifier is model.last


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda logits, hidden: (logits, hidden), "tuple with 2 tensors of shape"),
        (lambda logits, hidden: {"a": logits, "b": hidden}, "dict with 2 tensors"),
        (lambda logits, _: (logits[:, :, None],), "tuple with 0 tensors"),
        (lambda logits, _: Unnamed(logits), "returns a Unnamed; name its logits"),
        (lambda _, __: None, "returns a NoneType"),
    ],
)
def test_ambiguous_outputs_ask_for_the_logits(form: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_layers(Returning(form), VECTORS)


def test_select_settles_ambiguous_outputs() -> None:
    model = Returning(lambda logits, hidden: (hidden, logits))
    layers = find_layers(model, VECTORS, select=lambda output: output[1])
    assert [layer.name for layer in layers.chosen] == ["hidden", "last"]
    assert [layer.name for layer in find_layers(model, VECTORS, select=lambda o: o[0]).chosen] == [
        "hidden"
    ]


def test_outputs_that_are_no_logits_are_an_error() -> None:
    for form, shape in (
        (lambda logits, _: logits[:, :, None], r"\(2, 4, 1\)"),
        (lambda logits, _: logits.sum(1), r"\(2,\)"),
        (lambda logits, _: logits.sum(0, keepdim=True), r"\(1, 4\)"),
        (lambda logits, _: logits[:, :1], r"\(2, 1\)"),
    ):
        with pytest.raises(ValueError, match=rf"shape {shape} of 2 inputs; logits must be"):
            Network.of(Returning(form), VECTORS, None, lambda output: output)


def test_data_parallel_and_compiled_networks_are_unwrapped() -> None:
    model = seeded(Reused())
    compiled = torch.compile(model, backend="eager")
    for wrapped in (nn.DataParallel(model), compiled, nn.DataParallel(compiled)):
        assert unwrap(wrapped) is model
        network = Network.of(wrapped, VECTORS, None, pick_logits)
        assert [layer.name for layer in network.layers.chosen] == names(model, VECTORS)


def test_distributed_data_parallel_is_unwrapped() -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = seeded(Reused())
        assert unwrap(nn.parallel.DistributedDataParallel(model)) is model
    finally:
        torch.distributed.destroy_process_group()


def test_networks_compiled_in_place_or_in_part_are_read_as_if_they_were_not() -> None:
    plain, whole, part = (seeded(CifarResNet(1, "after")) for _ in range(3))
    expected = read_layers(plain, IMAGES)
    whole.compile(backend="eager")
    part.blocks[1] = torch.compile(part.blocks[1], backend="eager")
    with torch.no_grad():
        for model in (whole, part):
            model(IMAGES)  # compiled before, so that hooks come to a compiled network
            found = read_layers(model, IMAGES)
            assert [name.replace("_orig_mod.", "") for name in found] == list(expected)
            torch.testing.assert_close(list(found.values()), list(expected.values()))


def test_networks_that_cannot_be_read_are_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 4)))
    with pytest.raises(ValueError, match="scripted"):
        unwrap(nn.DataParallel(scripted))
    for name in ("FullyShardedDataParallel", "FSDPSequential"):
        sharded = type(name, (nn.Sequential,), {})(nn.Linear(6, 4))
        with pytest.raises(ValueError, match=r"sharded \(FSDP\)"):
            unwrap(sharded)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_module_is_named() -> None:
    with pytest.raises(ValueError, match="model is a function; it must be"):
        unwrap(names)  # type: ignore[arg-type]


def state(model: nn.Module) -> dict[str, Any]:
    """All that looking at a network might change."""
    hooks = [
        len(kind)
        for module in model.modules()
        for kind in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._forward_hooks_with_kwargs,
            module._forward_pre_hooks_with_kwargs,
            module._backward_hooks,
        )
    ]
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": hooks,
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "grad mode": torch.is_grad_enabled(),
    }


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    before = state(model)
    yield
    torch.testing.assert_close(state(model), before, rtol=0, atol=0)


def mixed_network() -> nn.Module:
    """Training mode but for a frozen part; one parameter frozen, one with a gradient, one hook."""
    model = CifarResNet(1, "after").train()
    model.blocks[0].eval()
    model.bn.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(10)
    model.conv.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("fast_path", [True, False])
def test_finding_and_reading_layers_leaves_the_network_as_it_was(fast_path: bool) -> None:
    model = mixed_network()
    torch.backends.mha.set_fastpath_enabled(fast_path)
    try:
        with unchanged(model):
            read_layers(model, IMAGES)
            find_layers(model, IMAGES, ["blocks.*"])
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_errors_in_the_forward_pass_leave_the_network_as_it_was() -> None:
    model = mixed_network()
    with unchanged(model):
        with pytest.raises(RuntimeError):
            find_layers(model, torch.zeros(2, 4, 32, 32))
        with pytest.raises(ValueError, match="matches no module"):
            find_layers(model, IMAGES, ["nothing"])
        layers = find_layers(model, IMAGES)
        places = [layer.representation for layer in layers.chosen]

        def refuse(*_: Any) -> None:
            raise KeyError("reader")

        with (
            pytest.raises(KeyError, match="reader"),
            undisturbed(model),
            reading(model, places, refuse),
        ):
            model(IMAGES)
    compiled = torch.compile(model, backend="eager")
    compiled(IMAGES)  # and compiling is allowed again
