"""Losses: what a student is asked to match. Each takes logits and the numbers of the rows they belong to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from octavo.types import FloatArray, IntArray

# (logits of the rows, (rows, labels); their numbers in the training set, (rows,)) → loss, ()
Objective = Callable[[Tensor, Tensor], Tensor]

UNLABELLED = -1


def cross_entropy(truth: IntArray) -> Objective:
    """Return the loss against labels: `truth` holds one label id per training row."""
    labels = torch.from_numpy(truth)
    return lambda logits, rows: F.cross_entropy(logits, labels[rows])


def distillation(teacher: FloatArray, truth: IntArray, temperature: float, label_weight: float) -> Objective:
    """Return the loss against the teacher's softened answers, with labels mixed in where there are any.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531: the divergence is multiplied by the temperature
    squared, so that its gradients keep their size.

    Args:
        teacher: logits of every training row, (rows, labels).
        truth: label id of every training row, or `UNLABELLED`, (rows,).
        temperature: of both distributions.
        label_weight: share of the labels in a labelled row's loss, 0 to 1.
    """
    targets = torch.from_numpy(teacher)
    labels = torch.from_numpy(truth)

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        soft = divergence(logits, targets[rows], temperature) * temperature**2  # (rows,)
        labelled = labels[rows] != UNLABELLED
        hard = F.cross_entropy(logits, labels[rows].clamp_min(0), reduction="none")  # (rows,)
        weight = label_weight * labelled
        return ((1 - weight) * soft + weight * hard).mean()

    return loss


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(teacher ‖ student) of each row at a temperature, (rows,)."""
    target = F.log_softmax(teacher / temperature, dim=-1)
    answer = F.log_softmax(student / temperature, dim=-1)
    return F.kl_div(answer, target, reduction="none", log_target=True).sum(-1)
