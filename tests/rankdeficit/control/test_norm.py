"""The norm of the logits, measured and set."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rankdeficit.control import logits_norm, set_logits_norm


def convolutional() -> nn.Sequential:
    """A network with BatchNorm and dropout, whose modes differ."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(216, 10),
    )  # fmt: skip


IMAGES = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def frobenius(logits: Tensor) -> float:
    return float(logits.detach().double().square().sum() / len(logits)) ** 0.5


def test_both_modes_by_hand() -> None:
    """Norms are those of the logits in either mode; the model and torch's generator stay as they were."""
    model = convolutional().train()
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = logits_norm(model, IMAGES, 5.0)
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(IMAGES)
        assert found.evaluation.raw == pytest.approx(frobenius(logits), rel=1e-6)
        centred = logits - logits.mean(dim=1, keepdim=True)
        assert found.evaluation.centred == pytest.approx(frobenius(centred) / 5, rel=1e-6)
        torch.manual_seed(0)
        training = frobenius(copy.deepcopy(model).train()(IMAGES))
    assert found.training is not None
    assert found.training.raw == pytest.approx(training, rel=1e-6)
    assert found.training.effective == pytest.approx(training / 5, rel=1e-6)
    assert abs(found.training.raw / found.evaluation.raw - 1) > 0.2
    assert "T = 5" in str(found)
    assert f"{found.training.raw:.4g}" in str(found)


