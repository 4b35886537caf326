"""Which modules of a network are its layers, and how patterns choose among them."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.diagnostics.reading.taps import find_layers
from tests.rankdeficit.diagnostics.taps.networks import (
    IMAGES,
    VECTORS,
    CifarResNet,
    assert_reads,
    names,
    read_layers,
    seeded,
)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (zoo.resnet18, 18),
        (zoo.resnet50, 50),
        (zoo.vgg19_bn, 19),
        # First convolution, two in each step of two blocks, the transition, classifier.
        (partial(zoo.DenseNet, 8, (3, 4), 16), 1 + 2 * 3 + 1 + 2 * 4 + 1),
        # First convolution, one block without and two with expansion, last convolution, classifier.
        (
            partial(zoo.MobileNetV2, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2]]),
            1 + 2 + 3 * 2 + 1 + 1,
        ),
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
    with pytest.raises(ValueError, match=r"hidden.*module"):
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


class Multiplying(nn.Module):
    """Multiplies by its own weight, in one of torch's ways."""

    def __init__(self, way: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.way, self.weight = way, nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x, self.weight)


PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": functional.linear,
    "matmul": torch.matmul,
    "einsum": partial(torch.einsum, "nd,dc->nc"),
    "tensordot": partial(torch.tensordot, dims=1),
    "addmm": lambda x, w: torch.addmm(w[0], x, w),
    "with activation": lambda x, w: torch._addmm_activation(w[0], x, w),
    "bmm": lambda x, w: torch.bmm(x[None], w[None])[0],
    "addbmm": lambda x, w: torch.addbmm(w[0], x[None], w[None]),
    "grouped": lambda x, w: torch._grouped_mm(
        x, w[None], offs=torch.tensor([len(x)], dtype=torch.int32)
    ),
}


@pytest.mark.parametrize("way", PRODUCTS)
def test_a_product_in_any_of_torchs_ways_is_a_layer(way: str) -> None:
    model = nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), Multiplying(PRODUCTS[way]), nn.ReLU(), nn.Linear(8, 3)
    )
    assert [own.name for own in find_layers(model, torch.randn(8, 8)).chosen] == ["0", "2", "4"]


def test_a_module_whose_weights_are_not_used_is_no_layer() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x)

    assert names(nn.Sequential(nn.Linear(6, 5), Idle(), nn.Linear(5, 4)), VECTORS) == ["0", "2"]


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
    with pytest.raises(ValueError, match=r"path.*linear"):
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
        with pytest.raises(ValueError, match=r"list.*patterns"):
            find_layers(model, IMAGES, wrong)
