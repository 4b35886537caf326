"""Knowledge distillation: a student learns the probabilities of a teacher at a raised temperature.

With p = softmax(v / T) for the teacher's logits v and q = softmax(z / T) for the student's logits z, the
term T^2 KL(p || q) has the gradient T (q - p) with respect to z (Hinton, Vinyals and Dean, 2015, arXiv
1503.02531).
Per sample, with w the larger of the ranges (largest minus smallest logit) of z and v, and delta = z - v
minus its mean:

- T -> infinity: T^2 KL is between exp(-w / T) and exp(w / T) times ||delta||^2 / (2c), and the entries of
  T (q - p) differ from those of delta / c by at most (exp(2w / T) - 1) max|delta| / c;
- T -> 0: let a be the teacher's prediction and g the gap between its two largest logits. The entries of
  T (q - p) differ by at most T (c - 1) exp(-g / T) from those of T (q - e_a), the gradient of T^2 times
  the cross-entropy of softmax(z / T) with the label a.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from rankdeficit.checks import check_finite, check_floating, check_temperature
from rankdeficit.control.criterion import Criterion
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.softmax import cross_entropy, log_softmax


def kd_loss(
    student: Float[Tensor, "*batch c"],
    teacher: Float[Tensor, "*batch c"],
    temperature: float,
    labels: Shaped[Tensor, "..."] | None = None,
    weight: float = 0.9,
    *,
    validate: bool = True,
) -> Float[Tensor, ""]:
    """T^2 KL(softmax(v / T) || softmax(z / T)), averaged over samples.

    student, teacher: logits z and v; first divide the logits of a network that was trained at a
    temperature by that temperature.
    labels: class indices or probabilities. With labels, the loss is `weight` times this term plus
    1 - weight times the cross-entropy of softmax(z); without them `weight` has no effect.
    validate: check the tensors, which synchronises with the device.
    The term is computed in float64, with an absolute error of about 1e-16 T^2. It is differentiable in
    both arguments; detach the teacher's logits unless the teacher is to be trained too.
    Raises ValueError for T <= 0, a weight outside [0, 1], logits of different shapes or with NaN or
    infinite entries, and invalid labels as `cross_entropy` does.
    """
    check_temperature(temperature)
    check_weight("weight", weight)
    if validate:
        for name, logits in (("student", student), ("teacher", teacher)):
            check_floating(name, logits, dimensions=1)
            check_finite(name, logits.detach())
    if student.shape != teacher.shape:
        raise ValueError(
            f"student has shape {tuple(student.shape)} and teacher {tuple(teacher.shape)}; pass logits "
            "of the same samples and classes"
        )
    log_p = log_softmax(teacher.double(), temperature, validate=False)
    log_q = log_softmax(student.double(), temperature, validate=False)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    term = (temperature**2 * divergence).to(torch.promote_types(student.dtype, torch.float32))
    if labels is None:
        return term
    return weight * term + (1 - weight) * cross_entropy(student, labels, validate=validate)


class Distillation(Criterion):
    """Loss of a student trained at temperature S, distilled from a teacher trained at temperature T.

    The loss is weight times `kd_loss` of z / S and v / T at `kd_temperature`, plus 1 - weight times the
    loss with the labels. As the logits are divided by the temperatures of training, kd_temperature = 1
    compares the probabilities with which each network was trained. The teacher gets the same inputs as
    the student, in evaluation mode, and is not saved in checkpoints.
    """

    def __init__(
        self,
        teacher: nn.Module,
        with_labels: Criterion,
        *,
        kd_temperature: float,
        weight: float,
        student_temperature: float | Callable[[int], float] = 1.0,
        teacher_temperature: float = 1.0,
    ) -> None:
        """teacher: a network on the device of the training. with_labels: the loss with labels.

        student_temperature: a constant, or a function of the number of steps done.
        Raises ValueError for temperatures that are not positive and a weight outside [0, 1].
        """
        super().__init__()
        fixed = student_temperature
        self.student_temperature = fixed if callable(fixed) else lambda step: fixed
        for temperature in (kd_temperature, self.student_temperature(0), teacher_temperature):
            check_temperature(temperature)
        check_weight("weight", weight)
        self.teacher = (
            teacher.eval().requires_grad_(False),
        )  # a tuple keeps it out of the state dict
        self.with_labels, self.kd_temperature, self.weight = with_labels, kd_temperature, weight
        self.teacher_temperature = teacher_temperature

    def forward(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        step: int,
        inputs: Float[Tensor, "n ..."],
    ) -> Float[Tensor, ""]:
        """Weighted mean of both losses."""
        with torch.no_grad():
            taught = pick_logits(self.teacher[0](inputs))
        term = kd_loss(
            logits / self.student_temperature(step),
            taught / self.teacher_temperature,
            self.kd_temperature,
            validate=False,
        )
        own: Tensor = self.with_labels(logits, labels, step, inputs)
        return self.weight * term + (1 - self.weight) * own


def check_weight(name: str, weight: float) -> None:
    """Raise ValueError unless the weight lies in [0, 1]."""
    if not 0 <= weight <= 1:
        raise ValueError(f"{name} is {weight}; it must lie in [0, 1], for example 0.9")
