import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ive

from rankdeficit import constructions, cross_entropy, numerical_rank, softmax
from rankdeficit.constructions import Code

CODES = [
    *(constructions.simplex_etf(c) for c in (2, 3, 10, 100)),
    *(constructions.circle(c) for c in (3, 4, 10, 100)),
    *(constructions.pairs(c) for c in (2, 4, 10)),
    *(make() for make in constructions.SPECIAL.values()),
]


def margins(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -math.inf)
    return own - others.amax(1)


@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code.name} {code.classes}")
def test_codes_are_tight_frames_of_their_rank_and_margin(code: Code) -> None:
    labels = torch.arange(code.classes)
    directions = code.directions
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(code.classes).double())
    frame = directions.mT @ directions
    expected = code.classes / code.rank * torch.eye(code.rank, dtype=torch.float64)
    torch.testing.assert_close(frame, expected, rtol=0, atol=1e-12)
    logits = code.logits(labels, scale=3.0)
    assert numerical_rank(logits, 1e-9) == code.rank
    torch.testing.assert_close(
        margins(logits, labels), torch.full_like(logits[0], 3 * code.margin), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("code", "rank", "margin"),
    [
        (constructions.simplex_etf(10), 9, 10 / 9),
        (constructions.circle(10), 2, 1 - math.cos(math.pi / 5)),
        (constructions.pairs(10), 5, 1.0),
        (constructions.petersen(), 4, 5 / 6),
        (constructions.icosahedron(), 3, 1 - 1 / math.sqrt(5)),
        (constructions.half_cube(), 5, 4 / 5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_stated_ranks_and_margins(code: Code, rank: int, margin: float) -> None:
    assert code.rank == rank
    assert code.margin == pytest.approx(margin, abs=1e-15)


@given(
    c=st.integers(3, 200),
    labels=st.lists(st.integers(0, 10**6), min_size=1, max_size=60),
    scale=st.floats(1e-3, 1e6),
)
def test_circle_classifies_any_labels_at_rank_two(c: int, labels: list[int], scale: float) -> None:
    y = torch.tensor(labels) % c
    code = constructions.circle(c)
    logits = code.logits(y, scale)
    present = y.unique()
    # Labels of one class, or of two opposite ones, span a line; all others the plane.
    collinear = bool((2 * (present - present[0]) % c == 0).all())
    assert numerical_rank(logits, 1e-6) == (1 if collinear else 2)
    assert torch.equal(logits.argmax(1), y)
    expected = scale * (1 - math.cos(2 * math.pi / c))
    torch.testing.assert_close(
        margins(logits, y), torch.full_like(logits[:, 0], expected), rtol=1e-9, atol=1e-12 * scale
    )


@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code.name} {code.classes}")
@pytest.mark.parametrize(
    ("loss", "temperature"), [(1e-6, 1.0), (0.1, 50.0), (5.0, 1.0), (1000.0, 1.0)]
)
def test_any_loss_is_reached(code: Code, loss: float, temperature: float) -> None:
    labels = torch.arange(code.classes)
    scale = code.scale_for_loss(loss, temperature)
    reached = cross_entropy(code.logits(labels, scale), labels, temperature)
    assert reached <= loss * (1 + 1e-9)


@pytest.mark.parametrize(("c", "rho"), [(3, 0.5), (10, 4.0), (25, 30.0)])
def test_post_softmax_spectrum_of_the_circle(c: int, rho: float) -> None:
    code = constructions.circle(c)
    values = torch.linalg.svdvals(softmax(code.logits(torch.arange(c), rho)))
    # ive is I scaled by exp(-rho), which cancels in the ratio.
    orders = range(-60, 61)
    total = sum(ive(abs(q * c), rho) for q in orders)
    expected = sorted(sum(ive(abs(m + q * c), rho) for q in orders) / total for m in range(c))
    torch.testing.assert_close(
        values, torch.tensor(expected[::-1], dtype=torch.float64), rtol=0, atol=5e-15
    )


def test_rank_one_logits_with_distinct_entries_have_full_rank_after_the_softmax() -> None:
    # Strictly totally positive in exact arithmetic; resolvable in float64 for a small n only.
    n = 5
    a = torch.linspace(-1, 1, n, dtype=torch.float64)
    for scale in (-3.0, 1.0, 8.0):
        probabilities = softmax(scale * a[:, None] * a.flip(0))
        assert torch.linalg.svdvals(probabilities)[-1] > 1e-8
        assert numerical_rank(probabilities, 1e-7) == n
        assert numerical_rank(a[:, None] * a) == 1


@given(
    n=st.integers(2, 60),
    dimension=st.integers(1, 10),
    c=st.integers(3, 20),
    seed=st.integers(0, 999),
)
def test_a_network_realises_the_circle_on_any_data(
    n: int, dimension: int, c: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, dimension, generator=generator)
    labels = torch.randint(c, (n,), generator=generator)
    code = constructions.circle(c)
    state = torch.get_rng_state()
    network = constructions.realise(code, inputs, labels, scale=5.0)
    assert torch.equal(torch.get_rng_state(), state)
    logits = network(inputs.double()).detach()
    torch.testing.assert_close(logits, code.logits(labels, 5.0), rtol=0, atol=1e-6)
    assert torch.equal(logits.argmax(1), labels)
    probe = torch.randn(200, dimension, generator=generator, dtype=torch.float64)
    assert numerical_rank(network(probe).detach(), 1e-9) <= 2


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    for call, match in (
        (lambda: constructions.circle(2), "at least 3"),
        (lambda: constructions.simplex_etf(1), "at least 2"),
        (lambda: constructions.pairs(5), "even"),
        (lambda: CODES[0].logits(torch.tensor([2])), r"lie in 0\.\.1"),
        (lambda: CODES[0].logits(torch.tensor([-1])), r"lie in 0\.\.1"),
        (lambda: CODES[0].logits(torch.tensor([0.5])), "integers"),
        (lambda: CODES[0].logits(torch.tensor([0]), math.nan), "scale is"),
        (lambda: CODES[0].scale_for_loss(0.0), "loss is"),
        (lambda: CODES[0].scale_for_loss(0.1, -2.0), "temperature is"),
        (lambda: constructions.realise(CODES[1], torch.ones(3), torch.tensor([0])), "dimension"),
        (
            lambda: constructions.realise(CODES[1], torch.ones(1, 3), torch.tensor([0])),
            "at least 2",
        ),
        (
            lambda: constructions.realise(
                CODES[1], torch.full((2, 3), math.nan), torch.tensor([0, 1])
            ),
            "NaN",
        ),
        (
            lambda: constructions.realise(CODES[1], torch.ones(2, 3), torch.tensor([0, 1])),
            "distinct",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            call()
