"""Measures of the commonest kinds, from one function or one state.

    @layer_measure("participation_ratio")   one number of every layer's features
    @logits_measure("mean_margin")          one number of the logits of a data set

Both are taken on train and test samples, and get a column; a measure of layers gets a figure, too.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from rankdeficit.diagnostics.reading.needs import Needs, Shape, State, Stream
from rankdeficit.diagnostics.registry import LAST, Column, Measure, Row, Values, register
from rankdeficit.diagnostics.report.cells import number, pair
from rankdeficit.diagnostics.report.drawing import Curve, by_layer, get
from rankdeficit.diagnostics.states.sums import Sums
from rankdeficit.diagnostics.study import Study

Source = TypeVar("Source", bound=Callable[..., Any])

DATA = ("train", "test")


@runtime_checkable
class ValueState(State, Protocol):
    """A streamed state with one number."""

    def value(self) -> float:
        """Of all samples seen."""


class MeanOf(Sums):
    """Streaming mean of a function's values, one per sample."""

    def __init__(self, function: Callable[..., Tensor], device: torch.device) -> None:
        self.function = function
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.samples = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, *tensors: Tensor) -> None:
        """Add samples."""
        values = self.function(*tensors)
        if values.shape != (len(tensors[0]),):
            raise ValueError(
                f"{self.function.__name__} returns shape {tuple(values.shape)}; it must return one "
                f"value per sample, ({len(tensors[0])},)"
            )
        self.total += values.double().sum()
        self.samples += len(values)

    def value(self) -> float:
        """Mean of all samples seen."""
        return float(self.total / self.samples)


class _OneNumber(Measure):
    """A number of a streamed state."""

    def __init__(self, name: str, place: int, source: Any, heading: str, form: str) -> None:
        self.name, self.place, self.__doc__ = name, place, source.__doc__
        self._source, self._heading, self._form = source, heading, form

    def _state(self, *sizes: Any, device: torch.device) -> ValueState:
        if isinstance(self._source, type):
            return cast("ValueState", self._source(*sizes, device=device))
        return MeanOf(self._source, device)


class LayerMeasure(_OneNumber):
    """One number of the features of every layer; `layer_measure` makes one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stream = Stream("features", self._new)
        self.needs = Needs(train=(self._stream,), test=(self._stream,))
        self.figures = ((self.name, self._draw),)

    def _new(self, own: Shape) -> ValueState:
        return self._state(own.width, device=own.device)

    def values(self, study: Study) -> Values:
        """By layer, on train and test samples."""
        surveys = {"train": study.train, "test": study.test}
        states = {name: survey.by_layer(self._stream) for name, survey in surveys.items()}
        return Values(
            layers={
                layer: {self.name: {name: own[layer].value() for name, own in states.items()}}
                for layer in states["train"]
            }
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Train / test."""

        def cell(layer: Row) -> str | None:
            found = layer.get(self.name) or {}
            return pair(*(number(found.get(name), self._form) for name in DATA))

        return [Column(self._heading, cell, f"{self._heading}: {self.help} Train / test.")]

    def _draw(self, record: Row) -> Any:
        curves = [
            Curve(name, [get(layer, self.name, name) for layer in record["layers"]], style)
            for name, style in (("train", {}), ("test", {"linestyle": ":"}))
        ]
        return by_layer(record, curves, self._heading)


class LogitsMeasure(_OneNumber):
    """One number of the logits of a data set; `logits_measure` makes one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stream = Stream("logits", self._new, ("labels",))
        self.needs = Needs(train=(self._stream,), test=(self._stream,))

    def _new(self, own: Shape) -> ValueState:
        return self._state(own.classes, own.temperature, device=own.device)

    def values(self, study: Study) -> Values:
        """On train and test samples."""
        return Values(
            data={
                survey.name: {self.name: survey.state(self._stream).value()}
                for survey in (study.train, study.test)
            }
        )

    def data_columns(self, record: Row) -> list[Column]:
        """One column."""
        note = f"{self._heading}: {self.help}"
        return [Column(self._heading, lambda row: number(row.get(self.name), self._form), note)]


def layer_measure(
    name: str, heading: str | None = None, *, form: str = ".3g", place: int = LAST
) -> Callable[[Source], Source]:
    """Measure one number of every layer's features, on train and test samples.

    Decorates a function from features (n, width) to one value per sample, (n,), whose mean is the
    number; or a state with `__init__(width, *, device)`, `update(features)`, `all_reduce` and
    `value() -> float`, most easily a subclass of `Sums`. The docstring's first line is the help.
    heading: of the column [default: the name]. form: of its numbers.
    The record has report["layers.LAYER.NAME.train"] and `.test`.
    """

    def decorate(source: Source) -> Source:
        register(LayerMeasure(name, place, source, heading or name, form), source)
        return source

    return decorate


def logits_measure(
    name: str, heading: str | None = None, *, form: str = ".3g", place: int = LAST
) -> Callable[[Source], Source]:
    """Measure one number of the logits, on train and test samples.

    Decorates a function from logits (n, classes) and labels (n,) to one value per sample, (n,), whose
    mean is the number; or a state with `__init__(classes, temperature, *, device)`,
    `update(logits, labels)`, `all_reduce` and `value() -> float`. Otherwise as `layer_measure`.
    The record has report["train.NAME"] and report["test.NAME"].
    """

    def decorate(source: Source) -> Source:
        register(LogitsMeasure(name, place, source, heading or name, form), source)
        return source

    return decorate
