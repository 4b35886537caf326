"""What was measured of a network, as a record, as text and as figures."""

from rankdeficit.diagnostics.report.report import Report

__all__ = ["Report"]
