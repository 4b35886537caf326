"""Teachers trained at several temperatures, and students at several temperatures of distillation.

The networks are perceptrons, and the data are Gaussian clusters. The KD temperature softens a teacher's
probabilities softmax(v / T), where T is the temperature of its training. Students are trained at T = 1 on
these probabilities and the labels; one student is trained on the labels alone.

    python -m simulations.distillation --temperature 1 50 --kd-temperature 1 4 16
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import mean, median
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from scipy.stats import ttest_1samp
from torch import Tensor

from rankdeficit.checks import check_at_least
from rankdeficit.control.distillation import check_weight, kd_loss
from rankdeficit.diagnostics.states.logits import measure_logits
from rankdeficit.experiments import cli, figure_style, tables
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import CommonSettings, Row, check_values
from rankdeficit.softmax import cross_entropy

LIKE = 0.01
"""Largest difference between mean test accuracies of teachers that counts as equal."""


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Distil small students from perceptrons trained at several softmax temperatures."""

    seeds: int = 8
    """Number of seeds; each has its own data set, teachers and students."""
    temperature: tuple[float, ...] = (1.0, 50.0)
    """Softmax temperatures at which teachers are trained."""
    kd_temperature: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    """Temperatures of distillation, relative to that of the teacher's training."""
    kd_weight: float = 0.9
    """Weight of the distillation term; the cross-entropy with the labels has weight 1 - kd_weight."""
    classes: int = 10
    """Number of clusters."""
    inputs: int = 20
    """Dimension of the inputs."""
    distance: float = 0.8
    """Standard deviation of the cluster centres; within a cluster it is 1."""
    samples_per_class: int = 40
    """Train samples per class; there are 200 test samples per class."""
    width: int = 64
    """Width of the teachers' hidden layers."""
    depth: int = 4
    """Number of weight matrices of a teacher."""
    student_width: int = 16
    """Width of the students' single hidden layer."""
    steps: int = 400
    """Full-batch steps of Adam, for teachers and students."""
    lr: float = 3e-3
    """Learning rate of teachers and students."""


class Unit(NamedTuple):
    """A teacher and its students."""

    temperature: float
    seed: int


class Data(NamedTuple):
    """Samples with their classes."""

    inputs: Tensor
    labels: Tensor


@experiment
class DistillationOfToys(UnitByUnit[Settings, Unit]):
    """Does a teacher of low rank teach worse at equal accuracy, and which KD temperature suits it?"""

    settings = Settings
    units = "teachers"

    def prepare(self, settings: Settings) -> list[Unit]:
        """A teacher for each temperature and seed."""
        check_values(temperature=settings.temperature)
        check_values(temperature=settings.kd_temperature)
        check_weight("kd_weight", settings.kd_weight)
        for name in ("classes", "samples_per_class", "depth"):
            check_at_least(2, **{name: getattr(settings, name)})
        for name in ("inputs", "width", "student_width", "steps"):
            check_at_least(1, **{name: getattr(settings, name)})
        for name in ("lr", "distance"):
            if not getattr(settings, name) > 0:
                raise ValueError(f"{name} is {getattr(settings, name)}; it must be positive")
        temperatures = sorted(set(settings.temperature))
        return [Unit(T, seed) for seed in settings.seed_range for T in temperatures]

    def compute(self, settings: Settings, unit: Unit) -> Iterator[Row]:
        """A row for the teacher and one for each student; the last student learns from labels alone."""
        device = cli.resolve_device(settings.device)
        train, test = clusters(settings, unit.seed, device)
        sizes = [settings.inputs, *[settings.width] * (settings.depth - 1), settings.classes]
        T = unit.temperature
        loss_of_teacher = [lambda z: cross_entropy(z, train.labels, T)]
        (teacher,) = trained(settings, sizes, unit.seed, train, loss_of_teacher)
        with torch.no_grad():
            taught = teacher(train.inputs) / T
        found = measure_logits(taught, gamma=settings.gamma).record()
        names = "centred_rank", "centred_rank_curve", "stable_rank", "effective_logits_norm"
        measured = {name: found[name] for name in names}
        common = {**unit._asdict(), "role": "teacher"}
        yield common | accuracies(teacher, train, test) | measured
        kd = sorted(set(settings.kd_temperature))
        losses: list[Callable[[Tensor], Tensor]] = [
            lambda z, tau=tau: kd_loss(  # type: ignore[misc]
                z, taught, tau, train.labels, settings.kd_weight, validate=False
            )
            for tau in kd
        ]
        losses.append(lambda z: cross_entropy(z, train.labels))
        sizes = [settings.inputs, settings.student_width, settings.classes]
        students = trained(settings, sizes, unit.seed + 1, train, losses)
        predicted = teacher(test.inputs).argmax(dim=1)
        for tau, student in zip([*kd, None], students, strict=True):
            agreement = (student(test.inputs).argmax(dim=1) == predicted).double().mean()
            own = {"role": "student", "kd_temperature": tau, "agreement": float(agreement)}
            yield common | accuracies(student, train, test) | own

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """All rows, with gamma and the number of classes."""
        return {"gamma": settings.gamma, "classes": settings.classes, "runs": rows}

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Accuracies by teacher and KD temperature, and conclusions."""
        return results(summary), [*teacher_sentences(summary["runs"]), *verdicts(summary["runs"])]

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Test accuracy of students by KD temperature."""
        return {"students": draw(summary["runs"])}


