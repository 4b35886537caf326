"""Measures of a network's representations, each a pure function of tensors or of a streamed state.

`rankdeficit.diagnose` takes them all of a trained network.
"""

from rankdeficit.diagnostics.measures.calibration import (
    Calibration,
    calibration,
    fit_temperature,
    temperature_scaling,
)
from rankdeficit.diagnostics.measures.collapse import (
    NeuralCollapse,
    nearest_centre_agreement,
    neural_collapse,
)
from rankdeficit.diagnostics.measures.depth import Interval, bootstrap, effective_depth, ood_drop
from rankdeficit.diagnostics.measures.detection import Detection, detection, ortho_dev
from rankdeficit.diagnostics.measures.layer_probes import ProbeSettings
from rankdeficit.diagnostics.measures.neco import Neco, default_variant, fit_neco
from rankdeficit.diagnostics.measures.ood import KnownData, detectors, fit_detector
from rankdeficit.diagnostics.measures.probes import Probe, fit_probe, fit_probe_path, predict
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.states.alignment import InputDirections, alignment
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.logits import LogitsMeasures, LogitsStatistics, measure_logits

__all__ = [
    "Calibration",
    "ClassStatistics",
    "Detection",
    "InputDirections",
    "Interval",
    "KnownData",
    "LogitsMeasures",
    "LogitsStatistics",
    "Neco",
    "NeuralCollapse",
    "Probe",
    "ProbeSettings",
    "Report",
    "alignment",
    "bootstrap",
    "calibration",
    "default_variant",
    "detection",
    "detectors",
    "effective_depth",
    "fit_detector",
    "fit_neco",
    "fit_probe",
    "fit_probe_path",
    "fit_temperature",
    "measure_logits",
    "nearest_centre_agreement",
    "neural_collapse",
    "ood_drop",
    "ortho_dev",
    "predict",
    "temperature_scaling",
]
