"""Compression of a trained classifier with a promise about what it loses."""

import copy
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from rankdeficit.checks import check_at_least, check_gamma, check_seeds
from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.cost import BATCHES, costs, flops
from rankdeficit.control.compression.parts import OnProgress, Part, Runner
from rankdeficit.control.compression.probing import Prober
from rankdeficit.control.compression.promise import Paired, images_needed
from rankdeficit.control.compression.record import Compression, LayerDimensions, Plan, Step
from rankdeficit.control.compression.repair import Repair
from rankdeficit.control.compression.search import FAILURES, Candidate, Search
from rankdeficit.control.compression.structure import FACTORED, Cut, describe
from rankdeficit.control.head import linear_head
from rankdeficit.control.passes import Passes
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import Layer, Select, pick_logits
from rankdeficit.diagnostics.reading.trace import Place, trace
from rankdeficit.diagnostics.reading.wrappers import unwrap

STEPS: tuple[Step, ...] = get_args(Step)

CHOOSING = 0.25
"""Share of `train` that is set aside to choose, where no other images are given."""

EXPLORING = 1 / 3
"""Share of the choosing images that candidates are made with; the others decide."""

FITTED = 10_000

BETWEEN = frozenset(
    "view _unsafe_view reshape _reshape_copy flatten squeeze clone alias detach mean avg_pool1d "
    "avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d".split()
)
"""Operations that commute with a change of basis of the channels."""


