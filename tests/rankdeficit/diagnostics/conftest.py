"""Registries of which a test may change copies."""

import pytest

from rankdeficit.diagnostics import registry
from rankdeficit.diagnostics.measures import ood


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    registry.all_measures()
    monkeypatch.setattr(registry, "_MEASURES", dict(registry._MEASURES))
    monkeypatch.setattr(ood, "_DETECTORS", dict(ood._DETECTORS))