def clusters(settings: Settings, seed: int, device: torch.device) -> tuple[Data, Data]:
    """Train and test samples of Gaussian clusters."""
    generator = torch.Generator().manual_seed(seed)
    centres = settings.distance * torch.randn(
        settings.classes, settings.inputs, generator=generator
    )

    def draw(each: int) -> Data:
        labels = torch.arange(settings.classes).repeat_interleave(each)
        noise = torch.randn(len(labels), settings.inputs, generator=generator)
        return Data((centres[labels] + noise).to(device), labels.to(device))

    return draw(settings.samples_per_class), draw(200)


def trained(
    settings: Settings,
    sizes: Sequence[int],
    seed: int,
    train: Data,
    losses: Sequence[Callable[[Tensor], Tensor]],
) -> list[Callable[[Tensor], Tensor]]:
    """One perceptron per loss of the train logits; all have the same initial weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = []
    for fan_in, fan_out in pairwise(sizes):
        start = torch.randn(fan_in, fan_out, generator=generator) * (2 / fan_in) ** 0.5
        copies = start.to(train.inputs.device).repeat(len(losses), 1, 1)
        weights.append(copies.requires_grad_())

    def logits(inputs: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        for weight in chosen[:-1]:
            inputs = torch.relu(inputs @ weight)
        return inputs @ chosen[-1]

    optimizer = torch.optim.Adam(weights, lr=settings.lr)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        outputs = logits(train.inputs, weights)
        torch.stack([loss(z) for loss, z in zip(losses, outputs, strict=True)]).sum().backward()
        optimizer.step()
    ended = [[weight.detach()[run] for weight in weights] for run in range(len(losses))]
    return [lambda inputs, own=own: logits(inputs, own) for own in ended]  # type: ignore[misc]


def accuracies(network: Callable[[Tensor], Tensor], train: Data, test: Data) -> Row:
    """Train and test accuracy."""
    found = {
        name: float((network(own.inputs).argmax(dim=1) == own.labels).double().mean())
        for name, own in (("accuracy", train), ("test_accuracy", test))
    }
    return dict(found)


def students_of(runs: Sequence[Row], temperature: float, tau: float | None) -> list[Row]:
    """Students at a KD temperature of teachers at a temperature, by seed."""
    return [
        run
        for run in runs
        if run["role"] == "student"
        and (run["temperature"], run["kd_temperature"]) == (temperature, tau)
    ]


def teachers_of(runs: Sequence[Row], temperature: float) -> list[Row]:
    """Teachers at a temperature, by seed."""
    return [r for r in runs if r["role"] == "teacher" and r["temperature"] == temperature]


def temperatures_of(runs: Sequence[Row]) -> list[float]:
    """Temperatures of the teachers."""
    return sorted({run["temperature"] for run in runs})


def kd_temperatures_of(runs: Sequence[Row]) -> list[float]:
    """Temperatures of distillation."""
    return sorted({run["kd_temperature"] for run in runs if run.get("kd_temperature")})


def best(runs: Sequence[Row], temperature: float) -> float:
    """KD temperature whose students have the largest mean test accuracy."""
    return max(
        kd_temperatures_of(runs),
        key=lambda tau: mean(r["test_accuracy"] for r in students_of(runs, temperature, tau)),
    )


def results(summary: Row) -> Table:
    """Test accuracies of students: a row per KD temperature and a column per teacher."""
    runs = summary["runs"]
    temperatures = temperatures_of(runs)
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption="Test accuracy of students in percent, medians over seeds (ranges).",
        caption_justify="left",
    )
    for heading in ("KD temperature", *(f"teacher at T = {T:g}" for T in temperatures)):
        table.add_column(heading, justify="right")
    for tau in (*kd_temperatures_of(runs), None):
        cells = [
            tables.spread([round(100 * r["test_accuracy"], 1) for r in students_of(runs, T, tau)])
            for T in temperatures
        ]
        table.add_row("labels alone" if tau is None else f"{tau:g}", *cells)
    return table


def teacher_sentences(runs: Sequence[Row]) -> list[str]:
    """A sentence on the teachers at each temperature."""
    sentences = []
    for T in temperatures_of(runs):
        own = teachers_of(runs, T)
        middle = partial(middle_of, own)
        sentences.append(
            f"Teachers at T = {T:g} (n = {len(own)}, medians): train accuracy {middle('accuracy'):.1%}, "
            f"test accuracy {middle('test_accuracy'):.1%}, class-centred rank "
            f"{middle('centred_rank'):g}, stable rank {middle('stable_rank'):.2f}, effective "
            f"norm {middle('effective_logits_norm'):.3g}; best KD temperature {best(runs, T):g}."
        )
    return sentences


def middle_of(runs: Sequence[Row], name: str) -> float:
    """Median of a number over runs."""
    return float(median(run[name] for run in runs))


def verdicts(runs: Sequence[Row]) -> list[str]:
    """Paired differences, by seed, between students of each hotter teacher and of the coldest one."""
    cold, *hotter = temperatures_of(runs)
    sentences = []
    for T in hotter:
        own, other = best(runs, T), best(runs, cold)
        change = differences(students_of(runs, T, own), students_of(runs, cold, other))
        between = differences(teachers_of(runs, T), teachers_of(runs, cold))
        alike = abs(mean(between)) <= LIKE
        sentences.append(
            f"Each at its best KD temperature ({own:g} and {other:g}), students of teachers at T = {T:g} "
            f"differ from those at T = {cold:g} by {spelled(change)}; the teachers by "
            f"{spelled(between)}: they are {'' if alike else 'not '}equally accurate."
        )
        gain = differences(students_of(runs, T, own), students_of(runs, T, None))
        sentences.append(gain_sentence(T, gain))
    gain = differences(students_of(runs, cold, best(runs, cold)), students_of(runs, cold, None))
    sentences.append(gain_sentence(cold, gain))
    sentences.append(
        "KD temperatures were chosen on the same test samples, so gains over labels alone are optimistic."
    )
    return sentences


def gain_sentence(T: float, gain: Sequence[float]) -> str:
    """The gain of students over training on labels alone."""
    return (
        f"Distillation from teachers at T = {T:g} changes test accuracy by {spelled(gain)} compared with "
        "labels alone."
    )


def differences(first: Sequence[Row], second: Sequence[Row]) -> list[float]:
    """Paired differences of test accuracy, by seed."""
    return [a["test_accuracy"] - b["test_accuracy"] for a, b in zip(first, second, strict=True)]


def spelled(found: Sequence[float]) -> str:
    """Mean in percentage points, with Student's 95 % interval if the values differ."""
    points = [100 * value for value in found]
    change = f"{mean(points):+.1f} points"
    if len(set(points)) < 2:
        return f"{change} (n = {len(points)})"
    low, high = ttest_1samp(points, 0).confidence_interval()
    return f"{change} (95 % interval {low:.1f} to {high:.1f}, n = {len(points)})"


def draw(runs: Sequence[Row]) -> Figure:
    """Test accuracy of students by KD temperature, beside teachers and labels alone."""
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for T in temperatures_of(runs):
        colour = figure_style.temperature_colour(T)
        own = [run for run in runs if run["temperature"] == T and run.get("kd_temperature")]
        figure_style.band(
            axes, own, "kd_temperature", "test_accuracy", colour, f"teacher at T = {T:g}"
        )
        level = median(run["test_accuracy"] for run in teachers_of(runs, T))
        axes.axhline(level, color=colour, linestyle=":", label=f"the teacher, T = {T:g}")
    alone = students_of(runs, temperatures_of(runs)[0], None)
    level = median(run["test_accuracy"] for run in alone)
    axes.axhline(level, color=figure_style.THEORY_COLOUR, linestyle="--", label="labels alone")
    figure_style.set_log_scale(axes, "x")
    axes.set(xlabel="KD temperature", ylabel="test accuracy of students")
    return figure_style.with_legend_below(figure, columns=2)


if __name__ == "__main__":
    DistillationOfToys().main()
