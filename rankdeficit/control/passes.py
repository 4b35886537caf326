"""Forward passes of a classifier on one batch that leave no trace in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.batches import checked_batch
from rankdeficit.diagnostics.reading.inputs import Forward, Inputs
from rankdeficit.diagnostics.reading.taps import Select, pick_logits
from rankdeficit.diagnostics.reading.untouched import untouched
from rankdeficit.diagnostics.reading.wrappers import unwrap
from rankdeficit.diagnostics.watch.probes import no_trace

Mode = Literal["eval", "train"]


@dataclass(frozen=True)
class Passes:
    """A classifier, the batch that it reads, and how its logits are picked."""

    model: nn.Module
    inputs: Inputs
    select: Select

    @classmethod
    def of(cls, model: nn.Module, batch: Any, select: Select | None = None) -> "Passes":
        """Inputs of a batch as `diagnose` takes them, with or without labels, on the model's device.

        Raises ValueError for a batch that the model cannot take.
        """
        model = unwrap(model)
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        inputs, _ = checked_batch(batch, "batch", Forward.of(model), labelled=False)
        return cls(model, inputs.on(weight.device, weight.dtype), select or pick_logits)

    def logits(self, mode: Mode = "eval") -> Float[Tensor, "n c"]:
        """Logits in evaluation mode, or as in training.

        In training, BatchNorm takes the batch's statistics and dropout is drawn with seed 0. Buffers,
        modes and random generators are afterwards what they were.
        Raises ValueError for logits that are not (n, c), and for a batch without batch statistics.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}")
        with no_trace(self.model), untouched(self.model), torch.no_grad():
            torch.manual_seed(0)
            self.model.train(mode == "train")
            try:
                logits = self.select(self.inputs.run(self.model))
            except ValueError as error:
                if len(self.inputs) > 1 or mode == "eval":
                    raise
                raise ValueError(
                    f"batch has one sample, which BatchNorm cannot take in training mode ({error}); "
                    "pass two samples or more"
                ) from error
        if logits.ndim == 1:
            logits = logits[:, None]
        if logits.ndim != 2 or len(logits) != len(self.inputs):
            raise ValueError(
                f"the model makes an output of shape {tuple(logits.shape)} of {len(self.inputs)} inputs; "
                "logits must be (n, classes)"
            )
        if not bool(logits.isfinite().all()):
            raise ValueError("the logits are NaN or infinite; mend the weights of the model first")
        return logits


@contextmanager
def restored(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Tensors have afterwards exactly the values that they had."""
    kept = [own.detach().clone() for own in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for own, old in zip(tensors, kept, strict=True):
                own.copy_(old)
