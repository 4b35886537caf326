"""Measures of a network's representations, each a pure function of tensors or of a streamed state.

`rankdeficit.diagnose` takes all of them, or some by name, of a trained network. README.md tells how to
add one.
"""

from rankdeficit.diagnostics.measures.calibration import (
    Calibration,
    calibration,
    temperature_scaling,
    vector_scaling,
)
from rankdeficit.diagnostics.measures.collapse import (
    NeuralCollapse,
    nearest_centre_agreement,
    neural_collapse,
)
from rankdeficit.diagnostics.measures.depth import Interval, bootstrap, effective_depth, ood_drop
from rankdeficit.diagnostics.measures.detection import Detection, detection
from rankdeficit.diagnostics.measures.neco import Neco, default_variant, fit_neco
from rankdeficit.diagnostics.measures.ood import KnownData, detector, detectors, fit_detector
from rankdeficit.diagnostics.measures.ortho_dev import ortho_dev
from rankdeficit.diagnostics.measures.probes import (
    Probe,
    ProbeSettings,
    fit_probe,
    fit_probe_path,
    predict,
)
from rankdeficit.diagnostics.measures.scaling import (
    fit_temperature,
    fit_vector_scaling,
    gaussian_temperature,
    temperature_limit,
)
from rankdeficit.diagnostics.measures.smooth_ece import smooth_ece
from rankdeficit.diagnostics.registry import Measure, available_measures, measure
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.report.row_advice import advise_rows
from rankdeficit.diagnostics.simple import layer_measure, logits_measure
from rankdeficit.diagnostics.states.alignment import InputDirections, alignment
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.logits import LogitsMeasures, LogitsStatistics, measure_logits
from rankdeficit.diagnostics.states.sums import Sums

__all__ = [
    "Calibration",
    "ClassStatistics",
    "Detection",
    "InputDirections",
    "Interval",
    "KnownData",
    "LogitsMeasures",
    "LogitsStatistics",
    "Measure",
    "Neco",
    "NeuralCollapse",
    "Probe",
    "ProbeSettings",
    "Report",
    "Sums",
    "advise_rows",
    "alignment",
    "available_measures",
    "bootstrap",
    "calibration",
    "default_variant",
    "detection",
    "detector",
    "detectors",
    "effective_depth",
    "fit_detector",
    "fit_neco",
    "fit_probe",
    "fit_probe_path",
    "fit_temperature",
    "fit_vector_scaling",
    "gaussian_temperature",
    "layer_measure",
    "logits_measure",
    "measure",
    "measure_logits",
    "nearest_centre_agreement",
    "neural_collapse",
    "ood_drop",
    "ortho_dev",
    "predict",
    "smooth_ece",
    "temperature_limit",
    "temperature_scaling",
    "vector_scaling",
]