def compress(
    model: nn.Module,
    train: Any,
    choose: Any = None,
    test: Any = None,
    *,
    lose_at_most: float = 0.01,
    confidence: float = 0.99,
    steps: Sequence[Step] = STEPS,
    method: Method = "activations",
    gamma: float | None = None,
    grid: int = 2,
    fit_samples: int = FITTED,
    repair_epochs: int = 0,
    repair_lr: float = 1e-4,
    temperature: float = 1.0,
    seed: int = 0,
    latency: bool = True,
    rivals: Sequence[Method] = (),
    logits: Select | None = None,
    on_progress: OnProgress | None = None,
) -> Compression:
    """A smaller network whose accuracy on unseen images falls by less than `lose_at_most`.

    cut: the layers after the earliest one whose linear probe does as well are left out, and the probe is
        the head. project: the head reads the leading principal directions of its features only. factor:
        linear layers and convolutions become two where that takes fewer parameters, with the leading
        principal directions of their outputs, at one threshold for all.
    train: loader or batches, as in `diagnose`, without augmentation; about `fit_samples` of them, chosen
        at random, fit heads and spectra (0: all). choose: images that the network was not trained on;
        a third of them makes candidates, the others decide. Without it a quarter of train is set aside,
        which gives no guarantee for images that the network has not seen. test: images for the report
        alone.
    lose_at_most: accuracy, in (0, 1). The candidate that is returned passed a one-sided paired test
        that its loss is smaller, which errs with probability 1 - confidence at most, over the deciding
        images (`loss_p_value`).
    method: "activations", or the baselines "weights" (singular vectors of weights) and "magnitude" (units
        with the largest weights), which take their place in project and factor.
    gamma: threshold of the numerical rank to project to; by default the least rank that keeps accuracy.
    grid: maps are averaged to grid x grid cells for a head where the network is cut.
    repair_epochs: epochs of Adam on the fitting samples after compression, at the softmax temperature
        that the network was trained with.
    rivals: methods that are tried on the test images at the dimensions of the result.
    Returns the original where nothing passed the test. Raises ValueError for settings out of range, too
    few images to decide, NaN weights, and a network whose logits are not made by a linear layer.
    """
    check_options(
        lose_at_most, confidence, steps, (method, *rivals), gamma, grid, fit_samples, seed
    )
    repair = Repair(repair_epochs, repair_lr, temperature=temperature, seed=seed)
    tell = on_progress or (lambda what, done, total: None)
    own = copy.deepcopy(unwrap(model)).eval()
    check_weights(own)
    select = logits or pick_logits
    whole = Part.of(train, "train", own, seed)
    inputs = next((found for found, _ in whole), None)
    if inputs is None or len(inputs) < 2:
        raise ValueError(
            "train has a first batch of less than two samples; give batches of several"
        )
    network = Network.of(own, inputs, None, select)
    runner = Runner(network.device, network.dtype, select)
    sample = inputs[:8].on(runner.device, runner.dtype)
    head = _head(own, sample, select)
    notes: list[str] = []
    if choose is None:
        choosing, whole = whole.split(CHOOSING, "choosing part of train", "train")
        notes.append(
            "The images that chose are a part of train. If the network was trained on them, the promise "
            "does not hold for images that it has not seen; give choose=."
        )
    else:
        choosing = Part.of(choose, "choose", own, seed)
    explore, decide = choosing.split(EXPLORING, "exploring images", "deciding images")
    chains = _chains(frozenset(steps))
    error = (1 - confidence) / len(chains)
    available, needed = decide.count(), images_needed(lose_at_most, error / FAILURES)
    if available < needed:
        raise ValueError(
            f"lose_at_most is {lose_at_most:g}, which {available} deciding images cannot tell: with "
            f"confidence {confidence:g}, {needed} are needed, of {round(needed / (1 - EXPLORING))} "
            "choosing images; give more, or a larger lose_at_most"
        )
    exploring = explore.count()
    fit, fitting = whole, whole.count()
    if fit_samples and fitting > fit_samples:
        fit, _ = whole.split(fit_samples / fitting, "train", "")
        fitting = fit.count()
    if fitting < 2:
        raise ValueError(f"train has {fitting} samples to fit; give more")
    hidden = network.layers.chosen[:-2]
    prober = Prober(
        own, runner, fit, explore, network.classes, grid, fitting + exploring, tell
    )  # fmt: skip
    search = Search(
        own, head, _narrowed(own, network, sample, select, head), hidden, runner, fit, explore, decide,
        prober, sample, lose_at_most, method, gamma, repair, "factor" in steps, tell,
    )  # fmt: skip
    if search.accuracy <= lose_at_most:
        raise ValueError(
            f"lose_at_most is {lose_at_most:g}, as much as all that the network has: its accuracy is "
            f"{search.accuracy:.2%} on the deciding images; train it, or give a smaller lose_at_most"
        )
    if len(chains) > 1 and not search.can_be_cut():
        chains, error = chains[1:], 1 - confidence
    layers = network.layers.chosen[:-1]

    def strength(candidate: Candidate) -> tuple[int, ...]:
        """Dimensions that are gone, then operations."""
        gone = _removed(_dimensions(own, layers, candidate, head))
        return gone, -flops(candidate.model, sample[:1])

    found = [kept for chain in chains if (kept := search.chain(chain, error, strength)) is not None]
    kept = max(found, key=lambda kept: strength(kept.candidate), default=None)
    if kept is None:
        notes.append(_why_not(search, lose_at_most, confidence))
    chosen = kept.candidate if kept is not None else Candidate(own, (), Plan())
    tell("cost", 0, 0)
    before, after = costs([own, chosen.model], sample, BATCHES if latency else ())
    tested, others = None, dict[Method, Paired]()
    if test is not None:
        tell("accuracy on test images", 0, 0)
        part = Part.of(test, "test", own, seed)
        first = runner.correct(own, part)

        def against(model: nn.Module) -> Paired:
            return Paired.of(first, runner.correct(model, part), lose_at_most, 1 - confidence)

        tested = against(chosen.model)
        others = {name: against(search.rival(chosen, name)) for name in rivals if kept is not None}
    return Compression(
        chosen.model,
        describe(chosen.edits),
        chosen.plan,
        method,
        tuple(_dimensions(own, layers, chosen, head)),
        before,
        after,
        kept.trial.paired if kept is not None else None,
        tested,
        tuple(search.trials),
        others,
        lose_at_most,
        confidence,
        tuple(notes),
    )


def check_weights(model: nn.Module) -> None:
    """Raise ValueError for weights that are NaN or infinite."""
    for name, own in model.state_dict().items():
        if own.is_floating_point() and not bool(own.isfinite().all()):
            raise ValueError(
                f"{name} of the model has NaN or infinite entries; mend the weights first"
            )


