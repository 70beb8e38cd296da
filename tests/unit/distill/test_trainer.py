from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from octavo.distill.trainer import Plan, TrainingData, train
from octavo.encoder.running import run_all
from octavo.engines.torch import TorchEngine
from octavo.progress import Silent
from octavo.tasks.base import Groups
from octavo.text.layout import NO_OFFSET

ROWS, BATCH = 22, 4
STEPS = 6  # an epoch: the last batch has two rows
EPOCHS = 3
PLAN = Plan(epochs=EPOCHS, learning_rate=3e-3, batch_size=BATCH, seed=7, scale_learning_rate=1e-2, patience=9)
LABELS = torch.arange(ROWS) % 5


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch([3 + i % 7 for i in range(ROWS)], seed=1)


@pytest.fixture(scope="module", params=["float", "quantized"])
def make_small(request, make_classifier, make_quantized):
    """Builds the same small model with dropout each time."""
    make = make_classifier if request.param == "float" else make_quantized
    return lambda: make(layers=1, hidden_size=16, heads=2, intermediate_size=16, dropout=0.2)


def objective(logits, step):
    return F.cross_entropy(logits, LABELS[step.inputs])


def interrupted_at(step):
    """An objective that the user interrupts when it is called for the `step`-th time, counted from 0."""
    calls = iter(range(10**6))

    def loss(logits, told):
        if next(calls) == step:
            raise KeyboardInterrupt
        return objective(logits, told)

    return loss


def dev_loss(batch):
    """Minus the loss on all rows: differs at every step, so that no two epochs tie."""

    def score(model):
        assert not model.training
        logits = torch.from_numpy(TorchEngine(model, NO_OFFSET, "test").run(batch))
        return -F.cross_entropy(logits, LABELS).item()

    return score


def scores(*values):
    """A dev score that reads its answers off a list; an exception in the list is raised."""
    left = iter(values)

    def score(_model):
        value = next(left)
        if isinstance(value, BaseException):
            raise value
        return value

    return score


def run(model, batch, loss=objective, score=None, plan=PLAN, **options):
    options = {"label": "test", "progress": Silent()} | options
    data = TrainingData(batch, Groups.singles(len(batch)), NO_OFFSET)
    return train(model, data, loss, score or dev_loss(batch), plan, **options)


def assert_same_weights(one, other):
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.fixture(scope="module")
def uninterrupted(make_small, batch):
    model = make_small()
    return model, run(model, batch)


class TestTraining:
    def test_learns_and_says_how_it_went(self, uninterrupted):
        model, trained = uninterrupted
        assert len(trained.dev_scores) == EPOCHS + 1
        assert trained.dev_scores[trained.best_epoch] == max(trained.dev_scores)
        assert trained.best_epoch > 0
        assert not model.training

    def test_the_same_seed_gives_the_same_bits(self, make_small, batch, uninterrupted):
        model = make_small()
        torch.manual_seed(12345)  # whatever was drawn before does not matter
        assert run(model, batch) == uninterrupted[1]
        assert_same_weights(model, uninterrupted[0])

    def test_another_seed_gives_others(self, make_small, batch, uninterrupted):
        model = make_small()
        plan = Plan(**{name: getattr(PLAN, name) for name in PLAN.__slots__} | {"seed": 8})
        run(model, batch, plan=plan)
        assert not torch.equal(model.head.output.weight, uninterrupted[0].head.output.weight)

    def test_a_model_in_training_mode_is_judged_without_dropout(self, make_small, batch):
        expected = dev_loss(batch)(make_small())
        assert run(make_small().train(), batch).dev_scores[0] == expected

    def test_every_epoch_sees_every_row_once_in_an_order_of_its_own(self, make_small, batch):
        seen = []

        def watch(logits, step):
            assert len(logits) == len(step.inputs)
            seen.extend(step.inputs.tolist())
            return objective(logits, step)

        run(make_small(), batch, watch)
        epochs = [seen[start : start + ROWS] for start in range(0, len(seen), ROWS)]
        assert [sorted(epoch) for epoch in epochs] == [list(range(ROWS))] * EPOCHS
        assert len({tuple(epoch) for epoch in epochs}) == EPOCHS

    def test_no_epochs(self, make_small, batch):
        model = make_small()
        before = weights(model)
        plan = Plan(epochs=0, learning_rate=1.0, batch_size=4, seed=0)
        trained = run(model, batch, plan=plan, score=scores(0.5))
        assert (trained.dev_scores, trained.best_epoch) == ([0.5], 0)
        assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))

    def test_reports_every_step(self, make_small, batch):
        class Watched(Silent):
            def __init__(self):
                self.opened, self.done, self.notes = [], 0, []

            @contextmanager
            def step(self, label, total=None):
                self.opened.append((label, total))
                yield self

            def advance(self, steps=1, note=""):
                self.done += steps
                self.notes.append(note)

        watched = Watched()
        run(make_small(), batch, progress=watched)
        assert watched.opened == [("test", STEPS * EPOCHS)]
        assert watched.done == STEPS * EPOCHS
        assert "loss" in watched.notes[1]
        assert "dev" in watched.notes[-1]


class TestGroups:
    GROUPS = Groups(inputs=np.array([3, 1, 0, 2, 3, 3]), offsets=np.array([0, 2, 3, 3, 6]))

    @pytest.mark.parametrize("head", ["classify", "pairs", "words", "last"])
    def test_a_step_has_whole_groups_and_says_where_their_targets_stand(self, make_batch, head):
        batch = make_batch([5, 1, 7, 3], head=head)
        tokens, step = TrainingData(batch, self.GROUPS, NO_OFFSET).step(np.array([3, 0, 2]))
        inputs = [2, 3, 3, 3, 1]
        assert step.groups.tolist() == [3, 0, 2]
        assert step.inputs.tolist() == inputs
        assert step.sizes.tolist() == [3, 2, 0]
        expected = batch.select(inputs)
        assert np.array_equal(tokens.ids, expected.ids)
        assert np.array_equal(tokens.read_places, expected.read_places)
        assert step.reads.tolist() == np.diff(expected.read_offsets).tolist()
        # Row `r` of the step reads the very token that row `rows[r]` of the whole batch reads.
        assert len(step.rows) == len(tokens.read_places)
        assert np.array_equal(batch.ids[batch.read_places[step.rows]], tokens.ids[tokens.read_places])

    @pytest.mark.parametrize("head", ["classify", "pairs", "words", "mean", "last", "first"])
    def test_the_objective_gets_the_rows_that_it_is_told_of(self, make_model, make_batch, head):
        model = make_model(head=head, layers=1, dropout=0.0)
        batch = make_batch([5, 1, 7, 3], head=head)
        positions = model.config.positions
        before = torch.from_numpy(run_all(model, batch, positions).values)
        seen = []

        def watch(output, step):
            seen.extend(step.groups.tolist())
            torch.testing.assert_close(output.detach(), before[step.rows], atol=1e-5, rtol=0)
            return output.sum() * 0  # moves nothing

        plan = Plan(epochs=2, learning_rate=1e-3, batch_size=2, seed=0, weight_decay=0.0)
        data = TrainingData(batch, self.GROUPS, positions)
        train(model, data, watch, scores(0.1, 0.2, 0.3), plan, label="test", progress=Silent())
        assert sorted(seen[:4]) == sorted(seen[4:]) == [0, 1, 2, 3]

    def test_tokens_may_lie_on_disk(self, make_batch, tmp_path):
        batch = make_batch([5, 1, 7, 3], head="words")
        ids = np.memmap(tmp_path / "ids", np.int32, "w+", shape=batch.ids.shape)
        ids[:] = batch.ids
        mapped = type(batch)(ids, batch.offsets, None, batch.reads)
        groups = np.array([0, 3])
        for one, other in zip(
            TrainingData(mapped, self.GROUPS, NO_OFFSET).step(groups),
            TrainingData(batch, self.GROUPS, NO_OFFSET).step(groups),
            strict=True,
        ):
            for name in ("ids", "reads", "inputs", "rows"):
                if hasattr(one, name):
                    assert np.array_equal(getattr(one, name), getattr(other, name))


class TestBestEpoch:
    def recorded(self, model, batch, values, patience=9, epochs=5):
        """Train under given dev scores; return the weights at each of them and the result."""
        snapshots = []

        def score(candidate):
            snapshots.append(weights(candidate))
            return values[len(snapshots) - 1]

        plan = Plan(epochs=epochs, learning_rate=1e-3, batch_size=BATCH, seed=0, patience=patience)
        return snapshots, run(model, batch, score=score, plan=plan)

    @pytest.mark.parametrize(
        ("values", "patience", "epochs_run", "best"),
        [
            ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2, 5, 5),
            ([0.1, 0.5, 0.4, 0.3], 2, 3, 1),  # stopped early
            ([0.1, 0.5, 0.4, 0.6, 0.5, 0.5], 2, 5, 3),  # recovered in time
            ([0.1, 0.5, 0.4], 1, 2, 1),
            ([0.5, 0.5, 0.5], 2, 2, 0),  # equal is not better: least training wins
            ([0.9, 0.1, 0.2], 2, 2, 0),  # only ever worse: the start is kept
            ([0.9, float("nan"), float("nan")], 2, 2, 0),
        ],
    )
    def test_is_kept(self, make_small, batch, values, patience, epochs_run, best):
        model = make_small()
        snapshots, trained = self.recorded(model, batch, values, patience)
        assert len(trained.dev_scores) == len(snapshots) == epochs_run + 1
        assert trained.best_epoch == best
        assert all(torch.equal(p, q) for p, q in zip(snapshots[best], model.parameters(), strict=True))
        last = snapshots[-1] if best == 0 else snapshots[0]
        assert not torch.equal(snapshots[best][0], last[0])  # training did change something


