"""Compression of a trained classifier within a tested limit on the loss of accuracy."""

import copy
from collections.abc import Sequence
from typing import Any, get_args

from torch import nn

from rankdeficit.checks import check_at_least, check_gamma, check_seeds
from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.cost import BATCHES, costs, flops
from rankdeficit.control.compression.features import feature_layer, find_head, width_of
from rankdeficit.control.compression.parts import OnProgress, Part, Runner
from rankdeficit.control.compression.probing import Prober
from rankdeficit.control.compression.promise import Paired, images_needed
from rankdeficit.control.compression.record import Compression, LayerDimensions, Plan, Step
from rankdeficit.control.compression.repair import Repair
from rankdeficit.control.compression.search import FAILURES, Candidate, Search
from rankdeficit.control.compression.structure import Cut, describe
from rankdeficit.diagnostics.reading.contexts import full_precision
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import Layer, Select, pick_logits
from rankdeficit.diagnostics.reading.wrappers import unwrap

STEPS: tuple[Step, ...] = get_args(Step)

CHOOSING = 0.25
"""Share of `train` that is set aside as choosing images when `choose` is not given."""

EXPLORING = 1 / 3
"""Share of the choosing images with which candidates are made; the others decide."""

FITTED = 10_000
"""Default number of fitting samples."""


@full_precision()
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
    """Compress a network so that its accuracy on unseen images falls by less than `lose_at_most`.

    steps: "cut" removes the layers after the earliest one whose linear probe is accurate enough, and
        makes the probe the head. "project" restricts the head to the leading principal directions of its
        features. "factor" splits linear layers and convolutions into two along the leading principal
        directions of their outputs, at one threshold for all, where that takes fewer parameters.
    train: loader or batches, as in `diagnose`, without augmentation. A random part of about `fit_samples`
        samples (0: all) fits heads and spectra.
    choose: images on which the network was not trained. Candidates are made with a third of them; the
        others decide. By default a quarter of `train` is set aside, which gives no guarantee for images
        that the network has not seen.
    test: images for the report alone.
    lose_at_most: accuracy, in (0, 1). The candidate that is returned has passed a one-sided paired test
        of a smaller loss (`loss_p_value`). Over the deciding images, the probability of accepting any
        candidate with a larger loss is at most 1 - confidence.
    method: "activations", or one of the baselines "weights" (singular vectors of weights) and "magnitude"
        (units with the largest weights), used by project and factor.
    gamma: threshold of the numerical rank to project to; by default the least rank that keeps accuracy.
    grid: the new head of a cut network reads feature maps averaged to grid x grid cells.
    repair_epochs: epochs of Adam on the fitting samples after compression, at learning rate `repair_lr`
        and the softmax temperature with which the network was trained.
    rivals: methods to compare on the test images at the dimensions of the result.
    logits: function that picks the logits from the network's output. A cut network returns logits alone.
    Returns the original network if no candidate passes the test. Raises ValueError for settings out of
    range, too few deciding images, labels beyond the model's classes, NaN weights, and a network whose
    logits are not made by a single linear layer.
    """
    check_options(
        lose_at_most, confidence, steps, (method, *rivals), gamma, grid, fit_samples, seed
    )
    repair = Repair(repair_epochs, repair_lr, temperature=temperature, seed=seed)
    tell = on_progress or (lambda what, done, total: None)
    own = _copied(unwrap(model)).eval()
    check_weights(own)
    select = logits or pick_logits
    whole = Part.of(train, "train", own, seed)
    inputs = next((found for found, _ in whole), None)
    if inputs is None or len(inputs) < 2:
        raise ValueError("the first batch of train has fewer than two samples; give larger batches")
    network = Network.of(own, inputs, None, select)
    runner = Runner(network.device, network.dtype, select, network.classes)
    sample = inputs[:8].on(runner.device, runner.dtype)
    head = find_head(own, sample, select)
    notes: list[str] = []
    if choose is None:
        choosing, whole = whole.split(CHOOSING, "choosing part of train", "train")
        notes.append(
            "The choosing images are a part of train. If the network was trained on them, the promise "
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
            f"lose_at_most is {lose_at_most:g}, for which {available} deciding images are too few: at "
            f"confidence {confidence:g}, {needed} are needed, from about "
            f"{round(needed / (1 - EXPLORING))} choosing images; give more, or a larger lose_at_most"
        )
    exploring = explore.count()
    fit, fitting = whole, whole.count()
    if fit_samples and fitting > fit_samples:
        fit, _ = whole.split(fit_samples / fitting, "train", "")
        fitting = fit.count()
    if fitting < 2:
        raise ValueError(
            f"train has {fitting} samples for fitting; give more, or a larger fit_samples"
        )
    hidden = network.layers.chosen[:-2]
    prober = Prober(
        own, runner, fit, explore, network.classes, grid, fitting + exploring, tell
    )  # fmt: skip
    search = Search(
        own, head, feature_layer(own, sample, select, head), hidden, runner, fit, explore, decide,
        prober, sample, lose_at_most, method, gamma, repair, "factor" in steps, tell,
    )  # fmt: skip
    if search.accuracy <= lose_at_most:
        raise ValueError(
            f"lose_at_most is {lose_at_most:g}, but the accuracy of the network is only "
            f"{search.accuracy:.2%} on the deciding images; train it, or give a smaller lose_at_most"
        )
    if len(chains) > 1 and not search.can_be_cut():
        chains, error = chains[1:], 1 - confidence
    layers = network.layers.chosen[:-1]

    def strength(candidate: Candidate) -> tuple[int, ...]:
        """Number of dimensions removed, then fewer operations."""
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
        chosen.model,
        describe(chosen.edits),
    )


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        reason = str(error).partition(". ")[0]
        raise ValueError(
            f"the model cannot be copied ({reason}); take torch.nn.utils.parametrizations in place of "
            "the hooks torch.nn.utils.weight_norm and spectral_norm"
        ) from error


def check_weights(model: nn.Module) -> None:
    """Raise ValueError for weights that are NaN or infinite."""
    for name, own in model.state_dict().items():
        if own.is_floating_point() and not bool(own.isfinite().all()):
            raise ValueError(
                f"{name} of the model has NaN or infinite entries; repair the weights first"
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
    """All steps, and all but the cut, which changes the most predictions."""
    others = steps - {"cut"}
    return [steps, others] if others and others != steps else [steps]


def _dimensions(
    model: nn.Module, layers: Sequence[Layer], candidate: Candidate, head: str
) -> list[LayerDimensions]:
    """Dimensions of the layers before and after, for layers with a single weight."""
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
        before = width_of(module)
        after = 0 if place > last else min(before, ranks.get(layer.module, before))
        if place == last and read is not None:
            after = min(after, read)
        found.append(LayerDimensions(layer.name, before, after))
    return found


def _removed(layers: Sequence[LayerDimensions]) -> int:
    return sum(own.before - own.after for own in layers)


def _why_not(search: Search, lose_at_most: float, confidence: float) -> str:
    if not search.trials:
        return (
            "Nothing was compressed: no smaller candidate lost less than "
            f"{lose_at_most:.2%} on the exploring images. The network is the original."
        )
    losses = ", ".join(f"{own.paired.loss:.2%}" for own in search.trials)
    return (
        f"Nothing was compressed: {len(search.trials)} candidates lost {losses} on the deciding images, "
        f"and none passed the test of losing less than {lose_at_most:.2%} at confidence {confidence:g}. "
        "The network is the original; give more choosing images or a larger lose_at_most."
    )
