"""Measures of a network's representations, each a pure function of tensors."""

from rankdeficit.diagnostics.alignment import alignment
from rankdeficit.diagnostics.logits import LogitsMeasures, measure_logits

__all__ = ["LogitsMeasures", "alignment", "measure_logits"]
