"""Everything this package measures of a trained classifier, in one call."""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from rankdeficit.checks import (
    check_at_least,
    check_callable,
    check_gamma,
    check_switch,
    check_temperature,
    plain_number,
)
from rankdeficit.diagnostics.assembly import assemble, conditions, gather_outputs
from rankdeficit.diagnostics.budget import Budget
from rankdeficit.diagnostics.measures.ood import detector_list, missing_packages
from rankdeficit.diagnostics.measures.ood import detectors as detector_names
from rankdeficit.diagnostics.measures.probes import ProbeSettings
from rankdeficit.diagnostics.reading.batches import Data, as_batches, checked_batch, spelled
from rankdeficit.diagnostics.reading.contexts import plain_torch
from rankdeficit.diagnostics.reading.inputs import Forward, Inputs, explained
from rankdeficit.diagnostics.reading.masks import MaskOf
from rankdeficit.diagnostics.reading.needs import MATRIX_MEMORY, Needs, Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.outputs import NOTES
from rankdeficit.diagnostics.reading.store import MEMORY, RowStore
from rankdeficit.diagnostics.reading.streams import LOSS
from rankdeficit.diagnostics.reading.survey import OnProgress, survey
from rankdeficit.diagnostics.reading.taps import Select, pick_logits
from rankdeficit.diagnostics.reading.untouched import untouched
from rankdeficit.diagnostics.reading.wrappers import unwrap
from rankdeficit.diagnostics.registry import choose
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.study import PLAIN, LayerConvention, Loss, Options, Study
from rankdeficit.distributed import from_first, is_first
from rankdeficit.gram import LEAST_GAMMA
from rankdeficit.spectrum import GAMMA

Batches = Iterable[Any]

GRADIENT_SAMPLES, GRADIENT_SAMPLES_OF_VECTORS = 64, 1024
"""At least. Where layers read one vector per sample, not many patches, more are needed and cost less."""

PEEKED = 64
"""Samples at the start whose outputs decide whether the model ends in a softmax or sigmoid."""


