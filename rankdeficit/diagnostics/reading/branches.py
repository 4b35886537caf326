"""Weight layers off the main path of a network, and how what they make comes back to it."""

from typing import Literal

from torch import nn

from rankdeficit.diagnostics.reading.trace import WEIGHT_MODULES, Node, Place, Trace, adapts

Reason = Literal[
    "shortcut",
    "low-rank update",
    "gate",
    "parallel branch",
    "beside the path to the logits",
    "not run",
    "multiplied outside of any module that could be read, beside the path to the logits",
]
ADDED: Reason = "low-rank update"
PARALLEL: Reason = "parallel branch"
ASIDE: Reason = "beside the path to the logits"

BARE: Reason = "multiplied outside of any module that could be read, beside the path to the logits"

JOINS: dict[str, Reason] = {"add": "shortcut", "mul": "gate"}
"""What a branch is called, by the operation that joins it to the main path; others are parallel."""


def layer_name(place: Place) -> str:
    """Name of a module's call as a layer: the second call of a module ends in `:2`."""
    return place.module + (f":{place.call + 1}" if place.call else "")


def off_path(model: nn.Module, traced: Trace) -> dict[Node, Reason]:
    """Outputs of weight layers that are not on the path from input to logits, with the reason.

    The reason is the operation by which a branch first comes back to the path. Modules that were not
    run stand at their end, as nodes without a parent.
    """
    path = list(traced.logits.history())[::-1]
    main = set(path)
    reasons: dict[Node, Reason] = {}
    seen: set[Node] = set()
    for joint in path:
        waiting = [node for node in joint.parents if node not in main]
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.made_by is not None:
                low_rank = any(adapts(own, joint.parent) for own in joint.parents if joint.parent)
                reasons[node] = ADDED if low_rank else JOINS.get(joint.operation, PARALLEL)
            waiting += [own for own in node.parents if own not in main]
    found = {node: reasons.get(node, ASIDE) for node in traced.weights if node not in main}
    run = {node.made_by.module for node in traced.weights if node.made_by is not None}
    for name, module in model.named_modules():
        if isinstance(module, WEIGHT_MODULES) and name not in run and not _inside(name, run):
            found[Node("weight", made_by=Place(name, 0, "output"))] = "not run"
    return found


def bare_parameters(model: nn.Module, traced: Trace) -> dict[str, Reason]:
    """Parameters off the path by which branches of it are multiplied, without being in a weight layer."""
    made = {node.made_by.module for node in traced.weights if node.made_by is not None}
    inside = {id(own) for name in made for own in model.get_submodule(name).parameters()}
    names = {id(own): name for name, own in model.named_parameters() if id(own) not in inside}
    found, waiting, seen = dict[str, Reason](), [traced.logits], set[Node]()
    while waiting and names:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            found |= {names[own]: BARE for own in node.weights if own in names}
            waiting += node.parents
    return found


def _inside(name: str, modules: set[str]) -> bool:
    """Whether a module is part of one of these, whose calls include it."""
    return any(name.startswith(f"{module}.") for module in modules)
