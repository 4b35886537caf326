"""Sampling intervals of ranks, their growth with the number of samples, and ranks of classes."""

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.measures import rank_sampling
from rankdeficit.diagnostics.measures.rank_sampling import (
    balanced_rank,
    class_ranks,
    gram_values,
    group_grams,
    growing_values,
    percentiles,
    ranks_of,
    resampled_values,
    settled_at,
)
from rankdeficit.spectrum import centre, numerical_rank
from tests.rankdeficit.diagnostics.diagnose.problems import batches

GAMMA = 1e-2


def decaying(n: int, c: int = 8) -> Tensor:
    """Rows with standard deviations 0.4^i: the population has rank 6 at GAMMA (0.4^5 = 0.0102)."""
    return torch.randn(n, c).double() * 0.4 ** torch.arange(c)


def test_grams_of_groups_are_those_of_their_rows() -> None:
    torch.manual_seed(0)
    rows = decaying(50)
    grams = group_grams(rows, 7)
    for gram, own in zip(grams, rows.tensor_split(7), strict=True):
        assert torch.allclose(gram, own.mT @ own, rtol=1e-12)
    found = ranks_of(gram_values(torch.stack([grams.sum(dim=0), grams[0]])), GAMMA).tolist()
    assert found == [numerical_rank(own, GAMMA) for own in (rows, rows[:8])]


def test_growth_is_the_rank_of_the_first_samples() -> None:
    torch.manual_seed(0)
    rows = decaying(101)
    found = growing_values(group_grams(rows, 5), 101)
    assert list(found) == [21, 41, 61, 101]  # 1, 2, 3 and 5 groups
    for n, own in found.items():
        assert int(ranks_of(own, GAMMA)) == numerical_rank(rows[:n], GAMMA)


def test_means_are_those_of_the_samples_at_hand() -> None:
    """Of the first samples, and of resamples: groups drawn several times are repeated rows."""
    torch.manual_seed(0)
    rows = decaying(60) + torch.arange(60)[:, None]
    augmented = torch.cat([torch.ones(60, 1).double(), rows], dim=1)
    grams = group_grams(augmented, 6)
    for n, values in growing_values(grams, 60, sample_centred=True).items():
        own = rows[:n] - rows[:n].mean(dim=0)
        torch.testing.assert_close(values[0].clamp(min=0).flip(0).sqrt(), torch.linalg.svdvals(own))
    generator = torch.Generator().manual_seed(3)
    (drawn,) = torch.randint(6, (1, 6), generator=generator).tolist()
    own = torch.cat([rows.tensor_split(6)[i] for i in drawn])
    found = resampled_values(grams, 3, resamples=1, sample_centred=True)
    expected = torch.linalg.svdvals(own - own.mean(dim=0))
    torch.testing.assert_close(found[0].clamp(min=0).flip(0).sqrt(), expected)


@pytest.mark.parametrize(
    ("ranks", "settled"),
    [
        ({10: 3, 20: 4, 40: 4, 80: 4}, 20),
        ({10: 4, 20: 3, 40: 4}, None),
        ({10: 5, 20: 5}, 10),
        ({10: 2}, None),
    ],
)
def test_a_rank_has_settled_where_it_stays(ranks: dict[int, int], settled: int | None) -> None:
    assert settled_at(ranks) == settled


def test_percentiles_are_values_that_occur_and_round_outwards() -> None:
    assert percentiles(torch.arange(101), 0.9) == [5, 95]
    assert percentiles(torch.tensor([1, 7, 1, 1])) == [1, 7]


def test_intervals_cover_the_rank_of_the_population() -> None:
    torch.manual_seed(0)
    found = []
    for seed in range(40):
        grams = group_grams(decaying(400), 40)
        found.append(percentiles(ranks_of(resampled_values(grams, seed, resamples=60), GAMMA)))
    assert sum(low <= 6 <= high for low, high in found) >= 36
    assert sum(low < high for low, high in found) >= 10  # 0.4^5 is close to GAMMA
    assert resampled_values(grams, 1).equal(resampled_values(grams, 1))


def test_ranks_of_classes_and_of_equally_weighted_classes() -> None:
    torch.manual_seed(0)
    first = torch.randn(2000, 1).double() @ torch.tensor([[1.0, -1, 0, 0]]).double()
    second = torch.randn(4, 2).double() @ torch.tensor([[0, 0, 1.0, -1], [1, 1, -1, -1]]).double()
    rows, labels = torch.cat([first, second]), torch.tensor([0] * 2000 + [3] * 4)
    assert class_ranks(rows, labels, GAMMA) == [1, 2]
    assert numerical_rank(centre(rows), 0.1) == 1  # four samples of 2,004 do not matter
    assert balanced_rank(rows, labels, 0.1) == 3
    assert balanced_rank(first, labels[:2000], 0.1) == 1


def problem(n: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(6, 5).double()
    inputs = torch.randn(n, 6).double()
    return model, inputs, torch.arange(n) % 5


def test_a_diagnosis_reports_both_conventions_in_any_order_of_the_samples() -> None:
    model, inputs, labels = problem(90)
    orders = torch.arange(90), torch.randperm(90)
    reports = [
        rd.diagnose(
            model,
            *[batches(inputs[own], labels[own], 30)] * 2,
            measures=["logits", "rank_sampling"],
        )
        for own in orders
    ]
    found = reports[0]["train.rank_sampling"]
    assert found == reports[1]["train.rank_sampling"]
    for kind in ("rank", "centred_rank", "sample_centred_rank", "covariance_rank"):
        assert found[kind]["value"] == reports[0][f"train.logits.{kind}"]
        low, high = found[kind]["interval"]
        assert low <= found[kind]["value"] <= high
    own = {line.name: line for line in rd.compare(*reports).lines}["train.rank_sampling.rank.value"]
    assert own.first.convention == "matrix"
    assert "bootstrap" in own.first.interval


@pytest.mark.parametrize("why", ["samples", "matrix_memory", "classes"])
def test_what_forbids_an_interval_is_told(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, labels = problem(15 if why == "samples" else 60)
    if why == "classes":
        monkeypatch.setattr(rank_sampling, "MOST_CLASSES", 4)
    memory = 8 * 25 * 19 if why == "matrix_memory" else 2**20
    data = batches(inputs, labels, 15)
    report = rd.diagnose(model, data, data, measures=["rank_sampling"], matrix_memory=memory)
    assert report["train.rank_sampling"] is None
    assert any(why in note for note in report["notes"])
