"""Levers that set the logits norm, rank and depth of a classifier, one file each."""

from rankdeficit.control.attention import attention_temperatures, set_attention_temperature
from rankdeficit.control.compression import Compression, compress
from rankdeficit.control.criterion import Criterion
from rankdeficit.control.dial import dial
from rankdeficit.control.distillation import Distillation, kd_loss
from rankdeficit.control.equivalent import equivalent
from rankdeficit.control.interventions import intervene
from rankdeficit.control.norm import LogitsNorm, logits_norm, set_logits_norm

__all__ = [
    "Compression",
    "Criterion",
    "Distillation",
    "LogitsNorm",
    "attention_temperatures",
    "compress",
    "dial",
    "equivalent",
    "intervene",
    "kd_loss",
    "logits_norm",
    "set_attention_temperature",
    "set_logits_norm",
]