def diagnose(
    model: nn.Module,
    train: Data,
    test: Data,
    ood: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
    *,
    measures: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    logits: Select = pick_logits,
    gamma: float = GAMMA,
    convention: LayerConvention = "matrix",
    grid: int = 2,
    probes: bool | ProbeSettings = True,
    alignment: bool = True,
    gradients: bool | None = None,
    detectors: Sequence[str] | None = None,
    rows_per_sample: int = 2,
    gradient_samples: int | None = None,
    loss: Loss = PLAIN,
    seed: int = 0,
    memory: int = MEMORY,
    matrix_memory: int = MATRIX_MEMORY,
    spill_folder: Path | None = None,
    mask: MaskOf = None,
    on_progress: OnProgress | None = None,
    on_start: Callable[[Budget], None] | None = None,
    network_name: str | None = None,
    data_name: str | None = None,
) -> Report:
    """Ranks, alignment, Neural Collapse, probes, OOD detection and calibration of a trained classifier.

    model: any module that maps a batch to logits; it stays as it is. One logit per sample counts as two
        classes with logits (0, z). Of probabilities the logarithms are taken, which
        the notes tell. DataParallel and torch.compile are unwrapped.
    train, test: iterables of (inputs, labels) batches, or data sets of samples; each is read once.
        Inputs are a tensor, or several as a tuple by position or a mapping by keyword; a batch may
        also be a mapping of `labels` and inputs, or have more parts. Sizes may differ between batches,
        and padding is told by `mask`. Labels are class indices or one-hot. Each process
        of torch.distributed gives its own, disjoint share of the samples.
    ood: by name, (train, test) batches of other data with labels of their own; (None, test) for
        detection without probes, whose labels are not read and may be missing.
    temperature: the T of training, softmax(logits / T).
    measures: names of the measures to take (`diagnostics.available_measures()` lists them), with what
        they require; nothing is read or computed that they do not need. An empty list leaves accuracy
        and loss. By default all that probes, alignment and gradients below do not switch off.
    layers: names of modules, with * and ?, to look at instead of all weight layers on the main path.
    logits: picks the logits from what the model returns; needed where that is not one tensor.
    convention: of the ranks of layers and of the classifier's input, as in `numerical_rank`, but for
        class-centred; ranks of the logits are reported in all conventions.
    grid: maps are averaged to grid x grid cells before ranks and probes; tokens to their mean.
    probes: linear probes on every layer, hence effective depth and OOD drop; True, False or settings,
        whose `preset` names a protocol of others.
    alignment: of every layer, from `rows_per_sample` rows of its input per train sample.
    gradients: rank of every layer's gradient over `gradient_samples` train samples: by default as many
        as classes and at least 64, or 1024 where all layers are linear. None: measured when the
        alignment is.
    loss: mean loss(logits, labels, temperature) of training, whose gradient is measured; by default
        cross-entropy of softmax(logits / T).
    detectors: names of OOD detectors (`diagnostics.detectors()`); by default all whose packages
        are installed. An empty list leaves detection out.
    mask: how padding is told, which counts in no mean, rank or alignment: a function from a batch to a
        mask (n, tokens) with 1 at tokens, or its name in batches that are mappings. By default
        `attention_mask` (1 at tokens), `key_padding_mask` (True at padding) and `lengths` are known.
    on_start: called with the `Budget` of the diagnosis before the first pass.
    memory, spill_folder: features beyond so many bytes go to temporary files in the folder.
    matrix_memory: maximum bytes of each streamed matrix, 8 width^2, or of the rows kept instead of it;
        by default 2 GiB, 16,384 features. Wider layers with more samples have no ranks, and their
        alignment uses fewer rows; notes report both.
    network_name, data_name: shown in titles; the network's is by default the name of its class.
    Alignment rows and gradient samples are chosen by content: order and batches do not matter.

    The caller's autocast and inference mode do not hold in here, and its default device and dtype only
    for the model and the data sets: they change no number.

    Raises ValueError, naming data set and batch, for empty or unlabelled data, labels without a
    logit, inputs that the model cannot take, NaN in inputs or logits, patterns that match no layer,
    and unknown measures. What the data do not allow to measure (Neural Collapse without samples of
    some class, say) is left out; the report's notes give the reason.
    """
    started = time.perf_counter()
    pairs = _pairs(ood)
    train_batches, test_batches = as_batches(train, "train"), as_batches(test, "test")
    temperature, gamma, seed = map(plain_number, (temperature, gamma, seed))
    grid, rows_per_sample, matrix_memory, memory, gradient_samples = map(
        plain_number, (grid, rows_per_sample, matrix_memory, memory, gradient_samples)
    )
    probes, alignment, gradients = map(plain_number, (probes, alignment, gradients))
    check_temperature(temperature)
    check_gamma(gamma)
    if gamma < LEAST_GAMMA:
        raise ValueError(
            f"gamma is {gamma}; it must be at least {LEAST_GAMMA:g}: spectra of streamed data "
            "resolve no less"
        )
    check_at_least(1, grid=grid, rows_per_sample=rows_per_sample, matrix_memory=matrix_memory)
    check_at_least(0, memory=memory, seed=seed)
    if gradient_samples is not None:
        check_at_least(1, gradient_samples=gradient_samples)
    check_callable(loss=loss, logits=logits, on_progress=on_progress, on_start=on_start)
    check_switch(ProbeSettings, probes=probes)
    check_switch(alignment=alignment)
    check_switch(type(None), gradients=gradients)
    switches = {"probes": probes, "alignment": alignment, "gradients": gradients}
    chosen = choose(measures, switches)
    options = Options(
        temperature=temperature,
        gamma=gamma,
        seed=seed,
        loss=loss,
        probes=probes if isinstance(probes, ProbeSettings) else ProbeSettings(),
        detectors=detector_names() if detectors is None else detector_list(detectors),
        on_progress=on_progress,
        convention=convention,
    )
    for name in options.detectors:
        missing_packages(name)  # an unknown name is an error before any work
    plain = unwrap(model)
    with plain_torch() as defaults, untouched(plain):
        forward = Forward.of(plain)
        firsts, train_batches = _peek(defaults.batches(train_batches), forward, mask)
        where, first = next(iter(firsts.items()))
        with explained(where, first):
            network = replace(Network.of(model, first, layers, logits, defaults), mask=mask)
        network = network.told_by(firsts)
        needs = Needs.of(own.needs for own in chosen)
        samples = gradient_samples or _gradient_samples(network)
        raw = 0 if options.probes.protocol is None else options.probes.protocol.raw
        wanted = Wanted((LOSS,), rows_per_sample, samples, matrix_memory=matrix_memory, raw=raw)
        if on_start is not None:
            known_passes = [Wanted(needs.train), Wanted(needs.test)]
            passes = [*known_passes, *_ood_passes(needs, pairs)]
            on_start(Budget.of(network, passes, grid, matrix_memory))
        look = partial(
            survey, network=network, temperature=temperature, grid=grid, on_progress=on_progress
        )
        with RowStore(memory, spill_folder) as store:
            look = partial(look, store=store)
            known = look("train", batches=train_batches, wanted=wanted.plus(needs.train))
            held_out = look(
                "test", batches=defaults.batches(test_batches), wanted=wanted.plus(needs.test)
            )
            study = Study(network, options, known, held_out, {}, {})
            if network.outputs != "logits":
                study.notes.append(NOTES[network.outputs])
            for name, (own_train, own_test) in pairs.items():
                paired = () if own_train is None else needs.ood_pair
                own_needs = (*needs.ood, *paired)
                labelled = own_train is not None and bool(paired)
                own_labels = replace(wanted, needs=(), own_labels=True, labelled=labelled)
                if own_train is not None and paired:
                    study.ood_train[name] = look(
                        f"{name} train",
                        batches=defaults.batches(own_train),
                        wanted=own_labels.plus(paired),
                    )
                if own_needs:
                    study.ood[name] = look(
                        name, batches=defaults.batches(own_test), wanted=own_labels.plus(own_needs)
                    )
            for own in chosen:
                study.prepared[own.name] = own.prepare(study)
            gather_outputs(study)
            record = assemble(study, chosen) if is_first() else None
        if record is not None:
            record["conditions"] = conditions(study, started, grid, data_name)
            record["network"]["name"] = network_name or record["network"]["name"]
        return Report(from_first(record))


