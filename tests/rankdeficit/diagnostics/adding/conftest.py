"""Measures and a detector that a user defines in a file of their own."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from rankdeficit.diagnostics import measures

MINE = '''
import torch

from rankdeficit.diagnostics import Sums, detector, layer_measure, logits_measure


@layer_measure("participation_ratio", "particip.")
class ParticipationRatio(Sums):
    """Participation ratio tr(C)^2 / tr(C^2) of second moments."""

    def __init__(self, width, *, device=None):
        self.moments = torch.zeros(width, width, dtype=torch.float64, device=device)

    def update(self, features):
        self.moments += features.double().mT @ features.double()

    def value(self):
        return float(self.moments.trace() ** 2 / self.moments.square().sum())


@logits_measure("mean_margin", "margin")
def mean_margin(logits, labels):
    """Logit of the label less the largest other one."""
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)


@detector("feature-norm")
def feature_norm(known):
    """Negated norm of the penultimate features."""
    return lambda features, logits: -features.double().norm(dim=1)
'''


@pytest.fixture
def mine(registries: None, tmp_path: Path) -> ModuleType:
    """The user's module."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert Path(measures.__path__[0]) not in path.parents
    return module
