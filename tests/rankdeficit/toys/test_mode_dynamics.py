"""Mode growth against SciPy's solver and autograd, and the balanced start's properties."""

import math
from functools import reduce
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import rankdeficit as rd
from rankdeficit.toys.mode_dynamics import (
    balanced_start,
    dropout_temperature,
    escape_time,
    grow,
    growth_rate,
    ratio_at_escape,
)
from rankdeficit.toys.ufm import DeepUfm, UfmShape


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("L", [2, 3, 4, 6])
def test_growth_solves_its_differential_equation(L: int) -> None:
    start, rate = doubles(1e-3, 2e-3, 5e-3), 0.02
    end = escape_time(start[2:], doubles(1.0), L, doubles(rate)).item()
    times = torch.linspace(0, end, 7, dtype=torch.float64)
    solution = solve_ivp(
        lambda _, s: L * s ** (2 - 2 / L) * rate,
        (0, end), start.numpy(), method="DOP853", t_eval=times.numpy(), rtol=1e-12, atol=1e-18,
    )  # fmt: skip
    ours = grow(start[:, None], times[None], L, doubles(rate)[:, None])
    torch.testing.assert_close(ours, torch.from_numpy(solution.y), rtol=1e-8, atol=0)
    assert ours[2, -1].item() == pytest.approx(1, rel=1e-9)


POSITIVE = st.floats(1e-6, 1e-2)


@given(L=st.integers(2, 9), first=POSITIVE, below=st.floats(0.01, 1), rise=st.floats(1.01, 1e4))
def test_escape_and_ratio_invert_growth(L: int, first: float, below: float, rise: float) -> None:
    rate, s_1 = doubles(0.3), doubles(first)
    end = s_1 * rise
    time = escape_time(s_1, end, L, rate)
    torch.testing.assert_close(grow(s_1, time, L, rate), end, rtol=1e-8, atol=0)
    ratio = ratio_at_escape(s_1 * below, s_1, end, L)
    torch.testing.assert_close(
        ratio, grow(s_1 * below, time, L, rate) / end, rtol=1e-8, atol=1e-300
    )
    assert ratio.item() <= below * (1 + 1e-12)
    halfway = grow(s_1, time / 2, L, rate)
    torch.testing.assert_close(grow(halfway, time / 2, L, rate), end, rtol=1e-8, atol=0)


@pytest.mark.parametrize("L", [3, 5])
def test_small_logits_growth_blows_up_at_a_finite_time(L: int) -> None:
    start, rate = doubles(0.01), doubles(0.5)
    blow_up = escape_time(start, doubles(math.inf), L, rate)
    assert blow_up.item() == pytest.approx(0.01 ** (2 / L - 1) / ((L - 2) * 0.5))
    assert 1e3 < grow(start, blow_up * (1 - 1e-6), L, rate).item() < math.inf
    assert grow(start, blow_up * torch.tensor([1.0 + 1e-12, 2.0]).double(), L, rate).isinf().all()


def test_ratios_stand_still_at_two_factors_and_fall_beyond() -> None:
    start, first, ends = doubles(1e-3), doubles(2e-3), torch.logspace(-2, 3, 6).double()
    assert (ratio_at_escape(start, first, ends, 2) == 0.5).all()
    for L in (3, 4, 6):
        ratios = ratio_at_escape(start, first, ends, L)
        assert (ratios.diff() < 0).all()
        assert ratio_at_escape(start, first, first, L).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("L", "share"), [(3, 1.0), (5, 0.9), (4, 1.1)])
def test_a_mode_drops_out_at_its_temperature(L: int, share: float) -> None:
    start, first = torch.tensor([1e-3, 1.5e-3]).double(), doubles(2e-3)
    a, N, gamma, b = 0.5, 4, 0.01, 1 - 2 / L
    T = dropout_temperature(start, first, L, gamma, a, N, share)
    assert T[0] < T[1]
    for factor in (0.999, 1.001):
        end = factor * a * T * math.sqrt(N)
        # s^-b falls `share` times as much for the later modes as for the first
        later = (start.pow(-b) - share * (first.pow(-b) - end.pow(-b))).pow(-1 / b)
        assert ((later > gamma * end) == (factor < 1)).all()
        if share == 1:
            assert later.tolist() == pytest.approx(
                (end * ratio_at_escape(start, first, end, L)).tolist()
            )
    never = dropout_temperature(first, first, L, gamma, a, N)
    assert never.isinf()


@pytest.mark.parametrize(("classes", "samples", "T"), [(4, 1, 1.0), (5, 3, 20.0), (2, 7, 0.1)])
def test_growth_rate_is_the_slope_at_zero_logits(classes: int, samples: int, T: float) -> None:
    labels = torch.arange(classes).repeat_interleave(samples)
    logits = torch.zeros(len(labels), classes, dtype=torch.float64, requires_grad=True)
    rd.cross_entropy(logits, labels, T).backward()
    values = torch.linalg.svdvals(logits.grad)
    expected = torch.full((classes - 1,), growth_rate(classes, T, samples)).double()
    torch.testing.assert_close(values[:-1], expected, rtol=1e-6, atol=0)
    assert values[-1] < 1e-14


