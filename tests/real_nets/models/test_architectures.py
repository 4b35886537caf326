"""Networks against torchvision's own: their layers, shapes and seeds."""

import math
from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn

from rankdeficit.control.surgery import weights
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.reading.trace import WEIGHT_MODULES
from real_nets import models
from real_nets.models import Architecture
from tests.real_nets.models.narrow import CLASSES, LAYERS, NARROW, logits, narrow, random_images


@pytest.fixture
def on_meta() -> Iterator[None]:
    """Networks of full width have shapes here, and no memory."""
    with torch.device("meta"):
        yield


def layers_of(architecture: Architecture) -> int:
    network = Network.of(
        architecture.build(0), torch.zeros(2, *architecture.inputs), None, pick_logits
    )
    assert network.classifier is not None
    return len(network.layers.chosen)


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("name", LAYERS)
def test_the_diagnosis_finds_as_many_layers_as_the_name_says(name: str, size: int) -> None:
    assert layers_of(narrow(name, size)) == LAYERS[name]


@pytest.mark.parametrize("name", LAYERS)
def test_the_diagnosis_finds_a_factored_head(name: str) -> None:
    assert layers_of(narrow(name, 32, head_rank=2, head_norm="batch")) == LAYERS[name] + 1


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_block_of_a_vision_transformer_is_attention_and_two_linear_layers(
    norm: models.Norm, depth: int
) -> None:
    assert layers_of(narrow("vit", depth=depth, norm=norm)) == 1 + 3 * depth + 1
    assert layers_of(narrow("vit", depth=depth, norm=norm, head_rank=3)) == 3 * depth + 3
    modules = narrow("vit", depth=depth, norm=norm).build(0).modules()
    norms = sum(isinstance(module, nn.LayerNorm) for module in modules)
    assert norms == (2 * depth + 1 if norm == "layer" else 0)


@pytest.mark.usefixtures("on_meta")
def test_vit_b16_has_the_blocks_of_the_paper_at_any_size() -> None:
    large = Architecture("vit_b16", CLASSES, (3, 224, 224)).build(0)
    assert sum(p.numel() for p in large.parameters()) == 85_798_656 + CLASSES * 769
    layers = [own for own in large.modules() if isinstance(own, WEIGHT_MODULES)]
    assert len(layers) == 1 + 12 * 4 + 1  # two of each attention, two of each perceptron
    small = Architecture("vit_b16", CLASSES, (3, 32, 32)).build(0)
    assert small.get_parameter("pos_embed").shape == (1, 1 + 4, 768)


@pytest.mark.parametrize(
    ("name", "norm", "reference"),
    [
        ("resnet18", "batch", "resnet18"),
        ("resnet34", "batch", "resnet34"),
        ("resnet50", "batch", "resnet50"),
        ("vgg19", "batch", "vgg19_bn"),
        ("vgg19", "none", "vgg19"),
    ],
)
@pytest.mark.usefixtures("on_meta")
def test_at_full_width_every_tensor_is_torchvisions(
    name: str, norm: models.Norm, reference: str
) -> None:
    ours = Architecture(name, 1000, (3, 32, 32), stem="imagenet", norm=norm)
    if name == "vgg19":  # otherwise, small images would keep the small head
        ours = Architecture(name, 1000, (3, 224, 224), norm=norm)
    theirs = torchvision.models.get_model(reference)
    shapes = [
        [(key, value.shape) for key, value in model.state_dict().items()]
        for model in (ours.build(0), theirs)
    ]
    assert shapes[0] == shapes[1]


def test_a_seed_gives_the_weights_that_it_gives_torchvision() -> None:
    ours = Architecture("resnet18", CLASSES, (3, 224, 224)).build(3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = torchvision.models.resnet18(num_classes=CLASSES).eval()
    assert_same(ours.state_dict(), theirs.state_dict())
    with torch.no_grad():
        assert torch.equal(ours(random_images(1, 64)), theirs(random_images(1, 64)))


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "mlp"])
def test_every_channel_count_follows_the_width(name: str, size: int) -> None:
    one, two = (
        dict(narrow(name, size, width=width, norm="batch").build(0).named_parameters())
        for width in (2, 6)
    )
    assert one.keys() == two.keys()
    for key, parameter in one.items():
        fixed = {3, 7, 1, CLASSES}  # colours, kernels, classes
        expected = [side if side in fixed else 3 * side for side in parameter.shape]
        assert list(two[key].shape) == expected, key


