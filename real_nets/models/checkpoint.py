"""Loading the weights of a checkpoint, with errors that explain a mismatch."""

from pathlib import Path

from torch import nn

from rankdeficit.checkpoints import SHOWN, read_weights, under_prefix
from rankdeficit.diagnostics.reading.wrappers import unwrap
from real_nets.models.build import Architecture

SMALL_KERNEL = (3, 3)
"""Kernel size of the first convolution of a ResNet for small images."""

SHORTCUTS = ("shortcut", "downsample", "skip")
"""Parts of names of the projections in the shortcuts of residual networks."""

SAVED_FROM = (
    "name the network that it was saved from with --model, path/to/file.py:NAME for a definition of "
    "your own"
)


def load_weights(model: nn.Module, path: Path, architecture: Architecture) -> list[str]:
    """Load a checkpoint into the network; returns notes on weights of it that are not the network's.

    The network's weights may have any common prefix, and a few other weights (of a loss, for example)
    may be present. Raises ValueError listing the names and shapes that differ.
    """
    model = unwrap(model)
    own = model.state_dict()
    weights, notes = read_weights(path)
    weights, aside = under_prefix(weights, list(own), path)
    reshaped = {
        name: (tuple(weights[name].shape), tuple(own[name].shape))
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    }
    missing = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    surplus = [name for name in weights if name not in own]
    if not (reshaped or missing or surplus):
        model.load_state_dict(weights, strict=False)
        if aside:
            notes.append(
                f"{len(aside)} weights of the checkpoint are not of the network ({aside[0]})"
            )
        return notes
    shapes = [f"{n} is {list(a)} where the network has {list(b)}" for n, (a, b) in reshaped.items()]
    parts = [
        listed("", shapes, "; "),
        listed("it lacks ", missing),
        listed("it has the unknown ", surplus),
    ]
    raise ValueError(
        f"checkpoint {path} does not fit {architecture.name}: {'; '.join(filter(None, parts))}; "
        + _mend(architecture, reshaped, missing, surplus)
    )


def listed(before: str, names: list[str], between: str = ", ") -> str:
    """The first SHOWN names and the number of the others, after `before`; empty for no names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return before + between.join(names[:SHOWN]) + more if names else ""


def _mend(
    architecture: Architecture,
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    missing: list[str],
    surplus: list[str],
) -> str:
    """The options that would make the network fit the checkpoint, inferred from names and shapes."""
    if missing or surplus:
        return _mend_names(architecture, missing, surplus)
    advice = []
    given, own = reshaped.get("conv1.weight", ((), ()))
    if given[2:] != own[2:]:
        advice.append(f"--stem {'cifar' if given[2:] == SMALL_KERNEL else 'imagenet'}")
    rows = {(given[0], own[0]) for given, own in reshaped.values() if given[1:] == own[1:]}
    if len(rows) == 1 and (pair := rows.pop())[1] == architecture.classes:
        if pair[0] < pair[1]:
            return f"it is for data of {pair[0]} classes"
        advice.append(f"--classes {pair[0]}")
    if advice:
        return f"try {' '.join(advice)}"
    if architecture.takes("width"):
        return "give the --width and image size that it was trained with"
    return SAVED_FROM


def _mend_names(architecture: Architecture, missing: list[str], surplus: list[str]) -> str:
    """Advice for names that differ: shortcuts, options that change names, else another definition."""
    told = []
    differing = [*missing, *surplus]
    for has, lacks, names, others in (
        ("this network", "the saved one", missing, surplus),
        ("the saved network", "this one", surplus, missing),
    ):
        if any(map(_is_shortcut, names)) and not any(map(_is_shortcut, others)):
            told.append(f"{has} has projections in its shortcuts, {lacks} none")
    options = []
    for names, others, advice in (
        (missing, surplus, "leave out --head-rank"),
        (surplus, missing, "give the --head-rank that it was trained with"),
    ):
        if any(name.replace(".0.weight", ".weight") in others for name in names):
            return advice
    if any(name.endswith("running_mean") for name in differing) and architecture.takes("norm"):
        options.append("--norm")
    if architecture.takes("depth"):
        options.append("--depth")
    if options and not told:
        return f"give the {' and '.join(options)} that it was trained with, or {SAVED_FROM}"
    return "; ".join([*told, SAVED_FROM])


def _is_shortcut(name: str) -> bool:
    return any(part in SHORTCUTS for part in name.split("."))
