"""`diagnose` finds what was planted."""

import math

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.measures import ood
from tests.rankdeficit.diagnostics.diagnose.problems import EXACT, Batches, batches, blobs, linear

CARRIED = 20.0  # a bias that keeps every unit of a carrying layer positive, where ReLU is linear


def planted_depth(readable_from: int, layers: int) -> nn.Sequential:
    """Four quadrants, told by |x|: linearly readable only after the layer that takes absolute values."""
    both_signs = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).double()
    parts: list[nn.Module] = []
    for number in range(1, layers):
        if number == readable_from:
            first = linear(both_signs)
            if number > 1:  # what comes in is x + CARRIED
                with torch.no_grad():
                    first.bias.copy_(-CARRIED * both_signs.sum(dim=1))
            parts += [first, nn.ReLU()]
        elif number < readable_from:
            parts += [linear(torch.eye(2).double(), CARRIED if number == 1 else 0.0), nn.ReLU()]
        else:
            parts += [linear(torch.eye(4).double()), nn.ReLU()]
    directions = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]).double()  # |x_1|, |x_2|
    return nn.Sequential(*parts, linear(directions))


def larger_coordinate(n: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)).double()
    return x, (x.abs()[:, 1] > x.abs()[:, 0]).long()


@pytest.mark.parametrize(("readable_from", "layers"), [(1, 4), (2, 5), (4, 6)])
def test_effective_depth_finds_the_layer_from_which_the_label_can_be_read(
    readable_from: int, layers: int
) -> None:
    model = planted_depth(readable_from, layers)
    train, test = (batches(*larger_coordinate(n, seed)) for n, seed in ((2000, 0), (1000, 1)))
    report = rd.diagnose(model, train, test, probes=EXACT)
    assert report["test.accuracy"] == 1
    assert report["effective_depth.value"] == readable_from / layers
    assert report["effective_depth.interval"] == [readable_from / layers] * 2
    accuracies = [layer["probe"]["accuracy"] for layer in report["layers"]]
    assert max(accuracies[: readable_from - 1], default=0) < 0.6


def circle_network(classes: int) -> tuple[nn.Sequential, Tensor]:
    """A rank-2 classifier: class means on a circle, logits the cosines between angles."""
    angles = torch.arange(classes).double() * 2 * math.pi / classes
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    generator = torch.Generator().manual_seed(0)
    embedding = torch.linalg.qr(torch.randn(16, 2, generator=generator).double())[0].mT
    model = nn.Sequential(nn.Identity(), linear(torch.eye(16).double()), linear(circle @ embedding))
    return model, circle @ embedding


def test_a_rank_two_classifier_is_found_out_at_full_accuracy() -> None:
    classes = 12
    model, centres = circle_network(classes)
    train, test = (batches(*blobs(600, centres, 1e-3, seed)) for seed in (0, 1))
    report = rd.diagnose(model, train, test, probes=False)
    assert report["train.accuracy"] == report["test.accuracy"] == 1
    assert report["train.logits.rank"] == report["test.logits.centred_rank"] == 2
    assert report["train.logits.post_softmax_rank"] > 2
    assert report["neural_collapse.retained_rank"] == 2
    assert report["neural_collapse.predicted_rank"] == classes - 1
    assert report["neural_collapse.nearest_centre_agreement"] == 1
    assert report["neural_collapse.equinorm"] < 0.01
    spread = math.sqrt(classes * (classes - 3) / 2) / (classes - 1)
    assert report["neural_collapse.cosine_deviation"] == pytest.approx(spread, rel=0.01)
    assert report["neural_collapse.self_duality"] < 0.01
    # both have two equal singular values in the same plane, so that any basis of it is as good
    assert report["layers"][1]["alignment"] >= math.sqrt(0.5)
    assert report["layers"][1]["gradient"]["rank"] <= 2