SHAPES = [UfmShape(5, 3, 4, 1), UfmShape(4, 1, 7, 2), UfmShape(6, 2, 5, 4)]
MODES = doubles(0.3, 0.2, 0.05)


def start_of(shape: UfmShape, modes: torch.Tensor, T: float = 1.0) -> DeepUfm:
    return DeepUfm(shape, balanced_start(shape, modes[None], [0]), doubles(T))


@pytest.mark.parametrize("shape", SHAPES, ids=["L = 2", "L = 3", "L = 5"])
def test_a_balanced_start_is_balanced_with_the_stated_modes(shape: UfmShape) -> None:
    model = start_of(shape, MODES)
    layers = [model.factors.features[0].mT, *(W[0] for W in model.factors.weights)]
    for below, above in pairwise(layers):
        torch.testing.assert_close(above.mT @ above, below @ below.mT, rtol=0, atol=1e-14)
    logits = model.logits()[0].clone()
    values = torch.linalg.svdvals(logits)
    torch.testing.assert_close(values[:3], MODES, rtol=1e-12, atol=0)
    assert values[3:].max() < 1e-14
    blocks = logits.view(shape.classes, shape.samples_per_class, -1)
    torch.testing.assert_close(blocks, blocks[:, :1].expand_as(blocks), rtol=0, atol=1e-15)
    assert logits.sum(dim=0).abs().max() < 1e-14
    assert logits.sum(dim=1).abs().max() < 1e-14


def growth_of_logits(model: DeepUfm) -> torch.Tensor:
    """dZ/dt of the logits (n, c) under gradient flow, by the product rule."""
    factors = [model.factors.features[0], *(W[0].mT for W in model.factors.weights)]
    model.compute_gradient()
    slopes = model.shape.unpack(-model.gradient)
    velocities = [slopes.features[0], *(W[0].mT for W in slopes.weights)]
    return sum(
        reduce(torch.matmul, [*factors[:i], velocity, *factors[i + 1 :]])
        for i, velocity in enumerate(velocities)
    )


@pytest.mark.parametrize("T", [1.0, 50.0])
@pytest.mark.parametrize("shape", SHAPES, ids=["L = 2", "L = 3", "L = 5"])
def test_modes_of_a_balanced_start_grow_apart_from_each_other(shape: UfmShape, T: float) -> None:
    """In the basis of the logits the slope at zero is g I, and ds/dt = L s^(2 - 2/L) g."""
    L, modes = shape.depth + 1, MODES * 1e-7 * T
    g = growth_rate(shape.classes, T, shape.samples_per_class)
    model = start_of(shape, modes, T)
    V, _, U = torch.linalg.svd(model.logits()[0].clone(), full_matrices=False)
    V, U = V[:, :3], U[:3]
    zero = torch.zeros(shape.samples, shape.classes, dtype=torch.float64, requires_grad=True)
    rd.cross_entropy(zero, shape.labels(), T).backward()
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(-V.mT @ zero.grad @ U.mT / g, eye, rtol=0, atol=1e-12)
    growth = V.mT @ growth_of_logits(model) @ U.mT
    expected = torch.diag(L * modes.pow(2 - 2 / L) * g)
    torch.testing.assert_close(
        growth, expected, rtol=1e-6, atol=1e-6 * expected.diag().min().item()
    )


def test_balanced_starts_depend_on_their_own_seed_alone() -> None:
    shape = SHAPES[2]
    both = balanced_start(shape, torch.stack([MODES, 2 * MODES]), [3, 4])
    assert torch.equal(both[1], balanced_start(shape, 2 * MODES[None], [4])[0])
    other = balanced_start(shape, 2 * MODES[None], [5])[0]
    assert (both[1] - other).norm() > 0.5 * other.norm()


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    one, modes = doubles(1.0), MODES[None]
    for call, match in (
        (lambda: growth_rate(1, 1.0), "classes is 1"),
        (lambda: growth_rate(3, 0.0), "temperature is 0.0"),
        (lambda: growth_rate(3, math.nan), "temperature is nan"),
        (lambda: growth_rate(3, 1.0, 0), "samples_per_class is 0"),
        (lambda: grow(one, one, 1, one), "factors is 1"),
        (lambda: escape_time(one, one, 0, one), "factors is 0"),
        (lambda: ratio_at_escape(one, one, one, 1), "factors is 1"),
        (lambda: dropout_temperature(one, one, 2, 0.1), "factors is 2"),
        (lambda: dropout_temperature(one, one, 3, 1.0), "gamma is 1"),
        (lambda: dropout_temperature(one, one, 3, 0.1, 0.0), "saturation is 0"),
        (lambda: dropout_temperature(one, one, 3, 0.1, share=-1.0), "share is -1"),
        (lambda: balanced_start(UfmShape(3, 1, 5, 2), modes, [0]), "modes.* 3.* 2"),
        (lambda: balanced_start(UfmShape(9, 1, 2, 2), modes, [0]), "modes are 3"),
        (lambda: balanced_start(UfmShape(5, 1, 5, 2, "relu"), modes, [0]), "linear"),
        (lambda: balanced_start(UfmShape(5, 1, 5, 2, bias=True), modes, [0]), "no bias"),
        (lambda: balanced_start(UfmShape(5, 1, 5, 2, counts=(2, 1, 1, 1, 1)), modes, [0]), "size"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
