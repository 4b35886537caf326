"""What is measured of arrays: logits and penultimate features that were computed elsewhere."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.checks import (
    check_at_least,
    check_floating,
    check_gamma,
    check_magnitudes,
    check_temperature,
    plain_number,
)
from rankdeficit.diagnostics.assembly import assemble, conditions, gather_outputs
from rankdeficit.diagnostics.measures.ood import detector_list, missing_packages
from rankdeficit.diagnostics.measures.ood import detectors as detector_names
from rankdeficit.diagnostics.measures.probes import ProbeSettings
from rankdeficit.diagnostics.reading.batches import class_indices, spelled, tensor_of
from rankdeficit.diagnostics.reading.blocks import BLOCK, Block
from rankdeficit.diagnostics.reading.contexts import plain_torch
from rankdeficit.diagnostics.reading.needs import MATRIX_MEMORY, Needs, Rows, Stream, Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.outputs import NOTES, Kind, as_logits, kind_of_outputs
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.reading.streams import LOSS
from rankdeficit.diagnostics.reading.survey import Survey
from rankdeficit.diagnostics.reading.taps import LOGITS, Layer, Layers, pick_logits
from rankdeficit.diagnostics.registry import Measure, all_measures, with_required
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.states.sampling import sample_keys
from rankdeficit.diagnostics.study import PLAIN, LayerConvention, Options, Study
from rankdeficit.distributed import from_first, is_first
from rankdeficit.gram import LEAST_GAMMA
from rankdeficit.spectrum import GAMMA

Splits = Mapping[str, Any]
"""Arrays by the names `train` and `test`."""

TOLD = 192
"""Number of train samples from which it is decided whether outputs are probabilities."""


def diagnose_outputs(
    *,
    logits: Splits,
    labels: Splits,
    features: Splits | None = None,
    ood: Mapping[str, Mapping[str, Any]] | None = None,
    classifier: Any = None,
    temperature: float = 1.0,
    measures: Sequence[str] | None = None,
    gamma: float = GAMMA,
    convention: LayerConvention = "matrix",
    detectors: Sequence[str] | None = None,
    seed: int = 0,
    matrix_memory: int = MATRIX_MEMORY,
    network_name: str | None = None,
    data_name: str | None = None,
) -> Report:
    """The measures of `diagnose` that outputs of a network alone allow, with the same numbers.

    logits: {"train": (n, classes), "test": (m, classes)}, tensors or NumPy arrays; one column and
        probabilities are read as `diagnose` does. labels: class indices or one-hot, in the same way.
    features: what the classifier reads, {"train": (n, width), "test": (m, width)}; for Neural Collapse,
        OOD detection and the penultimate ranks.
    ood: by name, {"logits": (k, classes), "features": (k, width)} of other data.
    classifier: weight (classes, width), (weight, bias) or nn.Linear; for NC3 and some detectors.
    measures, temperature, gamma, convention, detectors, seed, matrix_memory, network_name, data_name: as
    in `diagnose`. Halves for calibration are chosen by the content of the features (without them, of the
    logits), where `diagnose` takes the inputs.

    What needs the network (layers, probes, alignment, gradients) is left out, as a note tells. Raises
    ValueError naming the array for wrong shapes, NaN, labels without a logit, and measures that need more
    than is given.
    """
    started = time.perf_counter()
    temperature, gamma, seed = map(plain_number, (temperature, gamma, seed))
    matrix_memory = plain_number(matrix_memory)
    check_temperature(temperature)
    check_at_least(1, matrix_memory=matrix_memory)
    check_at_least(0, seed=seed)
    check_gamma(gamma)
    if gamma < LEAST_GAMMA:
        raise ValueError(f"gamma is {gamma}; it must be at least {LEAST_GAMMA:g}")
    names = detector_names()
    if detectors is not None:
        names = detector_list(detectors)
    for name in names:
        missing_packages(name)  # an unknown name is an error before any work
    with plain_torch():
        arrays = _Arrays(logits, labels, features, ood or {})
        chosen, left_out = _choose(measures, arrays.features is not None)
        options = Options(
            temperature, gamma, seed, PLAIN, ProbeSettings(), names, convention=convention
        )
        network = _network(classifier, arrays)
        needs = Needs.of(own.needs for own in chosen)
        with RowStore() as store:

            def look(name: str, needed: tuple[Any, ...], known: bool) -> Survey:
                wanted = Wanted(
                    (*((LOSS,) if known else ()), *needed),
                    own_labels=not known,
                    matrix_memory=matrix_memory,
                )
                found = Survey(name, network, wanted, temperature, store)
                for start in range(0, len(arrays.logits[name]), BLOCK):
                    found.update(arrays.block(name, slice(start, start + BLOCK)))
                found.share()
                return found

            study = Study(
                network,
                options,
                look("train", needs.train, True),
                look("test", needs.test, True),
                {},
                {},
            )
            if arrays.kind != "logits":
                study.notes.append(NOTES[arrays.kind])
            study.notes.extend(left_out)
            if needs.ood:
                study.ood.update({name: look(name, needs.ood, False) for name in arrays.ood})
            for own in chosen:
                study.prepared[own.name] = own.prepare(study)
            gather_outputs(study)
            record = assemble(study, chosen) if is_first() else None
        if record is not None:
            if arrays.features is None:
                record["network"]["penultimate_width"] = None
            record["conditions"] = conditions(study, started, None, data_name)
            record["network"]["name"] = network_name or record["network"]["name"]
        return Report(from_first(record))


class _Arrays:
    """Checked logits, labels and features of all data sets, by name."""

    def __init__(
        self, logits: Splits, labels: Splits, features: Splits | None, ood: Mapping[str, Any]
    ) -> None:
        if not isinstance(ood, Mapping):
            raise ValueError(f"ood is {spelled(ood)}; it must be a mapping of data sets by name")
        for name in ("train", "test"):
            if name in ood:
                raise ValueError(f"ood has a data set called {name!r}; give it another name")
        self.ood = list(ood)
        raw = _splits(logits, "logits") | {
            name: _matrix(_part(own, f"ood[{name!r}]", "logits"), f"ood[{name!r}]['logits']")
            for name, own in ood.items()
        }
        self.kind: Kind = kind_of_outputs([raw["train"][:TOLD]])
        self.logits = {name: as_logits(own, self.kind) for name, own in raw.items()}
        self.classes = self.logits["train"].shape[1]
        self.features: dict[str, Tensor] | None = None
        if features is not None:
            self.features = _splits(features, "features") | {
                name: _matrix(
                    _part(own, f"ood[{name!r}]", "features"), f"ood[{name!r}]['features']"
                )
                for name, own in ood.items()
            }
        self.labels = {
            name: class_indices(_part(labels, "labels", name), f"labels[{name!r}]")
            for name in ("train", "test")
        }
        self._check()

    def _check(self) -> None:
        """Raise ValueError where arrays do not belong together."""
        for name, rows in self.logits.items():
            others = {"features": (self.features or {}).get(name), "labels": self.labels.get(name)}
            for what, own in others.items():
                if own is not None and len(own) != len(rows):
                    raise ValueError(
                        f"{what} of {name} have {len(own)} rows and logits {len(rows)}; give the same "
                        "samples"
                    )
        for what, group in (("logits", self.logits), ("features", self.features or {})):
            widths = {name: own.shape[1] for name, own in group.items()}
            if len(set(widths.values())) > 1:
                raise ValueError(f"{what} have different numbers of columns: {widths}")
        for name, own in self.labels.items():
            low, high = int(own.min()), int(own.max())
            if low < 0 or high >= self.classes:
                raise ValueError(
                    f"labels[{name!r}] lie in {low}..{high}; they must lie in 0..{self.classes - 1}, the "
                    "columns of the logits"
                )

    def block(self, name: str, rows: slice) -> Block:
        """Some samples of a data set."""
        logits = self.logits[name][rows]
        features = logits[:, :0] if self.features is None else self.features[name][rows]
        labels = self.labels.get(name)
        return Block(
            labels=torch.zeros(len(logits)).long() if labels is None else labels[rows],
            keys=sample_keys(logits if self.features is None else features),
            logits=logits,
            penultimate=features,
        )


def _choose(names: Sequence[str] | None, features: bool) -> tuple[list[Measure], list[str]]:
    """The measures that arrays allow, and notes on the others.

    Raises ValueError for one of the names that needs more.
    """
    given = ("logits", "penultimate") if features else ("logits",)

    def lacks(own: Measure) -> bool:
        needed = (*own.needs.train, *own.needs.test, *own.needs.ood, *own.needs.ood_pair)
        fits = all(isinstance(need, (Stream, Rows)) and need.of in given for need in needed)
        return not fits or any(lacks(other) for other in with_required(own.requires))

    asked = all_measures() if names is None else with_required(names)
    without = [own.name for own in asked if lacks(own)]
    if names is not None and without:
        way = "the network: call diagnose" if features else "features=... or the network"
        raise ValueError(f"measures has {without[0]!r}, which needs {way}")
    note = f"left out, as they need more than the arrays given: {', '.join(without)}"
    return [own for own in asked if not lacks(own)], [note] if without else []


class Outputs(nn.Module):
    """Stands for the network whose outputs were given; its classifier is linear where that was given."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier


