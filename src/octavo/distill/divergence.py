"""How far a student's softened answers are from its teacher's: the loss that every task's distillation builds on."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(teacher ‖ student) of each row at a temperature, (rows,)."""
    target = F.log_softmax(teacher / temperature, dim=-1)
    answer = F.log_softmax(student / temperature, dim=-1)
    return F.kl_div(answer, target, reduction="none", log_target=True).sum(-1)
