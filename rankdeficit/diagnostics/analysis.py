"""From the surveys of all data sets to the record of a report: one function per family of measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rankdeficit.diagnostics.measures.calibration import temperature_scaling
from rankdeficit.diagnostics.measures.collapse import nearest_centre_agreement, neural_collapse
from rankdeficit.diagnostics.measures.detection import detection, ortho_dev
from rankdeficit.diagnostics.measures.gradients import GradientSpectra, Loss, gradient_spectra
from rankdeficit.diagnostics.measures.layer_probes import LayerProbes
from rankdeficit.diagnostics.measures.neco import default_variant
from rankdeficit.diagnostics.measures.ood import KnownData, fit_detector, missing_packages
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.survey import Survey
from rankdeficit.diagnostics.reading.unfolding import weight_matrix
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics

Row = dict[str, Any]


@dataclass(frozen=True)
class Outputs:
    """What the classifier reads and says of the samples of a data set."""

    penultimate: Tensor
    logits: Tensor
    """Empty for the train samples, of which nothing needs them."""


@dataclass
class Study:
    """All that was surveyed, and the notes on what cannot be told."""

    network: Network
    train: Survey
    test: Survey
    outputs: dict[str, Outputs]
    """By data set: train (without logits), test, and the test samples of each OOD data set."""
    probes: LayerProbes | None
    ood_probes: dict[str, LayerProbes]
    temperature: float
    loss: Loss
    gamma: float
    seed: int
    notes: list[str]

    @property
    def strange(self) -> dict[str, Outputs]:
        """Outputs of the OOD data sets."""
        return {k: v for k, v in self.outputs.items() if k not in ("train", "test")}

    def record(self, detectors: Sequence[str]) -> Row:
        """All measures as plain numbers, lists and dicts."""
        layers = self.layers()
        alignments = [row["alignment"] for row in layers if row["alignment"] is not None]
        return {
            "network": self.network_row(),
            "train": self.data_row(self.train),
            "test": self.data_row(self.test),
            "layers": layers,
            "penultimate": self.penultimate(),
            "alignment": sum(alignments) / len(alignments) if alignments else None,
            "neural_collapse": self.neural_collapse(),
            "effective_depth": self.probes.effective_depth() if self.probes else None,
            "ood": {name: probes.data_row() for name, probes in self.ood_probes.items()},
            "ood_drop": {name: probes.ood_drop() for name, probes in self.ood_probes.items()},
            "detection": self.detection(detectors),
            "ortho_dev": self.ortho_dev(),
            "calibration": self.calibration(),
            "notes": self.notes,
        }

    def network_row(self) -> Row:
        """What was diagnosed."""
        model = self.network.model
        return {
            "name": type(model).__name__,
            "layers": len(self.network.layers.chosen),
            "classes": self.network.classes,
            "penultimate_width": self.outputs["train"].penultimate.shape[1],
            "neco_variant": default_variant(model),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }

    def data_row(self, survey: Survey) -> Row:
        """Accuracy, what guessing reaches of it, and the measures of the logits on one data set."""
        measures = survey.logits.measures(self.gamma).record()
        return {
            "samples": survey.samples,
            "accuracy": survey.accuracy,
            "largest_class": survey.largest_class,
            "loss": survey.loss,
            "logits": measures,
        }

    def layers(self) -> list[Row]:
        """One row per layer: spectra on train and test data, alignment, gradient, probes."""
        gradients = self._gradients()
        probes = self.probes.rows() if self.probes else None
        ood_probes = {name: found.rows() for name, found in self.ood_probes.items()}
        rows = []
        unmatched = []
        for number, layer in enumerate(self.network.layers.chosen):
            on_train, on_test = (data.layers[layer.name] for data in (self.train, self.test))
            weight = weight_matrix(self.network.module(layer.module))
            if weight is None and layer.kind != "module":
                unmatched.append(layer.name)
            found = gradients.get(layer.name)
            rows.append(
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "features": on_train.features,
                    "train": on_train.spectrum().record(self.gamma),
                    "test": on_test.spectrum().record(self.gamma),
                    **self._alignment(layer.name, weight),
                    "gradient": found.gradient.record(self.gamma) if found else None,
                    "input": found.inputs.record(self.gamma) if found else None,
                    "probe": probes[number] if probes else None,
                    "ood_probes": {name: found[number] for name, found in ood_probes.items()},
                }
            )
        if unmatched and (self.train.directions or gradients):
            self.notes.append(
                f"alignment and gradient ranks leave out {len(unmatched)} layers that multiply their "
                f"input by no single matrix, such as grouped convolutions ({unmatched[0]} for one)"
            )
        return rows

    def _alignment(self, layer: str, weight: Tensor | None) -> Row:
        directions = self.train.directions.get(layer)
        if directions is None or weight is None:
            return dict.fromkeys(("alignment", "alignment_error", "alignment_rows"))
        found = directions.alignment(weight)
        error = None if math.isnan(found.error) else found.error
        return {"alignment": found.value, "alignment_error": error, "alignment_rows": found.rows}

    def penultimate(self) -> Row:
        """Spectrum of what the classifier reads, on train and test data."""
        return {
            survey.name: survey.penultimate.spectrum().record(self.gamma)
            for survey in (self.train, self.test)
            if survey.penultimate is not None
        }

    def neural_collapse(self) -> Row | None:
        """NC1-NC4 of the train samples, with the train accuracy without which they say little."""
        statistics, classifier = self.train.classes, self.network.classifier
        assert statistics is not None
        if bool((statistics.counts == 0).any()):
            missing = int((statistics.counts == 0).sum())
            self.notes.append(
                f"no Neural Collapse: {missing} of {statistics.classes} classes have no train samples"
            )
            return None
        if classifier is None:
            self.notes.append("no NC3: the last layer is not linear")
        elif self.train.accuracy < 1:
            self.notes.append(
                f"Neural Collapse speaks of networks that interpolate; train accuracy is "
                f"{self.train.accuracy:.2%}"
            )
        weight = None if classifier is None else classifier.weight
        found = neural_collapse(statistics, weight, self.gamma)
        agreement = nearest_centre_agreement(
            self.outputs["train"].penultimate, self.train.predictions, statistics.means
        )
        row = {name: _finite(value) for name, value in found._asdict().items()}
        return row | {
            "nearest_centre_agreement": agreement,
            "predicted_rank": min(statistics.classes - 1, statistics.features),
            "train_accuracy": self.train.accuracy,
        }

    def detection(self, detectors: Sequence[str]) -> dict[str, dict[str, Row]]:
        """Every detector on every OOD data set."""
        results: dict[str, dict[str, Row]] = {name: {} for name in self.strange}
        if not self.strange:
            return results
        held_out, found = self.outputs["test"], self.train.classes
        assert found is not None
        statistics = ClassStatistics(found.features, found.classes).merge(found)
        weight, bias = self._head()
        data = KnownData(  # all in the CPU's memory, where the kept features are
            features=self.outputs["train"].penultimate,
            labels=self.train.labels,
            statistics=statistics,
            weight=weight,
            bias=bias,
            temperature=self.temperature,
        )
        for detector in detectors:
            if missing := missing_packages(detector):
                self.notes.append(
                    f"detector {detector} left out: {' and '.join(missing)} not installed (pip "
                    'install "rankdeficit[ood]")'
                )
                continue
            try:
                score = fit_detector(detector, data)
            except ValueError as error:
                self.notes.append(f"detector {detector} left out: {error}")
                continue
            known = score(held_out.penultimate, held_out.logits)
            for name, outputs in self.strange.items():
                scores = score(outputs.penultimate, outputs.logits)
                results[name][detector] = detection(known, scores)._asdict()
        return results

    def ortho_dev(self) -> dict[str, float | None]:
        """OrthoDev of every OOD data set; None where a mean is zero."""
        assert self.train.classes is not None
        seen = self.train.classes.counts > 0
        results: dict[str, float | None] = {}
        for name, outputs in self.strange.items():
            mean = outputs.penultimate.double().mean(dim=0)
            try:
                results[name] = ortho_dev(self.train.classes.means[seen], mean.to(seen.device))
            except ValueError as error:
                results[name] = None
                self.notes.append(f"no OrthoDev for {name}: {error}")
        return results

    def calibration(self) -> Row:
        """ECE, NLL and Brier score of the test samples before and after temperature scaling."""
        logits = self.outputs["test"].logits
        found = temperature_scaling(logits, self.test.labels, self.temperature, seed=self.seed)
        return {
            "before": found.before._asdict(),
            "after": found.after._asdict(),
            "temperatures": list(found.temperatures),
        }

    def _head(self) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias of the classifier, as far as it has them."""
        classifier = self.network.classifier
        if classifier is None:
            return None, None
        bias = classifier.bias
        return classifier.weight.detach().cpu(), None if bias is None else bias.detach().cpu()

    def _gradients(self) -> dict[str, GradientSpectra]:
        if self.train.subset is None:
            return {}
        _, inputs, labels = self.train.subset
        try:
            return gradient_spectra(self.network, inputs, labels, self.temperature, self.loss)
        except ValueError as error:
            self.notes.append(f"no gradient ranks: {error}")
            return {}


def _finite(value: float | int | None) -> float | int | None:
    return value if value is None or math.isfinite(value) else None
