"""Interventions against closed forms, and in the limit in which they change nothing."""

import copy
import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.control import intervene
from rankdeficit.control.interventions import (
    LossChange,
    Seen,
    available_interventions,
    find_interventions,
)
from rankdeficit.control.interventions.base import _KINDS
from rankdeficit.control.interventions.elogit_norm import distance
from rankdeficit.control.interventions.encoder_entropy import neighbour_entropy
from tests.conftest import ROOT

README = ROOT / "rankdeficit" / "control" / "README.md"
N, D, C = 7, 5, 4
LABELS = torch.arange(N) % C


def rows(n: int = N, d: int = D, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, C)).double()


def loss_of(spelled: str, **options: float) -> float:
    model, loss = intervene(network(), spelled, **options)  # type: ignore[arg-type]
    return value(loss(model(rows()), LABELS))


def value(found: Tensor) -> float:
    return float(found.detach())


def plain(temperature: float = 1.0) -> float:
    return value(functional.cross_entropy(network()(rows()) / temperature, LABELS))


def change(spelled: str) -> LossChange:
    (found,) = find_interventions([spelled])
    assert isinstance(found, LossChange)
    return found


@pytest.mark.parametrize("temperature", [1.0, 5.0])
@pytest.mark.parametrize(
    "spelled",
    ["z-loss=0", "encoder-entropy=0", "soft-cap=1e7", "learnable-temperature=1"],
)
def test_limits_are_plain_cross_entropy(spelled: str, temperature: float) -> None:
    found = loss_of(spelled, temperature=temperature)
    assert found == pytest.approx(plain(temperature), rel=1e-10)


@pytest.mark.parametrize("tau", [0.04, 2.0])
def test_logit_norm_fixes_the_norm(tau: float) -> None:
    """Any factor of the logits gives the same loss, at tau = 1 / ||f|| the plain one."""
    logits = rows(N, C)
    norm_fixing = change(f"logit-norm={tau}")
    found = norm_fixing.logits(Seen(logits, 1.0))
    assert found.norm(dim=1).tolist() == pytest.approx([1 / tau] * N, rel=1e-6)
    assert torch.allclose(found, norm_fixing.logits(Seen(50 * logits, 1.0)), rtol=1e-6)
    norms = logits.norm(dim=1)
    for i in range(N):
        same = change(f"logit-norm={1 / float(norms[i]):.17g}").logits(Seen(logits[i : i + 1], 1.0))
        assert torch.allclose(same, logits[i], rtol=1e-6)


def test_elogit_norm_of_two_classes_is_the_distance_from_a_line() -> None:
    """Classes divided by x_1 = 3, where the gap is 2 (x_1 - 3) and ||w_1 - w_2|| is 2."""
    head = nn.Linear(2, 2).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 4.0], [-1.0, 4.0]]))
        head.bias.copy_(torch.tensor([-3.0, 3.0]))
    features = torch.tensor([[5.0, 1.0], [2.5, -7.0]], dtype=torch.float64)
    logits = head(features)
    assert distance(logits, head.weight).tolist() == pytest.approx([2.0, 0.5])
    found = change("elogit-norm").logits(Seen(logits, 1.0, head))
    assert (found[:, 0] - found[:, 1]).tolist() == pytest.approx([2.0, -2.0], rel=1e-6)


def test_elogit_norm_averages_over_the_other_classes() -> None:
    model = network()
    features = model[:2](rows())
    logits, weight, bias = model(rows()), model[2].weight, model[2].bias
    expected = []
    for feature, k in zip(features, logits.argmax(dim=1).tolist(), strict=True):
        apart = [
            ((weight[k] - weight[j]) @ feature + bias[k] - bias[j]) / (weight[k] - weight[j]).norm()
            for j in range(C)
            if j != k
        ]
        expected.append(value(sum(apart)) / (C - 1))
    assert distance(logits, weight).tolist() == pytest.approx(expected)
    scaled = copy.deepcopy(model)
    for own in scaled[2].parameters():
        own.data *= 9
    found, same = (
        change("elogit-norm").logits(Seen(own(rows()), 1.0, own[2])) for own in (scaled, model)
    )
    assert torch.allclose(found, 9 * same, rtol=1e-6)  # the distance does not see the scale


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_z_loss_is_the_squared_normaliser(temperature: float) -> None:
    """Logits of zero have the penalty a (ln c)^2; the gradient is 2 a logsumexp softmax / (n T)."""
    logits = torch.zeros(N, C, dtype=torch.float64)
    assert change("z-loss=0.5").penalty(Seen(logits, 1.0)) == pytest.approx(math.log(C) ** 2 / 2)
    logits = rows(N, C).requires_grad_()
    penalty = change("z-loss=0.5").penalty(Seen(logits, temperature))
    assert penalty is not None
    (found,) = torch.autograd.grad(penalty, logits)
    scaled = logits.detach() / temperature
    slope = scaled.logsumexp(dim=1, keepdim=True) * scaled.softmax(dim=1) / (N * temperature)
    assert torch.allclose(found, slope)


def test_soft_cap_bounds_the_logits_and_keeps_their_order() -> None:
    model, _ = intervene(network(), "soft-cap=0.2")
    before, after = network()(rows()), model(rows())
    assert torch.allclose(after, 0.2 * torch.tanh(before / 0.2))
    assert torch.equal(after.argsort(dim=1), before.argsort(dim=1))


def test_cosine_head_is_a_plain_head_for_unit_norms() -> None:
    head = nn.Linear(D, C, bias=False).double()
    model, _ = intervene(copy.deepcopy(head), "cosine-head=8")
    cosines = functional.cosine_similarity(rows()[:, None], head.weight[None], dim=-1)
    assert torch.allclose(model(rows()), 8 * cosines)
    with torch.no_grad():
        head.weight.copy_(functional.normalize(head.weight, dim=1))
    unit = functional.normalize(rows(), dim=1)
    assert torch.allclose(intervene(copy.deepcopy(head), "cosine-head=1")[0](unit), head(unit))
    assert torch.allclose(model(1e3 * rows()), model(rows()))


def test_the_slope_of_a_learnable_temperature() -> None:
    """dL / d ln T = -sum_k (p_k - y_k) z_k at logits z = f / T."""
    model, loss = intervene(network(), "learnable-temperature=3")
    logits = model(rows())
    assert torch.allclose(logits, network()(rows()) / 3)
    loss(logits, LABELS).backward()
    error = logits.softmax(dim=1) - functional.one_hot(LABELS, C)
    expected = -(error * logits).sum(dim=1).mean()
    (found,) = (own.grad for name, own in model.named_parameters() if "temperature" in name)
    assert found is not None
    assert found.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("width", [C - 1, 9])
def test_the_simplex_head_is_an_equiangular_frame_that_stays(width: int) -> None:
    head = nn.Linear(width, C).double()
    model, loss = intervene(head, "simplex-head=2")
    (weight,) = model.parameters()
    expected = 4 * C / (C - 1) * (torch.eye(C) - torch.full((C, C), 1 / C))
    assert torch.allclose(weight @ weight.mT, expected.double())
    features = rows(N, width).requires_grad_()
    loss(model(features), LABELS).backward()
    assert weight.grad is None
    assert features.grad is not None


def test_the_entropy_is_of_distances_between_neighbours() -> None:
    """Angles 0, 60 and 90 degrees: chords of 1 to the first, 2 sin 15 between the others."""
    angles = torch.tensor([0.0, 60.0, 90.0], dtype=torch.float64).deg2rad()
    radii = torch.tensor([[1.0], [7.0], [0.1]], dtype=torch.float64)
    features = radii * torch.stack([angles.cos(), angles.sin()], dim=1)
    expected = (math.log(1) + 2 * math.log(2 * math.sin(math.pi / 12))) / 3
    assert value(neighbour_entropy(features)) == pytest.approx(expected)


def test_the_entropy_is_of_the_input_of_the_head() -> None:
    model, loss = intervene(network(), "encoder-entropy=0.3")
    logits = model(rows())
    entropy = value(neighbour_entropy(network()[:2](rows())))
    assert value(loss(logits, LABELS)) == pytest.approx(plain() - 0.3 * entropy)
    again = value(loss(logits, LABELS))  # the input is not kept beyond its loss
    assert again == pytest.approx(plain())
    model(rows())
    copy.deepcopy(model)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_neighbours_of_collapsed_features_are_found(autocast: bool) -> None:
    """Distances below the rounding of products in float32, and of bfloat16 under autocast."""
    close = rows(2, 64, seed=1).repeat(8, 1) + 1e-4 * rows(16, 64, seed=2)
    directions = functional.normalize(close, dim=1)
    apart = torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")
    expected = value(apart.fill_diagonal_(math.inf).amin(dim=1).log().mean())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert value(neighbour_entropy(close.float())) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spelled", available_interventions())
