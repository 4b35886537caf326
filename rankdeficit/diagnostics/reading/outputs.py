"""What a network returns for a class: a logit, a probability or its logarithm."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["logits", "probabilities", "log-probabilities"]

NOTES: dict[Kind, str] = {
    "probabilities": (
        "the model returns probabilities (it ends in softmax or sigmoid); their logarithms are used as "
        "logits, so ranks and norms of logits are those of log-probabilities, and detectors that read "
        "logits are given these"
    ),
    "log-probabilities": (
        "the model returns log-probabilities (it ends in log_softmax), which are used as logits: their "
        "ranks and norms differ from those of what the last layer makes, and detectors that read "
        "logits are given these"
    ),
}

LEAST = 4
"""Samples that are needed to tell: few rows can add up to 1 by chance."""


def kind_of_outputs(outputs: Sequence[Float[Tensor, "_ columns"]]) -> Kind:
    """What the outputs of several batches are.

    Probabilities: non-negative rows that sum to 1, or numbers between 0 and 1 in a single column.
    Log-probabilities: rows whose logsumexp is 0. Up to rounding in the outputs' precision.
    """
    rows = torch.cat([own.detach().double() for own in outputs])
    eps = torch.finfo(outputs[0].dtype).eps
    slack = 4 * eps * (1 + math.log(rows.shape[1]))  # entropy bounds what rounded logarithms add
    inner = 4 * min(eps, torch.finfo(torch.float32).eps)  # half precision computes in float32
    if len(rows) < LEAST or not bool(rows.isfinite().all()):
        return "logits"
    if rows.shape[1] == 1:
        return "probabilities" if bool(((rows >= 0) & (rows <= 1)).all()) else "logits"
    if bool((rows >= 0).all()) and bool(((rows.sum(dim=1) - 1).abs() <= slack).all()):
        return "probabilities"
    if bool((rows.logsumexp(dim=1).abs() <= slack + inner * rows.abs().amax(dim=1)).all()):
        return "log-probabilities"
    return "logits"


def as_logits(outputs: Tensor, kind: Kind) -> Float[Tensor, "n classes"]:
    """Logits of all classes; a single column z is that of the second of two classes, (0, z).

    A probability of 0 counts as the smallest positive number of its precision.
    """
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    single = outputs.ndim == 2 and outputs.shape[1] == 1
    if kind == "probabilities":
        tiny = torch.finfo(outputs.dtype).tiny
        outputs = torch.cat([1 - outputs, outputs], dim=1) if single else outputs
        return outputs.clamp(min=tiny).log()
    return torch.cat([torch.zeros_like(outputs), outputs], dim=1) if single else outputs
