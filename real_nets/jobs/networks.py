"""The network that a training left in its folder, to be diagnosed."""

from dataclasses import dataclass
from pathlib import Path

from rankdeficit.experiments.runs import read_json
from rankdeficit.image_files import square
from rankdeficit.images import Images, held_out_folder, list_splits
from real_nets.data.catalogue import open_dataset
from real_nets.data.images import Dataset, OnCorrupt
from real_nets.jobs import folder as job_folder
from real_nets.jobs.job import Job
from real_nets.models.checkpoint import some

TRAIN = "real_nets.train"
"""The command that leaves run folders of several networks."""


@dataclass(frozen=True)
class TrainedRun:
    """A network that `real_nets.train` or `real_nets.reproduce` left in its folder."""

    job: Job
    checkpoint: Path
    classes: int
    root: Path | None
    """The folder that its data set was in."""
    images: int
    """Its train images."""
    skipped: int
    """Images of it that could not be read."""

    @property
    def folder(self) -> Path | None:
        """Its folder of images, as far as it had one that is still there and can be read."""
        if self.root is None or self.skipped:
            return None
        folder = self.root / self.job.data
        return folder if (folder / "train").is_dir() and held_out_folder(folder) else None

    def data(self, image_size: int | None, crop: float | None) -> Dataset:
        """Its data set, without the images that could not be read. Raises ValueError if it is gone."""
        skip: OnCorrupt = "skip" if self.skipped else "stop"
        name, root = self.job.data, self.root
        return open_dataset(name, root, image_size=image_size, crop=crop, on_corrupt=skip)

    def is_framed(self, data: Path | None, image_size: int | None, crop: float | None) -> bool:
        """Whether that folder (None: its own data) and that framing give the images of its training."""
        own = self.folder and self.folder.resolve()
        framed = (image_size, crop) == (self.job.image_size, self.job.crop)
        return framed and data in (None, own)

    def train_images(self) -> Images:
        """All that it was trained with, framed as they were then; those of a folder are not decoded.

        Raises ValueError if they are gone, or if there are more or fewer than there were.
        """
        size, crop = self.job.image_size, self.job.crop
        if self.folder is None:
            found = self.data(size, crop).train
        else:
            found, _ = list_splits(self.folder, square(size, crop))
        if len(found) != self.images:
            raise ValueError(
                f"data {self.job.data} has {len(found)} train images, where there were {self.images}"
            )
        return found


def trained_run(path: Path) -> TrainedRun:
    """From a network's folder, a run folder with one network, or a .safetensors file in one.

    Raises ValueError for anything else; of several networks, it names them.
    """
    folder = path.parent if path.suffix == ".safetensors" else path
    if not (folder / "settings.json").is_file():
        raise ValueError(
            f"--trained {path} has no settings.json; name a folder of {TRAIN} or of a job"
        )
    written = read_json(folder / "settings.json")
    program = written.get("program") if isinstance(written, dict) else None
    if program == TRAIN:
        networks = sorted(found.parent for found in folder.glob("*/weights.safetensors"))
        if len(networks) > 1:
            names = some("", [str(network) for network in networks])
            raise ValueError(f"--trained {path} names no network; name one of {names}")
        if not networks:
            begun = sorted(found.parent for found in folder.glob("*/settings.json"))
            if len(begun) == 1:
                raise _without_weights(begun[0], job_folder.JobFolder(begun[0]))
            raise ValueError(
                f"--trained {folder} holds no trained network; wait for it to end, or name another"
            )
        return trained_run(networks[0])
    if program != job_folder.PROGRAM:
        raise ValueError(f"--trained {folder} is no folder of a trained network")
    checkpoint = path if path.suffix == ".safetensors" else folder / "weights.safetensors"
    if not checkpoint.is_file():
        raise _without_weights(path, job_folder.JobFolder(folder))
    settings = written["settings"]
    try:
        job, root, own = Job.of(settings["job"]), settings["root"], settings["data"]["own"]
        classes, images, skipped = own["classes"], own["train_images"], own["skipped"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'settings.json'} is of another version ({error}); give --model and --checkpoint"
        ) from error
    return TrainedRun(job, checkpoint, classes, root and Path(root), images, skipped)


def _without_weights(path: Path, folder: job_folder.JobFolder) -> ValueError:
    """What to raise for a job's folder, or a file in it, where there are no such weights."""
    if not folder.finished:
        return ValueError(
            f"--trained {path} holds no weights yet; wait for it to end, or name another"
        )
    if path.suffix == ".safetensors" and (kept := sorted(folder.path.glob("*.safetensors"))):
        return ValueError(
            f"--trained {path} does not exist; the job kept {some('', [file.name for file in kept])}"
        )
    if folder.summary()["outcome"] == "diverged":
        return ValueError(f"--trained {path} diverged and left no weights; name another network")
    return ValueError(
        f"--trained {path} holds no weights, though its training has ended: an export of "
        "real_nets.report leaves them out; name the folder that was exported, or train again"
    )
