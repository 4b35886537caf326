"""Compression of networks whose exact answer is known, and its promise."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.stats import beta, binom, multinomial
from torch import Tensor, nn

from rankdeficit.control import Compression, compress, compression
from rankdeficit.control.compression import load, rebuild
from rankdeficit.control.compression.bases import activation_basis, magnitude_basis, weight_basis
from rankdeficit.control.compression.cost import costs
from rankdeficit.control.compression.parts import Moments, Part
from rankdeficit.control.compression.promise import images_needed, loss_p_value
from rankdeficit.control.compression.search import first_passing
from rankdeficit.diagnostics.reading.inputs import Inputs
from tests.conftest import ROOT

Batches = list[tuple[Tensor, Tensor]]

CLASSES, INPUTS = 5, 10
GENERATOR = torch.Generator().manual_seed(0)
CENTRES = 4 * torch.randn(CLASSES, INPUTS, generator=GENERATOR)


def clusters(samples: int, noise: float = 1.0) -> Batches:
    """Batches of Gaussian clusters, one for each class."""
    labels = torch.randint(CLASSES, (samples,), generator=GENERATOR)
    rows = CENTRES[labels] + noise * torch.randn(samples, INPUTS, generator=GENERATOR)
    return list(zip(rows.split(150), labels.split(150), strict=True))


TRAIN, CHOOSE, TEST = clusters(300), clusters(900), clusters(300)


class Tail(nn.Module):
    """A layer that separates the classes, and three that do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, 16)
        self.tail = nn.ModuleList([nn.Linear(16, 16) for _ in range(3)])
        self.head = nn.Linear(16, CLASSES)
        for layer in self.tail:
            nn.init.eye_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, rows: Tensor) -> Tensor:
        rows = self.first(rows).relu()
        for layer in self.tail:
            rows = layer(rows).relu()
        logits: Tensor = self.head(rows)
        return logits


