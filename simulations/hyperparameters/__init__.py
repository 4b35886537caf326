"""What sets the initial logits norm without touching the temperature, and what rank follows from it.

Interventions on one baseline, an MLP on Gaussian clusters: initialisation, width, depth, normalisation
before and after the logits, optimiser, weight decay, label smoothing (the paper's section 5). If the
initial norm is what counts, each of them ends with the rank that temperature alone gives at the same
initial effective norm ||M||_F / (sqrt(n) T): the dashed curve, from runs that change T only.

    python -m simulations.hyperparameters
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

from rankdeficit.checks import check_at_least, check_positive, divergence_bound
from rankdeficit.control import intervene
from rankdeficit.control.interventions import Intervened
from rankdeficit.control.interventions.options import InterventionOptions
from rankdeficit.diagnostics import measure_logits
from rankdeficit.experiments import cli
from rankdeficit.experiments.experiment import UnitByUnit, experiment
from rankdeficit.experiments.settings import (
    ClusterSettings,
    Row,
    ShapeSettings,
    TemperatureSettings,
)
from rankdeficit.softmax import cross_entropy
from rankdeficit.spectrum import spectrum
from rankdeficit.toys.mlp import (
    BatchedMlp,
    Initialisation,
    MlpShape,
    gaussian_clusters,
    initial_parameters,
    module_of,
)
from rankdeficit.toys.optimizers import OptimizerName, make_optimizer
from simulations.hyperparameters import report
from simulations.hyperparameters.summary import TEMPERATURES, summarise
from simulations.interventions.training import fit


@dataclass(frozen=True)
class Settings(InterventionOptions, TemperatureSettings, ShapeSettings, ClusterSettings):
    """Interventions on the logits norm of an MLP, and the ranks they lead to."""

    seeds: int = 3
    """Runs per intervention, each with its own initial weights."""
    gamma: float = 1e-2
    """Threshold of the numerical rank; at 1e-3 most of these small networks have full rank."""
    temperature: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 300.0)
    """Temperatures that the other interventions are compared with, besides the baseline's 1."""
    classes: int = 50
    """Number of Gaussian clusters c."""
    depth: int = 6
    """Weight matrices of the baseline."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    sgd_lr: float = 0.05
    """Learning rate of SGD with momentum 0.9."""
    steps: int = 500
    """Training steps, all samples in each."""


@dataclass(frozen=True)
class Intervention:
    """The baseline, or one change of it."""

    family: str
    name: str
    width: int
    depth: int
    temperature: float = 1.0
    init: Initialisation = "he"
    init_scale: float = 1.0
    optimizer: OptimizerName = "adam"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    layers: dict[str, Any] = field(default_factory=dict)
    """Further fields of the MlpShape."""
    intervention: str = ""
    """Intervention on the logits, NAME or NAME=VALUE, of seeds that are trained one by one."""


def interventions(settings: Settings) -> list[Intervention]:
    """The baseline and every change of it."""
    base = Intervention(TEMPERATURES, "baseline", settings.width, settings.depth)

    def change(family: str, name: str, **changes: Any) -> Intervention:
        return replace(base, family=family, name=name, **changes)

    hot = sorted({*settings.temperature} - {1.0})
    return [
        base,
        *(change(TEMPERATURES, f"T = {T:g}", temperature=T) for T in hot),
        *(
            change("init scale", f"init scale {scale:g}", init_scale=scale)
            for scale in (0.4, 0.6, 0.8, 1.25)
        ),
        change("init scheme", "LeCun", init="lecun"),
        change("init scheme", "Xavier", init="xavier"),
        change("init scheme", "orthogonal", init="orthogonal"),
        change("init scheme", "head 1e-12", init="small-head"),
        *(
            change("width", f"width {width}", width=width)
            for width in (settings.width // 2, settings.width * 2)
        ),
        *(
            change("depth", f"depth {depth}", depth=depth)
            for depth in (max(2, settings.depth // 2), settings.depth + settings.depth // 2)
        ),
        *(
            change("normalisation", f"{kind} norm", layers={"normalisation": kind})
            for kind in ("layer", "rms", "batch")
        ),
        change("normalisation", "layer norm of logits", layers={"norm_logits": True}),
        change(
            "normalisation",
            "batch norm, logits too",
            layers={"normalisation": "batch", "norm_logits": True},
        ),
        change("optimiser", "SGD, momentum 0.9", optimizer="sgd"),
        *(
            change("weight decay", f"L2 {decay:g}", weight_decay=decay)
            for decay in (1e-5, 1e-4, 1e-3)
        ),
        change("label smoothing", "smoothing 0.1", label_smoothing=0.1),
        *(
            change(spelled.partition("=")[0], spelled, intervention=spelled)
            for spelled in settings.alternatives
        ),
    ]


@experiment
class Hyperparameters(UnitByUnit[Settings, Intervention]):
    """Does the initial logits norm predict the final rank, whatever sets that norm?"""

    settings = Settings
    units = "interventions"

    def prepare(self, settings: Settings) -> list[Intervention]:
        """All interventions."""
        check_at_least(1, steps=settings.steps)
        check_at_least(2, width=settings.width, depth=settings.depth)
        check_positive(lr=settings.lr, sgd_lr=settings.sgd_lr)
        clusters(settings)
        found = interventions(settings)
        for own in found:
            if own.intervention:
                modules(settings, own)
        return found

    def compute(self, settings: Settings, unit: Intervention) -> Iterator[Row]:
        """Train all seeds of one intervention."""
        return train(settings, unit)

    def summarise(self, settings: Settings, rows: list[Row]) -> Row:
        """Initial norms and final ranks, and their correlations."""
        return summarise(settings.classes, settings.width, settings.gamma, settings.seeds, rows)

    def report(self, summary: Row) -> tuple[Table, list[str]]:
        """Initial norm and final rank of every intervention."""
        return report.report(summary)

    def figures(self, rows: Sequence[Row], summary: Row) -> dict[str, Figure]:
        """Final rank against initial norm."""
        return {"norm_and_rank": report.draw_ranks(summary)}


def clusters(settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian clusters of the first seed, and their labels."""
    return gaussian_clusters(
        settings.classes,
        settings.samples_per_class,
        settings.inputs,
        settings.separation,
        settings.seed,
    )