def test_losses_of_half_precision_are_those_of_the_same_logits(
    spelled: str, dtype: torch.dtype
) -> None:
    """The loss is in float32, up to the rounding of the logits."""
    model, loss = intervene(network().to(dtype), spelled)
    inputs = rows().to(dtype)
    wide = copy.deepcopy(model).float()
    _, plain_loss = intervene(network(), spelled)
    plain_loss.attach(wide)
    found = loss(model(inputs), LABELS)
    assert found.dtype == torch.float32
    assert value(found) == pytest.approx(value(plain_loss(wide(inputs.float()), LABELS)), rel=0.02)
    found.backward()
    assert all(
        bool(own.grad.isfinite().all()) for own in model.parameters() if own.grad is not None
    )


def test_a_cosine_head_has_logits_of_zero_for_features_of_zero() -> None:
    model, loss = intervene(nn.Linear(D, C).half(), "cosine-head")
    logits = model(torch.zeros(1, D, dtype=torch.float16))
    assert logits.tolist() == [[0.0] * C]
    loss(logits, LABELS[:1]).backward()
    assert bool(model.weight.grad.isfinite().all())  # type: ignore[union-attr,operator]


def test_a_lone_sample_has_no_neighbour() -> None:
    model, loss = intervene(network(), "encoder-entropy=0.3")
    one = value(loss(model(rows()[:1]), LABELS[:1]))
    assert one == pytest.approx(value(functional.cross_entropy(network()(rows()[:1]), LABELS[:1])))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "logit-norm": lambda own: change("logit-norm").logits(Seen(own, 1.0)),
    "z-loss": lambda own: change("z-loss=1").penalty(Seen(own, 2.0)),
    "encoder-entropy": lambda own: change("encoder-entropy=1").penalty(Seen(own, 1.0, None, own)),
    "elogit-norm": lambda own: change("elogit-norm").logits(Seen(rows() @ own.mT, 1.0, _head(own))),
}


def _head(weight: Tensor) -> nn.Linear:
    head = nn.Linear(D, len(weight), bias=False, device="meta")
    del head.weight
    head.weight = weight  # type: ignore[assignment]
    return head


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str) -> None:
    own = rows(C, D, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], (own,))


def test_interventions_together() -> None:
    """A capped cosine head with a penalty on its normaliser, at a temperature."""
    model, loss = intervene(network(), "z-loss=0.1", "soft-cap=2", "cosine-head=4", temperature=3.0)
    logits = model(rows())
    features, weight = network()[:2](rows()), network()[2].weight
    cosines = functional.cosine_similarity(features[:, None], weight[None], dim=-1)
    expected = 2 * torch.tanh(2 * cosines)
    assert torch.allclose(logits, expected)
    total = functional.cross_entropy(expected / 3, LABELS)
    total = total + 0.1 * (expected / 3).logsumexp(dim=1).square().mean()
    assert value(loss(logits, LABELS)) == pytest.approx(value(total))


def test_all_are_found_with_their_help() -> None:
    found = available_interventions()
    assert {"logit-norm", "z-loss", "soft-cap", "simplex-head", "encoder-entropy"} <= found.keys()
    for name, kind in found.items():
        assert kind.help()
        assert kind.diagnosed
        (own,) = find_interventions([name])
        assert find_interventions([own.spelled]) == [own]


def test_the_examples_of_the_readme_run() -> None:
    """The last one registers an intervention, whose penalty is least for uniform predictions."""
    section = README.read_text().partition("## Interventions on the logits")[2]
    first, second = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.S)
    exec(first, {"model": network(), "images": rows(), "labels": LABELS})
    try:
        exec(second, {"torch": torch, "__name__": "example"})
        penalty = change("confidence-penalty").penalty(Seen(torch.zeros(N, C), 1.0))
        assert penalty == pytest.approx(-0.1 * math.log(C))
    finally:
        _KINDS.pop("confidence-penalty", None)