def _peek(train: Batches, forward: Forward, mask: MaskOf) -> tuple[dict[str, Inputs], Batches]:
    """Inputs of the first PEEKED samples by the names of their batches, and all batches in order."""
    stream = iter(train)
    read, found, missing = [], dict[str, Inputs](), PEEKED
    for number, batch in enumerate(stream):
        read.append(batch)
        where = f"train, batch {number}"
        inputs = checked_batch(batch, where, forward, mask=mask)[0]
        if len(inputs):
            found[where] = inputs[:missing]
            missing -= len(found[where])
        if not missing:
            break
    if not found:
        raise ValueError("train is empty; give at least one batch of (inputs, labels)")
    return found, itertools.chain(read, stream)


def _pairs(ood: Mapping[str, Any] | None) -> dict[str, tuple[Batches | None, Batches]]:
    """The OOD data sets. Raises ValueError for anything but (train, test) pairs by name."""
    if ood is not None and not isinstance(ood, Mapping):
        raise ValueError(
            f"ood is {spelled(ood)}; it must be a dict of (train, test) pairs of batches by name; give "
            "a temperature as temperature=..."
        )
    pairs = {}
    for name, pair in (ood or {}).items():
        if not isinstance(pair, tuple) or len(pair) != 2 or pair[1] is None:
            raise ValueError(
                f"ood[{name!r}] is {spelled(pair)}; it must be a tuple (train, test) of batches, or "
                "(None, test)"
            )
        if name in ("train", "test"):
            raise ValueError(f"ood has a data set called {name!r}; give it another name")
        first = None if pair[0] is None else as_batches(pair[0], f"ood[{name!r}][0]")
        pairs[name] = first, as_batches(pair[1], f"ood[{name!r}][1]")
    return pairs


def _ood_passes(needs: Needs, pairs: Mapping[str, tuple[Any, Any]]) -> list[Wanted]:
    """What the passes over OOD data sets are to leave behind."""
    passes = []
    for train, _ in pairs.values():
        paired = () if train is None else needs.ood_pair
        passes += [Wanted(own) for own in (paired, (*needs.ood, *paired)) if own]
    return passes


def _gradient_samples(network: Network) -> int:
    linear = all(layer.kind == "linear" for layer in network.layers.chosen)
    return max(GRADIENT_SAMPLES_OF_VECTORS if linear else GRADIENT_SAMPLES, network.classes)
