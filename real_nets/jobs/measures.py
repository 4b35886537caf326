"""Measurements of a network during and after training, as plain records."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from rankdeficit import GAMMAS
from rankdeficit.diagnostics.measures.ortho_dev import ortho_dev
from rankdeficit.diagnostics.reading.needs import Rows, Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.reading.streams import CLASSES, DIRECTIONS, FEATURES, LOGITS, LOSS
from rankdeficit.diagnostics.reading.survey import Survey, survey
from rankdeficit.diagnostics.reading.taps import pick_logits, undisturbed
from rankdeficit.diagnostics.reading.unfolding import weight_matrix
from rankdeficit.distributed import buffers_from_first, gather_rows
from rankdeficit.images import Images
from rankdeficit.spectrum import Spectrum
from real_nets.jobs.data import JobData
from real_nets.jobs.job import Job
from real_nets.jobs.records import FinalMeasures, LogitsRecord, LogitsRow, Measured

SPECTRA = (LOSS, LOGITS, FEATURES)

TOP_VALUES = 5
"""Number of singular values recorded of each layer (the paper's Figure 3)."""

GRID = 2
"""Feature maps are averaged to GRID x GRID cells."""

MEASUREMENTS = 12
"""Maximum number of measurements after the first epoch, evenly spaced."""


def measured_at(epochs: int, steps_per_epoch: int) -> set[int]:
    """Steps at which a training is measured: 0, powers of four in the first epoch, ends of epochs."""
    every = -(-epochs // MEASUREMENTS) or 1
    early = {0, *(4**i for i in range(16) if 4**i < steps_per_epoch)} if epochs else {0}
    ends = {epoch * steps_per_epoch for epoch in range(every, epochs, every)}
    return early | ends | {epochs * steps_per_epoch}


class Follower:
    """Measurements of a network during training, on a fixed subset of each data set."""

    def __init__(self, model: nn.Module, job: Job, data: JobData) -> None:
        self.job = job
        self.network = Network.of(model, _first_input(data.train), None, pick_logits)
        count = job.followed_images
        self.all_train = data.train
        self.train = data.train.some(count).share().load()
        self.test = data.test.some(count).share().load()
        self.ood = {
            name: data.ood_images(name, "test").some(count).share().load() for name in data.ood
        }

    @property
    def features(self) -> int:
        """Width of the classifier's input; the number of classes if it is no single matrix."""
        weight = weight_matrix(self.network.module(self.network.layers.classifier.module))
        return self.network.classes if weight is None else weight.shape[1]

    def measure(self, temperature: float | None = None) -> Measured:
        """Accuracy, loss, ranks and norm of the logits, ranks of layers, alignment, OrthoDev.

        temperature: by default the job's.
        """
        temperature = temperature or self.job.temperature
        with RowStore() as store:
            wanted = Wanted((*SPECTRA, CLASSES, DIRECTIONS), rows_per_sample=1)
            on_train = self._survey(self.train, wanted, store, temperature)
            on_test = self._survey(self.test, Wanted(SPECTRA), store, temperature)
            row = logits_row(on_train, self.job.gamma)
            deviations = {
                name: self._ortho_dev(on_train, images, store) for name, images in self.ood.items()
            }
        spectra = layer_spectra(self.network, on_train)
        alignments = self._alignments(on_train)
        known = [value for value in alignments if value is not None]
        return {
            "temperature": temperature,
            **row,
            "test_accuracy": on_test.accuracy,
            "test_loss": on_test.state(LOSS).mean,
            "alignment": sum(known) / len(known) if known else None,
            "layer_alignments": alignments,
            "layer_ranks": layer_ranks(spectra, {self.job.gamma, *GAMMAS}),
            "layer_singular_values": [s.singular_values[:TOP_VALUES].tolist() for s in spectra],
            "ortho_dev": deviations,
        }

    @contextmanager
    def calibrated(self) -> Iterator[None]:
        """Inside the block, BatchNorm uses the statistics of the followed train images.

        For networks in their first epoch. The running averages start at mean 0 and variance 1 and lag
        behind a network that changes fast, whereas training steps use the statistics of their batch:
        no training loss is ever that of a network with such averages. Under torchrun, the statistics
        are those of the first process's shard.
        """
        model, device = self.network.model, self.network.device
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            if len(self.train) > 1:
                update_bn((inputs for inputs, _ in self.train.evenly()), model)
        buffers_from_first(model)
        try:
            yield
        finally:
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether the squared logits of the first followed images are finite in all processes.

        Squared, as measures come from Gram matrices.
        """
        inputs, _ = next(iter(self.train))
        with undisturbed(self.network.model):
            finite = self.network.logits(inputs).square().isfinite().all()
        everywhere = gather_rows(finite.long()[None])
        assert everywhere is not None
        return bool(everywhere.all())

    def logits_norm(self) -> float:
        """Norm of the logits on the followed train images."""
        with RowStore() as store:
            found = self._survey(self.train, Wanted((LOGITS,)), store)
        return float(found.state(LOGITS).measures(self.job.gamma).record()["logits_norm"])

    def accuracy(self) -> float:
        """Accuracy on the followed train images."""
        return self._accuracy(self.train)

    def accuracy_on_all(self) -> float:
        """Accuracy on all train images."""
        return self._accuracy(self.all_train.share())

    def _accuracy(self, images: Images) -> float:
        with RowStore() as store:
            return self._survey(images, Wanted(), store).accuracy

    def _survey(
        self, images: Images, wanted: Wanted, store: RowStore, temperature: float = 1.0
    ) -> Survey:
        return pass_over(self.network, images, wanted, temperature, store)

    def _alignments(self, on_train: Survey) -> list[float | None]:
        found: list[float | None] = []
        for layer in self.network.layers.chosen:
            directions = on_train.by_layer(DIRECTIONS).get(layer.name)
            weight = self.network.weight(layer)
            aligned = None
            if directions is not None and weight is not None:
                aligned = directions.alignment(weight).value
            found.append(aligned)
        return found

    def _ortho_dev(self, on_train: Survey, images: Images, store: RowStore) -> float | None:
        wanted = Wanted((Rows("penultimate"),), own_labels=True)
        features = self._survey(images, wanted, store).rows("penultimate")
        classes = on_train.state(CLASSES)
        assert features is not None
        mean = features.double().mean(dim=0).to(classes.means.device)
        try:
            return ortho_dev(classes.means[classes.counts > 0], mean)
        except ValueError:  # a mean is zero, as after a layer of dead units
            return None


def pass_over(
    network: Network, images: Images, wanted: Wanted, temperature: float, store: RowStore
) -> Survey:
    """One forward pass over the images, collecting what is wanted."""
    return survey(
        images.name, network, images, wanted, temperature=temperature, grid=GRID, store=store
    )


def final_measures(
    network: Network, job: Job, data: JobData, temperature: float | None = None
) -> FinalMeasures:
    """Accuracy, loss, ranks and norms on all train and all test images, and ranks of all layers.

    Untrained networks (0 epochs) are measured on `job.followed_images` of each split.
    temperature: by default the job's.
    """
    temperature = temperature or job.temperature
    count = 0 if job.epochs else job.followed_images
    with RowStore() as store:
        wanted = Wanted(SPECTRA)
        train, test = (images.some(count).share() for images in (data.train, data.test))
        on_train = pass_over(network, train, wanted, temperature, store)
        on_test = pass_over(network, test, wanted, temperature, store)
    gammas = {job.gamma, *GAMMAS}
    spectra = layer_spectra(network, on_test)
    return {
        **logits_record(on_train, job.gamma),
        "test_accuracy": on_test.accuracy,
        "test_loss": on_test.state(LOSS).mean,
        "test_logits": logits_record(on_test, job.gamma),
        "layers": [layer.name for layer in network.layers.chosen],
        "layer_ranks": layer_ranks(spectra, gammas),
        "layer_rank_intervals": {
            str(gamma): [[int(end) for end in s.rank_interval(gamma)] for s in spectra]
            for gamma in sorted(gammas)
        },
        "train_layer_ranks": layer_ranks(layer_spectra(network, on_train), gammas),
    }


def logits_record(found: Survey, gamma: float) -> LogitsRecord:
    """Accuracy, loss and the measures of the logits."""
    scores: Any = {"accuracy": found.accuracy, "loss": found.state(LOSS).mean}
    return scores | found.state(LOGITS).measures(gamma).record()


def logits_row(found: Survey, gamma: float) -> LogitsRow:
    """The record without its singular values, too many for a row of metrics.jsonl."""
    return {k: v for k, v in logits_record(found, gamma).items() if k != "singular_values"}  # type: ignore[return-value]


def layer_spectra(network: Network, found: Survey) -> list[Spectrum]:
    """Spectrum of the representation after each layer."""
    return [found.by_layer(FEATURES)[layer.name].spectrum() for layer in network.layers.chosen]


def layer_ranks(spectra: list[Spectrum], gammas: Collection[float]) -> dict[str, list[int]]:
    """Numerical rank after each layer, by threshold."""
    return {str(gamma): [int(s.rank(gamma)) for s in spectra] for gamma in sorted(gammas)}


def _first_input(images: Images) -> torch.Tensor:
    return next(iter(images.some(1)))[0]
