"""Alignment and the measures of the logits."""

import math
from pathlib import Path

import pytest
import torch

import rankdeficit as rd
from rankdeficit.diagnostics import alignment, measure_logits
from rankdeficit.diagnostics.states.alignment import (
    InputDirections,
    StreamedAlignment,
    group_count,
    random_alignment,
)
from rankdeficit.diagnostics.states.logits import LogitsMeasures, LogitsStatistics
from rankdeficit.diagnostics.states.row_sample import RowSample
from rankdeficit.diagnostics.states.sampling import sample_keys
from tests.processes import run_together


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_alignment_of_planted_directions() -> None:
    # W reads direction (cos t, sin t, 0, ...), the inputs are spread along the first axis.
    for angle in (0.0, 0.3, 1.2, math.pi / 2):
        weight = torch.zeros(4, 6, dtype=torch.float64)
        weight[0, 0], weight[0, 1] = math.cos(angle), math.sin(angle)
        inputs = torch.zeros(20, 6, dtype=torch.float64)
        inputs[:, 0] = normal(20)
        assert alignment(weight, inputs).item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_alignment_against_numpy_style_svd() -> None:
    weight, inputs = normal(9, 12), normal(50, 12, seed=1)
    right = torch.linalg.svd(weight).Vh[:5]
    left = torch.linalg.svd(inputs.mT).U[:, :5]
    expected = (right @ left).abs().max()
    torch.testing.assert_close(alignment(weight, inputs, directions=5), expected)


def test_alignment_ignores_scale_rotation_and_sample_order() -> None:
    weight, inputs = normal(9, 12), normal(50, 12, seed=1)
    rotation = torch.linalg.qr(normal(12, 12, seed=2)).Q
    shuffled = inputs[torch.randperm(50, generator=torch.Generator().manual_seed(3))]
    torch.testing.assert_close(
        alignment(weight, inputs), alignment(5 * weight @ rotation, 1e-9 * shuffled @ rotation)
    )


def test_alignment_of_batches_and_of_zero() -> None:
    weight, inputs = normal(3, 5, 12), normal(3, 40, 12, seed=1)
    weight[2] = 0
    values = alignment(weight, inputs)
    assert values[2] == 0
    for run in range(2):
        torch.testing.assert_close(values[run], alignment(weight[run], inputs[run]))


def test_alignment_of_random_directions_is_what_the_docstring_says() -> None:
    values = [
        alignment(normal(128, 128, seed=s), normal(400, 128, seed=100 + s)) for s in range(20)
    ]
    assert torch.stack(values).mean().item() == pytest.approx(0.28, abs=0.02)


@pytest.mark.usefixtures("unchecked")
def test_bad_alignment_arguments() -> None:
    with pytest.raises(ValueError, match=r"directions.* 0"):
        alignment(normal(3, 4), normal(9, 4), directions=0)
    with pytest.raises(ValueError, match="inputs has NaN"):
        alignment(normal(3, 4), torch.full((9, 4), math.nan))
    with pytest.raises(ValueError, match=r"weight.*shape"):
        alignment(normal(4), normal(9, 4))
    for weight, inputs in ((normal(3, 4), normal(9, 5)), (normal(2, 3, 4), normal(9, 4))):
        with pytest.raises(ValueError, match="must agree"):
            alignment(weight, inputs)


def test_measures_agree_with_the_single_functions() -> None:
    logits, T = 30 * normal(2, 60, 8), torch.tensor([1.0, 50.0])
    logits[1, :, 5:] *= 1e-4
    measures = measure_logits(logits, T, 1e-2)
    for run in range(2):
        one, temperature = logits[run], T[run].item()
        assert measures.rank[run] == rd.numerical_rank(one, 1e-2)
        assert measures.rank_interval[run].tolist() == [measures.rank[run]] * 2
        assert measures.rank_curve[run].tolist() == rd.rank_curve(one).tolist()
        assert measures.centred_rank[run] == rd.centred_rank(one, 1e-2)
        probabilities = rd.softmax(one, temperature)
        assert measures.post_softmax_rank[run] == rd.numerical_rank(probabilities, 1e-2)
        assert measures.logits_norm[run].item() == pytest.approx(one.norm().item() / 60**0.5)
        effective = measures.logits_norm[run].item() / temperature
        assert measures.effective_logits_norm[run].item() == pytest.approx(effective)
    assert measures.rank.tolist() == [8, 5]
    record = measures.record(1)
    assert record["rank"] == 5
    assert record["rank_curve"]["0.01"] == 5
    assert record["centred_rank_curve"]["0.01"] == record["centred_rank"]
    assert record["post_softmax_rank_curve"]["0.01"] == record["post_softmax_rank"]
    assert len(record["singular_values"]) == 8
    assert measure_logits(logits[1], 50.0, 1e-2).record() == record


