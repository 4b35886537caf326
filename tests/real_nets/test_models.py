"""Networks against torchvision's own and against their formulas, and the layers found in them."""

import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit import constructions, numerical_rank
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from real_nets import models
from real_nets.models import Architecture, register
from real_nets.models.norms import map_norm, vector_norm
from real_nets.models.transforms import find_classifier, weights

CLASSES = 10
LAYERS = {"mlp": 8, "resnet18": 18, "resnet20": 20, "resnet34": 34, "resnet50": 50, "vgg19": 19}
NARROW = dict.fromkeys(LAYERS, 4) | {"mlp": 16, "vit": 16}
WITH_NORMS = [name for name in NARROW if name != "vit"]


def narrow(name: str, size: int = 32, **options: Any) -> Architecture:
    return Architecture(name, CLASSES, (3, size, size), **{"width": NARROW[name]} | options)


def random_images(n: int, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def logits(architecture: Architecture, images: Tensor, training: bool = False) -> Tensor:
    """In float64, of a network of seed 0; in training mode without dropout."""
    model = architecture.build(0).double().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model(images.double())


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
    assert layers_of(narrow(name, size, head_rank=2, head_norm="batch")) == LAYERS[name] + 1


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
    large = Architecture("vit_b16", CLASSES, (3, 224, 224))
    parameters = sum(p.numel() for p in large.build(0).parameters())
    assert parameters == 85_798_656 + CLASSES * 769
    assert layers_of(large) == 1 + 12 * 4 + 1  # in timm, attention is two linear layers
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


KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "batch": (nn.BatchNorm1d, nn.BatchNorm2d),
    "layer": (nn.GroupNorm, nn.LayerNorm),
    "group": (nn.GroupNorm,),
}


@pytest.mark.parametrize("name", WITH_NORMS)
def test_the_norm_replaces_every_other(name: str) -> None:
    default = "none" if name == "mlp" else "batch"
    assert str(narrow(name, norm=default).build(0)) == str(narrow(name).build(0))
    counts = set()
    for norm, kinds in KINDS.items():
        found = [
            module
            for module in narrow(name, norm=norm).build(0).modules()
            if isinstance(module, sum(KINDS.values(), ()))
        ]
        assert all(isinstance(module, kinds) for module in found)
        counts.add(len(found))
    assert len(counts) == 1
    assert counts.pop() >= LAYERS[name] - 3  # all but the linear layers of vgg19
    plain = narrow(name, norm="none").build(0).modules()
    assert not any(isinstance(module, sum(KINDS.values(), ())) for module in plain)


@pytest.mark.parametrize("name", WITH_NORMS)
def test_only_batch_normalisation_mixes_samples(name: str) -> None:
    images = random_images(4)
    for norm in ("batch", "layer", "group", "none"):
        together = logits(narrow(name, norm=norm), images, training=True)[:2]
        apart = logits(narrow(name, norm=norm), images[:2], training=True)
        mixed = not torch.allclose(together, apart, rtol=1e-9, atol=1e-9 * float(apart.abs().max()))
        assert mixed == (norm == "batch"), norm


@pytest.mark.parametrize(
    ("channels", "of_maps", "of_vectors"),
    [(512, 32, 32), (64, 32, 4), (24, 12, 1), (48, 24, 3), (15, 5, 1), (2, 1, 1), (1, 1, 1)],
)
def test_groups_are_as_many_as_divide_the_channels_but_never_of_one_unit(
    channels: int, of_maps: int, of_vectors: int
) -> None:
    for norm, groups in ((map_norm, of_maps), (vector_norm, of_vectors)):
        group, layer = norm("group")(channels), norm("layer")(channels)
        assert isinstance(group, nn.GroupNorm)
        assert (group.num_groups, group.num_channels) == (groups, channels)
        assert getattr(layer, "num_groups", 1) == 1


@pytest.mark.parametrize("name", ["mlp", "resnet20"])
def test_without_normalisation_logits_are_homogeneous_in_the_images(name: str) -> None:
    images = random_images(3)
    shift = logits(narrow(name, norm="none"), torch.zeros_like(images))  # the classifier's bias
    one, two = (logits(narrow(name, norm="none"), scale * images) - shift for scale in (1, 2))
    torch.testing.assert_close(two, 2 * one, rtol=1e-9, atol=1e-12)
    normalised = logits(narrow(name, norm="layer"), 2 * images) - shift
    assert not torch.allclose(normalised, 2 * one, rtol=0.1)


@pytest.mark.parametrize("rank", [1, 2, 3, CLASSES - 1])
@pytest.mark.parametrize("name", ["mlp", "resnet18", "vgg19", "vit"])
def test_a_head_of_some_rank_bounds_the_rank_of_logits(name: str, rank: int) -> None:
    found = logits(narrow(name, head_rank=rank, norm="layer"), random_images(40))
    assert int(numerical_rank(found, 1e-9)) == rank
    plain = logits(narrow(name, norm="layer"), random_images(40))
    assert int(numerical_rank(plain, 1e-9)) == CLASSES


@pytest.mark.parametrize("name", NARROW)
def test_the_classifier_is_told_from_layers_of_its_size(name: str) -> None:
    width = CLASSES if name in ("mlp", "vit") else NARROW[name]
    architecture = narrow(name, width=width)
    model = architecture.build(0)
    network = Network.of(model, random_images(2), None, pick_logits)
    key, classifier = find_classifier(model, CLASSES)
    assert classifier is network.classifier
    assert classifier is model.get_submodule(key)


def test_a_head_of_rank_two_starts_as_the_circle() -> None:
    model = narrow("mlp", head_rank=2, init="he").build(0)
    _, expand = find_classifier(model, CLASSES)
    angles = 2 * torch.pi * torch.arange(CLASSES) / CLASSES
    expected = torch.stack([angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(expand.weight.detach(), expected, rtol=0, atol=1e-6)
    assert expand.bias is None
    features = constructions.circle(CLASSES).directions.float()
    assert expand(features).argmax(dim=1).tolist() == list(range(CLASSES))


@pytest.mark.parametrize("rank", [2, 5])
def test_a_factored_head_starts_with_the_norm_of_the_whole(rank: int) -> None:
    plain = narrow("mlp", width=64, init="orthogonal").build(0)
    factored = narrow("mlp", width=64, init="orthogonal", head_rank=rank).build(0)
    _, whole = find_classifier(plain, CLASSES)
    first, second = list(weights(factored))[-2:]
    assert torch.equal(first, whole.weight[:rank])
    assert (second @ first).norm().item() == pytest.approx(whole.weight.norm().item(), rel=1e-5)
    *before, _ = weights(plain)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(factored), strict=False))


