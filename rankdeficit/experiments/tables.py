"""From the runs of a summary to a table and plain sentences: medians and ranges over seeds."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

Run = Mapping[str, Any]
R = TypeVar("R", bound=Run)

WIDTH = 130
"""Columns of what is printed where standard output is no terminal."""

STALLED_BAND = (0.99, 1.01)
"""A run has stalled if its loss lies within these multiples of the loss of uniform predictions."""

SATURATED = 1.5
"""A run has saturated if its wrong predictions cost at least this multiple of the uniform loss."""

INTERPOLATION = 0.999
"""Train accuracy from which a network counts as interpolating its images."""

ADVICE = {
    "diverged": "try a lower --lr or smaller initial weights",
    "stalled": "the loss has hardly left that of uniform predictions; try a higher --lr, longer "
    "training, larger initial weights or less --weight-decay",
    "saturated": "predictions are confident and wrong, where those of softmax-MSE have hardly any "
    "gradient; try a lower --lr or smaller initial weights",
    "underfit": "the ranks of networks that do not interpolate say little about the bias; train "
    "longer, or try another --lr",
}


def outcome(
    loss: float | None,
    accuracy: float | None,
    uniform_loss: float | None,
    interpolation: float = 1.0,
) -> str:
    """How a run ended: "interpolated", or one of the troubles in ADVICE.

    uniform_loss: the loss of uniform predictions, where training starts when logits are small; None where
        the loss is another one, as with penalties or bounded logits, of which neither stalling nor
        saturation can be told.
    interpolation: the train accuracy that counts as interpolating.

    A loss above the uniform predictions' u does not make a run saturated: small logits that are slightly
    wrong have one too. Right predictions cost at most u, hence wrong ones w >= (loss - accuracy u) /
    (1 - accuracy) in the mean, and the run is saturated if that reaches SATURATED u. Logits over T are
    large then: with cross-entropy the largest exceeds the label's by at least w - ln c in the mean, that
    is (ln c) / 2; with softmax-MSE the largest probability is at least w - 1 in the mean, nearly 1/2 for
    many classes.
    """
    if loss is None or accuracy is None:
        return "diverged"
    if uniform_loss is None:
        return "interpolated" if accuracy >= interpolation else "underfit"
    low, high = STALLED_BAND
    if low * uniform_loss <= loss <= high * uniform_loss:
        return "stalled"
    if accuracy >= interpolation:
        return "interpolated"
    wrong = loss - accuracy * uniform_loss  # times the share of wrong samples
    return "saturated" if wrong >= SATURATED * uniform_loss * (1 - accuracy) else "underfit"


def neural_collapse_rank(classes: int, width: int, seen: int | None = None) -> int:
    """Rank that Neural Collapse predicts of class-centred logits: min(c - 1, width).

    seen: number of classes that have samples. The logits of K < c classes are K vertices of a simplex,
        of rank K [default: all].
    """
    return min(classes - 1, width, classes if seen is None else seen)


def rows_by(rows: Iterable[R], *names: str) -> Iterator[tuple[tuple[Any, ...], list[R]]]:
    """Groups of rows with equal values of `names`, as (values, rows), sorted by the values."""

    def key(row: R) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    for values, same in groupby(sorted(rows, key=key), key):
        yield values, list(same)


def counted(number: int, noun: str) -> str:
    """A number and its noun: 1 seed, 4 seeds."""
    return f"{number} {noun}{'s' * (number != 1)}"


def spread(values: Sequence[float | int]) -> str:
    """Median and range, as 44 (42-46); the value alone where all are equal, and - for none."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{median(values):g}" + (f" ({low:g}-{high:g})" if low < high else "")


def depth_and_factors(depth: int) -> str:
    """A depth of unconstrained feature models, whose features are one more factor: 3 (L = 4)."""
    return f"{depth} (L = {depth + 1})"


def results_table(
    runs: Sequence[Run], facet: str, gamma: float, spell: Callable[[Any], str] = str
) -> Table:
    """One row per temperature and value of `facet`: medians over seeds, ranks with their range.

    spell: formats a value of the facet.
    """
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption=f"Medians (ranges) over seeds. Numerical ranks at gamma = {gamma:g}: of the logits as "
        "they are (raw), with each sample's mean logit subtracted (centred, all that the softmax sees), "
        "and after the softmax. NC: the centred rank that Neural Collapse predicts.",
        caption_justify="left",
    )
    columns: dict[str, Callable[[Sequence[Run]], str]] = {
        "T": lambda same: f"{same[0]['temperature']:g}",
        facet: lambda same: spell(same[0][facet]),
        "seeds": lambda same: str(len(same)),
        "train acc.": lambda same: _median(same, "accuracy", "{:.1%}"),
        "test acc.": lambda same: _median(same, "test_accuracy", "{:.1%}"),
        "loss": lambda same: _median(same, "loss", "{:.2e}"),
        "norm": lambda same: _median(same, "logits_norm", "{:.3g}"),
        "norm / T": lambda same: _median(same, "effective_logits_norm", "{:.3g}"),
        "raw rank": lambda same: spread(_values(same, "rank")),
        "centred": lambda same: spread(_values(same, "centred_rank")),
        "softmax": lambda same: spread(_values(same, "post_softmax_rank")),
        "stable": lambda same: _median(same, "stable_rank", "{:.1f}"),
        "NC": lambda same: str(same[0]["neural_collapse_rank"]),
    }
    if not any("test_accuracy" in run for run in runs):
        del columns["test acc."]
    for name in columns:
        table.add_column(name, justify="right")
    for same in _groups(runs, facet):
        table.add_row(*(cell(same) for cell in columns.values()))
    return table


