"""Compression of a trained classifier: removal of layers and reduction of ranks."""

from rankdeficit.control.compression.compressing import compress
from rankdeficit.control.compression.record import Compression
from rankdeficit.control.compression.structure import load, rebuild

__all__ = ["Compression", "compress", "load", "rebuild"]