@pytest.mark.parametrize("name", ["mlp", "resnet20", "vgg19", "vit"])
def test_normalised_logits_are_the_plain_ones_normalised(name: str) -> None:
    images = random_images(30)
    plain = logits(narrow(name), images, training=True)
    layered = logits(narrow(name, head_norm="layer"), images, training=True)
    torch.testing.assert_close(layered, functional.layer_norm(plain, [CLASSES]))
    batched = logits(narrow(name, head_norm="batch"), images, training=True)
    deviation = (plain.var(dim=0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(batched, (plain - plain.mean(dim=0)) / deviation)
    extra = [
        sum(p.numel() for p in narrow(name, head_norm=norm).build(0).parameters())
        for norm in ("none", "layer", "batch")
    ]
    assert len(set(extra)) == 1


DEVIATIONS = {
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "lecun": lambda fan_in, fan_out: math.sqrt(1 / fan_in),
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
}


@pytest.mark.parametrize("init", DEVIATIONS)
@pytest.mark.parametrize("name", ["mlp", "resnet20", "resnet50", "vgg19", "vit"])
def test_initial_weights_have_the_deviation_of_their_scheme(
    name: str, init: models.Initialisation
) -> None:
    default, model = narrow(name).build(0), narrow(name, init=init).build(0)
    standardised = []
    for weight in weights(model):
        kernel = math.prod(weight.shape[2:])
        fan_in, fan_out = weight.shape[1] * kernel, weight.shape[0] * kernel
        standardised.append(weight.detach().flatten() / DEVIATIONS[init](fan_in, fan_out))
        deviation = standardised[-1].std().item()
        assert deviation == pytest.approx(1, abs=5 / math.sqrt(2 * weight.numel()))
    pooled = torch.cat(standardised)
    error = 1 / math.sqrt(len(pooled))
    assert pooled.mean().item() == pytest.approx(0, abs=4 * error)
    assert pooled.pow(4).mean().item() == pytest.approx(3, abs=40 * error)  # Gaussian
    drawn = {id(weight) for weight in weights(model)}
    for (key, before), after in zip(default.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(before, after) == (id(after) not in drawn), key


@pytest.mark.parametrize("name", ["mlp", "resnet20", "vgg19", "vit"])
def test_orthogonal_weights_are_isometries_of_one_side(name: str) -> None:
    for weight in weights(narrow(name, init="orthogonal").build(0)):
        matrix = weight.detach().flatten(1).double()
        product = matrix @ matrix.mT if len(matrix) <= matrix.shape[1] else matrix.mT @ matrix
        torch.testing.assert_close(product, torch.eye(len(product)).double(), rtol=0, atol=1e-5)


def test_the_layers_of_vgg19_start_as_is_usual_for_their_images() -> None:
    model = narrow("vgg19", width=16).build(0)
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        expected = math.sqrt(1 / (3 * layer.in_features))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        expected = math.sqrt(2 / (9 * layer.out_channels))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.2)
        assert layer.bias is not None
        assert not layer.bias.any()
    large = narrow("vgg19", 96, width=2).build(0)
    for layer in (m for m in large.modules() if isinstance(m, nn.Linear)):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_the_vision_transformer_does_not_start_at_zero_logits() -> None:
    found = logits(narrow("vit", width=64), random_images(20))
    assert 0.3 < found.square().mean().sqrt() < 3


@pytest.mark.parametrize("name", NARROW)
def test_the_initial_scale_multiplies_weights_and_nothing_else(name: str) -> None:
    plain, scaled = narrow(name).build(0), narrow(name, init_scale=0.25).build(0)
    multiplied = {id(weight) for weight in weights(scaled)}
    assert len(multiplied) >= LAYERS.get(name, 20)
    for (key, after), before in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        factor = 0.25 if id(after) in multiplied else 1.0
        assert torch.equal(after, factor * before), key
        token_or_gain = after.ndim < 2 or "class_token" in key or "pos_embedding" in key
        assert (id(after) in multiplied) != token_or_gain, key


def test_logits_of_an_mlp_scale_with_the_power_of_its_depth() -> None:
    images = random_images(5)
    for depth in (1, 4):
        one = logits(narrow("mlp", depth=depth), images)
        half = logits(narrow("mlp", depth=depth, init_scale=0.5), images)
        torch.testing.assert_close(half, one / 2**depth)


@pytest.mark.parametrize("name", ["mlp", "resnet18", "vgg19", "vit"])
@pytest.mark.parametrize("rank", [None, 2])
def test_the_scale_of_the_head_is_that_of_the_logits(name: str, rank: int | None) -> None:
    images = random_images(5)
    plain = logits(narrow(name, head_rank=rank, norm="layer"), images)
    tiny = logits(narrow(name, head_rank=rank, norm="layer", head_scale=1e-12), images)
    torch.testing.assert_close(tiny * 1e12, plain, rtol=1e-6, atol=1e-6)


def test_a_function_with_the_decorator_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("real_nets.models.registry.MODELS", dict(models.MODELS))

    @register
    def linear(*, inputs: models.Shape, classes: int, width: int = 5) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(inputs), width), nn.Linear(width, classes)
        )

    model = Architecture("linear", 3, (1, 2, 2), width=7, head_scale=2.0).build(0)
    assert [tuple(weight.shape) for weight in weights(model)] == [(7, 4), (3, 7)]
    with pytest.raises(ValueError, match="depth is 2, but linear has none to choose"):
        Architecture("linear", 3, (1, 2, 2), depth=2)


def test_timm_networks_and_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def create(name: str, **arguments: Any) -> nn.Module:
        asked.append((name, arguments))
        if arguments["pretrained"]:
            raise OSError("no route to host\ndetails")
        return nn.Linear(2, arguments["num_classes"])

    monkeypatch.setattr(timm, "create_model", create)
    shape = (3, 32, 32)
    Architecture("timm:resnet18", 4, shape).build(0)
    Architecture("vit_b16", 4, shape).build(0)
    base = "vit_base_patch16_224.augreg_in21k"
    assert asked == [
        ("resnet18", {"pretrained": False, "num_classes": 4}),
        (base, {"pretrained": False, "num_classes": 4, "img_size": 32}),
    ]
    with pytest.raises(ValueError, match="stem is 'cifar', but resnet18 is no ResNet with conv1"):
        Architecture("timm:resnet18", 4, shape, stem="cifar").build(0)  # the stand-in is not
    for name in ("timm:resnet18", "vit_b16"):
        with pytest.raises(ValueError, match=r"pretrained is True.*\(no route to host\)") as error:
            Architecture(name, 4, shape, pretrained=True).build(0)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("timm:resnet18", "vit_b16"):
        with pytest.raises(ValueError, match=r"not installed: pip install timm"):
            Architecture(name, 4, shape).build(0)


def test_a_network_of_timm_is_built() -> None:
    model = Architecture("timm:resnet10t", 4, (3, 32, 32), head_rank=2).build(0)
    with torch.no_grad():
        found = model(random_images(5))
    assert int(numerical_rank(found)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "resnet99"}, "model is 'resnet99'; it must be one of mlp, resnet18, .*timm:NAME"),
        ({"name": "keras:mlp"}, "model is 'keras:mlp'; it must be one of"),
        ({"name": "mlp:8"}, "model is 'mlp:8'; it must be one of"),
        ({"name": "torchvision"}, "model is 'torchvision'; it must be one of"),
        ({"depth": 5}, "depth is 5, but resnet18 has none to choose"),
        ({"name": "vgg19", "depth": 5}, "depth is 5, but vgg19"),
        ({"name": "vit_b16", "width": 5}, "width is 5, but vit_b16"),
        ({"name": "mlp", "stem": "cifar"}, "stem is 'cifar', but mlp"),
        ({"name": "vit_b16", "norm": "none"}, "norm is 'none', but vit_b16"),
        ({"name": "torchvision:resnet18", "width": 8}, "width is 8, but torchvision:resnet18"),
        ({"name": "timm:resnet18", "norm": "group"}, "norm is 'group', but timm:resnet18"),
        ({"pretrained": True}, "pretrained is True, but resnet18"),
        ({"name": "torchvision:resnet18", "pretrained": True}, "pretrained is True, but"),
        ({"name": "vit_b16", "pretrained": True, "init": "he"}, "would overwrite the pretrained"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"name": "mlp", "depth": 0}, "depth is 0; it must be at least 1"),
        ({"classes": 1}, "classes is 1; it must be at least 2"),
        ({"inputs": (3, 0, 8)}, r"inputs is \(3, 0, 8\)"),
        ({"inputs": (3, 8)}, r"inputs is \(3, 8\)"),
        ({"stem": "large"}, "stem is 'large'; it must be one of auto, cifar, imagenet"),
        ({"norm": "instance"}, "norm is 'instance'; it must be one of default, batch"),
        ({"head_norm": "group"}, "head_norm is 'group'; it must be one of none, layer, batch"),
        ({"init": "zero"}, "init is 'zero'; it must be one of default, he"),
        ({"head_rank": 0}, "head_rank is 0"),
        ({"init_scale": 0.0}, "init_scale is 0.0; it must be positive"),
        ({"head_scale": math.inf}, "head_scale is inf; it must be positive and finite"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_what_makes_no_sense_for_any_data_is_refused_at_once(
    change: dict[str, Any], words: str
) -> None:
    whole = {"name": "resnet18", "classes": 4, "inputs": (3, 32, 32)} | change
    with pytest.raises(ValueError, match=words):
        Architecture(**whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "torchvision:resnt18"}, "'torchvision:resnt18', which torchvision.*resnet18"),
        ({"name": "timm:resnt18"}, "'timm:resnt18', which timm does not know.*resnet18"),
        ({"name": "torchvision:squeezenet1_0", "head_rank": 2}, "no linear layer that makes 4"),
        ({"name": "torchvision:squeezenet1_0", "head_scale": 0.1}, "leave out .*head_scale"),
        ({"name": "torchvision:vgg11", "stem": "cifar"}, "vgg11 is no ResNet with conv1"),
        ({"head_rank": 4}, r"head_rank is 4; it must lie in 1\.\.3"),
        ({"inputs": (1, 32, 32)}, "inputs have 1 channels; this network takes 3"),
        ({"name": "vgg19", "inputs": (1, 32, 32)}, "inputs have 1 channels"),
        ({"name": "vit", "inputs": (1, 32, 32)}, "inputs have 1 channels"),
        ({"name": "timm:resnet18", "inputs": (1, 32, 32)}, "inputs have 1 channels"),
        ({"name": "vgg19", "inputs": (3, 31, 40)}, "31 x 40; vgg19 takes 32 or more"),
        ({"name": "vit", "inputs": (3, 30, 30)}, "30 x 30; .* multiple of the patches' 4"),
        ({"name": "vit", "inputs": (3, 72, 72)}, "72 x 72; .* multiple of the patches' 16"),
        ({"name": "vit", "inputs": (3, 32, 64)}, "32 x 64; they must be square"),
        ({"name": "vit_b16", "inputs": (3, 40, 40)}, "40 x 40; .* multiple of the patches' 16"),
        ({"name": "vit", "norm": "batch"}, "norm is 'batch'; vit takes layer or none"),
    ],
    ids=str,
)
def test_what_does_not_suit_the_data_is_refused_when_built(
    change: dict[str, Any], words: str
) -> None:
    narrow_where_it_can_be = {"resnet18": 4, "vgg19": 4, "vit": 16}
    whole = {"name": "resnet18", "classes": 4, "inputs": (3, 32, 32)} | change
    with pytest.raises(ValueError, match=words):
        Architecture(**whole, width=narrow_where_it_can_be.get(whole["name"])).build(0)