def verdicts(runs: Sequence[Run], facet: str) -> list[str]:
    """A sentence per value of the facet on rank-deficit bias, then one per kind of trouble."""
    sentences = []
    for value in dict.fromkeys(run[facet] for run in runs):
        own = [r for r in runs if r[facet] == value and r["outcome"] == "interpolated"]
        if own:
            several = len({run[facet] for run in runs}) > 1
            sentences.append((f"{facet} {value}: " if several else "") + _verdict(own))
    for same in _groups(runs, facet):
        for trouble, advice in ADVICE.items():
            count = sum(run["outcome"] == trouble for run in same)
            if count:
                sentences.append(
                    f"T = {same[0]['temperature']:g}, {facet} {same[0][facet]}: {count} of "
                    f"{len(same)} runs {trouble}; {advice}."
                )
    return sentences


def layer_sentences(runs: Sequence[Run], gammas: Sequence[float]) -> list[str]:
    """Median rank after each layer, a line per threshold and temperature."""
    lines = []
    for gamma in gammas:
        for same in _groups(runs, "model"):
            ranks = [run["layer_ranks"][str(gamma)] for run in same if run["layer_ranks"]]
            if ranks:
                medians = " ".join(f"{median(layer):g}" for layer in zip(*ranks, strict=True))
                lines.append(
                    f"rank after each layer at gamma = {gamma:g}, test images, "
                    f"T = {same[0]['temperature']:g}: {medians}"
                )
    return lines


def print_report(table: Table, sentences: Sequence[str]) -> None:
    """Table and sentences on standard output, wide enough when that is no terminal."""
    _console().print(table)
    print_sentences(sentences)


def print_sentences(sentences: Sequence[str]) -> None:
    """Sentences on standard output, a line each."""
    for sentence in sentences:
        _console().print(sentence, soft_wrap=True, markup=False)
    sys.stdout.flush()


def print_page(text: str) -> None:
    """Markdown on standard output."""
    _console().print(Markdown(text))
    sys.stdout.flush()


def report_text(table: Table, sentences: Sequence[str]) -> str:
    """Table and sentences as they are printed where standard output is no terminal."""
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
        for sentence in sentences:
            console.print(sentence, soft_wrap=True, markup=False)
    return captured.get()


class OpenConsole(Console):
    """A console that raises BrokenPipeError, where rich would end the program without a message."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise


def _console() -> Console:
    width = None if sys.stdout.isatty() else WIDTH
    return OpenConsole(file=sys.stdout, width=width, highlight=False)


def _verdict(interpolated: Sequence[Run]) -> str:
    """The verdict on the class-centred ranks, which are all that the softmax sees."""

    def ranks(runs: Sequence[Run]) -> list[int]:
        return [run["centred_rank"] for run in runs]

    hottest = max(run["temperature"] for run in interpolated)
    hot = [run for run in interpolated if run["temperature"] == hottest]
    base = [run for run in interpolated if run["temperature"] == 1]
    predicted = hot[0]["neural_collapse_rank"]
    ending = (
        f"at T = {hottest:g} the class-centred logits end with rank {_spell(ranks(hot))}, where Neural "
        f"Collapse predicts {predicted}"
    )
    if hottest == 1 or not base:
        deficit = max(ranks(hot)) < predicted
        return f"{'Rank deficit' if deficit else 'No rank deficit'}: {ending}."
    worst = min(run["accuracy"] for run in interpolated)
    accuracy = "100 %" if worst == 1 else f"at least {worst:.2%}"
    ending += f" and the T = 1 baseline ends with {_spell(ranks(base))}"
    ending += f"; train accuracy is {accuracy} in all."
    if max(ranks(hot)) < min(ranks(base)):
        return f"Rank-deficit bias: {ending}"
    if median(ranks(hot)) < median(ranks(base)):
        return f"Rank-deficit bias within the spread of seeds only: {ending}"
    return f"No rank-deficit bias from temperature: {ending}"


def _groups(runs: Sequence[Run], facet: str) -> list[list[Run]]:
    """Runs of each value of the facet, in the order of the runs, and temperature, ascending."""
    order = {value: i for i, value in enumerate(dict.fromkeys(run[facet] for run in runs))}

    def key(run: Run) -> tuple[int, float | int]:
        return order[run[facet]], run["temperature"]

    return [list(same) for _, same in groupby(sorted(runs, key=key), key)]


def _values(runs: Sequence[Run], field: str) -> list[Any]:
    return [run[field] for run in runs if run[field] is not None]


def _median(runs: Sequence[Run], field: str, form: str) -> str:
    values = _values(runs, field)
    return form.format(median(values)) if values else "-"


def _spell(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"{ranks[0]} (one seed)"
    over = f"{min(ranks)}-{max(ranks)} over" if len(set(ranks)) > 1 else "in all"
    return f"{median(ranks):g} ({over} {counted(len(ranks), 'seed')})"
