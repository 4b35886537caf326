"""Levers that set the logits norm, rank and depth of a classifier, one file each."""

from rankdeficit.control.equivalent import equivalent
from rankdeficit.control.norm import LogitsNorm, logits_norm, set_logits_norm

__all__ = ["LogitsNorm", "equivalent", "logits_norm", "set_logits_norm"]
