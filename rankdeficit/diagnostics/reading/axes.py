"""Where the axes of a tensor go when an operation permutes or reshapes it."""

from collections.abc import Sequence
from typing import Any

Shape = tuple[int, ...]

RESHAPES = frozenset(
    "view _unsafe_view reshape _reshape_copy _reshape_alias flatten unflatten unsqueeze squeeze".split()
)
"""Operations that keep all values in their order."""


def permutation(operation: str, args: Sequence[Any], ndim: int) -> tuple[int, ...]:
    """Which axis of the tensor each axis of the result is; empty where the operation permutes none."""
    if operation == "permute":
        return tuple(axis % ndim for axis in args[1])
    if operation not in ("transpose", "t") or ndim < 2:
        return ()
    order = list(range(ndim))
    first, second = args[1:3] if operation == "transpose" else (0, 1)
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def reshaped(axes: frozenset[int], before: Shape, after: Shape) -> frozenset[int] | None:
    """The axes that hold the same values in a reshaped tensor; None where it joins them with others."""
    found: set[int] = set()
    i = j = 0
    while i < len(before) and j < len(after):
        first, start, left, right = i, j, before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:  # a group of axes before and one after have the same number of values
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        joined = {axis for axis in range(first, i) if before[axis] > 1}
        if axes & joined:
            if not joined <= axes:
                return None
            found |= {axis for axis in range(start, j) if after[axis] > 1}
    return frozenset(found) or None
