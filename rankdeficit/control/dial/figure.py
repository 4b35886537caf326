"""Predictions of pilots against their temperature."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from rankdeficit.control.dial.answer import Answer
from rankdeficit.experiments.figure_style import THEORY_COLOUR, set_log_scale, with_legend_below


def draw_answer(found: Answer, reached: Mapping[float, float]) -> Figure:
    """Predicted values with intervals, the target, the answer, and values reached by temperature."""
    figure = Figure(figsize=(5.0, 3.8))
    axes = figure.subplots()
    shown = [own for own in found.tries if own.predicted is not None]
    predicted = [own.predicted for own in shown if own.predicted is not None]
    values = [own.value for own in predicted]
    below = [own.value - own.low for own in predicted]
    above = [own.high - own.value for own in predicted]
    axes.errorbar(
        [own.temperature for own in shown], values, yerr=[below, above], fmt="o-", capsize=3,
        label="predicted from pilots, 90 % interval",
    )  # fmt: skip
    axes.axhline(found.target, color=THEORY_COLOUR, linestyle="--", linewidth=1, label="target")
    axes.axvline(found.temperature, color="C1", linewidth=1, label="answer")
    if reached:
        axes.plot(
            list(reached), list(reached.values()), "*", color="C3", markersize=9, label="trained"
        )
    set_log_scale(axes, "x")
    name = "effective depth" if found.kind == "depth" else "class-centred rank of the train logits"
    axes.set(xlabel="temperature T", ylabel=f"{name} at the end")
    return with_legend_below(figure, columns=2)
