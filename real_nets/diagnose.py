"""Diagnose a trained classifier of images: ranks, alignment, probes, OOD detection, calibration.

    python -m real_nets.diagnose --model torchvision:resnet18 --checkpoint FILE --data FOLDER --ood FOLDER
    python -m real_nets.diagnose --trained runs/train-DATE/T50-seed0 --ood FOLDER
    torchrun --nproc-per-node 8 -m real_nets.diagnose ...

Folders hold train/CLASS/* and test/CLASS/* (or val/CLASS/*) images; one for --ood may hold the test
images alone, or the folders of classes themselves, and then serves for detection only. Large sets are
decoded while they are used, others at once. The report and its figures go to the folder --out.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from rankdeficit import GAMMA
from rankdeficit.diagnostics.diagnose import Batches, diagnose
from rankdeficit.diagnostics.measures.gradients import PLAIN, Loss
from rankdeficit.diagnostics.measures.layer_probes import ProbeSettings
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.report import Report
from rankdeficit.distributed import is_first
from rankdeficit.experiments import cli
from rankdeficit.experiments.cli import joined, progress
from rankdeficit.experiments.runs import RunFolder
from rankdeficit.image_files import spell_size, square
from rankdeficit.images import Images, Normalisation, list_splits, unchanged
from real_nets.data.images import IMAGENET, Folders, measured_normalisation
from real_nets.diagnose_settings import Settings, check, chosen_measures, complete
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.trained import find_trained, is_framed_alike, own_data, train_images
from real_nets.jobs.trial import try_out
from real_nets.models import Architecture
from real_nets.models.checkpoint import load_weights

PROGRAM = "real_nets.diagnose"


@dataclass(frozen=True)
class Prepared:
    """All that a diagnosis needs, checked."""

    network: Network
    folders: Folders
    """What this process takes of them."""
    normalise: Normalisation
    temperature: float
    loss: Loss
    """That of training."""
    assumptions: list[str]
    """What was taken for granted and the numbers depend on."""


def run(settings: Settings) -> Path | None:
    """Diagnose, write the folder, print the report; the first process returns the folder."""
    with joined(settings.device) as device:
        settings = complete(settings)
        prepared = prepare(settings, device)
        with reserved(settings) as folder:
            report = measure(settings, prepared, device)
            if folder is not None:
                report.to_json(folder.path / "report.json")
                report.plot(folder.path)
                folder.write_environment(device)
        if folder is None:
            return None
        print(report)
        print(f"Figures and records are in {folder.path}.")
        return folder.path


def prepare(settings: Settings, device: torch.device) -> Prepared:
    """Check the settings, load the network, read the images. Raises ValueError for what is wrong."""
    check(settings)
    framing = square(settings.image_size, settings.crop)
    run = None if settings.trained is None else find_trained(settings.trained)
    if settings.data is not None:
        own = list_splits(settings.data, framing)
    else:
        assert run is not None
        found = own_data(run, settings.image_size, settings.crop)
        own = found.train, found.test
    folders = Folders.of(own, settings.ood, framing, settings.probes)
    network = load_network(settings, folders, device)
    mine = folders.share(settings.limit, settings.seed)
    streamed = settings.stream or not mine.fits_in_memory()
    if not streamed:
        mine = mine.load()
    whole = mine if not settings.limit else folders.share(0, 0)
    normalise, whose = normalisation(settings, run, whole.train, len(folders.train))
    return Prepared(
        network,
        mine,
        normalise,
        1.0 if settings.temperature is None else settings.temperature,
        PLAIN if run is None else run.job.mean_loss,
        [
            *assumptions(settings, folders, network, normalise, whose, streamed),
            *([] if run is None else run.job.notes_on_loss),
        ],
    )


def load_network(settings: Settings, folders: Folders, device: torch.device) -> Network:
    """The network with its weights on the device, tried on images of the right size."""
    found = len(folders.train.classes)
    classes = found if settings.classes is None else settings.classes
    if classes < found:
        raise ValueError(
            f"classes is {classes}; it must be at least {found}, the number of class folders"
        )
    assert settings.model is not None
    architecture = Architecture(
        settings.model,
        classes,
        (3, *folders.size),
        width=settings.width,
        depth=settings.depth,
        stem=settings.stem,
        norm=settings.norm,
        head_rank=settings.head_rank,
        head_norm=settings.head_norm,
    )
    model = architecture.build(settings.seed)
    if settings.checkpoint is not None:
        load_weights(model, settings.checkpoint, architecture)
    model = model.to(device, getattr(torch, settings.precision))
    return try_out(model, settings.model, folders.size, settings.layers or None)


def normalisation(
    settings: Settings, run: JobFolder | None, train: Images, images: int
) -> tuple[Normalisation, str]:
    """The normalisation that the settings ask for, and what to say of where it was measured.

    A run's network gets images normalised as in its training, whatever it is diagnosed on.
    train: this process's share of all train images, which are so many.
    """
    if settings.mean is not None and settings.std is not None:
        return Normalisation.fixed(settings.mean, settings.std), ""
    if settings.normalisation == "imagenet":
        return Normalisation.fixed(*IMAGENET), ""
    if settings.normalisation == "none":
        return unchanged(), ""
    whose = (
        ", those of all train images; if it was trained with others, give --normalisation imagenet "
        "or --mean and --std"
    )
    if run is not None:
        split, whose = trained_with(settings, run, images)
        train = train if split is None else split.share()
    return measured_normalisation(train, settings.batch_size), whose


def trained_with(settings: Settings, run: JobFolder, images: int) -> tuple[Images | None, str]:
    """All train images of the run, None where those at hand are to serve, and what to say of them."""
    whose = ", those of all train images that it was trained with"
    own = is_framed_alike(run, settings.data, settings.image_size, settings.crop)
    if own and images == run.cards["own"]["train_images"]:
        return None, whose
    try:
        return train_images(run), whose
    except ValueError as error:
        return None, (
            f", those of all train images of {settings.data or run.job.data}, not of those that it was "
            f"trained with ({error}); restore these, or give --mean and --std"
        )


def assumptions(
    settings: Settings,
    folders: Folders,
    network: Network,
    normalise: Normalisation,
    whose: str,
    streamed: bool,
) -> list[str]:
    """What nobody said and the numbers depend on, and what was left out."""
    said = []
    if settings.temperature is None:
        said.append("temperature taken to be 1; if it was trained at another, give --temperature")
    mean, std = (
        " ".join(f"{value:.4g}" for value in values.flatten().tolist())
        for values in (normalise.mean, normalise.std)
    )
    said.append(f"images normalised by mean {mean} and deviation {std}{whose}")
    found = len(folders.train.classes)
    if network.classes > found:
        said.append(
            f"the {found} class folders taken, in alphabetical order, to be classes 0 to {found - 1} "
            f"of the network's {network.classes}"
        )
    for name, size in folders.resized.items():
        said.append(
            f"{name} resized from {spell_size(size)} (its first image) to {spell_size(folders.size)}"
        )
    for name, (train, _) in folders.ood.items():
        if train is None and "ood_probes" in chosen_measures(settings):
            said.append(f"no probes of {name}: it has no train folder")
    if settings.untrained:
        said.append(f"the network is untrained: random weights of seed {settings.seed}")
        if any(name.endswith("running_var") for name, _ in network.model.named_buffers()):
            said[-1] += ", and BatchNorm with the statistics that it starts with, which do nothing"
    if settings.limit:
        said.append(
            f"at most {settings.limit} images of each split, chosen by seed {settings.seed}"
        )
    if streamed:
        said.append("images decoded while they were used")
    return said


def measure(settings: Settings, prepared: Prepared, device: torch.device) -> Report:
    """The report, whose notes start with the assumptions."""
    folders = prepared.folders

    def inputs(split: Images) -> Batches:
        return split.on(device, prepared.normalise).batches(settings.batch_size)

    probing = ProbeSettings(l2=settings.probe_l2, dtype=getattr(torch, settings.precision))
    totals = {split.name: len(split) for split in folders.splits}
    with bars(totals, len(prepared.network.layers.chosen)) as on_progress:
        found = diagnose(
            prepared.network.model,
            inputs(folders.train),
            inputs(folders.test),
            {
                name: (None if train is None else inputs(train), inputs(test))
                for name, (train, test) in folders.ood.items()
            },
            prepared.temperature,
            measures=settings.measures or None,
            layers=settings.layers or None,
            gamma=GAMMA if settings.gamma is None else settings.gamma,
            loss=prepared.loss,
            grid=settings.grid,
            probes=probing if settings.probes else False,
            alignment=settings.alignment,
            gradients=settings.gradients,
            detectors=settings.detectors or None,
            seed=settings.seed,
            on_progress=on_progress,
        )
    return Report(found.record | {"notes": [*prepared.assumptions, *found.record["notes"]]})


@contextmanager
def bars(images: dict[str, int], layers: int) -> Iterator[Callable[[str, int], None]]:
    """Progress of one part after the other: of images where the part is a split, else of layers."""
    shown: dict[str, Callable[[int], object]] = {}
    with ExitStack() as current:

        def on_progress(name: str, done: int) -> None:
            if name not in shown:
                current.close()
                shown[name] = current.enter_context(progress(name, images.get(name, layers)))
            shown[name](done)

        yield on_progress


@contextmanager
def reserved(settings: Settings) -> Iterator[RunFolder | None]:
    """A new folder, in the first process; should the work fail, it is gone again."""
    if not is_first():
        yield None
        return
    folder, _, _ = cli.open_run(settings, PROGRAM, "diagnose")
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder.path)
        raise
    finally:
        folder.close()


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
