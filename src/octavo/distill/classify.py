"""Objectives of task `classify`: cross-entropy, and the divergence from the teacher's softened answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from octavo.distill.divergence import divergence
from octavo.distill.steps import Objective, Step
from octavo.tasks.classify import Classify, LabelledSplit
from octavo.types import Outputs


def labelled(split: LabelledSplit, task: Classify) -> Objective:
    """Return the cross-entropy against the labels of `split`."""
    truth = torch.from_numpy(split.truth)
    return lambda logits, step: F.cross_entropy(logits, truth[step.inputs])


def distilled(
    teacher: Outputs, split: LabelledSplit | None, task: Classify, temperature: float, label_weight: float
) -> Objective:
    """Return the loss against the teacher's softened answers, with labels mixed in where there are any.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531: the divergence is multiplied by the temperature
    squared, so that its gradients keep their size.

    Args:
        teacher: its outputs to every training input.
        split: the labelled rows, which are the first inputs; None where there are query logs only.
        task: unused; the labels are in the split.
        temperature: of both distributions.
        label_weight: share of the label in a labelled row's loss, 0 to 1.
    """
    truth = torch.from_numpy(split.truth) if split else torch.zeros(0, dtype=torch.int64)

    def loss(logits: Tensor, step: Step) -> Tensor:
        target = torch.from_numpy(teacher.values[step.rows])
        soft = divergence(logits, target, temperature) * temperature**2  # (rows,)
        inputs = torch.from_numpy(step.inputs)
        labelled = inputs < len(truth)
        if not label_weight or not bool(labelled.any()):
            return soft.mean()
        hard = torch.zeros_like(soft)
        hard[labelled] = F.cross_entropy(logits[labelled], truth[inputs[labelled]], reduction="none")
        weight = label_weight * labelled
        return ((1 - weight) * soft + weight * hard).mean()

    return loss
