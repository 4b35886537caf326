"""Several reports side by side: differences with intervals and paired tests, figures in common axes."""

from rankdeficit.diagnostics.comparison.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
