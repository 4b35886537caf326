"""Figures of these tests are not rendered, unless a test asks for it."""

from collections.abc import Iterator

import pytest
from matplotlib.figure import Figure

from tests.undrawn import save_digest

SAVE = Figure.savefig


@pytest.fixture(scope="package", autouse=True)
def _undrawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Figure, "savefig", save_digest)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are rendered in this test."""
    monkeypatch.setattr(Figure, "savefig", SAVE)
