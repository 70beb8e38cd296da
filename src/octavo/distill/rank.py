"""Losses of rankers: scores near the grades of documents, and near the teacher's scores.

A group is a list of candidates for one query, or a piece of one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from octavo.distill.divergence import divergence
from octavo.distill.steps import Objective, Step
from octavo.tasks.rank import Rank
from octavo.tasks.rank_split import RankSplit, spread
from octavo.types import IntArray, Outputs

_NEVER = -1e4


def labelled(split: RankSplit, task: Rank) -> Objective:
    """Return binary cross-entropy of the scores to the grades, which the split's highest one scales to 0 to 1."""
    grades = _scaled_grades(split)

    def loss(scores: Tensor, step: Step) -> Tensor:
        return _by_group(_grade_loss(scores[:, 0], grades[torch.from_numpy(step.inputs)]), step.sizes).mean()

    return loss


def distilled(
    teacher: Outputs, split: RankSplit | None, task: Rank, temperature: float, label_weight: float
) -> Objective:
    """Return the loss against the teacher's margins and its distribution over each list.

    Margin-MSE (Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666) over all pairs of a list, in variances of the
    teacher's scores. Margins alone leave a list's level open, which a sigmoid shows to users, so each list has one
    more document that both models score 0. The distribution, with the divergence times T², weighs the top of a list.

    Args:
        teacher: its scores of every training input.
        split: what labelled groups come from: those numbered below its own count; None for logs alone.
        task: not needed; every task's objective is asked for alike.
        temperature: of both distributions.
        label_weight: share of the grades in a labelled group's loss, 0 to 1.
    """
    targets = torch.from_numpy(teacher.values[:, 0])
    variance = spread(teacher.values)
    groups = 0 if split is None else len(split.groups)
    grades = torch.zeros(0) if split is None else _scaled_grades(split)

    def loss(scores: Tensor, step: Step) -> Tensor:
        ours, theirs = scores[:, 0], targets[torch.from_numpy(step.rows)]  # (documents,)
        margins = _margin_loss(ours - theirs, step.sizes) / variance  # (groups,)
        apart = divergence(_lists(ours, step.sizes), _lists(theirs, step.sizes), temperature) * temperature**2
        weight = label_weight * torch.from_numpy(step.groups < groups).float()  # (groups,)
        if not weight.any():
            return (margins + apart).mean()
        # Inputs of logs have no grades; whatever stands for those is weighed by 0.
        known = grades[torch.from_numpy(step.inputs).clamp_max(len(grades) - 1)]
        hard = _by_group(_grade_loss(ours, known), step.sizes)
        return ((1 - weight) * (margins + apart) + weight * hard).mean()

    return loss


def _grade_loss(scores: Tensor, grades: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, grades, reduction="none")


def _margin_loss(apart: Tensor, sizes: IntArray) -> Tensor:
    """Return the mean over a list's pairs of (dᵢ - dⱼ)², where d is 0 for one more document, (groups,).

    Over m documents the sum over pairs is m · Σd² - (Σd)².
    """
    count = torch.from_numpy(sizes).float() + 1
    total, squares = _sums(apart, sizes), _sums(apart.square(), sizes)
    return (count * squares - total.square()) / (count * (count - 1) / 2)


def _by_group(values: Tensor, sizes: IntArray) -> Tensor:
    """Return the mean of each group, (groups,)."""
    return _sums(values, sizes) / torch.from_numpy(sizes)


def _sums(values: Tensor, sizes: IntArray) -> Tensor:
    groups = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    return values.new_zeros(len(sizes)).index_add(0, groups, values)


def _lists(scores: Tensor, sizes: IntArray) -> Tensor:
    """Lay scores out list by list, (groups, longest); what is left over is so low that softmax gives it nothing."""
    taken = torch.from_numpy(np.arange(sizes.max()) < sizes[:, None])
    return scores.new_full(taken.shape, _NEVER).masked_scatter(taken, scores)


def _scaled_grades(split: RankSplit) -> Tensor:
    return torch.from_numpy(split.relevance / (float(split.relevance.max()) or 1.0))
