"""Compression of a trained classifier by its ranks and its effective depth."""

from rankdeficit.control.compression.compressing import compress
from rankdeficit.control.compression.record import Compression
from rankdeficit.control.compression.structure import load, rebuild

__all__ = ["Compression", "compress", "load", "rebuild"]
