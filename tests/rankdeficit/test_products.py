"""Spectra of products from their factors, against the products."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rankdeficit as rd
from rankdeficit.products import product_spectrum


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 8), st.booleans(), st.integers(0, 2**32),
    st.floats(-8, 8),
)  # fmt: skip
def test_singular_values_are_those_of_the_product(
    n: int, c: int, d: int, centred: bool, seed: int, exponent: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = 10**exponent * torch.randn(n, d, generator=generator, dtype=torch.float64)
    weights = torch.randn(c, d, generator=generator, dtype=torch.float64)
    found = product_spectrum(features, weights, centred=centred)
    whole = rd.spectrum(features @ weights.mT, method="svd", centred=centred)
    k = found.singular_values.shape[-1]
    assert k == min(n, c, d)
    expected = whole.singular_values
    slack = 1e-12 * torch.linalg.norm(features) * torch.linalg.norm(weights)
    torch.testing.assert_close(found.singular_values, expected[:k], rtol=0, atol=float(slack))
    assert (expected[k:] <= slack).all()
    assert (found.lower <= whole.upper[:k]).all()
    assert (found.upper >= whole.lower[:k]).all()


def test_half_precision_and_large_heads_are_products_in_float64() -> None:
    torch.manual_seed(0)
    features, weights = torch.randn(300, 5).half(), 1e-3 * torch.randn(4000, 5).bfloat16()
    found = product_spectrum(features, weights)
    whole = rd.spectrum(features.double() @ weights.double().mT)
    torch.testing.assert_close(found.singular_values, whole.singular_values[:5], rtol=1e-6, atol=0)
    assert int(found.rank()) == 5


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("features", "weights", "word"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 3), "weights"),
        (torch.zeros(3), torch.zeros(4, 3), "features"),
        (torch.zeros(3, 2), torch.full((4, 2), torch.nan), "weights"),
        (torch.zeros(0, 2), torch.zeros(4, 2), "features"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(
    features: torch.Tensor, weights: torch.Tensor, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        product_spectrum(features, weights)
