"""What `NativeEngine` adds to the extension: choice of the instruction set, and errors that say what to do."""

from __future__ import annotations

import numpy as np
import pytest

import octavo
from octavo.engines.graph import ModelGraph
from octavo.engines.native import available
from octavo.engines.native.engine import NativeEngine
from octavo.engines.native.extension import instruction_sets
from octavo.engines.open import Backend, open_engine
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.layout import NO_OFFSET

needs_extension = pytest.mark.skipif(not available(), reason="the native extension was not built")


@pytest.fixture(scope="module")
def graph(make_quantized):
    from octavo.export.onnx_graph import onnx_from_model

    content = onnx_from_model(make_quantized(layers=1)).SerializeToString()
    return ModelGraph("int8", {"canonical": content}, NO_OFFSET, 20, None)


@needs_extension
def test_the_fastest_instruction_set_is_taken(graph, monkeypatch):
    monkeypatch.delenv("OCTAVO_ISA", raising=False)
    engine = open_engine(Backend.NATIVE, graph, threads=1)
    assert engine.engine_id == f"native-{octavo.__version__}/int8/{instruction_sets()[0]}"


@needs_extension
def test_the_environment_forces_one(graph, monkeypatch):
    monkeypatch.setenv("OCTAVO_ISA", "portable")
    assert NativeEngine(graph).engine_id.endswith("/portable")
    monkeypatch.setenv("OCTAVO_ISA", "mmx")
    with pytest.raises(EngineError, match=r"'mmx' is not to be had; this machine has .*portable"):
        NativeEngine(graph)
    assert NativeEngine(graph, isa="portable").engine_id.endswith("/portable")


@needs_extension
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (TokenBatch.from_sequences([[5, 10_000]]), "token id 1 is 10000; it must be from 0 to 63"),
        (TokenBatch.from_sequences([[5] * 21]), "offset 1 is 21; it must be from 1 to 20"),
        (TokenBatch.from_sequences([[5, 6]], reads=[[0, 1]]), "reads one token of each of 1 sequences"),
    ],
    ids=["id", "length", "reads"],
)
def test_bad_batches_are_engine_errors(graph, batch, message):
    engine = NativeEngine(graph, threads=1)
    with pytest.raises(EngineError, match=f"cannot run this batch: .*{message}"):
        engine.run(batch)


@needs_extension
def test_narrower_integers_are_taken(graph):
    """Corpora on disk keep ids in 32 bits."""
    engine = NativeEngine(graph, threads=1)
    batch = TokenBatch.from_sequences([[5, 6, 7], [8]])
    narrow = TokenBatch(batch.ids.astype(np.int32), batch.offsets)
    assert np.array_equal(engine.run(narrow), engine.run(batch))


def test_without_the_extension_the_error_says_what_to_install(graph, monkeypatch):
    monkeypatch.setattr("octavo.engines.native.available", lambda: False)
    with pytest.raises(EngineError, match=r"not built when Octavo was installed\. Install a C\+\+ compiler"):
        open_engine(Backend.NATIVE, graph)


@needs_extension
def test_warming_up_takes_the_largest_batch_alone(graph, monkeypatch):
    ran: list[int] = []
    run = NativeEngine.run
    monkeypatch.setattr(NativeEngine, "run", lambda self, batch: (ran.append(len(batch.ids)), run(self, batch))[1])
    engine = NativeEngine(graph, threads=1)
    engine.warm_up([])
    engine.warm_up([TokenBatch.from_sequences([[1] * length]) for length in (2, 5, 3)])
    assert ran == [5]