class Trained(NamedTuple):
    """All seeds of an intervention before and after training."""

    first: Float[Tensor, "runs n c"]
    """Initial logits that the loss gets."""
    logits: Float[Tensor, "runs n c"]
    hidden: Float[Tensor, "runs n width"]
    loss: Float[Tensor, " runs"]


def setup(
    settings: Settings, intervention: Intervention
) -> tuple[MlpShape, Float[Tensor, "runs parameters"]]:
    """The shape of an intervention's networks, and their initial parameters."""
    shape = MlpShape(
        settings.inputs,
        settings.classes,
        intervention.width,
        intervention.depth,
        **intervention.layers,
    )
    parameters = initial_parameters(
        shape,
        list(settings.seed_range),
        intervention.init,
        intervention.init_scale,
        device=cli.resolve_device(settings.device),
    )
    return shape, parameters


def train_batch(
    settings: Settings, intervention: Intervention, x: Tensor, labels: Tensor
) -> Trained:
    """Train all seeds of an intervention in one batch."""
    shape, parameters = setup(settings, intervention)
    model = BatchedMlp(
        shape,
        parameters,
        torch.full((settings.seeds,), intervention.temperature, dtype=torch.float64),
        weight_decay=intervention.weight_decay,
        label_smoothing=intervention.label_smoothing,
    )
    rate = settings.lr if intervention.optimizer == "adam" else settings.sgd_lr
    optimizer = make_optimizer(intervention.optimizer, parameters, model.gradient, rate)
    with torch.no_grad():
        first = model.forward(x).logits
    for _ in range(settings.steps):
        model.compute_gradient(x, labels)
        optimizer.step()
    with torch.no_grad():
        layers = model.forward(x)
        return Trained(first, layers.logits, layers.inputs[-1], model.data_loss(x, labels))


def modules(settings: Settings, intervention: Intervention) -> list[tuple[nn.Module, Intervened]]:
    """Networks of all seeds with an intervention on their logits, and their losses."""
    shape, parameters = setup(settings, intervention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return [
            intervene(module_of(shape, own), intervention.intervention, loss=unchecked)
            for own in parameters
        ]


def unchecked(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of logits that may have diverged."""
    return cross_entropy(logits, labels, temperature, validate=False)


def train_modules(
    settings: Settings, intervention: Intervention, x: Tensor, labels: Tensor
) -> Trained:
    """Train all seeds one by one, at T = 1."""
    found = []
    for model, loss in modules(settings, intervention):
        fitted = fit(
            model, loss, x[0], labels[0], 1.0, settings.steps,
            lambda own: torch.optim.Adam(own, lr=settings.lr),
        )  # fmt: skip
        with torch.no_grad():
            hidden = fitted.model[:-1](x[0])  # type: ignore[index]
        final = torch.as_tensor(fitted.loss, device=x.device)
        found.append((fitted.first_seen, fitted.logits, hidden, final))
    return Trained(*map(torch.stack, zip(*found, strict=True)))


def train(settings: Settings, intervention: Intervention) -> Iterator[Row]:
    """Train all seeds of an intervention; a row each, with measures before and after."""
    device = cli.resolve_device(settings.device)
    x, labels = clusters(settings)
    x, labels = x[None].to(device), labels[None].to(device)
    kind = train_modules if intervention.intervention else train_batch
    found = kind(settings, intervention, x, labels)
    first = found.first.double()
    initial_norms = first.norm(dim=(1, 2)) / first.shape[1] ** 0.5
    loss = found.loss
    bound = divergence_bound(found.logits.dtype)
    alive = loss.isfinite() & (found.logits.abs() < bound).all(dim=(1, 2))
    logits = torch.where(alive[:, None, None], found.logits, 0)
    hidden = torch.where(alive[:, None, None], found.hidden, 0)
    measures = measure_logits(logits, intervention.temperature, settings.gamma)
    hidden_ranks = spectrum(hidden).rank(settings.gamma)
    accuracy = (logits.argmax(dim=-1) == labels).double().mean(dim=-1)
    for i, seed in enumerate(settings.seed_range):
        initial = initial_norms[i].item()
        measured = {
            "loss": loss[i].item(),
            "accuracy": accuracy[i].item(),
            **measures.record(i),
            "hidden_rank": int(hidden_ranks[i]),
        }
        del measured["singular_values"]
        yield {
            "family": intervention.family,
            "name": intervention.name,
            "seed": seed,
            "temperature": intervention.temperature,
            "initial_norm": initial,
            "initial_effective_norm": initial / intervention.temperature,
            **(measured if alive[i] else dict.fromkeys(measured)),
        }
