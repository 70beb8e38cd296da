import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from octavo.distill.divergence import divergence
from octavo.distill.steps import Step
from octavo.distill.tag import distilled, labelled
from octavo.tasks.base import Purpose
from octavo.tasks.tag import Tag
from octavo.types import Outputs

TASK = Tag(("O", "B-x", "I-x"), ("ask", "tell"))
PLAIN = Tag(TASK.tags)
ROWS = [("a b c", "O B-x I-x", "tell"), ("d", "B-x", "ask"), ("e f", "O O", "tell")]
READS = [4, 2, 2, 3]  # the third sentence was cut; the fourth is of a query log


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    rows = [{"tokens": w.split(), "tags": t.split(), "intent": i} for w, t, i in ROWS]
    path.write_text("\n".join(map(json.dumps, rows)))
    return TASK.read(path, Purpose.TRAIN)


def _outputs(seed=0, width=5):
    offsets = np.concatenate([[0], np.cumsum(READS)])
    return Outputs(np.random.default_rng(seed).normal(size=(offsets[-1], width)).astype(np.float32), offsets)


def _step(inputs, reads=READS):
    inputs = np.array(inputs, np.int64)
    offsets = np.concatenate([[0], np.cumsum(reads)])
    rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in inputs])
    return Step(inputs, inputs, np.ones(len(inputs), np.int64), rows, np.array(reads)[inputs])


def _tensor(outputs, step):
    return torch.from_numpy(outputs.values)[torch.from_numpy(step.rows)]


def test_labels_are_those_of_the_words_that_were_read(split):
    step = _step([2, 0, 1])
    outputs = _tensor(_outputs(), step)
    # Rows: sentence 2 has 0-1, sentence 0 has 2-5, sentence 1 has 6-7; the first of each is the intent's.
    tags = F.cross_entropy(outputs[[1, 3, 4, 5, 7], :3], torch.tensor([0, 0, 1, 2, 1]))
    intents = F.cross_entropy(outputs[[0, 2, 6], 3:], torch.tensor([1, 1, 0]))
    torch.testing.assert_close(labelled(split, TASK)(outputs, step), tags + intents)


def test_without_intents_the_first_row_is_not_trained(tmp_path, split):
    step = _step([0, 1])
    outputs = _tensor(_outputs(width=3), step).requires_grad_()
    path = tmp_path / "plain.jsonl"
    path.write_text("\n".join(json.dumps({"tokens": w.split(), "tags": t.split()}) for w, t, _ in ROWS))
    labelled(PLAIN.read(path, Purpose.TRAIN), PLAIN)(outputs, step).backward()
    moved = outputs.grad.abs().sum(dim=1) > 0
    assert moved.tolist() == [False, True, True, True, False, True]


def test_a_step_in_which_no_word_was_read_costs_nothing_but_intents(split):
    step = _step([0, 1, 2], reads=[1, 1, 1])
    outputs = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = Outputs(outputs.detach().numpy().copy(), np.arange(4))
    loss = labelled(split, TASK)(outputs, step)
    torch.testing.assert_close(loss, F.cross_entropy(outputs[:, 3:], torch.tensor([1, 0, 1])))
    loss.backward()
    assert torch.isfinite(outputs.grad).all()
    assert distilled(teacher, split, TASK, 2.0, 0.0)(outputs, step).item() == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 99), st.sampled_from([0.5, 1.0, 2.0, 8.0]), st.booleans())
def test_the_teachers_own_outputs_cost_nothing(split, seed, temperature, with_labels):
    teacher, step = _outputs(seed), _step([3, 1, 0])
    outputs = _tensor(teacher, step).requires_grad_()
    loss = distilled(teacher, split if with_labels else None, TASK, temperature, 0.0)(outputs, step)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert outputs.grad.abs().max() < 1e-5


def test_the_divergence_is_of_tags_and_of_intents(split):
    teacher, step = _outputs(0), _step([3, 0])
    outputs = _tensor(_outputs(1), step)
    target = _tensor(teacher, step)
    tags = divergence(outputs[[1, 2, 4, 5, 6], :3], target[[1, 2, 4, 5, 6], :3], 2.0).mean()
    intents = divergence(outputs[[0, 3], 3:], target[[0, 3], 3:], 2.0).mean()
    for labels in (split, None):
        torch.testing.assert_close(distilled(teacher, labels, TASK, 2.0, 0.0)(outputs, step), (tags + intents) * 4)


def test_labels_are_mixed_in_where_there_are_any(split):
    teacher, step = _outputs(0), _step([3, 1])
    outputs, target = _tensor(_outputs(1), step), _tensor(teacher, step)
    soft = divergence(outputs[[1, 2, 4], :3], target[[1, 2, 4], :3], 2.0) * 4
    hard = F.cross_entropy(outputs[[4], :3], torch.tensor([1]))
    tags = (soft[0] + soft[1] + 0.7 * soft[2] + 0.3 * hard) / 3
    soft = divergence(outputs[[0, 3], 3:], target[[0, 3], 3:], 2.0) * 4
    hard = F.cross_entropy(outputs[[3], 3:], torch.tensor([0]))
    intents = (soft[0] + 0.7 * soft[1] + 0.3 * hard) / 2
    torch.testing.assert_close(distilled(teacher, split, TASK, 2.0, 0.3)(outputs, step), tags + intents)


def test_without_labels_their_weight_is_ignored():
    teacher, step = _outputs(0), _step([0, 1, 2, 3])
    outputs = _tensor(_outputs(1), step)
    plain = distilled(teacher, None, TASK, 2.0, 0.0)(outputs, step)
    assert torch.equal(distilled(teacher, None, TASK, 2.0, 0.9)(outputs, step), plain)


def _train(objective, steps=300):
    """Train a linear model on features of which every output row has its own; return its outputs to all inputs."""
    torch.manual_seed(0)
    features = torch.randn(sum(READS), 16)
    model = torch.nn.Linear(16, 5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    step = _step([0, 1, 2, 3])
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model(features[torch.from_numpy(step.rows)]), step).backward()
        optimizer.step()
    return Outputs(model(features).detach().numpy(), _outputs().offsets)


def test_a_student_learns_the_teachers_answers(split):
    teacher = _outputs(3)
    student = _train(distilled(teacher, split, TASK, 2.0, 0.0)).select([0, 1, 2])
    before = _outputs(4).select([0, 1, 2])
    wanted = teacher.select([0, 1, 2])
    assert split.distance(student, wanted) < 0.01 < split.distance(before, wanted)
    assert split.answers(student, wanted).agreement.tolist() == [1, 1, 1]


def test_a_student_learns_the_labels(split):
    teacher = _outputs(3)
    student = _train(distilled(teacher, split, TASK, 2.0, 1.0)).select([0, 1, 2])
    f1, intent = split.answers(student, student).measures
    assert (f1.value, intent.value) == (1.0, 1.0)
    assert split.answers(student, teacher.select([0, 1, 2])).agreement.tolist() != [1, 1, 1]
