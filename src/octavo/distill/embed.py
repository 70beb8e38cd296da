"""Losses of embedders: queries near what answers them, and students near their teacher.

A step's batch is its own set of negatives, so these losses look at all of its groups at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from octavo.distill.divergence import divergence
from octavo.distill.steps import Objective, Step
from octavo.tasks.embed import COSINE, Embed
from octavo.tasks.embed_split import EmbedSplit
from octavo.types import IntArray, Outputs

_COSINE_SCALE = 20.0  # similarities of 1 and less would make softmax all but flat
_NEVER = -1e4


def labelled(split: EmbedSplit, task: Embed) -> Objective:
    """Return the multiple-negatives ranking loss: each query is to find its document among those of all groups.

    Henderson et al. 2017, https://arxiv.org/abs/1705.00652, on cosines times 20. Documents that are relevant to the
    query as well, or the same text as its own, are no negatives.
    """
    relevant = _relevant_pairs(split)

    def loss(vectors: Tensor, step: Step) -> Tensor:
        return _ranking_loss(vectors, step, np.ones(len(step.sizes), bool), relevant, len(split.inputs), task)

    return loss


def distilled(
    teacher: Outputs, split: EmbedSplit | None, task: Embed, temperature: float, label_weight: float
) -> Objective:
    """Return the loss against the teacher's vectors, and against how near it sees the batch's texts to each other.

    Args:
        teacher: its vectors of every training input.
        split: what labelled groups come from: those numbered below its own count; None for logs alone.
        task: says which similarity counts.
        temperature: of the distributions over the batch's other texts.
        label_weight: share of `labelled` in a labelled group's loss, 0 to 1.
    """
    targets = torch.from_numpy(teacher.values)
    groups = 0 if split is None else len(split.groups)
    inputs = 0 if split is None else len(split.inputs)
    relevant = np.empty(0, np.int64) if split is None else _relevant_pairs(split)

    def loss(vectors: Tensor, step: Step) -> Tensor:
        theirs = targets[torch.from_numpy(step.rows)]
        soft = _gap(vectors, theirs, task).mean() + _similarity_gap(vectors, theirs, task, temperature)
        ours = step.groups < groups
        if not label_weight or not ours.any():
            return soft
        share = label_weight * float(ours.mean())
        return (1 - share) * soft + share * _ranking_loss(vectors, step, ours, relevant, inputs, task)

    return loss


def _ranking_loss(
    vectors: Tensor, step: Step, chosen: np.ndarray, relevant: IntArray, inputs: int, task: Embed
) -> Tensor:
    """Return the mean cross-entropy of the chosen groups' queries over these groups' documents, ()."""
    starts = (np.cumsum(step.sizes) - step.sizes)[chosen]
    is_document = np.repeat(chosen, step.sizes)
    is_document[starts] = False
    at = np.flatnonzero(is_document)  # (documents,), positives and negatives
    own = np.searchsorted(at, starts + 1)  # (queries,), where each query's own document stands in `at`
    queries, documents = step.inputs[starts], step.inputs[at]
    excluded = np.isin(queries[:, None] * inputs + documents, relevant)  # (queries, documents)
    excluded |= documents == documents[own][:, None]
    excluded[np.arange(len(own)), own] = False
    scores = _similarities(vectors[torch.from_numpy(starts)], vectors[torch.from_numpy(at)], task)
    return F.cross_entropy(scores.masked_fill(torch.from_numpy(excluded), -torch.inf), torch.from_numpy(own))


def _gap(vectors: Tensor, theirs: Tensor, task: Embed) -> Tensor:
    """Return 1 - cosine of each vector to the teacher's; lengths count where documents are ranked by them, (rows,)."""
    if task.normalize or task.similarity == COSINE:
        return 1 - F.cosine_similarity(vectors, theirs, dim=-1)
    return (vectors - theirs).square().sum(-1) / (2 * theirs.square().sum(-1)).clamp_min(1e-12)


def _similarity_gap(vectors: Tensor, theirs: Tensor, task: Embed, temperature: float) -> Tensor:
    """Return KL(teacher ‖ student) of each text's distribution over the batch's other texts, by T², ()."""
    itself = torch.eye(len(vectors), dtype=torch.bool)
    student = _similarities(vectors, vectors, task).masked_fill(itself, _NEVER)  # (rows, rows)
    teacher = _similarities(theirs, theirs, task).masked_fill(itself, _NEVER)
    return divergence(student, teacher, temperature).mean() * temperature**2


def _similarities(queries: Tensor, documents: Tensor, task: Embed) -> Tensor:
    """Return what softmax is taken of, (queries, documents)."""
    if task.similarity == COSINE:
        queries, documents = F.normalize(queries, dim=-1), F.normalize(documents, dim=-1)
    scale = _COSINE_SCALE if task.normalize or task.similarity == COSINE else 1.0
    return scale * queries @ documents.T


def _relevant_pairs(split: EmbedSplit) -> IntArray:
    """Return query · inputs + document for each pair of inputs that is relevant, sorted, (pairs,)."""
    pairs = [
        query * len(split.inputs) + split.documents[list(graded)]
        for query, graded in zip(split.queries, split.relevance, strict=True)
    ]
    return np.unique(np.concatenate(pairs))