def check_options(
    lose_at_most: float,
    confidence: float,
    steps: Sequence[Step],
    methods: Sequence[Method],
    gamma: float | None,
    grid: int,
    fit_samples: int,
    seed: int,
) -> None:
    """Raise ValueError for options of `compress` that are out of range."""
    for what, share in (("lose_at_most", lose_at_most), ("confidence", confidence)):
        if not (isinstance(share, int | float) and 0 < share < 1):
            raise ValueError(f"{what} is {share}; it must lie strictly between 0 and 1")
    if isinstance(steps, str) or not steps or not set(steps) <= set(STEPS):
        raise ValueError(f"steps is {steps!r}; it must name some of {', '.join(STEPS)}")
    for name in methods:
        if name not in get_args(Method):
            raise ValueError(f"method is {name!r}; it must be one of {', '.join(get_args(Method))}")
    if gamma is not None:
        check_gamma(gamma)
    check_at_least(1, grid=grid)
    check_at_least(0, fit_samples=fit_samples)
    check_seeds(seed, 1)


def _chains(steps: frozenset[Step]) -> list[frozenset[Step]]:
    """All steps together, and without the cut, whose disagreements are the most."""
    others = steps - {"cut"}
    return [steps, others] if others and others != steps else [steps]


def _head(model: nn.Module, sample: Any, select: Select) -> str:
    """Name of the linear layer that makes the logits."""
    passes = Passes(model, sample, select)
    found = linear_head(passes)
    (name, *more) = found.modules
    module = found.modules[name]
    if more or not isinstance(module, nn.Linear):
        raise ValueError(
            f"the logits are made by {found.name}, which cannot be compressed: no single linear layer "
            "makes them"
        )
    read: list[tuple[int, ...]] = []
    handle = module.register_forward_pre_hook(lambda _, args: read.append(tuple(args[0].shape)))
    try:
        logits = passes.logits()
    finally:
        handle.remove()
    if len(read) != 1 or len(read[0]) != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the head {name} reads {read} for {len(sample)} samples and makes {logits.shape[1]} "
            "logits; it must read (n, features) once, and make a logit for each class"
        )
    return name


def _narrowed(
    model: nn.Module, network: Network, sample: Any, select: Select, head: str
) -> str | None:
    """The layer whose outputs reach the head through linear operations that keep channels apart."""
    with torch.no_grad():
        traced = trace(model, sample, select)
    node = traced.places.get(Place(head, 0, "input"))
    for own in node.history() if node is not None else ():
        if own.made_by is not None:
            module = model.get_submodule(own.made_by.module)
            alone = isinstance(module, FACTORED) and getattr(module, "groups", 1) == 1
            reader = model.get_submodule(head)
            assert isinstance(reader, nn.Linear)
            fits = alone and len(_weight(module)) == reader.in_features and not own.made_by.call
            return own.made_by.module if fits else None
        if own.operation not in BETWEEN:
            return None
    return None


def _dimensions(
    model: nn.Module, layers: Sequence[Layer], candidate: Candidate, head: str
) -> list[LayerDimensions]:
    """Dimensions of the layers before and after; layers that are no single matrix are left out."""
    ranks: dict[str, int] = {}
    read: int | None = None
    names = [own.name for own in layers]
    last = len(names) - 1
    for edit in candidate.edits:
        if isinstance(edit, Cut):
            last, head = names.index(edit.layer), "head"
        elif edit.module == head:
            read = edit.rank
        else:
            ranks[edit.module.removeprefix("body.") if last < len(names) - 1 else edit.module] = (
                edit.rank
            )
    found = []
    for place, layer in enumerate(layers):
        module = model.get_submodule(layer.module)
        if not hasattr(module, "weight"):
            continue
        before = len(_weight(module))
        after = 0 if place > last else min(before, ranks.get(layer.module, before))
        if place == last and read is not None:
            after = min(after, read)
        found.append(LayerDimensions(layer.name, before, after))
    return found


def _removed(layers: Sequence[LayerDimensions]) -> int:
    return sum(own.before - own.after for own in layers)


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _why_not(search: Search, lose_at_most: float, confidence: float) -> str:
    if not search.trials:
        return (
            "Nothing was compressed: on the exploring images no candidate was smaller and lost less than "
            f"{lose_at_most:.2%}. The network is the original."
        )
    losses = ", ".join(f"{own.paired.loss:.2%}" for own in search.trials)
    return (
        f"Nothing was compressed: of {len(search.trials)} candidates, which lost {losses} on the "
        f"deciding images, none is certain, with confidence {confidence:g}, to lose less than "
        f"{lose_at_most:.2%}. The network is the original; give more choosing images or a larger "
        "lose_at_most."
    )