@pytest.fixture
def file(tmp_path):
    return tmp_path / "job" / ".out.checkpoint.safetensors"


class TestResuming:
    @pytest.mark.parametrize("step", [0, 1, STEPS - 1, STEPS, STEPS + 3, STEPS * EPOCHS - 1])
    def test_after_an_interruption_in_a_step(self, make_small, batch, file, uninterrupted, step):
        with pytest.raises(KeyboardInterrupt):
            run(make_small(), batch, interrupted_at(step), checkpoint=file, fingerprint="job")
        assert file.exists()
        model = make_small()
        counted = []
        trained = run(
            model,
            batch,
            lambda logits, step: counted.append(1) or objective(logits, step),
            checkpoint=file,
            fingerprint="job",
        )
        assert len(counted) == STEPS * EPOCHS - step  # nothing is done twice
        assert trained == uninterrupted[1]
        assert_same_weights(model, uninterrupted[0])
        assert list(file.parent.iterdir()) == []

    @pytest.mark.parametrize("epoch", [1, 2, EPOCHS])
    def test_after_an_interruption_in_dev_score(self, make_small, batch, file, uninterrupted, epoch):
        true_score, calls = dev_loss(batch), []

        def score(model):
            calls.append(1)
            if len(calls) == epoch + 1:
                raise KeyboardInterrupt
            return true_score(model)

        with pytest.raises(KeyboardInterrupt):
            run(make_small(), batch, score=score, checkpoint=file, fingerprint="job")
        model = make_small()
        assert run(model, batch, checkpoint=file, fingerprint="job") == uninterrupted[1]
        assert_same_weights(model, uninterrupted[0])

    def test_after_several_interruptions(self, make_small, batch, file, uninterrupted):
        for step in (2, 5, 1):
            with pytest.raises(KeyboardInterrupt):
                run(make_small(), batch, interrupted_at(step), checkpoint=file, fingerprint="job")
        model = make_small()
        assert run(model, batch, checkpoint=file, fingerprint="job") == uninterrupted[1]
        assert_same_weights(model, uninterrupted[0])

    def test_after_an_interruption_while_the_best_epoch_is_noted(self, make_small, batch, file, uninterrupted):
        """Between a new score and the copy of its weights nothing consistent can be saved; nothing is lost either."""

        class Interrupting(float):
            def __gt__(self, other):
                raise KeyboardInterrupt

        true_score, calls = dev_loss(batch), []

        def score(model):
            calls.append(1)
            return (Interrupting if len(calls) == EPOCHS + 1 else float)(true_score(model))

        with pytest.raises(KeyboardInterrupt):
            run(make_small(), batch, score=score, checkpoint=file, fingerprint="job")
        model = make_small()
        assert run(model, batch, checkpoint=file, fingerprint="job") == uninterrupted[1]
        assert_same_weights(model, uninterrupted[0])

    def test_before_the_start_was_scored_leaves_nothing(self, make_small, batch, file):
        with pytest.raises(KeyboardInterrupt):
            run(make_small(), batch, score=scores(KeyboardInterrupt()), checkpoint=file, fingerprint="job")
        assert not file.exists()

    def test_a_crash_resumes_from_the_last_checkpoint(self, make_small, batch, file, uninterrupted, monkeypatch):
        monkeypatch.setattr("octavo.distill.trainer._STEPS_BETWEEN_CHECKPOINTS", 4)
        calls = []

        def crash(logits, step):
            calls.append(1)
            if len(calls) == 11:
                raise MemoryError
            return objective(logits, step)

        with pytest.raises(MemoryError):
            run(make_small(), batch, crash, checkpoint=file, fingerprint="job")
        model, counted = make_small(), []
        run(
            model,
            batch,
            lambda logits, step: counted.append(1) or objective(logits, step),
            checkpoint=file,
            fingerprint="job",
        )
        assert len(counted) == STEPS * EPOCHS - 8
        assert_same_weights(model, uninterrupted[0])

    def test_is_off_without_a_file(self, make_small, batch, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run(make_small(), batch, interrupted_at(3))
        assert list(tmp_path.iterdir()) == []


class TestForeignCheckpoints:
    @pytest.fixture
    def interrupted(self, make_small, batch, file):
        with pytest.raises(KeyboardInterrupt):
            run(make_small(), batch, interrupted_at(8), checkpoint=file, fingerprint="job")
        return file

    def assert_ignored(self, make_small, batch, file, uninterrupted, fingerprint="job"):
        model = make_small()
        assert run(model, batch, checkpoint=file, fingerprint=fingerprint) == uninterrupted[1]
        assert_same_weights(model, uninterrupted[0])
        assert not file.exists()

    def test_of_another_job(self, make_small, batch, interrupted, uninterrupted):
        self.assert_ignored(make_small, batch, interrupted, uninterrupted, fingerprint="another job")

    @pytest.mark.parametrize("kept", [0, 7, 300, -1])
    def test_truncated(self, make_small, batch, interrupted, uninterrupted, kept):
        interrupted.write_bytes(interrupted.read_bytes()[:kept])
        self.assert_ignored(make_small, batch, interrupted, uninterrupted)

    def test_no_safetensors_file(self, make_small, batch, interrupted, uninterrupted):
        interrupted.write_bytes(b"\x80\x04K\x01." * 100)
        self.assert_ignored(make_small, batch, interrupted, uninterrupted)

    @pytest.mark.parametrize(
        "metadata",
        [
            None,
            {"format": "pt"},
            {"fingerprint": "job"},
            {"fingerprint": "job", "state": "{"},
            {"fingerprint": "job", "state": '{"step": 8}'},
            {"fingerprint": "job", "state": '{"step": 8, "dev_scores": [0.1], "best_epoch": 0, "new": 1}'},
        ],
    )
    def test_other_metadata(self, make_small, batch, interrupted, uninterrupted, metadata):
        from safetensors.torch import load_file, save_file

        save_file(load_file(interrupted), interrupted, metadata=metadata)
        self.assert_ignored(make_small, batch, interrupted, uninterrupted)

    @pytest.mark.parametrize("prefix", ["model/", "best/"])
    def test_of_a_model_of_another_shape(self, make_small, batch, interrupted, uninterrupted, prefix):
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        with safe_open(interrupted, framework="pt") as opened:
            metadata = opened.metadata()
        tensors = load_file(interrupted)
        name = f"{prefix}head.output.weight"
        save_file(tensors | {name: tensors[name][:3].clone()}, interrupted, metadata=metadata)
        self.assert_ignored(make_small, batch, interrupted, uninterrupted)

    def test_a_moment_with_no_number_leaves_the_model_untouched(self, make_small, batch, interrupted, uninterrupted):
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        with safe_open(interrupted, framework="pt") as opened:
            metadata = opened.metadata()
        save_file(load_file(interrupted) | {"adam/x/step": torch.ones(1)}, interrupted, metadata=metadata)
        self.assert_ignored(make_small, batch, interrupted, uninterrupted)


class TestRates:
    def test_warm_up_then_decay_to_zero_for_each_group(self, make_quantized, batch, monkeypatch):
        rates = []
        step = torch.optim.AdamW.step

        def watch(self, *args, **options):
            rates.append([group["lr"] for group in self.param_groups])
            return step(self, *args, **options)

        monkeypatch.setattr(torch.optim.AdamW, "step", watch)
        plan = Plan(epochs=5, learning_rate=1e-3, batch_size=BATCH, seed=0, scale_learning_rate=1e-2, patience=9)
        run(make_quantized(layers=1), batch, plan=plan)
        weights_rate, vectors_rate, scales_rate = zip(*rates, strict=True)
        assert len(rates) == 30
        assert weights_rate == vectors_rate
        assert scales_rate == pytest.approx([10 * rate for rate in weights_rate])
        assert weights_rate[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])  # a tenth of 30 steps
        assert all(a > b for a, b in pairwise(weights_rate[3:]))
        assert weights_rate[-1] == pytest.approx(1e-3 / 27)

    def test_only_matrices_decay(self, make_quantized, batch, monkeypatch):
        groups = []
        init = torch.optim.AdamW.__init__

        def watch(self, parameters, *args, **options):
            groups.extend(parameters)
            init(self, parameters, *args, **options)

        monkeypatch.setattr(torch.optim.AdamW, "__init__", watch)
        model = make_quantized(layers=1)
        run(model, batch, plan=Plan(epochs=1, learning_rate=1e-3, batch_size=BATCH, seed=0))
        decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
        assert decaying == {id(p) for p in model.parameters() if p.dim() > 1}
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
