"""Detection metrics against scikit-learn, by hand, and where other metrics saturate."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor

from rankdeficit.diagnostics import detection, ortho_dev


def scores(n: int, shift: float, seed: int, levels: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, dtype=torch.float64, generator=generator) + shift
    return values if levels is None else (values * levels).round() / levels


def reference(id_scores: Tensor, ood_scores: Tensor) -> list[float]:
    found = []
    truth = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    values = torch.cat([id_scores, ood_scores]).numpy()
    found.append(metrics.roc_auc_score(truth, values))
    for own, sign in ((1 - truth, -1), (truth, 1)):
        fpr, tpr, _ = metrics.roc_curve(own, sign * values, drop_intermediate=False)
        found.append(fpr[np.argmax(tpr >= 0.95 - 1e-12)])
    found.extend(
        metrics.average_precision_score(own, sign * values)
        for own, sign in ((1 - truth, -1), (truth, 1))
    )
    return found


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize(
    ("n", "m", "shift"), [(200, 300, 1.0), (37, 20, 0.0), (20, 7, -2.0), (1, 1, 1.0)]
)
def test_agrees_with_scikit_learn(n: int, m: int, shift: float, levels: int | None) -> None:
    known, strange = scores(n, 0.0, 1, levels), scores(m, shift, 2, levels)
    assert list(detection(known, strange)) == pytest.approx(reference(known, strange), abs=1e-12)


small_scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(small_scores, small_scores)
def test_agrees_with_scikit_learn_with_many_ties(known: list[int], strange: list[int]) -> None:
    a, b = (torch.tensor(values, dtype=torch.float64) for values in (known, strange))
    assert list(detection(a, b)) == pytest.approx(reference(a, b), abs=1e-12)


@given(small_scores, small_scores)
def test_only_the_order_counts(known: list[int], strange: list[int]) -> None:
    a, b = (torch.tensor(values, dtype=torch.float64) for values in (known, strange))
    assert detection(1e6 + 1e3 * a**3, 1e6 + 1e3 * b**3) == detection(a, b)
    shuffled = a[torch.randperm(len(a), generator=torch.Generator().manual_seed(0))]
    assert detection(shuffled, b) == detection(a, b)


def test_by_hand() -> None:
    perfect = detection(torch.tensor([1.0, 2.0]), torch.tensor([3.0, math.inf]))
    assert perfect == (1, 0, 0, 1, 1)
    found = detection(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.5, 5.0]))
    assert found.auroc == pytest.approx(6 / 8)
    assert found.fpr_id_positive == pytest.approx(1 / 2)
    assert found.fpr_ood_positive == pytest.approx(2 / 4)
    assert detection(torch.ones(4), torch.ones(6)).auroc == 0.5


def test_large_scores_do_not_saturate() -> None:
    """A sigmoid would make all of them 1, and the AUROC 0.5."""
    known, strange = scores(500, 0.0, 1), scores(500, 1.0, 2)
    assert detection(1e6 + known, 1e6 + strange).auroc == pytest.approx(
        detection(known, strange).auroc, abs=1e-5
    )


def test_ortho_dev_by_hand() -> None:
    means = torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
    assert ortho_dev(means, torch.tensor([0.0, 0.0, 5.0])) == 0
    assert ortho_dev(means, torch.tensor([3.0, 4.0, 0.0])) == pytest.approx((0.6 + 0.8) / 2)
    assert ortho_dev(-7 * means, torch.tensor([3.0, 4.0, 0.0])) == pytest.approx(0.7)


@pytest.mark.usefixtures("unchecked")
def test_bad_input() -> None:
    good = torch.ones(3)
    for arguments, match in (
        ((torch.ones(0), good), "id_scores has shape"),
        ((good, torch.tensor([math.nan])), "1 NaN"),
        ((good, torch.ones(2, 2)), "ood_scores.*2, 2"),
        ((good.long(), good), "dtype"),
        ((good, good, 0.0), "tpr is 0"),
    ):
        with pytest.raises(ValueError, match=match):
            detection(*arguments)
    with pytest.raises(ValueError, match="direction"):
        ortho_dev(torch.zeros(2, 3), torch.ones(3))
