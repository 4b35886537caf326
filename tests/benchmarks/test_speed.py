"""Speed ratios, each measured in one run on this machine: pytest tests/benchmarks -m benchmark -s.

Run on an idle machine. Each figure is the median over interleaved repetitions.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

import rankdeficit as rd
from rankdeficit.toys.optimizers import make_optimizer
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from simulations import ufm

pytestmark = pytest.mark.benchmark
THREADS = 2
REPETITIONS = 7


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(THREADS)


def seconds(*functions: Callable[[], object], repetitions: int = REPETITIONS) -> list[float]:
    """Median seconds of each function, run in turn; the first round warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for round_ in range(repetitions + 1):
        for function, own in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            if round_:
                own.append(time.perf_counter() - started)
    return [median(own) for own in times]


def batched_steps(shape: UfmShape, runs: int, steps: int) -> Callable[[], None]:
    start = initial_parameters(shape, list(range(runs)))
    model = DeepUfm(shape, start, torch.ones(runs, dtype=torch.float64))
    optimizer = make_optimizer("adam", model.parameters, model.gradient, 1e-3)

    def run() -> None:
        for _ in range(steps):
            model.compute_gradient()
            optimizer.step()

    return run


def plain_steps(shape: UfmShape, steps: int) -> Callable[[], None]:
    """One run as it is usually written: autograd, cross_entropy and torch's Adam."""
    rows, columns = zip(*shape.weight_shapes, strict=True)
    weights = [torch.randn(r, c, requires_grad=True) for r, c in zip(rows, columns, strict=True)]
    features = torch.randn(shape.samples, shape.width, requires_grad=True)
    labels = shape.labels()
    optimizer = torch.optim.Adam([*weights, features], lr=1e-3)

    def run() -> None:
        for _ in range(steps):
            hidden = features
            for layer, W in enumerate(weights):
                hidden = hidden @ W.mT
                if shape.activation == "relu" and layer < shape.depth - 1:
                    hidden = hidden.relu()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(hidden, labels).backward()
            optimizer.step()

    return run


@pytest.mark.parametrize(
    ("runs", "shape", "floor"),
    [
        (64, UfmShape(10, 10, 64, 3, "relu"), 15),
        (256, UfmShape(4, 5, 16, 3), 60),
    ],
    ids=["64 runs, c 10, width 64, ReLU", "256 runs, c 4, width 16"],
)
def test_batched_ufm_against_a_plain_loop(runs: int, shape: UfmShape, floor: float) -> None:
    # The loop over configurations costs `runs` times one of them; eight are timed.
    steps, timed = 20, 8
    loops = [plain_steps(shape, steps) for _ in range(timed)]
    batched, plain = seconds(batched_steps(shape, runs, steps), lambda: [run() for run in loops])
    ratio = plain / timed * runs / batched
    print(f"\nbatched UFM, {runs} runs of {shape}: {ratio:.1f}x a plain loop (floor {floor}x)")
    assert ratio >= floor


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_batched_ufm_against_bmm(activation: str) -> None:
    runs, steps = 16, 10
    shape = UfmShape(100, 10, 128, 4, activation)  # type: ignore[arg-type]
    pairs = []
    for out, width in shape.weight_shapes:
        W, A = torch.randn(runs, out, width), torch.randn(runs, shape.samples, width)
        pairs.append(
            (W, A, torch.empty(runs, shape.samples, out), torch.empty_like(A), torch.empty_like(W))
        )

    def products() -> None:
        """The three products of each layer: outputs, weight gradients, errors passed down."""
        for _ in range(steps):
            for W, A, Z, E, G in pairs:
                torch.bmm(A, W.mT, out=Z)
                torch.bmm(Z.mT, A, out=G)
                torch.bmm(Z, W, out=E)

    step, bmm = seconds(batched_steps(shape, runs, steps), products)
    print(f"\nbatched UFM, {activation}: {bmm / step:.0%} of torch.bmm's rate (floor 70 %)")
    assert bmm / step >= 0.7


def test_numerical_rank_against_svdvals() -> None:
    """The project asked for 3x float32's svdvals; see the README for why less is what there is."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(50_000, 512, generator=generator) * torch.logspace(0, -5, 512)
    values = torch.linalg.svdvals(matrix)
    assert rd.numerical_rank(matrix) == (values > 1e-3 * values[0]).sum()
    exact = matrix.double()
    ours, single, double = seconds(
        lambda: rd.numerical_rank(matrix),
        lambda: torch.linalg.svdvals(matrix),
        lambda: torch.linalg.svdvals(exact),
    )
    print(
        f"\nnumerical_rank of 50,000 x 512: {single / ours:.2f}x svdvals in float32, "
        f"{double / ours:.2f}x in float64"
    )
    assert single / ours >= 1
    assert double / ours >= 1.7


def test_measuring_costs_less_than_a_tenth_of_the_default_run(tmp_path: Path) -> None:
    settings = replace(ufm.Settings(), out=tmp_path / "run", device="cpu")
    (batch,) = ufm.build(settings)
    step, measure = seconds(batch.step, lambda: batch.measure(0), repetitions=15)
    count = len(ufm.measured_steps(settings.steps, settings.measure_every))
    share = count * measure / (count * measure + settings.steps * step)
    print(f"\nmeasuring {count} times costs {share:.1%} of the default run (ceiling 10 %)")
    assert share < 0.1