def test_softmax_raises_the_rank_of_low_rank_logits() -> None:
    code = rd.constructions.circle(20)
    measures = measure_logits(code.logits(torch.arange(20), 200.0))
    assert measures.rank == 2
    assert measures.post_softmax_rank == 20


@pytest.mark.usefixtures("unchecked")
def test_bad_logits() -> None:
    with pytest.raises(ValueError, match="temperature"):
        measure_logits(normal(4, 3), 0.0)
    with pytest.raises(ValueError, match="NaN"):
        measure_logits(torch.full((4, 3), math.nan))


@pytest.mark.parametrize(
    "shapes", [((10, 300), (20, 300)), ((40, 12), (50, 12)), ((5, 30), (90, 30))]
)
def test_alignment_of_wide_and_tall_matrices_agrees_with_svd(
    shapes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, inputs = (
        torch.randn(3, *shape, dtype=torch.float64, generator=generator) for shape in shapes
    )
    left, right = (torch.linalg.svd(m)[2][:, :15] for m in (weight, inputs))
    top = left[:, : min(15, shapes[0][0])] @ right[:, : min(15, shapes[1][0])].mT
    torch.testing.assert_close(alignment(weight, inputs), top.abs().amax(dim=(1, 2)))


def streamed(
    weight: torch.Tensor, inputs: torch.Tensor, size: int, per_sample: int = 1, directions: int = 15
) -> StreamedAlignment:
    """Alignment from batches of so many samples, each of some rows."""
    state = InputDirections(inputs.shape[1])
    for batch in inputs.split(size * per_sample):
        state.update(batch, sample_keys(batch[::per_sample]))
    return state.alignment(weight, directions)


@pytest.mark.parametrize("directions", [1, 4, 15])
@pytest.mark.parametrize("width", [6, 40, 200])  # a wide layer's directions come from Lanczos
def test_streamed_alignment_of_all_rows_is_that_of_the_matrix(width: int, directions: int) -> None:
    weight, inputs = normal(30, width), normal(300, width, seed=1) * torch.arange(1.0, width + 1)
    expected = alignment(weight, inputs, directions).item()
    for size, per_sample in ((300, 1), (7, 1), (50, 2), (1, 3)):
        found = streamed(weight, inputs, size, per_sample, directions)
        assert found.value == pytest.approx(expected, abs=1e-9)
        assert found.rows == 300
    rounded = streamed(weight.float(), inputs.float(), 50, 1, directions)
    assert rounded.value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("width", [20, 200])
def test_streamed_alignment_of_planted_directions(width: int) -> None:
    basis = torch.linalg.qr(normal(width, width)).Q
    for angle in (0.0, 0.3, 1.2, math.pi / 2):
        read = math.cos(angle) * basis[:, 0] + math.sin(angle) * basis[:, 1]
        weight = normal(9, 1, seed=1) * read
        inputs = normal(60, 1, seed=2) * basis[:, 0]
        found = streamed(weight, inputs, 25)
        assert found.value == pytest.approx(math.cos(angle), abs=1e-9)
        assert found.error == pytest.approx(0, abs=1e-9)
    # In the noise of all other directions only the leading one of each side is compared.
    inputs = 100 * normal(400, 1, seed=2) * basis[:, 0] + normal(400, width, seed=3)
    weight = 100 * normal(9, 1, seed=1) * basis[:, 0] + normal(9, width, seed=4)
    aside = 100 * normal(9, 1, seed=1) * basis[:, 1] + normal(9, width, seed=4)
    assert streamed(weight, inputs, 100, directions=1).value > 0.99
    assert streamed(aside, inputs, 100, directions=1).value < 0.06


def test_streamed_alignment_of_nothing() -> None:
    assert streamed(normal(3, 5), torch.zeros(8, 5, dtype=torch.float64), 3).value == 0
    assert streamed(torch.zeros(3, 5, dtype=torch.float64), normal(8, 5), 3).value == 0
    alone = streamed(normal(3, 5), normal(4, 5, seed=1), 1, per_sample=4)  # a single group
    assert math.isnan(alone.error)
    assert alone.value == pytest.approx(
        alignment(normal(3, 5), normal(4, 5, seed=1)).item(), abs=1e-9
    )


def test_error_of_streamed_alignment_compares_the_groups_that_keys_tell_apart() -> None:
    weight, keys = normal(7, 12), sample_keys(normal(50, 3))
    inputs = normal(100, 12, seed=1)  # two rows of every sample
    state = InputDirections(12)
    state.update(inputs, keys)
    found = state.alignment(weight)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    shuffled = InputDirections(12)
    for chosen in order.split(9):
        shuffled.update(inputs.unflatten(0, (50, 2))[chosen].flatten(0, 1), keys[chosen])
    assert shuffled.alignment(weight) == pytest.approx(found, abs=1e-9)
    # Other keys make other groups, and another error.
    other = InputDirections(12)
    other.update(inputs, torch.cat([keys[1:], keys[:1]]))
    assert other.alignment(weight).value == pytest.approx(found.value, abs=1e-9)
    assert abs(other.alignment(weight).error - found.error) > 1e-6


PLANTED = {"random": 0.0, "aligned": 1.0, "rank one": math.inf}
"""How much of a layer's weight lies along the leading directions of its input."""


def planted(
    kind: str, decay: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Weight, map from white noise to inputs, and the alignment of as many samples as there are."""

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    basis, scales = torch.linalg.qr(noise(10, 10)).Q, torch.arange(1, 11) ** -decay
    strength = PLANTED[kind]
    weight = noise(8, 10) * (1 + min(strength, 1) * 3 * scales) @ basis.mT
    if math.isinf(strength):
        angle = 1.5 * torch.rand((), generator=generator, dtype=torch.float64)
        weight = noise(8, 1) * (basis[:, 0] * angle.cos() + basis[:, 7] * angle.sin())
    directions = torch.linalg.svd(weight)[2][: 1 if math.isinf(strength) else 3]
    exact = (directions @ basis[:, :3]).abs().max()
    return weight, scales[:, None] * basis.mT, float(exact)


def test_the_alignment_of_all_samples_lies_within_two_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    inside, ratios = [], []
    for draw in range(200):
        kind = list(PLANTED)[draw % 3]
        weight, mixing, exact = planted(kind, (0.5, 1.0, 2.0)[draw // 3 % 3], generator)
        state = InputDirections(10, groups=(4, 16)[draw // 9 % 2])
        for size in (150, 50):  # samples of two rows, which are alike
            own = torch.randn(size, 2, 10, generator=generator, dtype=torch.float64)
            rows = (own + own.flip(1) / 2) @ mixing
            state.update(rows.flatten(0, 1), sample_keys(rows))
        found = state.alignment(weight, 3)
        assert found.error > 0
        inside.append(abs(found.value - exact) <= 2 * found.error)
        ratios.append(abs(found.value - exact) / found.error)
    assert sum(inside) >= 180
    assert 0.4 < torch.tensor(ratios).square().mean().sqrt() < 1.5  # no error is far too large


def test_more_groups_than_memory_allows_are_not_made() -> None:
    assert [group_count(width) for width in (3, 700, 1200, 5000)] == [16, 16, 5, 4]


@pytest.mark.parametrize(
    ("width", "first", "second"), [(1, 3, 2), (20, 1, 1), (128, 15, 15), (300, 15, 4)]
)
def test_random_directions_have_their_median(width: int, first: int, second: int) -> None:
    found = []
    for seed in range(200):
        one = torch.linalg.qr(normal(width, min(first, width), seed=2 * seed)).Q
        other = torch.linalg.qr(normal(width, min(second, width), seed=2 * seed + 1)).Q
        found.append(float((one.mT @ other).abs().max()))
    expected = random_alignment(width, min(first, width), min(second, width))
    assert torch.tensor(found).median().item() == pytest.approx(expected, rel=0.12)


def low_rank_logits(samples: int = 90) -> torch.Tensor:
    """Logits of 7 classes, of rank 3 but for small noise, with a constant added to each row."""
    signal = 20 * normal(samples, 3) @ normal(3, 7, seed=1)
    return signal + 1e-2 * normal(samples, 7, seed=2) + 5 * normal(samples, 1, seed=3)


def stream_logits(logits: torch.Tensor, size: int, temperature: float) -> LogitsStatistics:
    state = LogitsStatistics(logits.shape[1], temperature)
    for batch in logits.split(size):
        state.update(batch)
    return state


def assert_same_measures(found: LogitsMeasures, expected: LogitsMeasures) -> None:
    for name, value in expected._asdict().items():
        other = getattr(found, name)
        assert value.shape == other.shape, name
        assert value.dtype == other.dtype, name
        torch.testing.assert_close(other, value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("size", [1, 13, 90])
@pytest.mark.parametrize(("temperature", "gamma"), [(1.0, 1e-3), (50.0, 1e-2), (1000.0, 1e-5)])
def test_streamed_measures_of_logits_are_those_of_the_matrix(
    size: int, temperature: float, gamma: float
) -> None:
    logits = low_rank_logits()
    expected = measure_logits(logits, temperature, gamma)
    found = stream_logits(logits, size, temperature).measures(gamma)
    assert_same_measures(found, expected)


def test_streamed_measures_of_fewer_samples_than_classes() -> None:
    logits = low_rank_logits(4)
    assert_same_measures(stream_logits(logits, 3, 2.0).measures(), measure_logits(logits, 2.0))


def test_streamed_measures_of_float32_logits_are_in_float64() -> None:
    logits = low_rank_logits().float()
    assert_same_measures(stream_logits(logits, 20, 2.0).measures(), measure_logits(logits, 2.0))


@pytest.mark.usefixtures("unchecked")
def test_bad_streamed_logits() -> None:
    state = LogitsStatistics(7)
    with pytest.raises(ValueError, match="no rows"):
        state.measures()
    with pytest.raises(ValueError, match=r"rows, 7"):
        state.update(normal(3, 6))
    with pytest.raises(ValueError, match="NaN"):
        state.update(torch.full((3, 7), math.nan))
    with pytest.raises(ValueError, match="no rows"):  # the state is as it was
        state.measures()


def _share(rank: int, count: int, folder: Path) -> None:
    logits = stream_logits(low_rank_logits().tensor_split([31])[rank], 8, 50.0)
    logits.all_reduce()
    inputs = normal(100, 12).tensor_split([31])[rank]
    directions = InputDirections(12)
    directions.update(inputs, sample_keys(inputs))
    directions.all_reduce()
    found = directions.alignment(normal(7, 12, seed=1))
    sample = some_rows(inputs)
    sample.all_reduce()
    kept = (sample.seen, *sample.kept())
    torch.save([logits.measures()._asdict(), found._asdict(), kept], folder / f"{rank}.pt")


def some_rows(inputs: torch.Tensor) -> RowSample:
    sample = RowSample(12, 20)
    sample.update(inputs, sample_keys(inputs))
    return sample


def test_streams_of_two_processes_equal_one(tmp_path: Path) -> None:
    run_together(_share, tmp_path, tmp_path)
    expected = streamed(normal(7, 12, seed=1), normal(100, 12), 100)
    sample = some_rows(normal(100, 12))
    for rank in range(2):
        measures, found, kept = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert kept[0] == sample.seen == 100
        assert all(map(torch.equal, kept[1:], sample.kept()))
        assert_same_measures(LogitsMeasures(**measures), measure_logits(low_rank_logits(), 50.0))
        assert StreamedAlignment(**found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("samples", [2, 11, 30])
def test_alignment_in_the_span_of_few_rows_is_that_in_all_dimensions(samples: int) -> None:
    rows, weight = normal(2 * samples, 80), normal(40, 80)
    own, whole = InputDirections(80), InputDirections(80)
    for state in (own, whole):
        for batch in rows.split(10):
            state.update(batch, sample_keys(batch[::2]))
    whole._sum()
    found, expected = own.alignment(weight), whole.alignment(weight)
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert (found.rows, found.random) == (expected.rows, expected.random)
    # Resamples of few rows lack directions: rounding decides which of them count.
    assert found.error == pytest.approx(expected.error, rel=0.2)
