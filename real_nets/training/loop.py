"""Training of one network, step by step, resumable to the bit on a CPU.

Several processes (torchrun) share every batch; Hugging Face Accelerate wraps network and optimiser
for them, because it leaves loop, checkpoints and settings to this project.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from rankdeficit import cross_entropy, softmax_mse
from rankdeficit.checks import check_at_least, check_temperature
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.distributed import rank_and_size
from real_nets.data.batches import Augmentation, Batches, stream_seed
from real_nets.training.compiling import compiling
from real_nets.training.layout import safe_layout
from real_nets.training.rates import (
    LrRule,
    Optimizer,
    Schedule,
    parameter_groups,
    scale_of,
    shape_at,
)

Precision = Literal["float32", "bf16"]

LOSSES_AT_ONCE = 20
"""Steps after which losses are looked at: each look waits for the device."""

Row = dict[str, Any]


class DivergedError(ValueError):
    """The loss was no longer a finite number."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, whatever its temperature and seed."""

    epochs: int = 25
    """Passes over the train images; 0 leaves the network untrained."""
    stop_accuracy: float | None = None
    """Stop at the end of the epoch in which the accuracy on followed train images has reached this
    share, and that on all train images too [default: train all epochs]."""
    batch_size: int = 128
    """Images per step, over all processes."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """Cross-entropy, or squared error of the probabilities after the softmax."""
    label_smoothing: float = 0.0
    """Weight of the uniform distribution mixed into the labels (cross-entropy alone)."""
    optimizer: Optimizer = "sgd"
    """SGD with momentum, or AdamW."""
    lr: float = 0.05
    """Peak learning rate at T = 1."""
    lr_rule: LrRule = "matched"
    """Rates at other temperatures: the same (matched), or those that make T a scale of the initial
    weights and nothing else (reparametrised)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Nesterov's momentum."""
    weight_decay: float = 0.0
    """L2 penalty of SGD, decoupled decay of AdamW."""
    schedule: Schedule = "cosine"
    """From the peak rate to 0 along a cosine, a tenth after half and three quarters, or constant."""
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises to its peak."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient; longer ones are shortened to it. With reparametrised rates it is
    the gradient of the smaller start."""
    augmentation: Augmentation = "none"
    """Random changes of the train images."""
    precision: Precision = "float32"
    """bf16 computes what can be in bfloat16 (autocast)."""
    channels_last: bool = False
    """Memory format that is faster for convolutions; left out for narrow networks that a CPU cannot
    train in it."""
    compile: bool = False
    """Compile the network with torch.compile."""

    def __post_init__(self) -> None:
        check_at_least(0, epochs=self.epochs)
        check_at_least(1, batch_size=self.batch_size)
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be positive and finite")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1)")
        for name in ("weight_decay", "warmup_epochs"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must not be negative")
        if 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs:g}; it must be less than the {self.epochs} epochs "
                "of training, or the rate never reaches its peak"
            )
        if self.stop_accuracy is not None and not 0 < self.stop_accuracy <= 1:
            raise ValueError(f"stop_accuracy is {self.stop_accuracy}; it must lie in (0, 1]")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must lie in [0, 1)")
        if self.label_smoothing and self.loss != "cross-entropy":
            raise ValueError(f"label_smoothing is for cross-entropy; loss is {self.loss!r}")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov is for SGD with momentum")

    @property
    def notes_on_loss(self) -> list[str]:
        """What a diagnosis has to say of the loss; nothing of plain cross-entropy."""
        if self.loss == "mse":
            name = "squared error after the softmax"
        elif self.label_smoothing:
            name = f"cross-entropy with label smoothing {self.label_smoothing:g}"
        else:
            return []
        return [f"gradient ranks are of the loss it was trained with, {name}"]

    def mean_loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """What training lowers."""
        if self.loss == "mse":
            return softmax_mse(logits, labels, temperature, validate=False)
        return cross_entropy(
            logits, labels, temperature, label_smoothing=self.label_smoothing, validate=False
        )


class Training:
    """A network on its way through a recipe, at a softmax temperature.

    What happens in a step depends on the seed and the number of the step alone (batch, augmentation,
    dropout), so temperatures share their batches and runs resume at any step.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        recipe: Recipe,
        *,
        temperature: float,
        seed: int,
        device: torch.device,
    ) -> None:
        check_temperature(temperature)
        self._layout = torch.contiguous_format
        if recipe.channels_last:
            self._layout = safe_layout(model, batches.size, device)
        self.model = model.to(device, memory_format=self._layout).train()  # type: ignore[call-overload]
        self.batches, self.recipe, self.device = batches, recipe, device
        self.temperature, self.seed = temperature, seed
        self.step = 0
        """Steps done."""
        groups = parameter_groups(
            model,
            temperature,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            optimizer=recipe.optimizer,
            rule=recipe.lr_rule,
        )
        self.optimizer = _optimizer(groups, recipe)
        # Without its mixed precision, which would hold for the network's measures, too; anew, as it
        # would refuse a device of another kind than the first training's.
        AcceleratorState._reset_state()
        self._accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", device_placement=False
        )
        if recipe.compile:  # or graphs of earlier networks of its kind count towards torch's limit
            torch.compiler.reset()
        # Batches have one size, but for an epoch's last. A graph for any size, which torch would make
        # for that one, would serve all batches from then on.
        compiled = torch.compile(model, dynamic=False) if recipe.compile else model
        self._network = self._accelerator.prepare_model(compiled, device_placement=False)
        self._losses: list[Tensor] = []

    @property
    def steps(self) -> int:
        """Steps of the whole recipe."""
        return self.recipe.epochs * self.batches.steps_per_epoch

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.step / self.batches.steps_per_epoch

    def run_until(self, step: int, advance: Callable[[int], object]) -> None:
        """Train up to that step; `advance` hears the number of steps done.

        Raises DivergedError, naming the step, when the loss is no finite number.
        """
        per_epoch = self.batches.steps_per_epoch
        with torch.random.fork_rng(devices=[]):
            while self.step < step:
                epoch, first = divmod(self.step, per_epoch)
                for inputs, labels in self.batches.epoch(epoch, first):
                    self._take_step(inputs, labels)
                    advance(self.step)
                    if self.step == step:
                        break
        self._check_losses()

    def _take_step(self, inputs: Tensor, labels: Tensor) -> None:
        recipe, per_epoch = self.recipe, self.batches.steps_per_epoch
        own = (self.batches.process,) if self.batches.process else ()
        _seed_dropout(stream_seed("dropout", self.seed, self.step, *own), self.device)
        shape = shape_at(self.step, self.steps, recipe.schedule, recipe.warmup_epochs * per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * shape
        self.optimizer.zero_grad()
        loss = self._backward(inputs, labels, self._weight(len(labels)))
        if recipe.clip_norm is not None:
            self._clip(recipe.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._losses.append(loss.detach())
        if len(self._losses) == LOSSES_AT_ONCE:
            self._check_losses()

    def _backward(self, inputs: Tensor, labels: Tensor, weight: float = 1.0) -> Tensor:
        """Find the gradients of the weighted loss, and return it."""
        with compiling() if self.recipe.compile else nullcontext():
            loss = self._loss(inputs, labels) * weight
            self._accelerator.backward(loss)
        return loss

    def _loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        recipe = self.recipe
        if self._layout is torch.channels_last:
            inputs = inputs.contiguous(memory_format=self._layout)
        half = recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            logits = pick_logits(self._network(inputs))
        return recipe.mean_loss(logits.float(), labels, self.temperature)

    def _clip(self, longest: float) -> None:
        """Shorten the gradient: that of the run at T = 1 which reparametrised rates stand for."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            _scale(group["params"], scale_of(group, recipe.lr, recipe.optimizer))
        self._accelerator.clip_grad_norm_(self.model.parameters(), longest)
        for group in self.optimizer.param_groups:
            _scale(group["params"], 1 / scale_of(group, recipe.lr, recipe.optimizer))

    def _order_gradients(self) -> None:
        """Let the processes find the order in which they add up gradients, as after a first step."""
        with torch.random.fork_rng(devices=[]):
            inputs, labels = next(iter(self.batches.epoch(0)))
            self._backward(inputs, labels)
        self.optimizer.zero_grad()

    def _weight(self, own: int) -> float:
        """Of this process's mean loss, as processes count alike, but their shares may differ by one."""
        batches = self.batches
        whole = batches.images_in(self.step % batches.steps_per_epoch)
        return own * batches.processes / whole

    def _check_losses(self) -> None:
        if not self._losses:
            return
        losses = torch.stack(self._losses)
        if rank_and_size()[1] > 1:  # what spoils one share stops all
            distributed.all_reduce(losses)
        finite = losses.isfinite().tolist()
        first = self.step - len(finite)
        self._losses = []
        if not all(finite):
            raise self.diverged("the loss is", first + finite.index(False) + 1)

    def diverged(self, what: str, step: int) -> DivergedError:
        """What to say of numbers that are none, from that step on."""
        clipping = "" if self.recipe.clip_norm else ", or shorten gradients with --clip-norm 1"
        return DivergedError(
            f"T = {self.temperature:g}, seed {self.seed}: {what} not finite at step {step} (epoch "
            f"{step / self.batches.steps_per_epoch:.2f}); lower --lr (now {self.recipe.lr:g}){clipping}"
        )

    def state(self) -> Row:
        """What a checkpoint keeps."""
        return {
            "step": self.step,
            "steps_per_epoch": self.batches.steps_per_epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Row) -> None:
        """Go on from a checkpoint. Raises ValueError where the number of processes changed the steps."""
        per_epoch = self.batches.steps_per_epoch
        if state.get("steps_per_epoch", per_epoch) != per_epoch:
            raise ValueError(
                f"the checkpoint is of a training with {state['steps_per_epoch']} steps an epoch; with "
                f"{self.batches.processes} processes they are {per_epoch}: start as many as before"
            )
        if state["step"] and self.batches.processes > 1:
            self._order_gradients()
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def _scale(parameters: Sequence[nn.Parameter], factor: float) -> None:
    if factor != 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= factor


def _seed_dropout(seed: int, device: torch.device) -> None:
    """Seed what it draws from; torch.manual_seed would take 3 % of a small network's step."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _optimizer(groups: Sequence[Row], recipe: Recipe) -> torch.optim.Optimizer:
    """Each group has its rate at the peak, `peak`, and its weight decay."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )
