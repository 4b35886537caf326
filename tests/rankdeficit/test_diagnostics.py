"""Alignment and the measures of the logits."""

import math

import pytest
import torch

import rankdeficit as rd
from rankdeficit.diagnostics import alignment, measure_logits


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
    with pytest.raises(ValueError, match="directions is 0"):
        alignment(normal(3, 4), normal(9, 4), directions=0)
    with pytest.raises(ValueError, match="inputs has NaN"):
        alignment(normal(3, 4), torch.full((9, 4), math.nan))
    with pytest.raises(ValueError, match="weight has shape"):
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
