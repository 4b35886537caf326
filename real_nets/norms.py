"""Atlas of initial logits norms of the networks of torchvision and timm, and the factors that set them.

    python -m real_nets.norms --library torchvision timm
    python -m real_nets.norms --library own --data FOLDER --image-size 32

No weights are downloaded: networks are built with random weights of several seeds.
"""

import fnmatch
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from rich import box
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model_weights, list_models

from rankdeficit.checks import check_at_least, check_not_empty, check_seeds, check_temperature
from rankdeficit.control.atlas import (
    COLD,
    HOT,
    Look,
    Start,
    look,
    norms_against_prediction,
    norms_by_family,
    summarise,
)
from rankdeficit.control.classifier import UNFIT
from rankdeficit.control.head import Head
from rankdeficit.experiments import cli
from rankdeficit.experiments.figure_style import default_style, save
from rankdeficit.experiments.records import csv_text
from rankdeficit.experiments.runs import RunFolder, read_rows, write_atomically
from rankdeficit.experiments.tables import spread
from rankdeficit.glyphs import glyphs
from rankdeficit.image_files import square
from rankdeficit.images import list_splits
from rankdeficit.normalisation import Normalisation
from rankdeficit.page.terminal import open_console
from real_nets.models.build import MODELS
from real_nets.models.libraries import LIBRARIES

PROGRAM = "real_nets.norms"

Library = Literal["torchvision", "timm", "own"]
OWN_SIZE, USUAL_SIZE = 32, 224


@dataclass(frozen=True)
class Settings:
    """Measure the norm of the logits of untrained networks."""

    library: tuple[Library, ...] = ("torchvision",)
    """Libraries of networks; own means the networks of real_nets, for 32 x 32 images."""
    names: tuple[str, ...] = ()
    """Names of networks, with * and ? [default: all, one of each family in turn]."""
    most: int = 200
    """Maximum number of networks of each library."""
    max_parameters: int = 30_000_000
    """Networks with more parameters are left out."""
    seeds: int = 3
    """Number of initialisations of each network."""
    seed: int = 0
    """First seed, also that of the images."""
    classes: int = 100
    """Outputs of each network."""
    images: int = 8
    """Number of images in the batch."""
    data: Path | None = None
    """Folder with train/CLASS/* and test/CLASS/* images [default: drawn letters]."""
    image_size: int | None = None
    """Side of the images in pixels [default: the network's own]."""
    temperature: float = 1.0
    """Softmax temperature by which norms are divided."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    out: Path | None = None
    """New run folder [default: runs/norms-DATE-TIME]."""
    resume: Path | None = None
    """Run folder to continue."""

    def __post_init__(self) -> None:
        check_not_empty(library=self.library)
        check_at_least(1, most=self.most, max_parameters=self.max_parameters)
        check_at_least(2, classes=self.classes, images=self.images)
        check_at_least(8, **({} if self.image_size is None else {"image_size": self.image_size}))
        check_seeds(self.seed, self.seeds)
        check_temperature(self.temperature)


@dataclass(frozen=True)
class Candidate:
    """A network that may be measured."""

    library: Library
    family: str
    name: str

    def build(self, size: int, classes: int) -> nn.Module:
        """The network with random weights."""
        if self.library == "own":
            return MODELS[self.name].make(inputs=(3, size, size), classes=classes)
        return LIBRARIES[self.library](self.name, inputs=(3, size, size), classes=classes)

    def parameters(self, size: int, classes: int) -> int:
        """Number of parameters, found without memory for them; torchvision's with its own classes."""
        if self.library == "torchvision":
            return int(next(iter(get_model_weights(self.name))).meta["num_params"])
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build(size, classes).parameters())

    def image_size(self, model: nn.Module) -> int:
        """Side in pixels of the images that the network is designed for."""
        if self.library == "own":
            return OWN_SIZE
        if self.library == "timm":
            return int(model.default_cfg["input_size"][-1])  # type: ignore[index]
        transform = next(iter(get_model_weights(self.name))).transforms()
        return int(getattr(model, "image_size", transform.crop_size[0]))