class Planted(nn.Module):
    """Features of rank 3 from a layer that a mean over positions separates from the head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 3)
        self.last = nn.Conv1d(8, 12, 1)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        maps = self.last(self.first(rows[:, None]).relu())
        logits: Tensor = self.head(maps.mean(dim=2))
        return logits


def learned(model: nn.Module, freeze: Callable[[str], bool] = lambda name: False) -> nn.Module:
    """Trained for a moment on the clusters."""
    own = [p for name, p in model.named_parameters() if not freeze(name)]
    optimizer = torch.optim.Adam(own, lr=0.02)
    rows, labels = torch.cat([a for a, _ in TRAIN]), torch.cat([b for _, b in TRAIN])
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def tail() -> nn.Module:
    torch.manual_seed(0)
    return learned(Tail(), lambda name: name.startswith("tail"))


@pytest.fixture(scope="module")
def planted() -> nn.Module:
    torch.manual_seed(0)
    model = learned(Planted())
    left, right = torch.randn(12, 3), torch.randn(3, 8)
    with torch.no_grad():
        model.last.weight.copy_((left @ right / 4)[:, :, None])
    for own in (model.first, model.last):
        own.requires_grad_(False)
    return learned(model, lambda name: not name.startswith("head"))


def run(model: nn.Module, **options: Any) -> Compression:
    usual: dict[str, Any] = {"lose_at_most": 0.03, "latency": False}
    return compress(model, TRAIN, CHOOSE, TEST, **usual | options)


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(rows) for rows, _ in TEST])


def test_features_of_rank_three_take_three_dimensions(planted: nn.Module) -> None:
    """The layer before the head makes them itself, and the logits are the same."""
    found = run(planted, steps=["project"], gamma=1e-3)
    assert found.plan.rank == 3
    assert found.model.last.weight.shape == (3, 8, 1)
    assert found.model.head.weight.shape == (CLASSES, 3)
    expected = outputs(planted)
    assert (outputs(found.model) - expected).norm() <= 1e-5 * expected.norm()
    assert [(own.before, own.after) for own in found.layers] == [(8, 8), (12, 3)]
    assert found.removed == pytest.approx(9 / 20)
    removed = 9 * 8 + 9 + 9 * CLASSES  # rows of `last` with their bias, columns of the head
    assert found.before.parameters - found.after.parameters == removed
    assert found.decided is not None
    assert found.decided.only_before == found.decided.only_after == 0


def test_layers_that_do_nothing_are_cut(tail: nn.Module) -> None:
    found = run(tail, steps=["cut"])
    assert found.plan.cut == "first"
    assert [own.after for own in found.layers] == [16, 0, 0, 0]
    assert found.after.parameters == (INPUTS + 1) * 16 + (16 + 1) * CLASSES
    assert found.after.flops == 2 * (INPUTS * 16 + 16 * CLASSES)
    assert not [name for name in found.model.state_dict() if "tail" in name]
    assert found.tested is not None
    assert found.tested.accuracy_after > 0.97


def test_all_steps_save_and_load(tail: nn.Module, tmp_path: Path) -> None:
    """The saved network needs the original's class only, whatever its weights are."""
    before = copy.deepcopy(tail.state_dict())
    found = run(tail, rivals=["weights", "magnitude"])
    assert found.plan.cut == "first"
    assert found.plan.rank is not None
    assert found.removed > 0.8
    assert set(found.rivals) == {"weights", "magnitude"}
    found.save(tmp_path)
    again = load(Tail, tmp_path).eval()
    assert torch.equal(outputs(again), outputs(found.model))
    assert all(torch.equal(own, before[name]) for name, own in tail.state_dict().items())
    with pytest.raises(ValueError, match="another network"):
        load(Planted, tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    safetensors.torch.save_file(
        {"other": weights["head.0.weight"]}, tmp_path / "weights.safetensors"
    )
    with pytest.raises(ValueError, match="another network") as error:
        load(Tail, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="version"):
        rebuild(Tail, {})


def test_a_repair_is_of_the_seed(tail: nn.Module) -> None:
    """Equal seeds give equal networks, which differ from those without a repair."""
    asked: dict[str, Any] = {"steps": ["project"], "gamma": 0.1, "repair_lr": 1e-3}
    first, second, other = (
        outputs(run(tail, **asked, repair_epochs=1, seed=seed).model) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first, outputs(run(tail, **asked).model))


@pytest.mark.parametrize("make", [activation_basis, weight_basis, magnitude_basis])
def test_factors_are_exact_at_full_rank(make: Callable[..., Any]) -> None:
    """y = U (P W x) + b' for all x, for every basis; and the best of its rank for the activations."""
    generator = torch.Generator().manual_seed(1)
    weight, bias = (torch.randn(*s, generator=generator).double() for s in ((6, 9), (6,)))
    inputs = (torch.randn(50, 9, generator=generator) * torch.arange(1, 10)).double() + 3
    rows = inputs @ weight.mT
    moments = Moments()
    moments.update(rows[:20])
    moments.update(rows[20:])
    assert torch.allclose(moments.mean, rows.mean(dim=0))
    assert torch.allclose(moments.covariance, rows.mT.cov(correction=0))
    basis = make(moments if make is activation_basis else weight)
    for rank in (6, 3):
        first, second, shift = basis.factors(weight, bias, rank)
        error = (inputs @ first.mT @ second.mT + shift - rows - bias).norm()
        centred = rows - rows.mean(dim=0)
        best = torch.linalg.svdvals(centred)[rank:].norm()
        assert error >= best - 1e-9
        if rank == 6 or make is activation_basis:
            assert float(error) == pytest.approx(float(best), abs=1e-9)


def test_p_value_against_all_outcomes() -> None:
    """At the margin, outcomes whose p is at most 5 % have at most that probability, and nearly that."""
    samples, margin, sizes = 40, 0.15, []
    p_values = {
        (lost, won): loss_p_value(lost, won, samples, margin, 0.05)
        for lost in range(14)
        for won in range(8)
    }
    for rate in (0.15, 0.2, 0.3):
        chances = [(rate + margin) / 2, (rate - margin) / 2, 1 - rate]
        passed = [[*own, samples - sum(own)] for own, p in p_values.items() if p <= 0.05]
        sizes.append(multinomial.pmf(passed, samples, chances).sum())
    assert max(sizes) <= 0.05
    assert max(sizes) > 0.01


def test_p_value_adds_the_error_of_its_interval() -> None:
    """All images disagree: the interval of the rate reaches from a known quantile to 1."""
    lost, samples, margin, error = 12, 20, 0.8, 0.05
    low = max(beta.ppf(error / 20, samples, 1), margin)
    counts = np.arange(samples + 1)
    most = (counts + 2 * lost - samples) // 2
    chances = [
        (binom.pmf(counts, samples, rate) * binom.cdf(most, counts, (1 + margin / rate) / 2)).sum()
        for rate in np.linspace(low, 1, 400)
    ]
    found = loss_p_value(lost, samples - lost, samples, margin, error)
    assert found == pytest.approx(max(chances) + error / 10, rel=1e-3)


def test_images_that_a_promise_needs() -> None:
    """Between what agreement on all images says by chance alone, and twice that."""
    needed = images_needed(0.02, 0.01)
    assert loss_p_value(0, 0, needed, 0.02) <= 0.01 < loss_p_value(0, 0, needed - 1, 0.02)
    assert math.log(0.01) / math.log(0.98) < needed < 2 * math.log(0.01) / math.log(0.98)
    assert first_passing(lambda number: number >= 7, 0, 20) == 7
    assert first_passing(lambda number: False, 0, 20) == 20


def test_nothing_to_compress_gives_the_original() -> None:
    """A network that needs all it has: every step loses more than the promise allows."""
    model = nn.Sequential(nn.Linear(INPUTS, CLASSES, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(CLASSES, INPUTS, generator=GENERATOR))
        data = [(rows, model(rows).argmax(dim=1)) for rows, _ in CHOOSE]
    found = compress(model, data, data, lose_at_most=0.03, steps=["cut"], latency=False)
    assert found.plan.empty
    assert found.removed == 0
    assert torch.equal(outputs(found.model), outputs(model))
    assert any("original" in note for note in found.notes)


def test_parts_are_the_same_in_any_order() -> None:
    """A sample's content tells its part: shuffled loaders give the same parts."""
    source = clusters(400)
    rows, labels = torch.cat([a for a, _ in source]), torch.cat([b for _, b in source])
    order = torch.randperm(400, generator=GENERATOR)
    parts = []
    for given in (source, [(rows[order], labels[order])]):
        first, second = Part.of(given, "train", nn.Identity(), 3).split(0.3, "a", "b")
        parts.append([first.count(), second.count()])
        kept = torch.cat([own.positional[0] for own, _ in first])
        parts.append(sorted(kept[:, 0].tolist()))
    assert parts[:2] == parts[2:]
    assert 80 < parts[0][0] < 160
    assert sum(parts[0]) == 400


def test_cost_of_a_network_by_hand() -> None:
    model = nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 10))
    (found,) = costs([model], Inputs.of(torch.randn(2, 100)), [1])
    assert found.parameters == 101 * 200 + 201 * 10
    assert found.flops == 2 * (100 * 200 + 200 * 10)
    assert found.weight_bytes == 4 * found.parameters
    assert found.activation_bytes == 4 * 2 * 200
    (latency,) = found.latency
    assert 0 < latency.low <= latency.median <= latency.high


