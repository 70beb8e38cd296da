from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from octavo.data.candidates import Candidates
from octavo.distill.rank import distilled, labelled
from octavo.distill.steps import Step
from octavo.tasks.base import Purpose
from octavo.tasks.rank import Rank
from octavo.tasks.rank_split import split_from_candidates
from octavo.types import Outputs

TASK = Rank()
scores_of_5 = arrays(np.float32, (5, 1), elements=st.floats(-20, 20, width=32))


def _split(*lists):
    return split_from_candidates(
        Candidates(
            name="train",
            queries=[f"q{i}" for i in range(len(lists))],
            documents=[tuple(f"d{i}{j}" for j in range(len(grades))) for i, grades in enumerate(lists)],
            relevance=[np.array(grades, np.float32) for grades in lists],
            sources=[""] * len(lists),
            sha256="",
        ),
        Purpose.TRAIN,
        "sigmoid",
    )


def _step(sizes, inputs=None, groups=None):
    sizes = np.array(sizes)
    inputs = np.arange(sizes.sum()) if inputs is None else np.array(inputs)
    groups = np.arange(len(sizes)) if groups is None else np.array(groups)
    return Step(groups, inputs, sizes, inputs, np.ones_like(inputs))


def _column(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def _distilled(teacher, split=None, temperature=1.0, weight=0.0):
    return distilled(Outputs.one_each(teacher.numpy()), split, TASK, temperature, weight)


def test_grades_are_learned_as_probabilities():
    split = _split([0, 1, 2], [2, 0])
    scores = _column(0.5, -1, 2, 1, -3)
    each = F.binary_cross_entropy_with_logits(scores[:, 0], torch.tensor([0, 0.5, 1, 1, 0]), reduction="none")
    expected = (each[:3].mean() + each[3:].mean()) / 2  # every list weighs the same
    torch.testing.assert_close(labelled(split, TASK)(scores, _step([3, 2])), expected)


def test_inputs_choose_the_grades():
    split = _split([0, 1], [1, 0])
    loss = labelled(split, TASK)
    torch.testing.assert_close(
        loss(_column(1, 2), _step([2], inputs=[2, 3], groups=[1])),
        loss(_column(2, 1), _step([2], inputs=[0, 1], groups=[0])),
    )
    assert torch.isfinite(labelled(_split([0], [0]), TASK)(_column(1, 2), _step([1, 1])))


@given(scores_of_5, st.sampled_from([0.5, 1.0, 4.0]))
def test_the_teachers_own_scores_cost_nothing(teacher, temperature):
    x = torch.from_numpy(teacher).requires_grad_()
    loss = _distilled(torch.from_numpy(teacher), None, temperature)(x, _step([3, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert x.grad.abs().max() < 1e-4


def test_margins_are_compared_pair_by_pair_with_one_document_at_0():
    teacher, scores = _column(3, 1, -2, 0.5), _column(2, 2, 0, 1)
    loss = _distilled(teacher, None, 1.0)(scores, _step([3, 1]))
    variance = teacher.var(unbiased=False)

    def margins(ours, theirs):
        pairs = list(combinations(range(len(ours) + 1), 2))
        ours, theirs = F.pad(ours, (0, 1)), F.pad(theirs, (0, 1))
        return sum(((ours[i] - ours[j]) - (theirs[i] - theirs[j])) ** 2 for i, j in pairs) / len(pairs) / variance

    first = margins(scores[:3, 0], teacher[:3, 0])
    second = margins(scores[3:, 0], teacher[3:, 0])
    p, q = F.softmax(teacher[:3, 0], -1), F.softmax(scores[:3, 0], -1)
    listwise = (p * (p / q).log()).sum()
    torch.testing.assert_close(loss, (first + listwise + second) / 2)


def test_the_level_of_the_scores_is_kept():
    teacher = _column(3, 1, -2)
    assert _distilled(teacher)(teacher + 5, _step([3])) > 1


@given(scores_of_5, scores_of_5)
def test_lists_do_not_look_at_each_other(teacher, scores):
    teacher, scores = torch.from_numpy(teacher), torch.from_numpy(scores)
    loss = _distilled(teacher, None, 2.0)
    both = loss(scores, _step([2, 3]))
    first = loss(scores[:2], _step([2], inputs=[0, 1]))
    second = loss(scores[2:], _step([3], inputs=[2, 3, 4]))
    torch.testing.assert_close(both, (first + second) / 2, atol=1e-3, rtol=1e-3)


def test_descending_nears_the_teacher():
    teacher = _column(3, 1, -2, 0.5)
    x = torch.zeros(4, 1, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        _distilled(teacher, None, 2.0)(x, _step([3, 1])).backward()
        optimizer.step()
    torch.testing.assert_close(x.detach(), teacher, atol=0.02, rtol=0)


def test_a_teacher_that_says_the_same_of_all_can_be_learned_from():
    teacher = _column(1, 1)
    assert torch.isfinite(_distilled(teacher)(_column(1, 2), _step([2])))


def test_labels_are_mixed_into_labelled_groups_only():
    split = _split([0, 1])
    teacher, scores = _column(3, 1, -2, 0.5), _column(2, 2, 0, 1)
    step = _step([2, 2])  # the second one is of a query log
    soft = [
        _distilled(teacher, None, 2.0)(scores[at], _step([2], inputs=inputs))
        for at, inputs in ((slice(0, 2), [0, 1]), (slice(2, 4), [2, 3]))
    ]
    hard = labelled(split, TASK)(scores[:2], _step([2]))
    mixed = _distilled(teacher, split, 2.0, 0.3)(scores, step)
    torch.testing.assert_close(mixed, (0.7 * soft[0] + 0.3 * hard + soft[1]) / 2)
    assert torch.equal(
        _distilled(teacher, split, 2.0, 0.0)(scores, step), _distilled(teacher, None, 2.0, 0.9)(scores, step)
    )


def test_rows_choose_the_targets():
    teacher = _column(3, 1, -2, 0.5)
    step = Step(np.array([0]), np.array([0, 1]), np.array([2]), np.array([3, 0]), np.ones(2, np.int64))
    assert _distilled(teacher)(teacher[[3, 0]], step).item() == pytest.approx(0, abs=1e-6)
    assert _distilled(teacher)(teacher[[0, 3]], step) > 0.1
