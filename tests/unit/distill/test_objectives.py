import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from octavo.distill.divergence import divergence
from octavo.distill.objectives import distilled_objective, labelled_objective
from octavo.distill.steps import Step
from octavo.tasks.classify import Classify, LabelledSplit
from octavo.types import Outputs, Row, Rows

TASK = Classify(tuple("abcde"))
logits = arrays(np.float32, (4, 5), elements=st.floats(-20, 20, width=32))
temperatures = st.sampled_from([0.5, 1.0, 2.0, 8.0])
NO_LABELS = ()


def step_of(*inputs: int) -> Step:
    """A step on these inputs, each alone in its group."""
    places = np.array(inputs)
    ones = np.ones_like(places)
    return Step(groups=places, inputs=places, sizes=ones, rows=places, reads=ones)


EVERY_ROW = step_of(0, 1, 2, 3)


def split_of(truth):
    return LabelledSplit(TASK, Rows("train", [Row("text", TASK.labels[i]) for i in truth], sha256=""))


def distillation(teacher, truth, temperature, label_weight):
    """The objective where the first inputs have the labels `truth`, and the others come from query logs."""
    split = split_of(truth) if len(truth) else None
    return distilled_objective(Outputs.one_each(teacher), split, TASK, temperature, label_weight)


def gradient(objective, student: np.ndarray, step: Step) -> torch.Tensor:
    x = torch.from_numpy(student).requires_grad_()
    objective(x, step).backward()
    return x.grad


@given(logits, temperatures)
def test_identical_logits_cost_nothing(teacher, temperature):
    objective = distillation(teacher, NO_LABELS, temperature, 0.1)
    assert objective(torch.from_numpy(teacher), EVERY_ROW).item() == pytest.approx(0, abs=1e-5)
    assert gradient(objective, teacher, EVERY_ROW).abs().max() < 1e-5


@given(logits, logits, temperatures)
def test_divergence_is_never_negative_and_ignores_a_shift(student, teacher, temperature):
    student, teacher = torch.from_numpy(student), torch.from_numpy(teacher)
    rows = divergence(student, teacher, temperature)
    assert rows.shape == (4,)
    assert (rows > -1e-5).all()
    torch.testing.assert_close(divergence(student + 3, teacher - 2, temperature), rows, atol=1e-4, rtol=1e-4)


@given(logits, logits, temperatures)
def test_a_step_down_the_gradient_nears_the_teacher(student, teacher, temperature):
    objective = distillation(teacher, NO_LABELS, temperature, 0.0)
    slope = gradient(objective, student, EVERY_ROW)
    before = objective(torch.from_numpy(student), EVERY_ROW)
    after = objective(torch.from_numpy(student) - 0.5 * slope, EVERY_ROW)
    assert after <= before + 1e-6


def test_the_gradient_points_to_the_teacher():
    teacher = np.array([[2.0, 0.0, 0.0]], np.float32)
    student = np.zeros((1, 3), np.float32)
    slope = gradient(distillation(teacher, NO_LABELS, 2.0, 0.5), student, step_of(0))
    assert slope[0, 0] < 0 < slope[0, 1]  # descending raises what the teacher prefers


def test_divergence_is_the_textbook_sum():
    student, teacher = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
    p, q = F.softmax(teacher / 2, -1), F.softmax(student / 2, -1)
    torch.testing.assert_close(divergence(student, teacher, 2.0), (p * (p / q).log()).sum(-1))


def test_the_factor_is_the_temperature_squared():
    student, teacher = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    for temperature in (1.0, 2.0, 5.0):
        plain = divergence(torch.from_numpy(student), torch.from_numpy(teacher), temperature).mean()
        loss = distillation(teacher, NO_LABELS, temperature, 0.0)(torch.from_numpy(student), EVERY_ROW)
        torch.testing.assert_close(loss, plain * temperature**2)
    # Its purpose: gradients keep their size as the temperature rises.
    soft, softer = (gradient(distillation(teacher, NO_LABELS, t, 0.0), student, EVERY_ROW) for t in (20, 40))
    torch.testing.assert_close(soft, softer, atol=2e-2, rtol=0.1)


@given(logits, logits, st.floats(0, 1))
def test_unlabelled_rows_ignore_the_label_weight(student, teacher, weight):
    student = torch.from_numpy(student)
    plain = distillation(teacher, NO_LABELS, 2.0, 0.0)(student, EVERY_ROW)
    assert torch.equal(distillation(teacher, NO_LABELS, 2.0, weight)(student, EVERY_ROW), plain)


def test_labels_are_mixed_in_row_by_row():
    student, teacher = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    truth = [3, 0]  # the first two inputs have labels
    x = torch.from_numpy(student)
    order = step_of(0, 2, 1, 3)
    soft = divergence(x, torch.from_numpy(teacher[order.rows]), 2.0) * 4
    hard = F.cross_entropy(x, torch.tensor([3, 0, 0, 0]), reduction="none")
    expected = torch.stack([0.7 * soft[0] + 0.3 * hard[0], soft[1], 0.7 * soft[2] + 0.3 * hard[2], soft[3]])
    torch.testing.assert_close(distillation(teacher, truth, 2.0, 0.3)(x, order), expected.mean())


def test_rows_choose_targets_and_labels():
    student, teacher = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    truth = np.array([3, 1, 0, 2])
    step = step_of(2, 0, 2)
    x = torch.from_numpy(student)[:3]
    chosen = distillation(teacher[step.rows], truth[step.inputs], 2.0, 0.3)(x, step_of(0, 1, 2))
    assert torch.equal(distillation(teacher, truth, 2.0, 0.3)(x, step), chosen)
    labelled = labelled_objective(split_of(truth), TASK)
    assert torch.equal(labelled(x, step), F.cross_entropy(x, torch.tensor([0, 3, 0])))


def test_targets_may_lie_on_disk(tmp_path):
    student, teacher = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    mapped = np.memmap(tmp_path / "targets", np.float32, "w+", shape=teacher.shape)
    mapped[:] = teacher
    x = torch.from_numpy(student)
    assert torch.equal(
        distillation(mapped, [1], 2.0, 0.3)(x, EVERY_ROW), distillation(teacher, [1], 2.0, 0.3)(x, EVERY_ROW)
    )
