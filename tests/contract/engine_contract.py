"""What every engine promises (`octavo.engines.base.Engine`): one template, one subclass per backend.

A subclass says how its engine is built. Tests compare with the torch engine and with the engine itself.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from octavo.engines.base import Engine
from octavo.engines.torch import TorchEngine
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.buckets import shape_of
from octavo.types import Outputs

MIXED = [3, 1, 17, 40, 2, 9]
BATCHES = {
    "one token": [1],
    "one short": [7],
    "one long": [100],
    "512 tokens": [512],
    "mixed": MIXED,
    "all of one token": [1] * 9,
    "longest beside shortest": [512, 1],
    "more than a bucket of sequences": [4] * 65,
}


class EngineContract:
    """Inherit as `Test<Backend>` and define `build`."""

    backend: str

    def build(self, subject) -> Engine:
        """Return a new engine for the subject."""
        raise NotImplementedError

    @pytest.fixture
    def engine(self, subject):
        engine = self.build(subject)
        yield engine
        engine.close()

    @pytest.fixture
    def each_engine(self, each):
        engine = self.build(each)
        yield engine
        engine.close()

    def test_id_names_backend_version_and_precision(self, engine, subject):
        backend, precision, *_ = engine.engine_id.split("/")
        name, version = backend.split("-", 1)
        assert name == self.backend
        assert version[0].isdigit()
        assert precision.startswith(subject.name)

    @pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
    def test_equals_torch(self, each_engine, each, make_batch, lengths):
        batch = make_batch(lengths, head=each.head)
        output = each_engine.run(batch)
        assert output.shape == (len(batch.read_places), each.model.width)
        assert output.dtype == np.float32
        expected = TorchEngine(each.model, each.graph.positions, "reference").run(batch)
        np.testing.assert_allclose(output, expected, atol=each.tolerance(batch))

    def test_answers_depend_on_the_tokens(self, each_engine, each, make_batch):
        """Else the comparisons of this class could pass for constants."""
        batch = make_batch([9] * 8, head=each.head)
        apart = each_engine.run(batch).std(axis=0).max()
        assert apart > 5 * each.tolerance(batch)

    def test_answers_depend_on_the_segments(self, subjects, precision, make_batch):
        subject = subjects(precision, "pairs")
        engine = self.build(subject)
        pairs, texts = make_batch([9, 5], head="pairs"), make_batch([9, 5])
        assert np.array_equal(pairs.ids, texts.ids)
        assert np.abs(engine.run(pairs) - engine.run(texts)).max() > 5 * subject.tolerance(pairs)
        engine.close()

    def test_a_batch_without_segments_is_all_of_the_first(self, subjects, precision, make_batch):
        subject = subjects(precision, "pairs")
        engine = self.build(subject)
        texts = make_batch([9, 5])
        named = TokenBatch(texts.ids, texts.offsets, np.zeros_like(texts.ids))
        assert np.array_equal(engine.run(texts), engine.run(named))
        engine.close()

    def test_empty_batch(self, each_engine, each, make_batch):
        for batch in (TokenBatch.from_sequences([]), make_batch([], head=each.head)):
            output = each_engine.run(batch)
            assert output.shape == (0, each.model.width)
            assert output.dtype == np.float32

    def test_alone_or_in_a_batch(self, each_engine, each, make_batch):
        batch = make_batch(MIXED, head=each.head)
        together = Outputs(each_engine.run(batch), batch.read_offsets)
        for row in range(len(batch)):
            single = batch.select([row])
            np.testing.assert_allclose(each_engine.run(single), together[row], atol=each.tolerance(single))

    def test_order_in_the_batch(self, each_engine, each, make_batch):
        batch = make_batch(MIXED, head=each.head)
        order = np.array([4, 0, 5, 2, 1, 3])
        permuted = each_engine.run(batch.select(order))
        expected = Outputs(each_engine.run(batch), batch.read_offsets).select(order).values
        np.testing.assert_allclose(permuted, expected, atol=each.tolerance(batch))

    @pytest.mark.parametrize("lengths", [[5, 9, 3, 7, 2], [33, 1, 1]], ids=str)
    def test_padding_leaks_nothing(self, each_engine, each, make_batch, lengths):
        """Padding repeats the first token: what that is must not reach the other sequences."""
        batch = make_batch(lengths, head=each.head)
        assert shape_of(batch) > (batch.tokens, len(batch), batch.max_length)
        ids = batch.ids.copy()
        ids[: lengths[0]] = ids[: lengths[0]][::-1] ^ 1
        one, other = (
            Outputs(each_engine.run(given), batch.read_offsets)
            for given in (batch, TokenBatch(ids, batch.offsets, batch.segments, batch.reads))
        )
        others = np.arange(1, len(batch))
        assert np.abs(one[0] - other[0]).max() > 0
        np.testing.assert_allclose(one.select(others).values, other.select(others).values, atol=each.tolerance(batch))

    def test_vectors_have_length_one_where_the_head_normalizes(self, subjects, precision, make_batch):
        for head in ("mean", "last"):
            engine = self.build(subjects(precision, head))
            vectors = engine.run(make_batch(MIXED, head=head))
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
            engine.close()

    def test_the_same_call_gives_the_same_bits(self, engine, make_batch):
        batches = [make_batch(MIXED), make_batch([5]), make_batch([60, 2])]
        first = [engine.run(batch) for batch in batches]
        again = [engine.run(batch) for batch in batches]
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))

    def test_outputs_are_the_callers_own(self, engine, make_batch):
        first = engine.run(make_batch([5, 9]))
        kept = first.copy()
        engine.run(make_batch([9, 5], seed=1))
        assert np.array_equal(first, kept)

    def test_threads_get_their_own_answers(self, engine, make_batch):
        rng = np.random.default_rng(0)
        batches = [make_batch(rng.integers(1, 40, rng.integers(1, 6)), seed) for seed in range(40)]
        serial = [engine.run(batch) for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                for expected, got in zip(serial, pool.map(engine.run, batches), strict=True):
                    assert np.array_equal(got, expected)

    def test_warm_up_changes_no_answer(self, subject, make_batch):
        batch = make_batch(MIXED)
        cold, warm = self.build(subject), self.build(subject)
        warm.warm_up([make_batch([4]), make_batch([30, 30]), batch])
        warm.warm_up([])
        assert np.array_equal(warm.run(batch), cold.run(batch))
        cold.close()
        warm.close()

    def test_close(self, subject, make_batch):
        engine, other = self.build(subject), self.build(subject)
        engine.run(make_batch([3]))
        engine.close()
        engine.close()  # twice is fine
        for batch in (make_batch([3]), make_batch([])):
            with pytest.raises(EngineError, match="closed"):
                engine.run(batch)
        with pytest.raises(EngineError, match="closed"):
            engine.warm_up([make_batch([3])])
        assert engine.engine_id == other.engine_id
        assert other.run(make_batch([3])).shape == (1, 5)  # closing one closes no other
        other.close()

    def test_close_while_threads_run(self, subject, make_batch):
        """A call ends with its answer or with `EngineError`, and with nothing else."""
        engine = self.build(subject)
        batches = [make_batch([7, 20, 3], seed) for seed in range(60)]
        expected = [engine.run(batch) for batch in batches]

        def answer(batch):
            try:
                return engine.run(batch)
            except EngineError:
                return None

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(answer, batch) for batch in batches]
            answers[5].result()
            engine.close()
            for right, future in zip(expected, answers, strict=True):
                got = future.result()
                assert got is None or np.array_equal(got, right)

    def test_nan_is_an_error(self, each, make_batch):
        engine = self.build(each.with_nan())
        with pytest.raises(EngineError, match="NaN or infinity for row 0"):
            engine.run(make_batch([3, 5], head=each.head))
        engine.close()


class OnnxEngineContract(EngineContract):
    """What engines that are built from ONNX bytes promise beside."""

    @pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x09", b"\x00" * 1000], ids=repr)
    def test_malformed_graph(self, subject, capfd, content):
        graph = replace(subject.graph, graphs={"canonical": content}, key=repr(content))
        with pytest.raises(EngineError, match="cannot build the engine") as caught:
            self.build(replace(subject, graph=graph))
        assert caught.value.__suppress_context__  # the backend's own traceback would be noise
        assert "Traceback" not in str(caught.value)
        assert capfd.readouterr() == ("", "")

    def test_truncated_graph(self, subject):
        content = subject.graph.graphs["canonical"]
        graph = replace(subject.graph, graphs={"canonical": content[: len(content) // 2]}, key="truncated")
        with pytest.raises(EngineError, match="cannot build the engine"):
            self.build(replace(subject, graph=graph))

    def test_a_token_outside_the_vocabulary_spoils_no_later_call(self, subject):
        """Whether it is an error or some finite answer is the backend's choice; a crash is not."""
        engine = self.build(subject)
        good = TokenBatch.from_sequences([[5, 6, 7]])
        expected = engine.run(good)
        with contextlib.suppress(EngineError):
            engine.run(TokenBatch.from_sequences([[5, 10_000, 7]]))
        assert np.array_equal(engine.run(good), expected)
        engine.close()
