import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rankdeficit as rd

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def random_logits(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(st.integers(0, 10**6), st.floats(1e-3, 1e4), st.integers(1, 12))
def test_softmax_is_torch_softmax_of_divided_logits(seed: int, temperature: float, c: int) -> None:
    logits = random_logits(5, c, seed=seed)
    expected = torch.softmax(logits / temperature, dim=-1)
    torch.testing.assert_close(rd.softmax(logits, temperature), expected, rtol=1e-12, atol=1e-300)


def test_one_temperature_per_run() -> None:
    logits = random_logits(3, 7, 4)
    temperatures = torch.tensor([0.5, 1.0, 40.0])
    batched = rd.softmax(logits, temperatures[:, None])
    for run in range(3):
        torch.testing.assert_close(
            batched[run], rd.softmax(logits[run], temperatures[run].item()), rtol=1e-7, atol=1e-12
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1.0, 50.0, 1e30])
def test_extreme_logits_never_give_nan(dtype: torch.dtype, temperature: float) -> None:
    top = min(1e30, torch.finfo(dtype).max)
    rows = [[top, -top, 0.0], [top, top, top], [-top, -top, -top], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    logits = torch.tensor(rows, dtype=dtype)
    p = rd.softmax(logits, temperature)
    assert p.dtype == dtype
    assert p.isfinite().all()
    torch.testing.assert_close(
        p[1:4].double(), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=4e-3
    )
    if temperature <= 50:
        assert p[0].tolist() == [1.0, 0.0, 0.0]
    targets = torch.tensor([0, 1, 2, 0, 1])
    for loss in (rd.cross_entropy, rd.softmax_mse):
        values = loss(logits, targets, temperature, reduction="none")
        assert not values.isnan().any()
        assert values[1].item() == pytest.approx(
            {"c": math.log(3), "s": 2 / 3}[loss.__name__[0]], abs=4e-3
        )


def test_temperatures_below_the_least_float_are_the_cold_limit() -> None:
    assert rd.softmax(torch.tensor([1.0, 2.0, -3.0]), 1e-60).tolist() == [0, 1, 0]
    assert rd.softmax(torch.tensor([2.0, 2.0]), 1e-60).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor([[11.0, -11.0, 3.5], [0.25, 0.5, 1.0]]).to(dtype)
    found, labels = rd.log_softmax(logits, 3.0), torch.tensor([2, 0])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.log_softmax(logits.float() / 3, dim=1))
    assert rd.cross_entropy(logits, labels, 3.0) == rd.cross_entropy(logits.float(), labels, 3.0)
    assert rd.softmax(logits, 3.0).dtype == dtype


def test_loss_of_a_confident_mistake_of_1e30_is_exact() -> None:
    logits = torch.tensor([[1e30, 0.0]])
    assert rd.cross_entropy(logits, torch.tensor([1])).item() == pytest.approx(1e30)
    one_hot = torch.tensor([[1.0, 0.0]])
    assert rd.cross_entropy(torch.tensor([[3e38, -3e38]]), one_hot).item() == 0.0


def test_gradients_at_extreme_logits_are_finite() -> None:
    logits = torch.tensor([[1e30, -1e30, 0.0]], requires_grad=True)
    rd.cross_entropy(logits, torch.tensor([1]), 50.0).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[0.02, -0.02, 0.0]]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_losses_against_torch(temperature: float) -> None:
    logits, targets = random_logits(9, 5), torch.arange(9) % 5
    functional = torch.nn.functional
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            rd.cross_entropy(logits, targets, temperature, label_smoothing=smoothing),
            functional.cross_entropy(logits / temperature, targets, label_smoothing=smoothing),
        )
    soft = torch.softmax(random_logits(9, 5, seed=1), dim=-1)
    torch.testing.assert_close(
        rd.cross_entropy(logits, soft, temperature, reduction="sum"),
        functional.cross_entropy(logits / temperature, soft, reduction="sum"),
    )
    squared = (torch.softmax(logits / temperature, -1) - functional.one_hot(targets, 5)) ** 2
    torch.testing.assert_close(rd.softmax_mse(logits, targets, temperature), squared.sum(-1).mean())
    torch.testing.assert_close(
        rd.softmax_mse(logits, functional.one_hot(targets, 5).double(), temperature),
        squared.sum(-1).mean(),
    )


