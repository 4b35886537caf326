"""Measures of a network every few steps of its training, without an effect on the training."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from rankdeficit.checks import (
    as_path,
    check_at_least,
    check_callable,
    check_gamma,
    check_temperature,
    plain_number,
)
from rankdeficit.diagnostics.assembly import gather_outputs
from rankdeficit.diagnostics.measures.probes import ProbeSettings
from rankdeficit.diagnostics.reading.blocks import NonFiniteLogitsError, check_labels
from rankdeficit.diagnostics.reading.inputs import Forward, explained
from rankdeficit.diagnostics.reading.needs import Needs, Rows, Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.reading.streams import LOSS
from rankdeficit.diagnostics.reading.survey import survey
from rankdeficit.diagnostics.reading.taps import Select, pick_logits
from rankdeficit.diagnostics.reading.untouched import untouched
from rankdeficit.diagnostics.reading.wrappers import unwrap
from rankdeficit.diagnostics.registry import with_required
from rankdeficit.diagnostics.report.advice import Advice
from rankdeficit.diagnostics.report.row_advice import advise_rows
from rankdeficit.diagnostics.study import PLAIN, Loss, Options, Study
from rankdeficit.diagnostics.watch.alarms import Alarm, Row, Thresholds, holding
from rankdeficit.diagnostics.watch.loggers import Logger, checked_loggers
from rankdeficit.diagnostics.watch.probes import (
    Probe,
    first_samples,
    intervals,
    no_trace,
    numbers,
)
from rankdeficit.distributed import from_first, is_first
from rankdeficit.experiments.runs import RunFolder, check_new
from rankdeficit.experiments.tables import neural_collapse_rank
from rankdeficit.experiments.tensorboard import row_writer
from rankdeficit.gram import LEAST_GAMMA
from rankdeficit.spectrum import GAMMA

MEASURES = {"logits": 1, "alignment": 10, "gradient_ranks": 10}
"""Measures, and how many measurements apart each is taken: those of layers cost more."""

SAMPLES, GRADIENT_SAMPLES, ROWS_PER_SAMPLE, GRID = 128, 64, 2, 1
"""Probes, those whose gradient is measured, rows of each layer's input per probe, and cells of maps."""

PROGRAM = "rankdeficit.diagnostics.watch"


def warn(alarm: Alarm) -> None:
    """Tell an alarm as a RuntimeWarning."""
    warnings.warn(f"step {alarm.step}, {alarm.name}: {alarm.message}", RuntimeWarning, stacklevel=2)


