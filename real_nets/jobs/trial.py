"""Trial runs on blank images, which refuse impossible jobs before anything is written."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from rankdeficit.compiling import check_compiler
from rankdeficit.control.classifier import UNFIT, check_one_classifier, last_linear
from rankdeficit.control.scaled import linear_layers
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.distributed import rank_and_size
from rankdeficit.image_files import spell_size
from real_nets.jobs.data import JobData
from real_nets.jobs.job import Job
from real_nets.jobs.teacher import loss_of
from real_nets.models.build import Architecture
from real_nets.models.checkpoint import load_weights
from real_nets.training.recipe import parameter_groups

TRIAL_BATCH = 2
"""Number of images in the batch of a trial, unless training batches have fewer."""


class Trials:
    """Cache of passed trials: each kind of job is tried once per process."""

    def __init__(self) -> None:
        self._passed: set[tuple[Job, bool]] = set()

    def check(self, job: Job, data: JobData) -> None:
        """Try a job unless one of its kind has passed. Raises ValueError as `try_training`."""
        rescaled = job.temperature != 1 and job.lr_rule != "matched"  # applies to fewer networks
        if not {(job.kind, True), (job.kind, rescaled)} & self._passed:
            try_training(job, data)
            self._passed.add((job.kind, rescaled))

    def __reduce__(self) -> tuple[type["Trials"], tuple[()]]:
        """Unpickles empty: another process, perhaps on another machine, runs its own trials."""
        return Trials, ()


def try_out(
    model: nn.Module, name: str, size: tuple[int, int], layers: Sequence[str] | None = None
) -> Network:
    """Trace the network on images of a size. Raises ValueError if it cannot take them."""
    try:
        return Network.of(model, torch.zeros(TRIAL_BATCH, 3, *size), layers, pick_logits)
    except (RuntimeError, AssertionError) as error:
        raise _unfit(error, name, size) from error


def try_saved(
    architecture: Architecture,
    checkpoint: Path | None,
    seed: int,
    layers: Sequence[str],
    device: torch.device,
    precision: torch.dtype,
) -> tuple[Network, list[str]]:
    """A network with the weights of a checkpoint, or random ones of the seed, and notes on these.

    Raises ValueError for weights that do not fit, images that the network cannot take, and fewer logits
    than classes.
    """
    model, notes = architecture.build(seed), []
    if checkpoint is not None:
        notes = load_weights(model, checkpoint, architecture)
    size = architecture.inputs[1:]
    network = try_out(model.to(device, precision), architecture.name, size, layers or None)
    if network.classes < architecture.classes:
        raise ValueError(
            f"model {architecture.name} makes {network.classes} logits for {architecture.classes} "
            "classes; let it take num_classes, or give other --data or --classes"
        )
    return network, notes


def try_training(job: Job, data: JobData) -> None:
    """Run the forward and backward passes of a job's network once.

    Raises ValueError for images or batches that the network cannot take, reparametrised rates that do
    not apply to it, data or weights that cannot be distributed over the processes, and a compiler that
    fails.
    """
    data.check_shares()
    if job.compile:
        check_compiler(data.device)
    model = job.architecture(data.classes, data.inputs).build(job.seed).to(data.device)
    try_out(model, job.model, data.own.size)
    parameter_groups(model, job, job.temperature)
    _check_rule(model, job, data)
    _try_gradients(model.train(), job, data)


def _check_rule(model: nn.Module, job: Job, data: JobData) -> None:
    """Raise ValueError if reparametrised rates would not make T a scale of the initial weights.

    They would not for a network with several classifiers, nor with a normalisation of the logits, which
    undoes the scale.
    """
    if job.lr_rule == "matched" or linear_layers(model):
        return
    problem, remedy = f"lr_rule is {job.lr_rule!r}", "take --lr-rule matched"
    if job.head_norm != "none" and job.temperature != 1:
        raise ValueError(
            f"{problem}, but head_norm is {job.head_norm!r}, a normalisation of the logits, which undoes "
            f"the scale of the initial weights that T = {job.temperature:g} means; {remedy} or leave out "
            "--head-norm"
        )
    check_one_classifier(model, last_linear(model), data.inputs, problem, remedy)


def _try_gradients(model: nn.Module, job: Job, data: JobData) -> None:
    processes = rank_and_size()[1]
    each = min(job.batch_size, len(data.own.train)) // processes
    images = torch.zeros(min(TRIAL_BATCH, max(1, each)), *data.inputs, device=data.device)
    labels = torch.zeros(len(images), dtype=torch.long, device=data.device)
    with torch.random.fork_rng([data.device] if data.device.type == "cuda" else []):
        try:
            output = model(images)
        except UNFIT as error:
            if isinstance(error, ValueError) and len(images) == 1:
                raise ValueError(
                    f"{job.model} cannot be trained on batches of one image ({_first_line(error)}); "
                    f"give --batch-size {TRIAL_BATCH * processes} or more, or take no BatchNorm"
                ) from error
            raise _unfit(error, job.model, data.own.size) from error
    try:
        logits = pick_logits(output)
    except ValueError as error:
        raise ValueError(
            f"{job.model} makes no single logits while it is trained; name another --model"
        ) from error
    criterion = loss_of(job, data)
    criterion.attach(model)
    criterion(logits.float(), labels, 0, images).backward()
    unused = [
        name for name, own in model.named_parameters() if own.requires_grad and own.grad is None
    ]
    if unused and processes > 1:
        raise ValueError(
            f"the logits of {job.model} do not depend on all its weights ({unused[0]}), which several "
            "processes cannot train; start one process, or name another --model"
        )


def _unfit(error: Exception, name: str, size: tuple[int, int]) -> Exception:
    """The error for images that a network cannot take; errors of memory are returned unchanged."""
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
        return error
    return ValueError(
        f"{name} cannot take images of {spell_size(size)} ({_first_line(error)}); give another "
        "--image-size, 224 for most ImageNet networks (299 for Inception), or another --model"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
