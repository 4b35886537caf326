"""Rank deficit of softmax networks: numerical ranks, bounds, constructions, diagnostics, toy models."""

from rankdeficit import _matplotlib, bounds, constructions  # noqa: F401
from rankdeficit.diagnostics.arrays import diagnose_outputs
from rankdeficit.diagnostics.comparison import compare
from rankdeficit.diagnostics.diagnose import diagnose
from rankdeficit.diagnostics.watch import Watch
from rankdeficit.experiments.records import Run, load_run
from rankdeficit.gram import Gram
from rankdeficit.products import product_spectrum
from rankdeficit.softmax import (
    cross_entropy,
    entropy,
    free_energy,
    log_softmax,
    softmax,
    softmax_mse,
)
from rankdeficit.spectrum import (
    GAMMA,
    GAMMAS,
    Spectrum,
    centre,
    centred_rank,
    effective_rank,
    numerical_rank,
    rank_curve,
    spectrum,
    stable_rank,
)

__all__ = [
    "GAMMA",
    "GAMMAS",
    "Gram",
    "Run",
    "Spectrum",
    "Watch",
    "bounds",
    "centre",
    "centred_rank",
    "compare",
    "constructions",
    "cross_entropy",
    "diagnose",
    "diagnose_outputs",
    "effective_rank",
    "entropy",
    "free_energy",
    "load_run",
    "log_softmax",
    "numerical_rank",
    "product_spectrum",
    "rank_curve",
    "softmax",
    "softmax_mse",
    "spectrum",
    "stable_rank",
]
