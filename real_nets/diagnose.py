"""Diagnose a trained classifier of images: ranks, alignment, probes, OOD detection, calibration.

    python -m real_nets.diagnose --model torchvision:resnet18 --checkpoint FILE --data FOLDER --ood FOLDER
    python -m real_nets.diagnose --trained runs/train-DATE/T50-seed0 --ood FOLDER
    torchrun --nproc-per-node 8 -m real_nets.diagnose ...

Folders hold train/CLASS/* and test/CLASS/* (or val/CLASS/*) images. A folder for --ood may hold only
test images or only folders of classes, and is then used for detection only.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from rankdeficit import GAMMA
from rankdeficit.checks import check_at_least, check_seeds, check_temperature
from rankdeficit.diagnostics.diagnose import Batches, diagnose
from rankdeficit.diagnostics.measures.gradients import PLAIN
from rankdeficit.diagnostics.measures.ood import missing_packages
from rankdeficit.diagnostics.measures.probes import Preset, ProbeSettings
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.registry import Measure, choose, unused_options
from rankdeficit.diagnostics.report import Report
from rankdeficit.diagnostics.study import LayerConvention
from rankdeficit.experiments import cli, runs
from rankdeficit.experiments.image_splits import Turned, measured_normalisation
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.own_code import absolute
from rankdeficit.image_files import square
from rankdeficit.images import Images, Normalisation, list_splits, unchanged
from real_nets.data.images import IMAGENET, Folders
from real_nets.data.opening import why_missing
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.trained import find_trained, folder_of_images, own_data, training_images
from real_nets.jobs.trial import try_saved
from real_nets.models import Architecture, StructureOptions, model_help

PROGRAM = "real_nets.diagnose"

STRUCTURE = tuple(own.name for own in fields(StructureOptions))
TOLD_BY_RUN = ("model", *STRUCTURE, "classes", "checkpoint", "untrained", "temperature")
"""Settings that `trained` determines."""
SWITCHES = ("probes", "alignment", "gradients")
"""Settings that switch measures off."""


@dataclass(frozen=True)
class Settings(StructureOptions):
    """Diagnose a trained classifier of images."""

    model: str | None = field(default=None, metadata={"help": model_help})
    checkpoint: Path | None = None
    """Weights of the network: a .safetensors file, or a state dict saved by torch.save."""
    trained: Path | None = None
    """Instead of --model and --checkpoint: folder of a network that real_nets trained, or a .safetensors
    file in it. Determines the temperature too, and the data unless --data is given."""
    untrained: bool = False
    """Diagnose random initial weights instead of a checkpoint."""
    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val/CLASS/*) images."""
    ood: tuple[Path, ...] = ()
    """Folders of out-of-distribution images, named by their last component; with the layout of --data, or
    with test images only, which need no classes."""
    temperature: float | None = None
    """Softmax temperature T of training [default: the run's, else 1]."""
    classes: int | None = None
    """Number of classes of the network [default: that of the data]."""
    image_size: int | None = None
    """Side in pixels to which images are resized, bicubic (crops bilinear) [default: as in training
    with --trained, else unchanged]."""
    crop: float | None = None
    """Fraction of the largest centred square to resize, 0.875 for most ImageNet networks
    [default: as in training with --trained, else squeeze the whole image]."""
    normalisation: Literal["data", "imagenet", "none"] = "data"
    """Mean and standard deviation per channel: of all train images (with --trained, those of training),
    of ImageNet, or 0 and 1."""
    mean: tuple[float, float, float] | None = None
    """Mean per channel for pixels in [0, 1], instead of --normalisation."""
    std: tuple[float, float, float] | None = None
    """Standard deviation per channel, with --mean."""
    limit: int = 0
    """Maximum number of images of each split, chosen by the seed; 0 for all."""
    batch_size: int = 128
    """Images per forward pass."""
    stream: bool = False
    """Decode images on the fly even if all fit in memory."""
    measures: tuple[str, ...] = ()
    """Names of the measures, which include those they require [default: all not switched off]."""
    layers: tuple[str, ...] = ()
    """Names of the modules to diagnose, with * and ? [default: all weight layers on the main path]."""
    gamma: float | None = None
    """Threshold of the numerical rank [default: that of training with --trained, else 0.001]."""
    convention: LayerConvention = "matrix"
    """What is subtracted before the ranks of layers; logits have ranks in all conventions."""
    grid: int = 2
    """Average feature maps to grid x grid cells for ranks and probes."""
    probes: bool = True
    """Train linear probes on every layer: effective depth, and the drop out of distribution."""
    probe_preset: Preset = "converged"
    """Protocol of the probes: our own, that of Masarczyk et al. (tunnel), or of Harun et al. (kanan)."""
    probe_l2: tuple[float, ...] = ()
    """L2 penalties of the probes, of which the best is chosen per layer [default: 1 / train images]."""
    alignment: bool = True
    """Measure how each layer's weights align with its input."""
    gradients: bool = True
    """Measure the rank of each layer's gradient."""
    detectors: tuple[str, ...] = ()
    """Names of the OOD detectors [default: all that are installed]."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of the network and the probes."""
    seed: int = 0
    """Seed of the bootstrap, of --limit and of --untrained."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New folder for the report [default: runs/diagnose-DATE-TIME]."""

    @property
    def probing(self) -> ProbeSettings:
        """How probes are fitted. Raises ValueError for a penalty out of range."""
        return ProbeSettings(self.probe_preset, self.probe_l2, getattr(torch, self.precision))

    def unused(self) -> Unused:
        """Options that have no effect beside the others."""
        found = unused_options(chosen_measures(self), with_ood=bool(self.ood))
        if self.trained is not None:
            found |= dict.fromkeys(
                TOLD_BY_RUN, "beside --trained, which determines it; use only one of them"
            )
        if self.measures:
            named = "beside --measures, which names all measures taken; use only one of them"
            found |= dict.fromkeys(SWITCHES, named)
        if self.probe_preset != "converged":
            found["probe_l2"] = "beside --probe-preset, whose probes have no penalty"
        if self.mean is not None:
            found["normalisation"] = "beside --mean and --std; use only one of them"
        return found


def complete(settings: Settings) -> Settings:
    """The settings with absolute paths, and with all that the folder of `trained` determines."""
    changes: dict[str, Any] = {}
    if settings.trained is not None:
        run = find_trained(settings.trained)
        changes = {name: getattr(run.job, name) for name in ("model", *STRUCTURE)}
        changes |= {"checkpoint": run.weights_file, "classes": run.cards["own"]["classes"]}
        changes["temperature"] = run.last_temperature
        changes["data"] = settings.data or folder_of_images(run)
        for name in ("gamma",) if settings.image_size else ("gamma", "image_size", "crop"):
            if getattr(settings, name) is None:
                changes[name] = getattr(run.job, name)
    if settings.model is not None:
        changes["model"] = absolute(settings.model)
    for name in ("data", "checkpoint", "trained"):
        path = changes.get(name, getattr(settings, name))
        changes[name] = path and path.resolve()
    return replace(settings, ood=tuple(path.resolve() for path in settings.ood), **changes)


def chosen_measures(settings: Settings) -> list[Measure]:
    """The measures to take. Raises ValueError for unknown names and switched-off measures."""
    switches = {name: getattr(settings, name) for name in SWITCHES}
    return choose(settings.measures or None, switches)


def check(settings: Settings, run: JobFolder | None) -> None:
    """Raise ValueError for settings that are missing, out of range, or contradictory."""
    if settings.model is None:
        raise ValueError("model is missing; name a network with --model, or a run with --trained")
    if settings.data is None:
        source = run and run.settings
        why = source and why_missing(source.job.data, source.root, download=False)
        if why or source is None:
            reason = f" ({why})" if why else ""
            raise ValueError(f"data is missing; name a folder of images with --data{reason}")
    if settings.untrained and settings.checkpoint:
        raise ValueError("--checkpoint and --untrained exclude each other")
    if not (settings.untrained or settings.checkpoint):
        raise ValueError("checkpoint is missing; give --checkpoint FILE, or --untrained")
    if (settings.mean is None) != (settings.std is None):
        raise ValueError("--mean and --std belong together; give both")
    if settings.crop is not None and settings.image_size is None:
        raise ValueError(f"crop is {settings.crop}; it needs an --image-size")
    if settings.out is not None:
        runs.check_new(settings.out, resumable=False)
    if settings.temperature is not None:
        check_temperature(settings.temperature)
    check_at_least(0, limit=settings.limit)
    check_at_least(1, batch_size=settings.batch_size)
    check_seeds(settings.seed, 1)
    chosen_measures(settings)
    _ = settings.probing
    for detector in settings.detectors:
        if missing := missing_packages(detector):
            raise ValueError(f"detector {detector} needs {' and '.join(missing)}: pip install it")


@dataclass(frozen=True)
class Prepared:
    """Inputs of a diagnosis, after all checks."""

    network: Network
    folders: Folders
    """This process's shard of the images."""
    normalise: Normalisation
    assumptions: list[str]
    """Notes on the choices that the numbers depend on."""
    run: JobFolder | None


def run(settings: Settings) -> Path | None:
    """Diagnose, write the run folder, print the report; returns the folder in the first process."""
    with cli.joined(settings.device) as device:
        settings = complete(settings)
        prepared = prepare(settings, device)
        with cli.new_run(settings, PROGRAM, "diagnose") as folder:
            report = measure(settings, prepared, device)
            if folder is None:
                return None
            report.to_json(folder.path / "report.json")
            folder.write_environment(device)
        print(report, flush=True)
        report.plot(folder.path)
        print(f"Figures and records are in {folder.path}.")
        return folder.path


def prepare(settings: Settings, device: torch.device) -> Prepared:
    """Check the settings, load the network, read the images. Raises ValueError for invalid input."""
    run = None if settings.trained is None else find_trained(settings.trained)
    check(settings, run)
    framing = square(settings.image_size, settings.crop)
    if settings.data is None:
        assert run is not None
        own = own_data(run, settings.image_size, settings.crop)
    else:
        own = list_splits(settings.data, framing)
    folders = Folders.of(own, settings.ood, framing, settings.probes)
    network, notes = load_network(settings, folders, device)
    mine = folders.share(settings.limit, settings.seed)
    if settings.stream and all(split.in_memory for split in folders.splits):
        raise ValueError("--stream has no effect on images that are no files; leave it out")
    streamed = settings.stream or not mine.fits_in_memory()
    mine = mine.load(streamed)
    whole = mine if not settings.limit else folders.share(0, 0)
    normalise, source = normalisation(settings, run, whole.train, len(folders.train))
    notes += assumptions(settings, folders, network, normalise, source)
    if streamed:
        notes.append("images decoded while they were used")
    return Prepared(network, mine, normalise, notes + (run.notes if run else []), run)


def load_network(
    settings: Settings, folders: Folders, device: torch.device
) -> tuple[Network, list[str]]:
    """The network with its weights on the device, and notes on the checkpoint."""
    found = len(folders.train.classes)
    classes = found if settings.classes is None else settings.classes
    check_at_least(found, classes=classes)
    assert settings.model is not None
    structure: dict[str, Any] = {name: getattr(settings, name) for name in STRUCTURE}
    architecture = Architecture(settings.model, classes, (3, *folders.size), **structure)
    place = device, getattr(torch, settings.precision)
    return try_saved(architecture, settings.checkpoint, settings.seed, settings.layers, *place)


def normalisation(
    settings: Settings, run: JobFolder | None, train: Images, images: int
) -> tuple[Normalisation, str]:
    """The normalisation of the settings, and the end of the note on its source.

    A network given by `trained` gets images normalised as in its training, whatever the data.
    train: this process's shard of the train images; images: their number in all processes.
    """
    if settings.mean is not None and settings.std is not None:
        return Normalisation.fixed(settings.mean, settings.std), ""
    if settings.normalisation == "imagenet":
        return Normalisation.fixed(*IMAGENET), ""
    if settings.normalisation == "none":
        return unchanged(), ""
    source = ", those of all train images; for others, give --normalisation or --mean and --std"
    if run is not None:
        framing = settings.image_size, settings.crop
        split, source = training_images(run, settings.data, framing, images)
        train = train if split is None else split.share()
    return measured_normalisation(train, settings.batch_size), source


def assumptions(
    settings: Settings, folders: Folders, network: Network, normalise: Normalisation, source: str
) -> list[str]:
    """Notes on the choices that the numbers depend on, and on what was left out."""
    untold = "temperature taken to be 1; if it was trained at another, give --temperature"
    notes = [untold] if settings.temperature is None else []
    found = (values.flatten().tolist() for values in (normalise.mean, normalise.std))
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in found)
    notes.append(f"images normalised by mean {mean} and deviation {std}{source}")
    probed = any(own.name == "ood_probes" for own in chosen_measures(settings))
    notes += folders.notes(network.classes, probed)
    if settings.untrained:
        notes.append(f"the network is untrained: random weights of seed {settings.seed}")
        if any(name.endswith("running_var") for name, _ in network.model.named_buffers()):
            notes[-1] += ", and BatchNorm with its initial statistics, which change nothing"
    if settings.limit:
        notes.append(f"at most {settings.limit} images of each split, by seed {settings.seed}")
    return notes


def measure(settings: Settings, prepared: Prepared, device: torch.device) -> Report:
    """The report, whose notes start with the assumptions."""
    folders, pairs, turned = prepared.folders, prepared.folders.ood.items(), Turned()

    def inputs(split: Images) -> Batches:
        return turned.noting(split).on(device, prepared.normalise).batches(settings.batch_size)

    ood = {name: tuple(None if s is None else inputs(s) for s in pair) for name, pair in pairs}
    totals = {split.name: len(split) for split in folders.splits}
    layers = len(prepared.network.layers.chosen)
    with turned, cli.progress_in_parts(totals, "images", layers, "layers") as on_progress:
        found = diagnose(
            prepared.network.model,
            inputs(folders.train),
            inputs(folders.test),
            ood,
            1.0 if settings.temperature is None else settings.temperature,
            measures=settings.measures or None,
            layers=settings.layers or None,
            gamma=GAMMA if settings.gamma is None else settings.gamma,
            loss=prepared.run.job.loss_of(prepared.network.model) if prepared.run else PLAIN,
            convention=settings.convention,
            grid=settings.grid,
            probes=settings.probing if settings.probes else False,
            alignment=settings.alignment,
            gradients=settings.gradients,
            detectors=settings.detectors or None,
            seed=settings.seed,
            on_progress=on_progress,
            on_start=cli.say,
            network_name=str(settings.model).rpartition("/")[2],
            data_name=settings.data.name if settings.data else None,
        )
    return Report(found.record | {"notes": [*prepared.assumptions, *found.record["notes"]]})


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