def _network(classifier: Any, arrays: _Arrays) -> Network:
    """The network that measures see: no layers, but the classifier where its weight is given."""
    module: nn.Module = nn.Identity()
    if classifier is not None:
        matrix, bias = _classifier(classifier)
        width = None if arrays.features is None else arrays.features["train"].shape[1]
        if matrix.shape[0] != arrays.classes or width not in (None, matrix.shape[1]):
            raise ValueError(
                f"classifier has a weight of shape {tuple(matrix.shape)}; it must be (classes, width), "
                f"({arrays.classes}, {'width' if width is None else width})"
            )
        linear = nn.Linear(matrix.shape[1], len(matrix), bias=bias is not None, dtype=matrix.dtype)
        with torch.no_grad():
            linear.weight.copy_(matrix)
            if bias is not None:
                linear.bias.copy_(bias)
        module = linear
    layer = Layer("classifier", "classifier", 0, "linear", LOGITS, False)
    logits = arrays.logits["train"]
    model = Outputs(module).to(logits.device)
    found = logits.device, logits.dtype
    layers = Layers((), layer)
    return Network(model, layers, arrays.classes, pick_logits, *found, outputs=arrays.kind)


def _classifier(given: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias."""
    if isinstance(given, nn.Linear):
        given = given.weight, given.bias
    pair = given if isinstance(given, (tuple, list)) else (given, None)
    if len(pair) != 2:
        raise ValueError(f"classifier is {spelled(given)}; it must be a weight or (weight, bias)")
    weight, bias = _matrix(pair[0], "classifier"), pair[1]
    if bias is None:
        return weight, None
    row = _matrix(
        bias[None] if isinstance(bias, (Tensor, np.ndarray)) else bias, "classifier's bias"
    )
    if row.shape != (1, len(weight)):
        raise ValueError(
            f"classifier has a bias of shape {tuple(row.shape[1:])}; it must be (classes,), "
            f"({len(weight)},)"
        )
    return weight, row[0]


def _part(values: Any, name: str, key: str) -> Any:
    if not isinstance(values, Mapping) or key not in values:
        given = list(values) if isinstance(values, Mapping) else spelled(values)
        raise ValueError(f"{name} is {given}; it must be a mapping with {key!r}")
    return values[key]


def _splits(values: Splits, name: str) -> dict[str, Tensor]:
    return {key: _matrix(_part(values, name, key), f"{name}[{key!r}]") for key in ("train", "test")}


def _matrix(values: Any, name: str) -> Float[Tensor, "n columns"]:
    """A finite floating-point matrix."""
    tensor = values
    if isinstance(values, np.ndarray):
        with suppress(TypeError):  # arrays of objects
            tensor = tensor_of(values)
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"{name} is {spelled(values)}; it must be a tensor or a NumPy array of numbers"
        )
    tensor = tensor.detach()
    if not tensor.is_floating_point() and not tensor.is_complex():
        tensor = tensor.double()
    if tensor.is_complex() or tensor.ndim != 2 or not tensor.numel():
        raise ValueError(f"{name} is {spelled(tensor)}; it must be a real matrix, a row per sample")
    check_floating(name, tensor, dimensions=2)
    check_magnitudes(name, tensor)
    return tensor
