"""What a tagger is trained to match: right tags and intents, or a teacher's.

A step's rows are those of `tasks/tagging.py`: of each sentence the first row gives the intent, the others the tags of
its words. Words of sentences that were cut have no row, and no part in the loss.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from octavo.distill.divergence import divergence
from octavo.distill.steps import Objective, Step
from octavo.tasks.tag import Tag, TagSplit
from octavo.tasks.tagging import word_rows
from octavo.types import Outputs

_UNLABELLED = -1


def labelled(split: TagSplit, task: Tag) -> Objective:
    """Return the loss against a split's labels: cross-entropy, mean over words, plus that of the intents."""

    def loss(outputs: Tensor, step: Step) -> Tensor:
        rows, tags = _tag_labels(split, step)
        total = _cross_entropy(outputs[rows, : len(task.tags)], tags)
        if task.intents:
            firsts, intents = _intent_labels(split, step)
            total = total + _cross_entropy(outputs[firsts, len(task.tags) :], intents)
        return total

    return loss


def distilled(
    teacher: Outputs, split: TagSplit | None, task: Tag, temperature: float, label_weight: float
) -> Objective:
    """Return the loss against the teacher's softened answers, with labels mixed in where there are any.

    The divergences of tags, mean over words, and of intents, mean over sentences, are added up; each is multiplied by
    the temperature squared (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

    Args:
        teacher: outputs to every training input.
        split: labels of the first inputs; those beyond are of query logs and have none. None for no labels.
        task: tells tags from intents.
        temperature: of both distributions.
        label_weight: share of the labels in the loss of a labelled word or sentence, 0 to 1.
    """
    targets = torch.from_numpy(teacher.values)
    width = len(task.tags)

    def mixed(answers: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        soft = divergence(answers, target, temperature) * temperature**2  # (rows,)
        hard = F.cross_entropy(answers, labels.clamp_min(0), reduction="none")  # (rows,)
        weight = label_weight * (labels != _UNLABELLED)
        return _mean((1 - weight) * soft + weight * hard)

    def loss(outputs: Tensor, step: Step) -> Tensor:
        wanted = targets[torch.from_numpy(step.rows)]  # (reads, width)
        rows, tags = _tag_labels(split, step)
        total = mixed(outputs[rows, :width], wanted[rows, :width], tags)
        if task.intents:
            firsts, intents = _intent_labels(split, step)
            total = total + mixed(outputs[firsts, width:], wanted[firsts, width:], intents)
        return total

    return loss


def _tag_labels(split: TagSplit | None, step: Step) -> tuple[Tensor, Tensor]:
    """Return the rows that belong to words, and their right tags or `_UNLABELLED`, both (words,)."""
    known = _known(split, step)
    starts = np.zeros(len(known), np.int64)
    if split is not None:
        starts[known] = split.offsets[step.inputs[known]]
    rows, words = word_rows(step.reads, starts)
    labels = np.full(len(rows), _UNLABELLED, np.int64)
    if split is not None:
        has_label = np.repeat(known, step.reads)[rows]
        labels[has_label] = split.truth.tags[words[has_label]]
    return torch.from_numpy(rows), torch.from_numpy(labels)


def _intent_labels(split: TagSplit | None, step: Step) -> tuple[Tensor, Tensor]:
    """Return each sentence's first row, and its right intent or `_UNLABELLED`, both (inputs,)."""
    known = _known(split, step)
    labels = np.full(len(known), _UNLABELLED, np.int64)
    if split is not None and split.truth.intents is not None:
        labels[known] = split.truth.intents[step.inputs[known]]
    return torch.from_numpy(np.cumsum(step.reads) - step.reads), torch.from_numpy(labels)


def _known(split: TagSplit | None, step: Step) -> npt.NDArray[np.bool_]:
    """Return which inputs are the split's, (inputs,)."""
    return step.inputs < (0 if split is None else len(split.inputs))


def _cross_entropy(answers: Tensor, labels: Tensor) -> Tensor:
    return _mean(F.cross_entropy(answers, labels, reduction="none"))


def _mean(losses: Tensor) -> Tensor:
    """Return the mean; 0, with a gradient of 0, where no word was read."""
    return losses.sum() / max(1, len(losses))
