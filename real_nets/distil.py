"""Distil trained networks: students learn from a teacher's probabilities as well as from labels.

    python -m real_nets.distil --teacher runs/RUN/T50-seed0 --model mlp --width 64 --data FOLDER
    python -m real_nets.distil --teacher runs/RUN/T50-seed0 --data FOLDER --kd-temperature 2

The options of real_nets.train apply to the students, and the run folder has the same layout. --teacher
also takes a file of weights kept during training, such as accuracy-0.9.safetensors.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from rankdeficit.experiments import cli
from real_nets import train
from real_nets.data.catalogue import listing
from real_nets.jobs.job import DistillationOptions
from real_nets.jobs.teacher import find_teacher
from real_nets.jobs.trained import DISTIL as PROGRAM


@dataclass(frozen=True)
class Settings(DistillationOptions, train.Settings):
    """Train students on the labels and on the probabilities of a teacher."""

    temperature: tuple[float, ...] = (1.0,)
    """Softmax temperatures of the students' training; logits are divided by T."""


def run(settings: Settings) -> Path:
    """Train all students, write the run folder, print the table; returns the folder.

    Raises ValueError for a teacher that is missing, has changed, or was trained on other images, and as
    `train.run`.
    """
    return train.run(settings if settings.resume else with_teacher(settings), PROGRAM)


def with_teacher(settings: Settings) -> Settings:
    """Settings with the path of the teacher's weights and their SHA-256 sum."""
    if settings.teacher is None:
        raise ValueError("teacher is missing; name the folder of a trained network with --teacher")
    found, weights = find_teacher(Path(settings.teacher))
    file = str(found.weights_file.resolve())
    return replace(settings, teacher=file, teacher_weights=settings.teacher_weights or weights)


def main() -> None:
    """The command."""
    cli.main(Settings, run, PROGRAM, details=listing())


if __name__ == "__main__":
    main()