def test_streamed_measures_equal_those_of_whole_matrices() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 7)).double()
    x, y = blobs(500, torch.randn(7, 10).double())
    temperature = 3.0
    report = rd.diagnose(model, batches(x, y), batches(x[:99], y[:99]), temperature=temperature)
    with torch.no_grad():
        hidden, logits = model[:2](x), model(x)
    measures = rd.diagnostics.measure_logits(logits, temperature)
    found = report["train.logits"]
    for name in ("rank", "centred_rank", "post_softmax_rank"):
        assert found[name] == int(getattr(measures, name))
    assert found["effective_logits_norm"] == pytest.approx(float(measures.effective_logits_norm))
    assert found["singular_values"] == pytest.approx(measures.singular_values.tolist())
    assert report["train.loss"] == pytest.approx(
        float(nn.functional.cross_entropy(logits / temperature, y))
    )
    spectrum = rd.spectrum(hidden)
    assert report["layers"][0]["train"]["stable_rank"] == pytest.approx(
        float(spectrum.stable_rank())
    )
    assert report["layers"][0]["train"]["rank_curve"] == spectrum.record()["rank_curve"]
    assert report["penultimate.train"] == report["layers"][0]["train"]
    alignment = rd.diagnostics.alignment(model[2].weight.detach(), hidden)
    assert report["layers"][1]["alignment"] == pytest.approx(float(alignment))


def orthogonal_sets() -> tuple[nn.Module, Batches, Batches, Batches]:
    """ID classes in a plane, OOD samples orthogonal to it; a network that passes them on."""
    model, centres = circle_network(6)
    train, test = (batches(*blobs(600, centres, 0.05, seed)) for seed in (0, 1))
    basis = torch.linalg.qr(centres.mT, mode="complete")[0].mT[2:]  # orthogonal to the plane
    inputs, labels = blobs(300, 3 * basis[:4], 0.05, seed=2)
    return model, train, test, batches(inputs - inputs @ basis[:0].mT @ basis[:0], labels)


def test_samples_orthogonal_to_the_classes_are_detected() -> None:
    model, train, test, strange = orthogonal_sets()
    report = rd.diagnose(model, train, test, {"strange": (None, strange)}, probes=False)
    assert report["detection.strange.neco-equation.auroc"] > 0.999
    assert report["detection.strange.vim.auroc"] > 0.999
    assert report["ortho_dev.strange"] < 0.05
    assert set(report["detection.strange"]) == set(ood.detectors())
    assert report["ood_drop"] == {}


def test_out_of_distribution_drop_is_read_from_the_data_sets_own_labels() -> None:
    """The last layer forgets the third axis, on which the OOD labels depend."""
    keep = torch.eye(3).double()
    model = nn.Sequential(linear(keep), linear(keep[:2]), linear(keep[:2, :2]))
    x = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0)).double()
    id_labels, ood_labels = (x[:, 0] < x[:, 1]).long(), (x[:, 2] > 0).long()
    id_sets = batches(x[:1000], id_labels[:1000]), batches(x[1000:], id_labels[1000:])
    ood_sets = batches(x[:1000], ood_labels[:1000]), batches(x[1000:], ood_labels[1000:])
    report = rd.diagnose(model, *id_sets, {"axis": ood_sets}, probes=EXACT)
    first, _, last = (layer["ood_probes"]["axis"]["accuracy"] for layer in report["layers"])
    assert first > 0.98
    assert last < 0.6
    assert report["ood_drop.axis.value"] == pytest.approx((first - last) / first)
    low, high = report["ood_drop.axis.interval"]
    assert low < report["ood_drop.axis.value"] < high


def unbalanced(n: int, rare: list[float], seed: int) -> Batches:
    """Inputs that tell nothing of their labels, and the exact share of each label after the first."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()
    counts = [round(share * n) for share in rare]
    labels = torch.repeat_interleave(
        torch.arange(len(rare) + 1), torch.tensor([n - sum(counts), *counts])
    )
    return batches(x, labels[torch.randperm(n, generator=torch.Generator().manual_seed(seed))])


def test_knowing_the_largest_class_alone_is_called_guessing() -> None:
    eye = torch.eye(3).double()
    model = nn.Sequential(linear(eye), linear(torch.zeros(3, 3).double() + eye))
    own = unbalanced(1000, [0.1, 0.1], 0), unbalanced(500, [0.2, 0.1], 1)
    other = unbalanced(1000, [0.1], 2), unbalanced(200, [0.15], 3)
    report = rd.diagnose(
        model, *own, {"other": other, "unlabelled": (None, other[1])}, probes=EXACT
    )
    assert (report["train.largest_class"], report["test.largest_class"]) == (0.8, 0.7)
    assert report["ood"] == {"other": {"samples": 200, "largest_class": 0.85}}
    depth, drop = (
        next(text for text in report.sentences() if word in text) for word in ("kappa =", "rho =")
    )
    assert "guessing (70.0%)" in depth
    assert "guessing (85.0%)" in drop
