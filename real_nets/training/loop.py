"""Training of one network, step by step, resumable to the bit on a CPU.

Several processes (torchrun) share every batch; Hugging Face Accelerate wraps network and optimiser
for them, because it leaves loop, checkpoints and settings to this project.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, NotRequired, TypedDict, cast

import torch
import torch.distributed as distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from rankdeficit.batches import Batches, stream_seed
from rankdeficit.checks import check_temperature
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.distributed import rank_and_size
from real_nets.training.layout import safe_layout
from real_nets.training.recipe import (
    ParameterGroup,
    Recipe,
    parameter_groups,
    scale_of,
    shape_at,
)

LOSSES_AT_ONCE = 20
"""Steps after which losses are looked at: each look waits for the device."""


class DivergedError(ValueError):
    """Training stopped on a non-finite loss."""


class TrainingState(TypedDict):
    """What a checkpoint keeps of a training."""

    step: int
    steps_per_epoch: NotRequired[int]
    """Missing in the earliest checkpoints."""
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    """Of torch's optimizer."""


class Training:
    """Training of a network by a recipe, at a softmax temperature.

    A step depends on the seed and its number alone (batch, augmentation, dropout), so temperatures share
    their batches and runs resume at any step.
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
        self.optimizer = _optimizer(parameter_groups(model, recipe, temperature), recipe)
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
            _scale(group["params"], scale_of(group["peak"], recipe))
        self._accelerator.clip_grad_norm_(self.model.parameters(), longest)
        for group in self.optimizer.param_groups:
            _scale(group["params"], 1 / scale_of(group["peak"], recipe))

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
        """The error for non-finite values first seen at `step`; `what` names them, with a verb."""
        clipping = "" if self.recipe.clip_norm else ", or shorten gradients with --clip-norm 1"
        return DivergedError(
            f"T = {self.temperature:g}, seed {self.seed}: {what} not finite at step {step} (epoch "
            f"{step / self.batches.steps_per_epoch:.2f}); lower --lr (now {self.recipe.lr:g}){clipping}"
        )

    def state(self) -> TrainingState:
        """The state to save in a checkpoint."""
        return {
            "step": self.step,
            "steps_per_epoch": self.batches.steps_per_epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: TrainingState) -> None:
        """Go on from a checkpoint. Raises ValueError where the number of processes changed the steps."""
        per_epoch = self.batches.steps_per_epoch
        before = state.get("steps_per_epoch", per_epoch)
        if before != per_epoch:
            raise ValueError(
                f"the checkpoint is of a training with {before} steps an epoch; with "
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
    """Seed the generators that dropout draws from; torch.manual_seed takes 3 % of a small step."""
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


@contextmanager
def compiling() -> Iterator[None]:
    """Turns a failure of torch.compile inside the block into a ValueError."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # with all of the compiler

        if not isinstance(error, TorchDynamoException):
            raise
        said = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
        raise ValueError(
            f"torch.compile needs a C++ compiler, on GPUs also Triton, and fails here ({said}); install "
            "what it lacks, or leave out --compile"
        ) from error


@cache
def check_compiler(device: torch.device) -> None:
    """Compile a small function on the device. Raises ValueError as `compiling`."""
    compiled = torch.compile(lambda x: x.sin() + 1, dynamic=False)
    with compiling():
        compiled(torch.zeros(2, device=device))
