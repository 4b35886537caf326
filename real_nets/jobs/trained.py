"""Resolution of `--trained PATH` and `--teacher PATH`: the job's folder, and its network's images."""

from dataclasses import replace
from pathlib import Path

from rankdeficit.experiments.image_splits import OnCorrupt
from rankdeficit.experiments.runs import read_json
from rankdeficit.image_files import square
from rankdeficit.images import Images, held_out_folder, list_splits
from real_nets.data.opening import DataSource
from real_nets.jobs.folder import FINAL, PROGRAM, JobFolder
from real_nets.models.checkpoint import listed

TRAIN, DISTIL = "real_nets.train", "real_nets.distil"
"""Programs whose run folders hold several jobs."""

WEIGHTS = ".safetensors"


def find_trained(path: Path, option: str = "--trained") -> JobFolder:
    """The job named by its folder, by a run folder with one network, or by a .safetensors file.

    A file determines `snapshot`. Raises ValueError for anything else, listing the networks of a run
    folder with several.
    """
    folder = path.parent if path.suffix == WEIGHTS else path
    if not (folder / "settings.json").is_file():
        raise ValueError(
            f"{option} {path} has no settings.json; name a folder of {TRAIN} or of a job"
        )
    written = read_json(folder / "settings.json")
    program = written.get("program") if isinstance(written, dict) else None
    if program in (TRAIN, DISTIL):
        return find_trained(_only_network(folder, option), option)
    if program != PROGRAM:
        raise ValueError(
            f"{option} {folder} is no folder of a trained network; name a folder of {TRAIN} or of a job"
        )
    named = path.suffix == WEIGHTS and path.name != f"weights{WEIGHTS}"
    found = JobFolder(folder, path.stem if named else FINAL)
    if not found.weights_file.is_file():
        raise _without_weights(path, found, option)
    if "own" not in found.cards:
        raise ValueError(
            f"{folder / 'settings.json'} is of an earlier version; give --model and --checkpoint instead"
        )
    return found


def _only_network(run: Path, option: str) -> Path:
    """The only network in a run folder that has weights, or the only one that was begun."""
    trained = sorted(found.parent for found in run.glob(f"*/weights{WEIGHTS}"))
    begun = sorted(found.parent for found in run.glob("*/settings.json"))
    if len(trained) > 1:
        names = listed("", [str(network) for network in trained])
        raise ValueError(f"{option} {run} holds several networks; name one of {names}")
    if not trained and len(begun) != 1:
        raise ValueError(
            f"{option} {run} holds no trained network; wait for it to end, or name another"
        )
    return (trained or begun)[0]


def _without_weights(path: Path, job: JobFolder, option: str) -> ValueError:
    """The error for a job, or a file in its folder, without the weights asked for."""
    if not job.finished:
        return ValueError(
            f"{option} {path} holds no weights yet; wait for it to end, or name another"
        )
    if path.suffix == WEIGHTS and (kept := sorted(job.path.glob(f"*{WEIGHTS}"))):
        return ValueError(
            f"{option} {path} does not exist; the job kept {listed('', [file.name for file in kept])}"
        )
    if job.diverged:
        return ValueError(f"{option} {path} diverged and left no weights; name another network")
    return ValueError(
        f"{option} {path} holds no weights, though its training has ended: an export of "
        "real_nets.report leaves them out; name the folder that was exported, or train again"
    )


def folder_of_images(trained: JobFolder) -> Path | None:
    """The job's folder of images, if it still exists and the job used all of its images."""
    root, job = trained.settings.root, trained.job
    if root is None or trained.cards["own"]["skipped"] or job.per_class or job.test_per_class:
        return None
    folder = root / job.data
    return folder if (folder / "train").is_dir() and held_out_folder(folder) else None


def own_data(
    trained: JobFolder, image_size: int | None, crop: float | None
) -> tuple[Images, Images]:
    """The job's train and test images, without those that were unreadable in training.

    Raises ValueError if they are gone.
    """
    selected = replace(trained.job.selection, image_size=image_size, crop=crop)
    on_corrupt: OnCorrupt = "skip" if trained.cards["own"]["skipped"] else "stop"
    found = DataSource(trained.settings.root, on_corrupt=on_corrupt).open(selected)
    return found.train, found.test


def training_images(
    trained: JobFolder, data: Path | None, framing: tuple[int | None, float | None], images: int
) -> tuple[Images | None, str]:
    """The images whose normalisation the network was trained with, and the end of the note on them.

    None stands for the train images of the diagnosis, which come from `data` (None: the job's own) with
    this framing (image size and crop) and are `images` in number: they are used if they are the job's
    train images, or if those are gone. Files of a folder are not decoded.
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
