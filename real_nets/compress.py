"""Compress trained image classifiers, and compare with SVD of weights and pruning by magnitude.

    python -m real_nets.compress --trained runs/RUN/T50-seed0 --lose-at-most 0.01
    python -m real_nets.compress --trained runs/RUN --compare-baselines
    python -m real_nets.compress --model FILE.py:make_net --checkpoint FILE --data FOLDER
    python -m real_nets.compress --resume runs/compress-DATE-TIME

The compression is chosen with half of the test images; the other half is for the report alone.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from rankdeficit.checks import check_temperature
from rankdeficit.control.compression import Compression, compress
from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.compressing import check_options
from rankdeficit.control.compression.record import Numbers, Step
from rankdeficit.control.compression.report import Row, report
from rankdeficit.experiments import cli, runs
from rankdeficit.experiments.tables import print_report, report_text
from rankdeficit.images import Images
from real_nets import diagnose
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.trained import find_trained
from real_nets.models import StructureOptions, model_help

PROGRAM = "real_nets.compress"

BASELINES: tuple[Method, ...] = ("weights", "magnitude")

RECORD = "record.json"
"""Written when a network is done."""

SHARED = (
    *(own.name for own in fields(StructureOptions)), "model", "checkpoint", "data", "temperature",
    "classes", "image_size", "crop", "normalisation", "mean", "std", "seed", "device",
)  # fmt: skip
"""Settings with the same meaning as in a diagnosis."""


@dataclass(frozen=True)
class Settings(StructureOptions):
    """Compress trained classifiers within a stated loss of accuracy."""

    trained: tuple[Path, ...] = ()
    """Folders of networks that real_nets trained, or of a run with several; determine networks,
    temperatures and, unless --data is given, images."""
    model: str | None = field(default=None, metadata={"help": model_help})
    checkpoint: Path | None = None
    """Weights of the network: a .safetensors file, or a state dict saved by torch.save."""
    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* (or val/CLASS/*) images."""
    lose_at_most: float = 0.01
    """Upper limit on the loss of accuracy on unseen images."""
    confidence: float = 0.99
    """Probability that the loss stays below this limit."""
    steps: tuple[Step, ...] = ("cut", "project", "factor")
    """Steps to try: cut the last layers, project the features, factor the layers."""
    method: Method = "activations"
    """Directions to keep: principal ones of activations, singular vectors of weights, or large units."""
    compare_baselines: bool = False
    """Also compress by the other two methods, with the same limit and at equal dimensions."""
    project_gamma: float | None = None
    """Project to the numerical rank at this threshold [default: the least rank that keeps accuracy]."""
    grid: int = 2
    """The new head of a cut network reads feature maps averaged to grid x grid cells."""
    fit_images: int = 10_000
    """Maximum number of random train images for fitting heads and spectra; 0 for all."""
    repair_epochs: int = 0
    """Epochs of training on the fitting images after compression."""
    repair_lr: float = 1e-4
    """Initial learning rate of Adam in this training."""
    latency: bool = True
    """Measure the latency at batch sizes 1 and 64."""
    temperature: float | None = None
    """Softmax temperature T of training [default: that of the run, else 1]."""
    classes: int | None = None
    """Number of classes of the network [default: that of the data]."""
    image_size: int | None = None
    """Side in pixels to which images are resized [default: as in training with --trained, else
    unchanged]."""
    crop: float | None = None
    """Fraction of the largest centred square to resize [default: as in training with --trained, else
    squeeze the whole image]."""
    normalisation: Literal["data", "imagenet", "none"] = "data"
    """Mean and standard deviation per channel: of all train images (with --trained, those of training),
    of ImageNet, or 0 and 1."""
    mean: tuple[float, float, float] | None = None
    """Mean per channel for pixels in [0, 1], instead of --normalisation."""
    std: tuple[float, float, float] | None = None
    """Standard deviation per channel, with --mean."""
    seed: int = 0
    """Seed of the choice of images and of the repair."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New folder for networks and results [default: runs/compress-DATE-TIME]."""
    resume: Path | None = None
    """Continue the run in this folder with its settings; takes no other option."""


def run(settings: Settings) -> Path:
    """Compress all networks, write the folder, print the table; returns the folder."""
    started = None
    if settings.resume is None:  # bad settings leave no folder
        if settings.out is not None:
            runs.check_new(settings.out)
        started = start(settings)
    folder, settings, _ = cli.open_run(settings, PROGRAM, "compress")
    with closing(folder), cli.resumable(folder, PROGRAM):
        asked, ready = started or start(settings)
        try:
            rows = compress_all(settings, asked, ready, folder.path)
        except ValueError:
            if not [*folder.path.glob(f"*/{RECORD}")]:  # settings that fit no network
                shutil.rmtree(folder.path)
            raise
        folder.write_json("summary.json", [_record(row, []) for row in rows])
        folder.write_environment(cli.resolve_device(settings.device))
        table, sentences = report(rows)
        sentences.append(f"Networks and records are in {folder.path}.")
        (folder.path / "report.txt").write_text(report_text(table, sentences))
        print_report(table, sentences)
        return folder.path