def with_nan() -> nn.Module:
    model = nn.Linear(INPUTS, CLASSES)
    with torch.no_grad():
        model.weight[0, 0] = math.nan
    return model


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lose_at_most": 0.0}, "lose_at_most"),
        ({"lose_at_most": 1.0}, "lose_at_most"),
        ({"confidence": 1.0}, "confidence"),
        ({"lose_at_most": 0.001}, "images"),
        ({"lose_at_most": 0.97}, "accuracy"),
        ({"temperature": 0.0}, "temperature"),
        ({"steps": ["prune"]}, "steps"),
        ({"steps": []}, "steps"),
        ({"method": "random"}, "method"),
        ({"rivals": ["random"]}, "method"),
        ({"gamma": 2.0}, "gamma"),
        ({"grid": 0}, "grid"),
        ({"repair_epochs": -1}, "repair_epochs"),
        ({"repair_epochs": 1, "repair_lr": 0.0}, "repair_lr"),
        ({"train": [(torch.randn(1, INPUTS), torch.zeros(1).long())]}, "batch"),
        ({"train": iter(TRAIN)}, "iterator"),
        ({"choose": iter(TRAIN)}, "iterator"),
        ({"model": with_nan()}, "NaN"),
        ({"model": nn.Sequential(nn.Linear(INPUTS, CLASSES), nn.Softmax(dim=1))}, "logits="),
        ({"model": nn.Sequential(nn.Linear(INPUTS, CLASSES), nn.Tanh())}, "not linear"),
        ({"model": nn.Identity()}, "linear layer"),
    ],
    ids=lambda given: given if isinstance(given, str) else next(iter(given)),
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_use(options: dict[str, Any], told: str) -> None:
    usual = {"model": nn.Linear(INPUTS, CLASSES), "train": TRAIN, "choose": CHOOSE}
    usual |= {"lose_at_most": 0.03, "latency": False}
    with pytest.raises(ValueError, match=told):
        compress(**usual | options)


def test_the_example_runs(tail: nn.Module, tmp_path: Path) -> None:
    page = (ROOT / "rankdeficit" / "control" / "README.md").read_text()
    (example,) = re.findall(r"## Compression\n\n```python\n(.*?)```", page, re.S)
    names = {"model": tail, "train": TRAIN, "choose": CHOOSE, "test": TEST, "make_net": Tail}
    names |= {"folder": tmp_path, "compression": compression}
    exec(example.replace("0.02", "0.03"), names)
    assert torch.equal(outputs(names["again"].eval()), outputs(names["found"].model))
