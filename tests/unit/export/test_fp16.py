"""The fp16 twin against the graph that it is made from, on every head; and which channels would leave the range."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from octavo.errors import ModelError
from octavo.export.fp16 import FP16_MAX, fp16_overflow, fp16_twin
from octavo.text.buckets import shape_of
from octavo.text.layout import INPUT_NAMES, layout_from_batch

LENGTHS = [[1], [9], [3, 1, 17, 40], [12, 7]]


def session_of(graph):
    """ONNX Runtime computing the graph as it is written, node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])


def run(session, batch, positions, shape=None):
    layout = layout_from_batch(batch, positions, shape)
    return session.run(None, {name: getattr(layout, name) for name in INPUT_NAMES})[0]


def constants_of(graph):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def with_constant(graph, name, change):
    """Return a copy with one constant changed."""
    changed = copy.deepcopy(graph)
    tensor = next(tensor for tensor in changed.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(np.array(numpy_helper.to_array(tensor))), name))
    return changed


class TestNumbers:
    @pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{len(lengths)} of {max(lengths)}")
    def test_float_twin_is_within_a_hundredth(self, fp32, make_batch, lengths):
        """Stated bound: 1% of the largest output; fp16 has 11 bits, and rounds some tens of times on the way."""
        positions = fp32.model.config.positions
        batch = make_batch(lengths, head=fp32.head)
        expected = run(session_of(fp32.graph), batch, positions)
        got = run(session_of(fp16_twin(fp32.graph)), batch, positions)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=0.01 * np.abs(expected).max())
        print("F", fp32.head, np.abs(got - expected).max() / np.abs(expected).max())

    @pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{len(lengths)} of {max(lengths)}")
    def test_int8_twin_is_within_the_reaction_to_flips(self, int8, make_batch, inputs_of, lengths, reaction_to_flips):
        positions = int8.model.config.positions
        batch = make_batch(lengths, head=int8.head)
        expected = run(session_of(int8.graph), batch, positions)
        got = run(session_of(fp16_twin(int8.graph)), batch, positions)
        bound = reaction_to_flips(int8.model, inputs_of(batch, positions), share=0.02)
        print("I", int8.head, np.abs(got - expected).max() / np.abs(expected).max(), bound / np.abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=bound + 0.01 * np.abs(expected).max())