def candidates(library: Library, patterns: tuple[str, ...]) -> list[Candidate]:
    """Networks of a library that match, one of each family in turn.

    Raises ValueError where timm is not installed, and where no name matches.
    """
    families: dict[str, list[str]] = {}
    for name, family in _names(library):
        if not patterns or any(fnmatch.fnmatch(name, own) for own in patterns):
            families.setdefault(family, []).append(name)
    if not families:
        raise ValueError(f"names is {' '.join(patterns)}; no network of {library} matches")
    in_turn = zip_longest(*([(own, name) for name in names] for own, names in families.items()))
    found = [pair for turn in in_turn for pair in turn if pair is not None]
    return [Candidate(library, family, name) for family, name in found]


def _names(library: Library) -> Iterator[tuple[str, str]]:
    """Names with their families."""
    if library == "own":
        yield from ((name, name.rstrip("0123456789_b")) for name in MODELS)
    elif library == "torchvision":
        for name in list_models(module=torchvision.models):
            make = torchvision.models.get_model_builder(name)
            yield name, make.__module__.rpartition(".")[2]
    else:
        if importlib.util.find_spec("timm") is None:
            raise ValueError("library is timm, which is not installed: pip install timm")
        import timm

        for name in timm.list_models():
            yield name, timm.model_entrypoint(name).__module__.rpartition(".")[2]


def run(settings: Settings) -> Path:
    """Measure all networks, write table and figures; returns the run folder."""
    if settings.resume is None:
        prepare(settings)  # bad settings leave no folder
    folder, settings, _ = cli.open_run(settings, PROGRAM, "norms")
    device, chosen, images = prepare(settings)
    with cli.resumable(folder, PROGRAM):
        for library, own in chosen.items():
            measure(folder, library, own, images, settings, device)
    finish(folder)
    folder.write_environment(device)
    folder.close()
    return folder.path


def prepare(
    settings: Settings,
) -> tuple[torch.device, dict[Library, list[Candidate]], Tensor]:
    """Device, networks of each library and images. Raises ValueError for missing ones."""
    device = cli.resolve_device(settings.device)
    chosen = {own: candidates(own, settings.names) for own in settings.library}
    return device, chosen, read_images(settings)


def read_images(settings: Settings) -> Tensor:
    """Normalised images of the data, or drawn letters."""
    if settings.data is None:
        split = glyphs("train", 1, settings.seed)
    else:
        size = settings.image_size or USUAL_SIZE
        split, _ = list_splits(settings.data, square(size, None))
    split = split.some(settings.images, settings.seed).load()
    if len(split) < settings.images:
        raise ValueError(f"images is {settings.images}, but there are {len(split)}; ask for fewer")
    return Normalisation.of(split.pixels)(split.pixels)


def measure(
    folder: RunFolder,
    library: Library,
    chosen: list[Candidate],
    images: Tensor,
    settings: Settings,
    device: torch.device,
) -> None:
    """Append a row for every network that has none yet."""
    done = {row["name"]: row for row in complete_rows(folder) if row["library"] == library}
    measured = sum("training" in row for row in done.values())
    total = min(settings.most, len(chosen))
    with cli.progress(library, total, "networks", measured) as set_done:
        for own in chosen:
            if measured == settings.most:
                break
            if own.name not in done:
                row = row_of(own, images, settings, device)
                folder.append_rows([row])
                done[own.name] = row
                measured += "training" in row
                set_done(measured)


def complete_rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Rows written so far; a last line that a kill left incomplete is removed."""
    path = folder.path / "metrics.jsonl"
    if not path.exists():
        return []
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        write_atomically(path, content[:end])
    return read_rows(folder.path)


def row_of(
    own: Candidate, images: Tensor, settings: Settings, device: torch.device
) -> dict[str, Any]:
    """The record of a network, or the reason why it could not be measured."""
    told = {"library": own.library, "family": own.family, "name": own.name}
    size = settings.image_size or OWN_SIZE
    try:
        parameters = own.parameters(size, settings.classes)
        if parameters > settings.max_parameters:
            return told | {"left_out": f"{parameters / 1e6:.0f} million parameters"}
        looks: list[Look] = []
        for seed in range(settings.seed, settings.seed + settings.seeds):
            torch.manual_seed(seed)
            model = own.build(size, settings.classes).to(device)
            size = settings.image_size or own.image_size(model)
            batch = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
            head = head_of(model, looks[0]) if looks else None
            looks.append(look(model, batch.to(device), settings.temperature, head=head))
        return asdict(summarise(own.library, own.family, own.name, looks)) | {"image_size": size}
    except UNFIT as error:  # networks of other libraries raise any of these
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return told | {"left_out": reason[:200]}


def head_of(model: nn.Module, first: Look) -> Head:
    """The head of a network that was built as an earlier one."""
    return Head({name: model.get_submodule(name) for name in first.head.modules})


@default_style()
def finish(folder: RunFolder) -> None:
    """The table as CSV and JSON, figures, and a table by family on standard output."""
    rows = complete_rows(folder)
    left_out = [row for row in rows if "left_out" in row]
    starts = [
        Start(**{name: row[name] for name in Start.__dataclass_fields__})
        for row in rows
        if "left_out" not in row
    ]
    if not starts:
        reasons = "; ".join(f"{row['name']}: {row['left_out']}" for row in left_out[:3])
        raise ValueError(f"no network could be measured ({reasons}); choose others with --names")
    write_atomically(folder.path / "norms.csv", csv_text([asdict(own) for own in starts]).encode())
    folder.write_json(
        "summary.json", {"networks": [asdict(own) for own in starts], "left_out": left_out}
    )
    console = open_console()
    console.print(table_of(starts))
    save(norms_by_family(starts), folder.path / "norms.png")
    save(norms_against_prediction(starts), folder.path / "prediction.png")
    large = sum("million parameters" in row["left_out"] for row in left_out)
    console.print(
        f"{len(starts)} networks; {large} were too large, and {len(left_out) - large} could not be "
        "measured (reasons in summary.json). norms.csv has all numbers of each network. The folder is "
        f"{folder.path}.",
        soft_wrap=True,
        markup=False,
    )


COLUMNS = {
    "family": "left", "networks": "right", "norm": "right", "eval mode": "right",
    "predicted": "right", "normalisation before the head": "left", "start": "left",
}  # fmt: skip


def table_of(starts: list[Start]) -> Table:
    """A row per family: medians with ranges over its networks."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption="Medians (ranges) over networks. Norms of the logits over T, in training mode but for "
        "one column. Predicted: of a random head without bias. zero: the head starts at zero; hot: "
        f"logits deviate by less than {HOT:g} from their mean; cold: by more than {COLD:g}.",
        caption_justify="left",
    )
    for title, justify in COLUMNS.items():
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    families: dict[tuple[str, str], list[Start]] = {}
    for own in starts:
        families.setdefault((own.library, own.family), []).append(own)
    order = sorted(families.values(), key=lambda group: max(own.training for own in group))
    for group in order:
        flags = [own.flag for own in group if own.flag]
        table.add_row(
            f"{group[0].family} ({group[0].library})",
            str(len(group)),
            *(
                spread([float(f"{getattr(own, field):.3g}") for own in group])
                for field in ("training", "evaluation", "predicted")
            ),
            " / ".join(dict.fromkeys(own.normalised for own in group)),
            ", ".join(f"{flags.count(flag)} {flag}" for flag in dict.fromkeys(flags)),
        )
    return table


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM)