class Watch:
    """Measures a network every few steps of its training, and raises alarms.

    >>> with Watch(model, probes, every=100, temperature=50.0, out="runs/watch") as watch:
    ...     for inputs, labels in batches:
    ...         loss = training_step(inputs, labels)
    ...         watch.step(loss)

    It measures at the start, every `every` steps, and at the end. `rows` has a row per measurement:
    `step`, `train_loss` (as given to `step`), `finite`, `alarms`, and of the probes `loss`, `accuracy`,
    `loss_over_uniform` (the loss over ln c) and the measures' numbers, by their names in a report without
    `train.`: `logits.centred_rank`, `alignment`, `layers.fc.gradient.rank`.

    The training does not change by a bit: modes, gradients, BatchNorm statistics, autocast and the states
    of random generators are the same afterwards.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        *,
        every: int = 100,
        temperature: float | Tensor = 1.0,
        measures: Mapping[str, int] | Sequence[str] = MEASURES,
        samples: int = SAMPLES,
        layers: Sequence[str] | None = None,
        logits: Select = pick_logits,
        gamma: float = GAMMA,
        loss: Loss = PLAIN,
        out: Path | str | None = None,
        tensorboard: bool = False,
        loggers: Sequence[Logger] = (),
        thresholds: Thresholds | None = None,
        on_alarm: Callable[[Alarm], None] = warn,
    ) -> None:
        """Settings of a watch; the network is first run when it is opened.

        batches: (inputs, labels) batches, whose first `samples` samples are the probes; they are read
            once, at the opening. Each process of torch.distributed gives its own share of the samples, of
            which it takes the first samples / processes: the numbers are those of all of them together.
        temperature: a tensor of one number, such as a parameter, is read at every measurement, and rows
            have it as `temperature`.
        every: steps between measurements. measures: names of measures of `diagnose` that need one set of
            samples only; a mapping gives the number of measurements between two of each.
        out: new folder for the rows, `metrics.jsonl`.
        tensorboard: write the rows to the folder `tensorboard` in `out`, too.
        loggers: get each row with `log`. on_alarm: gets each alarm when its rule begins to hold.
        The others as in `diagnose`.
        Raises ValueError for settings out of range, unknown measures, and folders that are not empty.
        """
        self._learned = temperature if isinstance(temperature, Tensor) else None
        now, gamma = plain_number(temperature), plain_number(gamma)
        if isinstance(now, Tensor):
            raise ValueError(f"temperature has shape {tuple(now.shape)}; it must be one number")
        if not isinstance(thresholds, Thresholds | None):
            raise ValueError(f"thresholds is {thresholds!r}; it must be of the class Thresholds")
        every, samples = plain_number(every), plain_number(samples)
        check_temperature(now)
        check_gamma(gamma)
        check_at_least(1, every=every, samples=samples)
        check_callable(loss=loss, logits=logits, on_alarm=on_alarm)
        if gamma < LEAST_GAMMA:
            raise ValueError(f"gamma is {gamma}; it must be at least {LEAST_GAMMA:g}")
        if tensorboard and out is None:
            raise ValueError("tensorboard is True, but out is None; name a folder with out=...")
        self._intervals = intervals(measures)
        for own in with_required(self._intervals):
            needs = own.needs
            if needs.ood or needs.ood_pair or Rows("probed") in needs.test:
                raise ValueError(
                    f"measures has {own.name!r}, which needs other samples than the probes; take it "
                    "with diagnose"
                )
        self._out = None if out is None else as_path("out", out)
        if self._out is not None and is_first():
            check_new(self._out, resumable=False)
        self._model, self._batches, self._layers, self._select = model, batches, layers, logits
        self._options = Options(now, gamma, 0, loss, ProbeSettings(), ())
        self._samples, self._tensorboard = samples, tensorboard
        self._on_alarm, self._thresholds = on_alarm, thresholds or Thresholds()
        self._network: Network | None = None
        self._step = 0
        self.every = every
        self.loggers = checked_loggers(loggers)
        """What gets each row with `log`."""
        self.rows: list[Row] = []
        """Measurements, in the order of their steps; the same in all processes."""
        self.alarms: list[Alarm] = []
        """Alarms raised so far."""
        self.notes: list[str] = []
        """What the last measurement could not measure, and why."""

    @property
    def steps(self) -> int:
        """Steps of the training so far."""
        return self._step

    def open(self, step: int | None = None) -> "Watch":
        """Read the probes, find the layers and measure.

        step: steps of the training so far [default: 0, or where the watch was closed]; rows and alarms
            of an earlier opening from that step on are dropped.
        Raises ValueError as `diagnose`, and for a watch that is open.
        """
        if self._network is not None:
            raise ValueError("the watch is open already; close it before it is opened again")
        if self._out is not None and is_first():
            check_new(self._out, resumable=False)
        model = unwrap(self._model)
        with no_trace(model) as defaults, untouched(model):
            with defaults.used():
                probes = first_samples(self._batches, Forward.of(model), self._samples)
            with explained("batches, batch 0", probes[0][0]):
                network = Network.of(model, probes[0][0], self._layers, self._select, defaults)
            firsts = {f"batches, batch {i}": inputs for i, (inputs, _) in enumerate(probes)}
            network = network.told_by(firsts)
        for number, (_, labels) in enumerate(probes):
            check_labels(labels, network.classes, f"batches, batch {number}")
        self._network = network
        self._probes: list[Probe] = [
            (inputs.on(network.device, network.dtype), labels) for inputs, labels in probes
        ]
        self._step = self._step if step is None else step
        self.rows = [row for row in self.rows if row["step"] < self._step]
        self.alarms = [alarm for alarm in self.alarms if alarm.step < self._step]
        self._resources = ExitStack()
        self._folder: RunFolder | None = None
        try:
            row, expected = self._row(None)  # before there is a folder, which a failure would leave
            if self._out is not None and is_first():
                self._folder = RunFolder.create(self._out, PROGRAM, self._settings())
                self._resources.callback(self._folder.close)
            folder = self._out or Path()
            self._write = self._resources.enter_context(
                row_writer(folder / "tensorboard", self._tensorboard and is_first())
            )
            self._add(row, expected)
        except BaseException:
            self.release()
            raise
        return self

    def step(self, loss: Tensor | float | None = None) -> None:
        """Count a step of training, after the optimiser's, and measure when it is time.

        loss: of the step; it is read at measured steps only.
        """
        if self._network is None:
            raise ValueError("the watch is not open; use it in a with statement")
        self._step += 1
        if self._step % self.every == 0:
            self._measure(loss)

    def close(self) -> None:
        """Measure the last step, if it was not measured, and close the files."""
        if self._network is None:
            return
        if self._step != self._measured:
            self._measure(None)
        self.release()

    def __enter__(self) -> "Watch":
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.release()

    def release(self) -> None:
        """Close the files without a measurement, as after an error."""
        if self._network is not None:
            self._network = None
            self._resources.close()

    def advice(self) -> list[Advice]:
        """What to try, from the rows so far; see `rankdeficit.diagnostics.advise_rows`."""
        return advise_rows(self.rows)

    def _settings(self) -> Row:
        return {
            "model": type(unwrap(self._model)).__name__,
            "temperature": self._options.temperature,
            "every": self.every,
            "measures": self._intervals,
            "samples": self._samples,
            "gamma": self._options.gamma,
        }

    def _measure(self, loss: Tensor | float | None) -> None:
        """Add a row and raise the alarms that are new."""
        self._add(*self._row(loss))

    def _row(self, loss: Tensor | float | None) -> tuple[Row, int]:
        """The numbers of the current step, and the rank that Neural Collapse predicts."""
        assert self._network is not None
        self._measured = self._step
        number = -(-self._step // self.every)
        chosen = [name for name, apart in self._intervals.items() if number % apart == 0]
        train_loss = plain_number(loss)
        if not (loss is None or isinstance(train_loss, int | float)):
            raise ValueError(f"loss is {loss!r}; it must be the mean loss of the step, one number")
        if self._learned is not None:
            check_temperature(self._learned)
            self._options = replace(self._options, temperature=float(plain_number(self._learned)))
        try:
            with no_trace(self._network.model), untouched(self._network.model):
                found, expected = self._numbers(self._network, chosen)
        except NonFiniteLogitsError:
            found, expected = {}, 0
        told = {} if train_loss is None else {"train_loss": train_loss}
        if self._learned is not None:
            told["temperature"] = self._options.temperature
        row = {"step": self._step, **told, "finite": bool(found), **found}
        return from_first(row), expected  # that alarms are the same in all processes

    def _add(self, row: Row, expected: int) -> None:
        """Keep and write a row, and raise the alarms that are new."""
        before = self.rows[-1]["alarms"] if self.rows else []
        messages = holding([*self.rows, row], expected, self._thresholds)
        row["alarms"] = list(messages)
        self.rows.append(row)
        if self._folder is not None:
            self._folder.append_rows([row])
        if is_first():
            self._write(row)
            for logger in self.loggers:
                logger.log(dict(row))
        for name, message in messages.items():
            if name not in before:
                self.alarms.append(Alarm(self._step, name, message))
                self._on_alarm(self.alarms[-1])

    def _numbers(self, network: Network, names: Sequence[str]) -> tuple[Row, int]:
        """The numbers of the row, and the rank that Neural Collapse predicts of the probes' logits."""
        chosen = with_required(names)
        needs = Needs.of(own.needs for own in chosen)
        wanted = Wanted((LOSS,), ROWS_PER_SAMPLE, GRADIENT_SAMPLES)
        wanted = wanted.plus(needs.train).plus(needs.test)
        with RowStore() as store:
            probes = survey(
                "train", network, self._probes, wanted,
                temperature=self._options.temperature, grid=GRID, store=store,
            )  # fmt: skip
            study = Study(network, self._options, probes, probes, {}, {})
            for own in chosen:
                study.prepared[own.name] = own.prepare(study)
            gather_outputs(study)
            study.outputs["test"] = study.outputs["train"]
            loss = probes.state(LOSS).mean
            row: Row = {
                "loss": loss,
                "accuracy": probes.accuracy,
                "loss_over_uniform": loss / math.log(network.classes),
            }
            for own in chosen if is_first() else ():
                values = own.values(study)
                row |= numbers(values.data.get(probes.name, {}), depth=3)
                row |= numbers(values.sections, depth=3)
                for layer, fields in values.layers.items():
                    row |= numbers(fields, 2, f"layers.{layer}.")
        self.notes = study.notes
        width, seen = probes.penultimate_width, probes.seen_classes
        expected = neural_collapse_rank(network.classes, width, seen)
        return row, min(expected, probes.samples)
