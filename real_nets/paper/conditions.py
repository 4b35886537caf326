"""Conditions behind the numbers of a store: networks, data, recipes, machines."""

from collections.abc import Iterator, Sequence

from rankdeficit.page.numbers import by_group, format_pixels, format_spread
from real_nets.jobs.folder import JobFolder
from real_nets.jobs.job import Job
from real_nets.paper.store import TargetRecord

ALWAYS = (
    "seed temperature gamma epochs batch_size optimizer lr lr_rule schedule warmup_epochs momentum "
    "weight_decay clip_norm augmentation precision compile followed_images diagnosed_images"
).split()
"""Job options that a page always shows."""

WHERE_CHANGED = "nesterov loss label_smoothing stop_accuracy pretrained".split()
"""Job options that a page shows if some job changes their default."""

MACHINE = ("torch", "device_name", "device", "threads", "python")
WALL_TIME = "seconds of training and measuring (last process of each job)"


def conditions(
    records: Sequence[TargetRecord], outcomes: Sequence[JobFolder]
) -> Iterator[tuple[str, str]]:
    """Rows (what, value) of the table of conditions."""
    yield "budget", ", ".join(sorted({record.budget for record in records}))
    if not outcomes:
        return
    yield "network", ", ".join(sorted({network(one.job) for one in outcomes}))
    yield from of_data(outcomes)
    for name in (*ALWAYS, *WHERE_CHANGED):
        values = [(network(one.job), getattr(one.job, name)) for one in outcomes]
        if name == "diagnosed_images":
            values = [(whose, count or "all") for whose, count in values]
        if name in ALWAYS or any(value != getattr(Job(), name) for _, value in values):
            yield name.replace("_", " "), by_group(values)
    if seconds := wall_seconds(outcomes):
        yield WALL_TIME, seconds
    for name in MACHINE:
        found = sorted({str(one.environment.get(name, "unknown")) for one in outcomes})
        yield name.replace("_", " "), ", ".join(found)


def of_data(outcomes: Sequence[JobFolder]) -> Iterator[tuple[str, str]]:
    """Rows on numbers of images, unreadable images, and sizes that were changed."""
    yield (
        "train images",
        by_group([(o.job.data, f"{o.summary['train_images']:,}") for o in outcomes]),
    )
    yield "test images", by_group([(o.job.data, f"{o.summary['test_images']:,}") for o in outcomes])
    left_out = {name: count for one in outcomes for name, count in skipped(one) if count}
    if left_out:
        counts = [f"{count} of {name}" for name, count in sorted(left_out.items())]
        yield "unreadable images left out", ", ".join(counts)
    if any(one.job.image_size is not None for one in outcomes):
        sizes = [(one.job.data, one.image_size) for one in outcomes]
        yield (
            "pixels per side",
            by_group([(name, size and format_pixels(size)) for name, size in sizes]),
        )
    if any(one.job.crop is not None for one in outcomes):
        yield "crop", by_group([(one.job.data, one.job.crop) for one in outcomes])


def wall_seconds(outcomes: Sequence[JobFolder]) -> str:
    """Spread of the wall time per kind of network; empty if not recorded."""
    found: dict[str, list[float]] = {}
    for one in outcomes:
        taken = one.environment.get("wall_seconds_of_last_process")
        if taken is not None:
            found.setdefault(network(one.job), []).append(taken)
    return "; ".join(
        f"{name}: {format_spread(own, '{:.0f}'.format)}" for name, own in sorted(found.items())
    )


def skipped(outcome: JobFolder) -> Iterator[tuple[str, int]]:
    """Pairs (data set, number of unreadable images left out) of a job."""
    own = [outcome.cards["own"]] if "own" in outcome.cards else []
    for card in (*own, *outcome.cards.get("ood", {}).values()):
        yield card["name"], card.get("skipped", 0)


def network(job: Job) -> str:
    """Name of a job's network, with its width and depth if these were changed."""
    own = {"width": job.width, "depth": job.depth}
    sizes = [f"{name} {size}" for name, size in own.items() if size is not None]
    return f"{job.model} ({', '.join(sizes)})" if sizes else job.model
