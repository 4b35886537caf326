"""What normalisation and classifiers do to the logits, against their formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from rankdeficit import constructions, numerical_rank
from rankdeficit.control.classifier import find_classifier
from rankdeficit.control.surgery import change_head, weights
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from real_nets.models.parts import map_norm, vector_norm
from tests.real_nets.models.narrow import (
    CLASSES,
    LAYERS,
    NARROW,
    WITH_NORMS,
    logits,
    narrow,
    random_images,
)

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


def test_a_changed_head_has_the_precision_of_the_network() -> None:
    model = nn.Sequential(nn.Linear(6, CLASSES)).double()
    change_head(model, CLASSES, rank=2, norm="batch")
    assert all(own.dtype == torch.float64 for own in model.state_dict().values() if own.ndim)
    assert model(torch.ones(3, 6, dtype=torch.float64)).shape == (3, CLASSES)
    with pytest.raises(ValueError, match="Sequential"):
        change_head(nn.Linear(6, CLASSES), CLASSES, rank=2, norm="none")


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
