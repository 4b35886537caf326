"""Functions that write numbers as text: values with their spread over seeds, and signed differences."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

NOTHING = "–"
"""Shown where there is no number."""
MINUS = "−"
SPACE = "\N{NO-BREAK SPACE}"

WORDS = {None: "none", True: "yes", False: "no"}

Number = float | int


def format_share(value: Number, digits: int = 1) -> str:
    """A share from 0 to 1 in percent: 0.675 is "67.5%"."""
    return f"{value:.{digits}%}"


format_rate = partial(format_share, digits=2)
"""An AUROC or a false positive rate, with as many digits as the paper's."""


def format_rank(value: Number) -> str:
    """A rank or count, or a median of them: "99", "44.5", "5,000"."""
    return f"{value:,.1f}".removesuffix(".0")


def format_norm(value: Number) -> str:
    """A norm of logits with three significant digits: "43.4", "2,030", "1.05e+05"."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1000 <= rounded < 100_000 else f"{value:.3g}"


def format_factor(value: Number) -> str:
    """A factor: "x 2.5", "x 2,030"."""
    return f"x {format_norm(value)}"


def decimals(digits: int) -> Callable[[Number], str]:
    """A function that formats numbers with this many decimals."""
    return f"{{:.{digits}f}}".format


def format_pixels(size: int | Sequence[int]) -> str:
    """Height and width of images, or the side of square ones: "32", "32 x 48"."""
    sides = [size] if isinstance(size, int) else dict.fromkeys(size)
    return " x ".join(map(str, sides))


def format_spread(
    values: Sequence[Number | None],
    form: Callable[[Number], str] = format_share,
    usual: int | None = None,
) -> str:
    """Median, range and number of values, as "67.3% (66.1–68.0), n = 3".

    form: writes one number, `format_share` for example. Range and n are left out where the least and the
    largest value are written like the median; None and values that are not finite do not count.
    usual: the number of values stated elsewhere; n is then written if and only if it differs.
    """
    found = [value for value in values if value is not None and math.isfinite(value)]
    if not found:
        return NOTHING
    middle, low, high = (form(value) for value in (median(found), min(found), max(found)))
    number = "" if len(found) == usual else f", n{SPACE}={SPACE}{len(found)}"
    if low == middle == high:
        return middle if usual is None else f"{middle}{number}"
    return f"{middle} ({low.removesuffix('%')}–{high.removesuffix('%')}){number}"


def format_percentage_points(difference: Number, digits: int = 1) -> str:
    """The difference of two shares in percentage points: -0.124 is "−12.4 pp"."""
    return f"{_signed(100 * difference, digits)}{SPACE}pp"


def format_rank_difference(difference: Number) -> str:
    """The difference of two ranks or medians of ranks: "+13", "−40.5", "0"."""
    return _signed(difference, 1).removesuffix(".0")


def by_group(values: Sequence[tuple[str, Any]]) -> str:
    """Values of (group, value) pairs: one list if all groups agree, else a list per set of groups."""
    found: dict[str, list[str]] = {}
    for name in sorted({name for name, _ in values}):
        own = listed(value for other, value in values if other == name)
        found.setdefault(own, []).append(name)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{', '.join(names)}: {own}" for own, names in found.items())


def listed(values: Iterable[Any]) -> str:
    """The distinct values: numbers in ascending order, then words."""
    found = {
        WORDS[value] if value is None or isinstance(value, bool) else value for value in values
    }
    numbers = sorted(value for value in found if not isinstance(value, str))
    words = sorted(found - set(numbers))
    spelled = [f"{number:{'d' if isinstance(number, int) else 'g'}}" for number in numbers]
    return ", ".join([*spelled, *words])


def _signed(value: Number, digits: int) -> str:
    """With its sign, unless it is written as zero."""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return ("+" if value > 0 else MINUS) + text