def test_batches_as_diagnose_takes_them() -> None:
    model = convolutional()
    expected = logits_norm(model, IMAGES)
    labels = torch.zeros(32, dtype=torch.int64)
    assert logits_norm(model, (IMAGES, labels)) == expected
    assert logits_norm(model, {"input": IMAGES, "labels": labels}) == expected


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("where", ["head", "all"])
@pytest.mark.parametrize("target", [1e-3, 0.7, 4e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_is_set(dtype: torch.dtype, target: float, where: str, mode: str) -> None:
    model = convolutional().to(dtype)
    parameters = list(model.parameters())
    found = set_logits_norm(model, IMAGES, target, where, temperature=20.0, mode=mode)
    norms = found.training if mode == "train" else found.evaluation
    assert norms is not None
    assert norms.effective == pytest.approx(target, rel=1e-6)
    assert norms.raw == pytest.approx(20 * target, rel=1e-6)
    assert found == logits_norm(model, IMAGES, 20.0)
    assert all(own is other for own, other in zip(model.parameters(), parameters, strict=True))


def test_head_alone_is_multiplied() -> None:
    """Predictions stay, and so do all other weights."""
    model = convolutional()
    before = copy.deepcopy(model)
    set_logits_norm(model, IMAGES, 3.0)
    ratio = model[-1].weight / before[-1].weight
    assert torch.allclose(ratio, ratio[0, 0], rtol=1e-6)
    assert torch.equal(model[0].weight, before[0].weight)
    with torch.no_grad():
        predictions = [own.eval()(IMAGES).argmax(dim=1) for own in (model, before)]
    assert torch.equal(*predictions)


def test_one_factor_for_all_weights() -> None:
    """A network without biases is homogeneous: L layers each take the L-th root."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, False), nn.ReLU(), nn.Linear(8, 4, False)).double()
    first, inputs = model[0].weight.clone(), torch.randn(16, 8)
    start = logits_norm(model, inputs).evaluation.raw
    set_logits_norm(model, inputs, 9 * start, "all")
    assert torch.allclose(model[0].weight, 3 * first, rtol=1e-6)


class Averaged(nn.Module):
    """Two heads, as in distilled transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.distilled = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, rows: Tensor) -> Tensor:
        return (self.head(rows) + self.distilled(rows)) / 2


def test_heads_that_are_averaged() -> None:
    model = Averaged()
    found = set_logits_norm(model, torch.randn(16, 8), 0.1)
    assert found.evaluation.raw == pytest.approx(0.1, rel=1e-6)


def test_convolution_as_a_head() -> None:
    """SqueezeNet's: a convolution of width 1 with ReLU and pooling behind it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert set_logits_norm(model, IMAGES, 5.0).evaluation.raw == pytest.approx(5, rel=1e-6)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words(tokens).mean(dim=1))
        return logits


def zeros() -> nn.Linear:
    model = nn.Linear(8, 4)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    return model


def with_nan() -> nn.Linear:
    model = nn.Linear(8, 4)
    with torch.no_grad():
        model.weight[0, 0] = math.nan
    return model


ROWS = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("model", "batch", "told"),
    [
        (zeros(), ROWS, "zero"),
        (with_nan(), ROWS, "NaN"),
        (nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4)), ROWS, "normalisation"),
        (nn.Sequential(nn.Linear(8, 4), nn.Softmax(dim=1)), ROWS, "logits="),
        (nn.Sequential(nn.Linear(8, 4), nn.Tanh()), ROWS, "not linear"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4)), ROWS, "not linear"),
        (nn.Sequential(nn.Linear(8, 6), nn.GLU(), nn.Tanh()), ROWS, "weights of 0 do not"),
        (nn.Flatten(), ROWS, "no linear layer"),
        (Tied(), torch.randint(6, (16, 3)), "words.weight"),
        (nn.Linear(8, 4), ROWS * math.nan, "batch"),
    ],
    ids=[
        "zeros",
        "nan",
        "normalised",
        "softmax",
        "tanh",
        "spectral",
        "glu",
        "no head",
        "tied",
        "nan batch",
    ],
)
def test_what_cannot_be_set(model: nn.Module, batch: Tensor, told: str) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=told):
        set_logits_norm(model, batch, 1.0)
    for name, own in model.state_dict().items():
        assert torch.equal(own.nan_to_num(), before[name].nan_to_num())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target": 0.0}, "target"),
        ({"target": math.nan}, "target"),
        ({"target": -1.0}, "target"),
        ({"target": 1.0, "temperature": 0.0}, "temperature"),
        ({"target": 1.0, "where": "body"}, "where"),
        ({"target": 1.0, "mode": "test"}, "mode"),
        ({"target": 1e60, "where": "all"}, "target"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_options(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        set_logits_norm(nn.Linear(8, 4), ROWS, **options)  # type: ignore[arg-type]


def test_a_bias_that_no_weight_changes_bounds_the_norm() -> None:
    """Logits in front of a gain and a bias of a normalisation: the weights cannot make them small."""
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    found = set_logits_norm(model, ROWS, 1e-3, "all")
    assert found.evaluation.raw == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("scalar", [np.float32, np.float64, np.int64])
def test_numbers_of_numpy(scalar: type[np.generic]) -> None:
    found = set_logits_norm(nn.Linear(8, 4), ROWS, scalar(2), temperature=scalar(3))
    assert found.evaluation.effective == pytest.approx(2, rel=1e-6)


def test_weights_with_a_norm_of_their_own() -> None:
    """Both parts of a weight norm are multiplied, which multiplies the weight by the same factor."""
    model = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    assert set_logits_norm(model, ROWS, 2.0).evaluation.raw == pytest.approx(2, rel=1e-6)


def test_half_precision_is_set_or_refused() -> None:
    """The norm of rounded weights either is the target to 1e-6, or the weights are as before."""
    model = nn.Linear(8, 4).half()
    before = model.weight.clone()
    with pytest.raises(ValueError, match="precision"):
        set_logits_norm(model, ROWS, 0.123456)
    assert torch.equal(model.weight, before)


def test_batch_of_one() -> None:
    """Without batch statistics one sample does; training mode is then left out, or refused."""
    model = convolutional()
    one = set_logits_norm(model, IMAGES[:1], 2.0)
    assert one.evaluation.raw == pytest.approx(2, rel=1e-6)
    assert one.training is None
    assert logits_norm(nn.Linear(8, 4), ROWS[:1]).training is not None
    flat = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with pytest.raises(ValueError, match="one sample"):
        set_logits_norm(flat, ROWS[:1], 2.0, mode="train")
