"""Run-time checks of types: jaxtyping's where a function has shapes, beartype's alone elsewhere.

jaxtyping's import hook gives every call a scope of dimensions, which only shapes need; for all
functions these took 30 % of the suite's time.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

with_shapes = jaxtyping.jaxtyped


def check_types(function: Any = None, *, typechecker: Any) -> Any:
    """`jaxtyping.jaxtyped` for all but functions without shapes."""
    if function is None:
        return functools.partial(check_types, typechecker=typechecker)
    if not inspect.isfunction(function) or names_shapes(function):
        return with_shapes(function, typechecker=typechecker)
    return without_shapes(function)


def names_shapes(function: Callable[..., Any]) -> bool:
    """Whether an annotation holds a shape, or cannot be told yet."""
    try:
        return any(map(_is_shaped, typing.get_type_hints(function).values()))
    except (NameError, AttributeError):
        return True


def _is_shaped(hint: Any) -> bool:
    return isinstance(hint, type(jaxtyping.AbstractArray)) or any(
        map(_is_shaped, typing.get_args(hint))
    )


def without_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    checked: Callable[..., Any] = beartype.beartype(function)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        chosen = function if jaxtyping.config.jaxtyping_disable else checked
        return chosen(*arguments, **named)

    return call
