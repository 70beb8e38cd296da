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
    def reference(self, subject):
        return TorchEngine(subject.model, subject.graph.position_offset, "reference")

    def test_id_names_backend_version_and_precision(self, engine, subject):
        backend, precision, *_ = engine.engine_id.split("/")
        name, version = backend.split("-", 1)
        assert name == self.backend
        assert version[0].isdigit()
        assert precision.startswith(subject.name)

    @pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
    def test_equals_torch(self, engine, reference, subject, make_batch, lengths):
        batch = make_batch(lengths)
        output = engine.run(batch)
        assert output.shape == (len(lengths), 5)
        assert output.dtype == np.float32
        expected = reference.run(batch)
        np.testing.assert_allclose(output, expected, atol=subject.tolerance(batch))

    def test_answers_depend_on_the_tokens(self, engine, subject, make_batch):
        """Else the comparisons of this class could pass for constants."""
        batch = make_batch([9] * 8)
        apart = engine.run(batch).std(axis=0).max()
        assert apart > 5 * subject.tolerance(batch)

    def test_empty_batch(self, engine):
        output = engine.run(TokenBatch.from_sequences([]))
        assert output.shape == (0, 5)
        assert output.dtype == np.float32

    def test_alone_or_in_a_batch(self, engine, subject, make_batch):
        batch = make_batch(MIXED)
        together = engine.run(batch)
        for row in range(len(batch)):
            alone = engine.run(batch.select([row]))
            np.testing.assert_allclose(alone[0], together[row], atol=subject.tolerance(batch.select([row])))

    def test_order_in_the_batch(self, engine, subject, make_batch):
        batch = make_batch(MIXED)
        order = np.array([4, 0, 5, 2, 1, 3])
        permuted = engine.run(batch.select(order))
        np.testing.assert_allclose(permuted, engine.run(batch)[order], atol=subject.tolerance(batch))

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

    def test_nan_is_an_error(self, subject, make_batch):
        engine = self.build(subject.with_nan())
        with pytest.raises(EngineError, match="NaN or infinity for row 0"):
            engine.run(make_batch([3, 5]))
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
