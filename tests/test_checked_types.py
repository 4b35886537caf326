"""Types and shapes are checked at run time while tests run."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from rankdeficit.checks import check_seeds
from rankdeficit.softmax import softmax
from tests.checked_types import names_shapes


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        check_seeds(cast("Any", 0.5), 3)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        softmax(torch.zeros(()))


def test_both_can_be_switched_off(unchecked: None) -> None:
    with pytest.raises(ValueError, match="logits"):  # the library's own error
        softmax(torch.zeros(()))
    assert check_seeds(cast("Any", 0.5), 3) is None  # type: ignore[func-returns-value]


def test_functions_with_shapes_are_told_from_others() -> None:
    def nested(batches: dict[str, list[Float[Tensor, "n d"] | None]]) -> None: ...

    def unknown(value: "Later") -> None: ...  # type: ignore[name-defined]

    def plain(path: Path, names: list[str]) -> dict[str, Any]: ...  # type: ignore[empty-body]

    assert names_shapes(nested)
    assert names_shapes(unknown)
    assert not names_shapes(plain)
