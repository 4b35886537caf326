"""Probes of other protocols: against steps written out, and what they read of a network."""

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.measures.probes import PROTOCOLS, Probe, ProbeSettings, predict
from rankdeficit.diagnostics.measures.trained_probes import BATCH, fit_by_protocol
from rankdeficit.diagnostics.reading.blocks import Reading, blocks
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits

GENERATOR = torch.Generator().manual_seed(0)
N, CLASSES = 40, 3
LABELS = torch.arange(N) % CLASSES
FEATURES = torch.randn(N, 5, dtype=torch.float64, generator=GENERATOR) + LABELS[:, None]


def fitted(preset: str, features: Tensor = FEATURES, seed: int = 0) -> Probe:
    settings = ProbeSettings(preset, dtype=torch.float64)  # type: ignore[arg-type]
    return fit_by_protocol(features, LABELS, CLASSES, settings, seed)


def gradient(weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """Of the mean cross-entropy of all samples, whose last feature is 1."""
    inputs = torch.cat([FEATURES, torch.ones(N, 1, dtype=torch.float64)], dim=1)
    targets = nn.functional.one_hot(LABELS, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    return ((inputs @ weight.mT).softmax(dim=1) - targets).mT @ inputs / N


def together(probe: Probe) -> Tensor:
    return torch.cat([probe.weight, probe.bias[:, None]], dim=1)


def test_the_tunnel_preset_is_plain_gradient_descent_where_all_samples_fit_a_batch() -> None:
    assert N <= BATCH
    weight = torch.zeros(CLASSES, 6, dtype=torch.float64)
    for _ in range(20):
        weight -= 1e-2 * gradient(weight)
    found = fitted("tunnel")
    torch.testing.assert_close(together(found), weight)
    assert found.gradient_norm == pytest.approx(float(gradient(weight).norm()))
    assert (found.iterations, found.converged) == (20, False)


def test_the_kanan_preset_is_adam_with_smoothed_labels() -> None:
    weight = torch.zeros(CLASSES, 6, dtype=torch.float64)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(1, 31):
        own = gradient(weight, smoothing=0.1)
        first, second = 0.9 * first + 0.1 * own, 0.999 * second + 0.001 * own**2
        scaled = (second / (1 - 0.999**step)).sqrt() + 1e-8
        weight = weight - 1e-3 * first / (1 - 0.9**step) / scaled
    torch.testing.assert_close(together(fitted("kanan")), weight)


def test_batches_are_those_of_the_seed() -> None:
    features = FEATURES.repeat(8, 1)
    labels = LABELS.repeat(8)
    settings = ProbeSettings("tunnel")
    one, again, other = (
        fit_by_protocol(features, labels, CLASSES, settings, seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)
    assert one.iterations == 20 * -(-len(features) // BATCH)


class Net(nn.Module):
    """Convolution, BatchNorm with a large shift, ReLU; raw and normalised outputs differ."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4 * 16, CLASSES)
        nn.init.constant_(self.norm.bias, -0.2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.relu(self.norm(self.first(images))).flatten(1))
        return logits


IMAGES = torch.randn(N, 1, 4, 4, generator=GENERATOR) + LABELS[:, None, None, None]


@pytest.mark.parametrize("preset", PROTOCOLS)
def test_a_diagnosis_probes_what_the_preset_reads(preset: str) -> None:
    model = Net().eval()
    data = [(IMAGES, LABELS)]
    settings = ProbeSettings(preset)  # type: ignore[arg-type]
    record = rd.diagnose(
        model, data, data, measures=["effective_depth", "layer_ranks"], probes=settings
    ).record
    assert record["conditions"]["probe_preset"] == preset
    assert record["layers"][0]["features"] == 16  # of 64: ranks are of 2 x 2 cells, always
    fits = [layer["probe"] for layer in record["layers"]]
    assert all(("epochs" in fit) == (preset != "converged") for fit in fits)
    if preset == "converged":
        return
    with torch.no_grad():
        raw = model.first(IMAGES)
        pooled = nn.functional.adaptive_avg_pool2d(model.norm(raw).relu(), 2)
        read = [(raw if preset == "tunnel" else pooled).flatten(1), model(IMAGES)]
    for fit, features in zip(fits, read, strict=True):
        probe = fit_by_protocol(features, LABELS, CLASSES, settings)
        hits = float((predict(probe, features) == LABELS).double().mean())
        assert fit["loss"] == pytest.approx(probe.loss, rel=1e-4)
        assert fit["accuracy"] == pytest.approx(hits)


def test_a_wide_layer_gives_some_of_its_entries() -> None:
    model = Net().eval()
    network = Network.of(model, IMAGES[:2], None, pick_logits)
    one, whole = (
        next(blocks(network, [(IMAGES, LABELS)], "train", Reading(raw=raw))) for raw in (7, 999)
    )
    with torch.no_grad():
        raw = model.first(IMAGES).flatten(1)
    torch.testing.assert_close(whole.raw["first"], raw)
    columns = [int((raw == own[:, None]).all(dim=0).nonzero()) for own in one.raw["first"].mT]
    assert columns == sorted(set(columns))
    assert len(columns) == 7
    assert not one.features


@pytest.mark.usefixtures("unchecked")
def test_bad_settings_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"preset is 'some'.*converged, tunnel, kanan"):
        ProbeSettings("some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"l2 is .*'tunnel'"):
        ProbeSettings("tunnel", l2=(1.0,))
    with pytest.raises(ValueError, match="fit_probe"):
        fitted("converged")
    with pytest.raises(ValueError, match="features"):
        fitted("kanan", FEATURES * float("nan"))
