"""Batched deep unconstrained feature models (UFM), with free features and weights."""

from rankdeficit.toys.ufm.model import DeepUfm, Loss
from rankdeficit.toys.ufm.shape import Activation, Factors, UfmShape, initial_parameters

__all__ = ["Activation", "DeepUfm", "Factors", "Loss", "UfmShape", "initial_parameters"]
