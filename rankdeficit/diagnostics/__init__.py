"""Measures of a network's representations, each a pure function of tensors or of a streamed state."""

from rankdeficit.diagnostics.alignment import alignment
from rankdeficit.diagnostics.class_statistics import ClassStatistics
from rankdeficit.diagnostics.collapse import (
    NeuralCollapse,
    nearest_centre_agreement,
    neural_collapse,
)
from rankdeficit.diagnostics.detection import Detection, detection, ortho_dev
from rankdeficit.diagnostics.logits import LogitsMeasures, measure_logits

__all__ = [
    "ClassStatistics",
    "Detection",
    "LogitsMeasures",
    "NeuralCollapse",
    "alignment",
    "detection",
    "measure_logits",
    "nearest_centre_agreement",
    "neural_collapse",
    "ortho_dev",
]
