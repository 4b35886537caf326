"""Knowledge distillation: a student learns a teacher's probabilities at a temperature.

With p = softmax(v / T) of the teacher's logits v and q = softmax(z / T) of the student's z, the term
T^2 KL(p || q) has the gradient T (q - p) in z (Hinton, Vinyals and Dean, 2015, arXiv 1503.02531).
Per sample, with w the larger of the two ranges (largest minus smallest logit) and delta = z - v centred:

- T -> infinity: T^2 KL lies within factors exp(-w / T) and exp(w / T) of ||delta||^2 / (2c), and no entry
  of T (q - p) is farther than (exp(2w / T) - 1) max|delta| / c from delta / c;
- T -> 0: with g the gap between the teacher's two largest logits and a the largest, no entry of
  T (q - p) is farther than T (c - 1) exp(-g / T) from T (q - e_a), the gradient of T^2 times the
  cross-entropy of softmax(z / T) with the teacher's prediction a.
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

    student, teacher: logits z and v; divide those of a network that was trained at a temperature by it.
    labels: class indices or probabilities. With them the loss is `weight` times that term plus 1 - weight
    times the cross-entropy of softmax(z); without them `weight` has no effect.
    The term is computed in float64, with an absolute error of about 1e-16 T^2. It is differentiable in
    both logits; detach the teacher's unless it is to learn too. validate: check the tensors, which
    synchronises with the device.
    Raises ValueError for T <= 0, a weight outside [0, 1], logits of different shapes or with NaN or
    infinite entries, and labels as `cross_entropy`.
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
    """Distillation loss of a student trained at temperature S, from a teacher trained at T.

    weight times `kd_loss` of z / S and v / T at `kd_temperature`, plus 1 - weight times the loss with the
    labels: temperatures of training belong to the networks, so kd_temperature = 1 means the probabilities
    that each was trained with. The teacher sees the student's inputs, in eval mode. Checkpoints do not
    hold it.
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
        """teacher: a network on the device of the training; with_labels: the loss with labels.

        student_temperature: that of every step, or a function of the number of steps done.
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
        )  # in a tuple, so that it is no part of the state
        self.with_labels, self.kd_temperature, self.weight = with_labels, kd_temperature, weight
        self.teacher_temperature = teacher_temperature

    def forward(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        step: int,
        inputs: Float[Tensor, "n ..."],
    ) -> Float[Tensor, ""]:
        """The weighted mean of both losses."""
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
        raise ValueError(f"{name} is {weight}; it must lie in [0, 1], 0.9 for example")