def start(settings: Settings) -> tuple[list[diagnose.Settings], diagnose.Prepared]:
    """The networks to compress, and the first with its images. Raises ValueError for bad settings."""
    device = cli.resolve_device(settings.device)
    if settings.temperature is not None:
        check_temperature(settings.temperature)
    check_options(
        settings.lose_at_most, settings.confidence, settings.steps, (settings.method,),
        settings.project_gamma, settings.grid, settings.fit_images, settings.seed,
    )  # fmt: skip
    asked = [diagnose.complete(one_network(settings, path)) for path in networks(settings)]
    return asked, prepare(asked[0], device, None)


def compress_all(
    settings: Settings,
    asked: Sequence[diagnose.Settings],
    ready: diagnose.Prepared,
    folder: Path,
) -> list[Row]:
    """Compress each network by each method, except those whose record the folder has."""
    methods = [settings.method]
    if settings.compare_baselines:
        methods += [other for other in (*BASELINES, "activations") if other not in methods]
    rows: list[Row] = []
    for own in asked:
        name = str(own.model) if own.trained is None else own.trained.name
        places = [
            folder / f"{len(rows) + i:02}-{Path(name).name.partition(':')[0]}-{method}"
            for i, method in enumerate(methods, 1)
        ]
        if own is not asked[0] and not all((place / RECORD).exists() for place in places):
            ready = prepare(own, ready.network.device, ready)
        for method, place in zip(methods, places, strict=True):
            if not (place / RECORD).exists():
                temperature = 1.0 if ready.run is None else ready.run.job.temperature
                if ready.run is None and own.temperature is not None:
                    temperature = own.temperature
                found = compressed(settings, ready, temperature, method, name)
                place.mkdir(exist_ok=True)
                found.save(place)
                row = Row(name, temperature, method, found)
                runs.write_json(place / RECORD, _record(row, ready.assumptions))
            record = runs.read_json(place / RECORD)
            rows.append(Row(name, record["temperature"], method, Numbers.read(record)))
    return rows


def prepare(
    own: diagnose.Settings, device: torch.device, before: diagnose.Prepared | None
) -> diagnose.Prepared:
    """Open a network and its images; images that equal the previous network's are not read again."""
    if own.trained is not None and before is not None and before.run is not None:
        run = find_trained(own.trained)
        if _images(run, own) == _images(before.run, own):
            network, notes = diagnose.load_network(own, before.folders, device)
            notes = [*before.assumptions, *notes]
            return replace(before, network=network, run=run, assumptions=notes)
    return diagnose.prepare(own, device)


def _images(run: JobFolder, own: diagnose.Settings) -> tuple[object, ...]:
    return run.settings.root, run.job.selection, own.data, own.image_size, own.crop


def networks(settings: Settings) -> list[Path | None]:
    """Folder of each network in --trained, where a run may have several; None for --model."""
    found: list[Path | None] = []
    for path in settings.trained:
        several = sorted(own.parent for own in path.glob("*/weights.safetensors"))
        found += several or [path]
    return found or [None]


def one_network(settings: Settings, trained: Path | None) -> diagnose.Settings:
    """Settings of a diagnosis of one network."""
    own = {name: getattr(settings, name) for name in SHARED}
    return diagnose.Settings(**own, trained=trained, probes=False, alignment=False, gradients=False)


def compressed(
    settings: Settings,
    ready: diagnose.Prepared,
    temperature: float,
    method: Method,
    name: str,
) -> Compression:
    """Compress a network by a method; with --compare-baselines others too, at equal dimensions."""
    images = ready.folders
    choose, test = halves(images.test, settings.seed)
    others = [own for own in BASELINES if own != method]
    splits = (own.on(ready.network.device, ready.normalise) for own in (images.train, choose, test))
    return compress(
        ready.network.model,
        *splits,
        lose_at_most=settings.lose_at_most,
        confidence=settings.confidence,
        steps=settings.steps,
        method=method,
        gamma=settings.project_gamma,
        grid=settings.grid,
        fit_samples=0,
        repair_epochs=settings.repair_epochs,
        repair_lr=settings.repair_lr,
        temperature=temperature,
        seed=settings.seed,
        latency=settings.latency,
        rivals=others if settings.compare_baselines and method == settings.method else (),
        on_progress=progress(f"{name}, {method}"),
    )


def halves(images: Images, seed: int) -> tuple[Images, Images]:
    """Two random halves. Raises ValueError for fewer than two images."""
    if len(images) < 2:
        raise ValueError(f"data has {len(images)} test images; give two or more")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    parts = (own.sort().values.tolist() for own in order.tensor_split(2))
    first, second = (images.part(own) for own in parts)
    return first, second


def progress(prefix: str) -> Callable[[str, int, int], None]:
    """A callback that prints a line on stderr when a task begins."""
    last = ""

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            last = what
            cli.say(f"{prefix}: {what}")

    return tell


def _record(row: Row, notes: Sequence[str]) -> dict[str, Any]:
    own = {"network": row.network, "temperature": row.temperature, **row.found.record()}
    return own | {"assumptions": list(notes)}


def main() -> None:
    """The command."""
    cli.main(Settings, run, PROGRAM)


if __name__ == "__main__":
    main()