def test_the_mlp_of_a_seed_is_the_one_that_results_were_made_with() -> None:
    architecture = Architecture("mlp", 4, (3, 2, 2), width=6, depth=3)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        linear = [nn.Linear(12, 6), nn.Linear(6, 6), nn.Linear(6, 4)]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    expected = nn.Sequential(
        nn.Flatten(), linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2]
    )  # fmt: skip
    model = architecture.build(11)
    assert str(model) == str(expected)
    assert_same(model.state_dict(), expected.state_dict())
    default = Architecture("mlp", CLASSES, (3, 8, 8)).build(0)
    shapes = [tuple(weight.shape) for weight in weights(default)]
    assert shapes == [(512, 192), *[(512, 512)] * 6, (CLASSES, 512)]


@pytest.mark.parametrize("name", NARROW)
def test_a_seed_decides_every_weight_and_leaves_the_generator(name: str) -> None:
    architecture = narrow(name, init="orthogonal", head_rank=3, head_scale=0.5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (architecture.build(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.training
    assert_same(first.state_dict(), second.state_dict())
    for one, two in zip(weights(first), weights(other), strict=True):
        assert not torch.equal(one, two)


@pytest.mark.parametrize("stem", ["auto", "cifar", "imagenet"])
@pytest.mark.parametrize("size", [64, 96])
def test_the_stem_follows_the_size_of_images_unless_it_is_named(
    size: int, stem: models.Stem
) -> None:
    small = stem == "cifar" or (stem == "auto" and size == 64)
    resnet = narrow("resnet18", size, stem=stem).build(0)
    stage = resnet.get_submodule("layer1")
    seen: list[tuple[int, ...]] = []
    stage.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape)))
    with torch.no_grad():
        resnet(torch.zeros(1, 3, size, size))
    assert seen == [(1, 4, size, size) if small else (1, 4, size // 4, size // 4)]
    vgg = narrow("vgg19", size, stem=stem).build(0)
    head = [(m.in_features, m.out_features) for m in vgg.modules() if isinstance(m, nn.Linear)]
    inputs, width = (32, 32) if small else (32 * 49, 256)
    assert head == [(inputs, width), (width, width), (width, CLASSES)]
    patch = narrow("vit", size, stem=stem).build(0).get_parameter("conv_proj.weight")
    assert patch.shape[2:] == ((4, 4) if small else (16, 16))


def test_the_stem_of_a_librarys_network_changes_on_demand_alone() -> None:
    plain, small = (
        Architecture("torchvision:resnet18", 2, (3, 32, 32), **options).build(0).state_dict()
        for options in ({}, {"stem": "cifar"})
    )
    assert plain.keys() == small.keys()
    assert plain["conv1.weight"].shape == (64, 3, 7, 7)
    assert small["conv1.weight"].shape == (64, 3, 3, 3)
    assert all(torch.equal(plain[name], small[name]) for name in plain if name != "conv1.weight")
    deviation = small["conv1.weight"].std().item()
    assert deviation == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)  # He, fan_out


@pytest.mark.parametrize("name", NARROW)
def test_logits_come_out_for_every_size_of_images(name: str) -> None:
    for size in (32, 64, 224):
        found = logits(narrow(name, size), random_images(2, size))
        assert found.shape == (2, CLASSES)
        assert found.isfinite().all()


@pytest.mark.parametrize("name", ["resnet50", "vit"])
def test_small_images_of_other_shapes(name: str) -> None:
    assert logits(narrow(name, 8), random_images(2, 8)).shape == (2, CLASSES)
    wide = Architecture("resnet18", CLASSES, (3, 20, 40), width=4).build(0)
    assert wide(torch.zeros(1, 3, 20, 40)).shape == (1, CLASSES)


@pytest.mark.parametrize(
    ("width", "heads"), [(1, 1), (50, 1), (64, 1), (127, 1), (128, 2), (192, 3), (200, 2)]
)
def test_heads_have_64_dimensions_or_more(width: int, heads: int) -> None:
    model = narrow("vit", width=width, depth=1).build(0)
    (attention,) = (m for m in model.modules() if isinstance(m, nn.MultiheadAttention))
    assert attention.num_heads == heads
