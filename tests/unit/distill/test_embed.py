from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from octavo.data.retrieval import Retrieval
from octavo.distill.embed import distilled, labelled
from octavo.distill.steps import Step
from octavo.tasks.base import Purpose, Reads
from octavo.tasks.embed import Embed
from octavo.tasks.embed_split import EmbedSplit
from octavo.types import Outputs

TASK = Embed(dimensions=8)
DOT = Embed(Reads.FIRST, normalize=False, similarity="dot", dimensions=8)


def _split(relevance=({0: 1.0}, {1: 1.0}, {2: 1.0}), negatives=((), (), ())):
    data = Retrieval(
        name="train",
        query_ids=list("abc"),
        queries=["qa", "qb", "qc"],
        document_ids=list("0123"),
        documents=["d0", "d1", "d2", "d3"],
        relevance=relevance,
        negatives=negatives,
        sources=["f:1"] * 3,
        sha256="",
    )
    return EmbedSplit.from_retrieval(data, Purpose.TRAIN, ("", ""), "cosine")


def _step(inputs, sizes, groups=None):
    inputs, sizes = np.array(inputs), np.array(sizes)
    groups = np.arange(len(sizes)) if groups is None else np.array(groups)
    return Step(groups, inputs, sizes, inputs, np.ones_like(inputs))


def _of(split, groups):
    """Return the step of some of a split's groups."""
    pieces = [split.groups.inputs[split.groups.offsets[g] : split.groups.offsets[g + 1]] for g in groups]
    return _step(np.concatenate(pieces), [len(piece) for piece in pieces], groups)


def _vectors(count, seed=0, width=8):
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x, dim=-1)


def test_each_query_is_to_find_its_document_among_all():
    split = _split(negatives=((3,), (), ()))
    step = _of(split, [0, 1, 2])  # qa d0 d3 | qb d1 | qc d2
    x = _vectors(7)
    scores = 20 * x[[0, 3, 5]] @ x[[1, 2, 4, 6]].T
    expected = F.cross_entropy(scores, torch.tensor([0, 2, 3]))
    torch.testing.assert_close(labelled(split, TASK)(x, step), expected)


def test_the_direction_counts_and_not_the_length():
    split = _split()
    step, x = _of(split, [0, 1, 2]), _vectors(6)
    loss = labelled(split, TASK)
    torch.testing.assert_close(loss(3 * x, step), loss(x, step))
    plain = labelled(split, DOT)
    assert plain(3 * x, step) != plain(x, step)


def test_what_is_relevant_too_is_no_negative():
    split = _split(relevance=({0: 1.0, 1: 1.0}, {1: 1.0}, {2: 1.0}))
    step = _of(split, [0, 1, 2, 3])  # qa d0 | qa d1 | qb d1 | qc d2
    x = _vectors(8)
    x[5] = x[3]  # d1 again
    scores = 20 * x[[0, 2, 4, 6]] @ x[[1, 3, 5, 7]].T
    excluded = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    expected = F.cross_entropy(scores.masked_fill(excluded, -torch.inf), torch.arange(4))
    torch.testing.assert_close(labelled(split, TASK)(x, step), expected)


def test_one_group_alone_costs_nothing_and_gives_finite_gradients():
    split = _split()
    x = _vectors(2).requires_grad_()
    loss = labelled(split, TASK)(x, _of(split, [1]))
    loss.backward()
    assert loss == 0
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("task", [TASK, DOT])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_teachers_own_vectors_cost_nothing(task, temperature):
    teacher = _vectors(10)
    loss = distilled(Outputs.one_each(teacher.numpy()), None, task, temperature, 0.5)
    step = _step([3, 1, 4, 9], [2, 1, 1])
    x = teacher[[3, 1, 4, 9]].clone().requires_grad_()
    value = loss(x, step)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert x.grad.abs().max() < 1e-4


@pytest.mark.parametrize("task", [TASK, DOT])
def test_descending_nears_the_teacher(task):
    teacher = _vectors(6, width=64)
    loss = distilled(Outputs.one_each(teacher.numpy()), None, task, 2.0, 0.0)
    step = _step(range(6), [1] * 6)
    x = (teacher + _vectors(6, seed=1, width=64)).requires_grad_()  # as a quantized student starts: somewhere near
    assert F.cosine_similarity(x, teacher).min() < 0.8
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss(x, step).backward()
        optimizer.step()
    assert F.cosine_similarity(x, teacher).min() > 0.99
    if task is DOT:
        torch.testing.assert_close(x.detach(), teacher, atol=0.05, rtol=0)


def test_both_parts_are_those_of_the_textbook():
    teacher, x = _vectors(3), _vectors(3, seed=1)
    value = distilled(Outputs.one_each(teacher.numpy()), None, TASK, 2.0, 0.0)(x, _step(range(3), [3]))
    expected = (1 - (x * teacher).sum(-1)).mean()
    for i, others in enumerate(([1, 2], [0, 2], [0, 1])):
        p = F.softmax(20 * teacher[i] @ teacher[others].T / 2, -1)
        q = F.softmax(20 * x[i] @ x[others].T / 2, -1)
        expected += (p * (p / q).log()).sum() * 4 / 3
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)


def test_one_input_alone_has_no_others_to_be_near():
    teacher, x = _vectors(1), _vectors(1, seed=1)
    value = distilled(Outputs.one_each(teacher.numpy()), None, TASK, 2.0, 0.0)(x, _step([0], [1]))
    torch.testing.assert_close(value, 1 - (x * teacher).sum())


def test_rows_choose_the_targets():
    teacher = _vectors(5)
    loss = distilled(Outputs.one_each(teacher.numpy()), None, TASK, 1.0, 0.0)
    step = replace(_step([0, 1], [2]), rows=np.array([4, 2]))
    assert loss(teacher[[4, 2]], step).item() == pytest.approx(0, abs=1e-5)
    assert loss(teacher[[2, 4]], step) > 0.1


def test_labels_are_mixed_into_labelled_groups_only():
    split = _split()
    teacher, x = _vectors(8), _vectors(6, seed=1)
    outputs = Outputs.one_each(teacher.numpy())
    # Two of the split's groups, and one of a query log: its input is none of the split's.
    step = _step([0, 3, 1, 4, 6, 7], [2, 2, 2], [0, 1, 3])
    soft = distilled(outputs, None, TASK, 2.0, 0.0)(x, step)
    hard = labelled(split, TASK)(x[:4], _of(split, [0, 1]))
    mixed = distilled(outputs, split, TASK, 2.0, 0.3)(x, step)
    share = 0.3 * 2 / 3
    torch.testing.assert_close(mixed, (1 - share) * soft + share * hard)
    assert torch.equal(distilled(outputs, split, TASK, 2.0, 0.0)(x, step), soft)
    logs = _step([6, 7], [1, 1], [3, 4])
    torch.testing.assert_close(
        distilled(outputs, split, TASK, 2.0, 0.9)(x[:2], logs), distilled(outputs, None, TASK, 2.0, 0.0)(x[:2], logs)
    )
