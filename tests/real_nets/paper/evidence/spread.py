"""Numbers of the pages of evidence as they print them."""

from collections.abc import Sequence
from statistics import median


def spread(values: Sequence[float], form: str) -> str:
    """Median and range; the median alone where all print alike."""
    low, high = format(min(values), form), format(max(values), form)
    return f"{median(values):{form}}" + (f" ({low} to {high})" if low != high else "")
