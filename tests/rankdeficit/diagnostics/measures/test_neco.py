"""NECO by hand in three dimensions, against scikit-learn, and in the geometries it is made for."""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from rankdeficit.diagnostics import detection
from rankdeficit.diagnostics.measures.neco import VARIANTS, default_variant, fit_neco
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics

MODULE = importlib.import_module("rankdeficit.diagnostics.measures.neco")
CORNERS = torch.tensor([[3.0, 3.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
"""With their opposites: variances 10/3, 10/3, 1/3; the first two coordinates correlate by 0.8."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def statistics_of(h: Tensor, batch: int = 64, classes: int = 4) -> ClassStatistics:
    statistics = ClassStatistics(h.shape[1], classes)
    labels = torch.arange(len(h)) % classes
    for features, own in zip(h.split(batch), labels.split(batch), strict=True):
        statistics.update(features, own)
    return statistics


def correlated(n: int, width: int, seed: int = 0) -> Tensor:
    """Features with a decaying spectrum, of unequal scales, far from the origin."""
    mixing = normal(width, width, seed=99) * torch.logspace(0, -1.5, width)[:, None]
    return normal(n, width, seed=seed) @ mixing * torch.linspace(1, 5, width) + 2


def reference(
    name: str, train: Tensor, features: Tensor, logits: Tensor, dimension: int
) -> np.ndarray:
    """As NECO's authors compute it, with scikit-learn."""
    h, x = train.double().numpy(), features.double().numpy()
    scaler = StandardScaler(with_mean=name != "equation", with_std=name != "equation").fit(h)
    reduced = PCA(h.shape[1]).fit(scaler.transform(h)).transform(scaler.transform(x))
    whole = x if name in ("swin", "equation") else scaler.transform(x)
    scores = np.linalg.norm(reduced[:, :dimension], axis=1) / np.linalg.norm(whole, axis=1)
    if name in ("vit", "swin"):
        scores = scores * logits.double().numpy().max(axis=1)
    return -scores


@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize(
    ("name", "numerator", "raw_denominator"),
    [
        ("resnet", math.sqrt(0.6), False),
        ("vit", 5 * math.sqrt(0.6), False),
        ("swin", 5 * math.sqrt(0.6), True),
        ("equation", math.sqrt(2), True),
    ],
)
def test_each_variant_by_hand(
    name: str, numerator: float, raw_denominator: bool, shift: float
) -> None:
    """The first component is (1, 1, 0) / sqrt(2) with and without scaler; h = mean + (1, 1, 1)."""
    h = torch.ones(1, 3, dtype=torch.float64) + shift
    logits = torch.tensor([[5.0, -7.0]])
    fitted = fit_neco(statistics_of(torch.cat([CORNERS, -CORNERS]) + shift), name, 1)
    denominator = math.sqrt(3) * (1 + shift) if raw_denominator else math.sqrt(0.3 + 0.3 + 3)
    assert float(fitted.scores(h, logits)) == pytest.approx(-numerator / denominator, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 5, 10])
@pytest.mark.parametrize("name", list(VARIANTS))
def test_agrees_with_scikit_learn(name: str, dimension: int, dtype: torch.dtype) -> None:
    train, known, strange = (correlated(n, 12, n).to(dtype) for n in (600, 150, 151))
    strange = (strange + 3 * normal(151, 12, seed=7)).to(dtype)
    for features in (train, known, strange):
        features[:, 4] = 0.1  # constant
    logits = normal(151, 4, seed=3).to(dtype)
    fitted = fit_neco(statistics_of(train), name, dimension)
    ours = [fitted.scores(known, logits[:150]), fitted.scores(strange, logits)]
    theirs = [
        torch.from_numpy(reference(name, train, known, logits[:150], dimension)),
        torch.from_numpy(reference(name, train, strange, logits, dimension)),
    ]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert detection(*ours) == pytest.approx(detection(*theirs), abs=1e-6)


@pytest.mark.parametrize("batch", [99, 5000])
def test_total_scatter_is_that_of_all_samples_whatever_their_classes(batch: int) -> None:
    h = correlated(5000, 6)
    statistics = statistics_of(h, batch)
    torch.testing.assert_close(statistics.mean, h.mean(dim=0))
    torch.testing.assert_close(statistics.total_scatter / 4999, h.mT.cov())
    with pytest.raises(ValueError, match="no samples"):
        _ = ClassStatistics(3, 2).mean


@pytest.mark.parametrize("name", ["resnet", "equation"])
def test_ood_orthogonal_to_the_class_means_is_told_apart(name: str) -> None:
    basis = torch.linalg.qr(normal(16, 16))[0]
    means = normal(5, 4, seed=1) @ basis[:4]
    known = means[torch.arange(500) % 5] + 1e-3 * normal(500, 16, seed=2)
    strange = 2 * normal(300, 12, seed=3) @ basis[4:]
    fitted = fit_neco(statistics_of(known, classes=5), name)
    assert fitted.components.shape[1] == 4
    assert detection(fitted.scores(known), fitted.scores(strange)).auroc == 1


def test_only_the_scaler_depends_on_the_coordinates() -> None:
    train, h = correlated(300, 8), correlated(50, 8, seed=1)
    rotation = torch.linalg.qr(normal(8, 8, seed=5))[0]
    for name, invariant in (("equation", True), ("resnet", False)):
        plain = fit_neco(statistics_of(train), name).scores(h)
        turned = fit_neco(statistics_of(train @ rotation), name).scores(h @ rotation)
        assert ((plain - turned).abs().max() < 1e-10) == invariant


def test_the_scaler_makes_units_and_origins_of_coordinates_irrelevant() -> None:
    train, h = correlated(300, 8), correlated(50, 8, seed=1)
    units, origin = torch.logspace(-3, 3, 8, dtype=torch.float64), normal(8, seed=2)
    plain = fit_neco(statistics_of(train), "resnet").scores(h)
    moved = fit_neco(statistics_of(train * units + origin), "resnet").scores(h * units + origin)
    torch.testing.assert_close(moved, plain, rtol=1e-9, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_scale_of_all_features_does_not_change_the_order(name: str, scale: float) -> None:
    train, h, logits = correlated(300, 8), correlated(50, 8, seed=1), normal(50, 3)
    plain = fit_neco(statistics_of(train), name).scores(h, logits)
    scaled = fit_neco(statistics_of(scale * train), name).scores(scale * h, logits)
    torch.testing.assert_close(plain / plain[0], scaled / scaled[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["resnet", "swin"])
def test_batches_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, h, logits = correlated(300, 8), correlated(50, 8, seed=1), normal(50, 3)
    untouched = h.clone()
    whole = fit_neco(statistics_of(train, batch=300), name).scores(h, logits)
    monkeypatch.setattr(MODULE, "ROWS", 7)
    fitted = fit_neco(statistics_of(train, batch=11), name)
    torch.testing.assert_close(fitted.scores(h, logits), whole, rtol=1e-9, atol=0)
    shuffled = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    one_by_one = [fitted.scores(h[i : i + 1], logits[i : i + 1]) for i in shuffled]
    torch.testing.assert_close(torch.cat(one_by_one), whole[shuffled], rtol=1e-9, atol=0)
    assert torch.equal(h, untouched)


def test_features_without_a_direction_have_no_share_of_it() -> None:
    train = torch.cat([CORNERS, -CORNERS])
    logits = torch.ones(1, 2)
    for name in VARIANTS:
        centred = fit_neco(statistics_of(train), name, 1).scores(torch.zeros(1, 3), logits)
        assert float(centred) == 0
    raw = fit_neco(statistics_of(train + 1), "swin", 1).scores(torch.zeros(1, 3), logits)
    assert float(raw) == 0
    for name in ("resnet", "equation"):
        constant = fit_neco(statistics_of(torch.full((999, 3), 0.1, dtype=torch.float64)), name, 2)
        assert float(constant.scores(torch.ones(1, 3))) == 0


def test_components_beyond_the_rank_of_the_data_are_left_out() -> None:
    """Where rounding would choose them, and with them the scores."""
    plane = torch.linalg.qr(normal(8, 8))[0][:2]
    train = normal(100, 2, seed=1) @ plane
    h = normal(20, 8, seed=2)
    two, five = (fit_neco(statistics_of(train), "equation", d) for d in (2, 5))
    torch.testing.assert_close(five.scores(h), two.scores(h))
    expected = ((h - train.mean(dim=0)) @ plane.mT).norm(dim=1) / h.norm(dim=1)
    torch.testing.assert_close(-two.scores(h), expected)


@pytest.mark.parametrize(
    ("width", "classes", "seen", "expected"),
    [(64, 10, 10, 9), (12, 10, 10, 6), (64, 10, 4, 3), (2, 2, 1, 1), (3, 10, 10, 1)],
)
def test_the_default_dimension(width: int, classes: int, seen: int, expected: int) -> None:
    statistics = ClassStatistics(width, classes)
    statistics.update(normal(80, width), torch.arange(80) % seen)
    assert fit_neco(statistics).components.shape == (width, expected)


class Configured(nn.Module):
    """As timm builds it: a vision transformer whose configuration alone says DeiT."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)
        self.pretrained_cfg = {"architecture": architecture}


def test_the_default_variant_of_a_network() -> None:
    with torch.device("meta"):
        models = {
            "resnet": (torchvision.models.resnet18(), nn.Linear(3, 2)),
            "vit": (torchvision.models.vit_b_16(), Configured("vit_tiny_patch16_224")),
            "swin": (torchvision.models.swin_t(), Configured("deit_tiny_patch16_224")),
        }
    for name, networks in models.items():
        assert [default_variant(network) for network in networks] == [name] * len(networks)
        assert name in VARIANTS


def test_an_alias_is_the_variant() -> None:
    statistics, h, logits = statistics_of(correlated(90, 6)), correlated(5, 6, 1), normal(5, 3)
    deit, swin = (fit_neco(statistics, name).scores(h, logits) for name in ("deit", "swin"))
    assert torch.equal(deit, swin)
    assert "deit" not in VARIANTS


@pytest.mark.usefixtures("unchecked")
def test_bad_input() -> None:
    statistics = statistics_of(correlated(30, 6))
    for arguments, match in (
        (("resnt",), "variant.*'resnt'.*resnet, vit"),
        (("resnet", 6), r"dimension.* 6.* 30 .*width 6.* 1\.\.5"),
        (("resnet", 0), "dimension is 0"),
    ):
        with pytest.raises(ValueError, match=match):
            fit_neco(statistics, *arguments)
    with pytest.raises(ValueError, match=r"in 1\.\.2"):
        fit_neco(statistics_of(correlated(3, 6)), "resnet", 3)
    with pytest.raises(ValueError, match=r"9 samples of width 1;.*two features"):
        fit_neco(statistics_of(correlated(9, 1)))
    fitted = fit_neco(statistics, "vit")
    good = torch.ones(2, 6)
    for arguments, match in (
        ((good,), "logits is None"),
        ((good, torch.ones(3, 2)), r"logits.*\(3, 2\).*\(2, classes\)"),
        ((torch.ones(2, 5), good), r"\(n, 6\)"),
        ((good * math.nan, good), "NaN"),
        ((SimpleNamespace(), good), "features.*SimpleNamespace"),
    ):
        with pytest.raises(ValueError, match=match):
            fitted.scores(*arguments)