def test_uniform_predictions_cost_ln_c_and_one_minus_one_over_c() -> None:
    logits, targets = torch.full((4, 10), 7.0, dtype=torch.float64), torch.arange(4)
    assert rd.cross_entropy(logits, targets).item() == pytest.approx(math.log(10), abs=1e-14)
    assert rd.softmax_mse(logits, targets).item() == pytest.approx(0.9, abs=1e-14)


@given(st.integers(0, 10**6), st.floats(1e-2, 1e3))
def test_free_energy_is_energy_less_temperature_times_entropy(
    seed: int, temperature: float
) -> None:
    logits = random_logits(6, 5, seed=seed)
    energy = -(rd.softmax(logits, temperature) * logits).sum(-1)
    expected = energy - temperature * rd.entropy(logits, temperature)
    torch.testing.assert_close(
        rd.free_energy(logits, temperature), expected, rtol=1e-10, atol=1e-10
    )


def test_entropy_limits() -> None:
    assert rd.entropy(torch.tensor([[5.0, 5.0, 5.0, 5.0]])).item() == pytest.approx(math.log(4))
    assert rd.entropy(torch.tensor([[500.0, 0.0, 0.0]])).item() == 0.0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "temperature",
    [
        0.0,
        -1.0,
        math.nan,
        math.inf,
        torch.tensor([1.0, -2.0]),
        None,
        "hot",
        torch.ones(3),
        torch.ones(2, 2),
    ],
)
def test_bad_temperatures(temperature: Any) -> None:
    logits = torch.zeros(2, 3)
    for call in (
        lambda: rd.softmax(logits, temperature),
        lambda: rd.cross_entropy(logits, torch.tensor([0, 1]), temperature),
        lambda: rd.free_energy(logits, temperature),
    ):
        with pytest.raises(ValueError, match=r"temperature (is|has)"):
            call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("logits", "match"),
    [
        (torch.tensor([[1.0, math.nan]]), "NaN or infinite"),
        (torch.tensor([[1.0, math.inf]]), "NaN or infinite"),
        (torch.tensor([[1, 2]]), "dtype torch.int64"),
        (torch.zeros(0, 3), "empty"),
        (torch.tensor(1.0), "at least 1 dimension"),
        ([[1.0, 2.0]], "is a list"),
    ],
)
def test_bad_logits(logits: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        rd.softmax(logits)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("targets", "match"),
    [
        (torch.tensor([0, 3]), r"0\.\.2"),
        (torch.tensor([0, -1]), r"0\.\.2"),
        (torch.tensor([0]), "shape"),
        (torch.tensor([[0.5, 0.5, 0.1], [1.0, 0.0, 0.0]]), "sum to 1"),
        (torch.tensor([0.5, 0.5]), "shape"),
        (torch.tensor([[-0.5, 1.0, 0.5], [1.0, 0.0, 0.0]]), "non-negative"),
        ([0, 1], "targets.*list"),
    ],
)
def test_bad_targets(targets: Any, match: str) -> None:
    for loss in (rd.cross_entropy, rd.softmax_mse):
        with pytest.raises(ValueError, match=match):
            loss(torch.zeros(2, 3), targets)
    for smoothing in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match="label_smoothing"):
            rd.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), label_smoothing=smoothing)
    with pytest.raises(ValueError, match="reduction"):
        rd.softmax_mse(torch.zeros(2, 3), torch.tensor([0, 1]), reduction="median")  # type: ignore[arg-type]
