"""What `--trained PATH` names: a job's folder, and the images that its network was trained with."""

from dataclasses import replace
from pathlib import Path

from rankdeficit.experiments.image_splits import OnCorrupt
from rankdeficit.experiments.runs import read_json
from rankdeficit.image_files import square
from rankdeficit.images import Images, held_out_folder, list_splits
from real_nets.data.opening import DataSource
from real_nets.jobs.folder import FINAL, PROGRAM, JobFolder
from real_nets.models.checkpoint import some

TRAIN = "real_nets.train"
"""The command whose run folders hold several networks."""

WEIGHTS = ".safetensors"


def find_trained(path: Path) -> JobFolder:
    """The job of a network's folder, a run folder with one network, or a .safetensors file in one.

    Its `snapshot` are the weights that were named. Raises ValueError for anything else, and naming the
    networks where there are several.
    """
    folder = path.parent if path.suffix == WEIGHTS else path
    if not (folder / "settings.json").is_file():
        raise ValueError(
            f"--trained {path} has no settings.json; name a folder of {TRAIN} or of a job"
        )
    written = read_json(folder / "settings.json")
    program = written.get("program") if isinstance(written, dict) else None
    if program == TRAIN:
        return find_trained(_only_network(folder))
    if program != PROGRAM:
        raise ValueError(f"--trained {folder} is no folder of a trained network")
    named = path.suffix == WEIGHTS and path.name != f"weights{WEIGHTS}"
    found = JobFolder(folder, path.stem if named else FINAL)
    if not found.weights_file.is_file():
        raise _without_weights(path, found)
    if "own" not in found.cards:
        raise ValueError(
            f"{folder / 'settings.json'} is of an earlier version; give --model and --checkpoint"
        )
    return found


def _only_network(run: Path) -> Path:
    """The one network in a run folder with weights, or the only one that was begun."""
    trained = sorted(found.parent for found in run.glob(f"*/weights{WEIGHTS}"))
    begun = sorted(found.parent for found in run.glob("*/settings.json"))
    if len(trained) > 1:
        names = some("", [str(network) for network in trained])
        raise ValueError(f"--trained {run} names no network; name one of {names}")
    if not trained and len(begun) != 1:
        raise ValueError(
            f"--trained {run} holds no trained network; wait for it to end, or name another"
        )
    return (trained or begun)[0]


def _without_weights(path: Path, job: JobFolder) -> ValueError:
    """The error for a job's folder, or a file in it, where there are no such weights."""
    if not job.finished:
        return ValueError(
            f"--trained {path} holds no weights yet; wait for it to end, or name another"
        )
    if path.suffix == WEIGHTS and (kept := sorted(job.path.glob(f"*{WEIGHTS}"))):
        return ValueError(
            f"--trained {path} does not exist; the job kept {some('', [file.name for file in kept])}"
        )
    if job.diverged:
        return ValueError(f"--trained {path} diverged and left no weights; name another network")
    return ValueError(
        f"--trained {path} holds no weights, though its training has ended: an export of "
        "real_nets.report leaves them out; name the folder that was exported, or train again"
    )


def folder_of_images(trained: JobFolder) -> Path | None:
    """The folder of images, if it is still there and the network was trained with all of them."""
    root, job = trained.settings.root, trained.job
    if root is None or trained.cards["own"]["skipped"] or job.per_class or job.test_per_class:
        return None
    folder = root / job.data
    return folder if (folder / "train").is_dir() and held_out_folder(folder) else None


def own_data(
    trained: JobFolder, image_size: int | None, crop: float | None
) -> tuple[Images, Images]:
    """Its train and test images, without those that could not be read then.

    Raises ValueError if they are gone.
    """
    selected = replace(trained.job.selection, image_size=image_size, crop=crop)
    on_corrupt: OnCorrupt = "skip" if trained.cards["own"]["skipped"] else "stop"
    found = DataSource(trained.settings.root, on_corrupt=on_corrupt).open(selected)
    return found.train, found.test


def training_images(
    trained: JobFolder, data: Path | None, framing: tuple[int | None, float | None], images: int
) -> tuple[Images | None, str]:
    """All images that it was trained with, framed as then, and the end of the note on their source.

    None if the train images at hand serve: those of `data` (None: its own) with a framing (image size and
    crop), `images` in number, are the same, or its own are gone. Files of a folder are not decoded.
    """
    job, folder, before = (
        trained.job,
        folder_of_images(trained),
        trained.cards["own"]["train_images"],
    )
    alike = framing == (job.image_size, job.crop) and data in (None, folder and folder.resolve())
    source = ", those of all train images that it was trained with"
    if alike and images == before:
        return None, source
    try:
        if folder is None:
            found, _ = own_data(trained, job.image_size, job.crop)
        else:
            found, _ = list_splits(folder, square(job.image_size, job.crop))
        if len(found) != before:
            raise ValueError(
                f"data {job.data} has {len(found)} train images, where there were {before}"
            )
    except ValueError as error:
        return None, (
            f", those of all train images of {data or job.data}, not of those that it was trained with "
            f"({error}); restore these, or give --mean and --std"
        )
    return found, source
