"""Training loop of one network, resumable bit for bit on a CPU.

Under torchrun, every batch is split over the processes. Hugging Face Accelerate wraps the network for
them, because it leaves loop, checkpoints and settings to this project.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NotRequired, TypedDict, cast

import torch
import torch.distributed as distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from rankdeficit.batches import Batches, stream_seed
from rankdeficit.checks import check_temperature
from rankdeficit.compiling import compiling
from rankdeficit.control.criterion import Criterion
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.distributed import rank_and_size
from rankdeficit.memory_layout import safe_layout
from real_nets.training.recipe import (
    ParameterGroup,
    Recipe,
    parameter_groups,
    scale_of,
    shape_at,
)

LOSSES_AT_ONCE = 20
"""Number of steps between checks of the losses, each of which synchronises with the device."""


class DivergedError(ValueError):
    """Training stopped on a non-finite loss."""


class TrainingState(TypedDict):
    """State of a training in a checkpoint."""

    step: int
    steps_per_epoch: NotRequired[int]
    """Absent from the earliest checkpoints."""
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    """State dict of the optimizer."""
    criterion: NotRequired[dict[str, Any]]
    """State dict of the loss, if it has a state."""


class Training:
    """Training of a network by a recipe at a softmax temperature.

    The batch, augmentation and dropout of a step depend only on the seed and the step number, so all
    temperatures see the same batches, and a run can resume at any step.
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
        criterion: Criterion | None = None,
    ) -> None:
        """criterion: the loss, by default the recipe's at the temperature."""
        check_temperature(temperature)
        self._layout = torch.contiguous_format
        if recipe.channels_last:
            self._layout = safe_layout(model, batches.size, device)
        self.model = model.to(device, memory_format=self._layout).train()  # type: ignore[call-overload]
        self.batches, self.recipe, self.device = batches, recipe, device
        self.temperature, self.seed = temperature, seed
        self.criterion = (criterion or recipe.criterion(temperature, self.steps)).to(device)
        self.criterion.attach(model)
        self.step = 0
        """Number of steps done."""
        self.optimizer = _optimizer(parameter_groups(model, recipe, temperature), recipe)
        # Accelerate's own mixed precision would apply to measurements too. Its state is reset, as it
        # refuses a device of another type than that of the first training in the process.
        AcceleratorState._reset_state()
        self._accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", device_placement=False
        )
        if recipe.compile:  # graphs of earlier networks would count towards torch's limit
            torch.compiler.reset()
        # Not dynamic: the smaller last batch of an epoch would make torch compile a slower graph for
        # any size, and use it for all later batches.
        compiled = torch.compile(model, dynamic=False) if recipe.compile else model
        self._network = self._accelerator.prepare_model(compiled, device_placement=False)
        self._losses: list[Tensor] = []

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return self.recipe.epochs * self.batches.steps_per_epoch

    @property
    def temperature_now(self) -> float:
        """Softmax temperature after the steps done."""
        return self.recipe.temperature_after(self.temperature, self.step, self.steps)

    @property
    def epoch(self) -> float:
        """Number of epochs done."""
        return self.step / self.batches.steps_per_epoch

    def run_until(self, step: int, advance: Callable[[int], object]) -> None:
        """Train up to `step`, calling `advance` with the number of steps done after each.

        Raises DivergedError naming the step of a non-finite loss.
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
        """Backpropagate the weighted loss; returns it."""
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
        loss: Tensor = self.criterion(logits.float(), labels, self.step, inputs)
        return loss

    def _clip(self, max_norm: float) -> None:
        """Clip the gradient's norm; with reparametrised rates, that of the equivalent run at T = 1."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            _scale(group["params"], scale_of(group["peak"], recipe))
        self._accelerator.clip_grad_norm_(self.model.parameters(), max_norm)
        for group in self.optimizer.param_groups:
            _scale(group["params"], 1 / scale_of(group["peak"], recipe))

    def _order_gradients(self) -> None:
        """Run one backward pass: DistributedDataParallel fixes its buckets only after the first.

        An uninterrupted run has done so in its first step.
        """
        with torch.random.fork_rng(devices=[]):
            inputs, labels = next(iter(self.batches.epoch(0)))
            self._backward(inputs, labels)
        self.optimizer.zero_grad()

    def _weight(self, images: int) -> float:
        """Weight of this process's mean loss over its `images` of the batch.

        The shards may differ by one image, but gradients are averaged with equal weights.
        """
        batches = self.batches
        whole = batches.images_in(self.step % batches.steps_per_epoch)
        return images * batches.processes / whole

    def _check_losses(self) -> None:
        if not self._losses:
            return
        losses = torch.stack(self._losses)
        if rank_and_size()[1] > 1:  # a non-finite loss of one process stops all
            distributed.all_reduce(losses)
        finite = losses.isfinite().tolist()
        first = self.step - len(finite)
        self._losses = []
        if not all(finite):
            raise self.diverged("the loss is", first + finite.index(False) + 1)

    def diverged(self, what: str, step: int) -> DivergedError:
        """The error for non-finite values first seen at `step`; `what` is their subject and verb."""
        clipping = "" if self.recipe.clip_norm else ", or shorten gradients with --clip-norm 1"
        return DivergedError(
            f"T = {self.temperature:g}, seed {self.seed}: {what} not finite at step {step} (epoch "
            f"{step / self.batches.steps_per_epoch:.2f}); lower --lr (now {self.recipe.lr:g}){clipping}"
        )

    def state(self) -> TrainingState:
        """The state for a checkpoint."""
        found: TrainingState = {
            "step": self.step,
            "steps_per_epoch": self.batches.steps_per_epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        own = self.criterion.state_dict()
        return {**found, "criterion": own} if own else found

    def restore(self, state: TrainingState) -> None:
        """Restore a checkpoint. Raises ValueError if the number of steps per epoch has changed."""
        per_epoch = self.batches.steps_per_epoch
        before = state.get("steps_per_epoch", per_epoch)
        if before != per_epoch:
            raise ValueError(
                f"the checkpoint has {before} steps per epoch, but {self.batches.processes} processes "
                f"make {per_epoch}; start as many processes as before"
            )
        if state["step"] and self.batches.processes > 1:
            self._order_gradients()
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.criterion.load_state_dict(state.get("criterion", {}))


def _scale(parameters: Sequence[nn.Parameter], factor: float) -> None:
    if factor != 1:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= factor


def _seed_dropout(seed: int, device: torch.device) -> None:
    """Seed the generators that dropout draws from; torch.manual_seed would take 3 % of a small step."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _optimizer(groups: list[ParameterGroup], recipe: Recipe) -> torch.optim.Optimizer:
    plain = cast("list[dict[str, Any]]", groups)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(plain, lr=recipe.lr, fused=True)
    return torch.optim.SGD(
        plain, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )
