"""The fp16 twin against the graph that it is made from, on every head; and which channels would leave the range."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from octavo.errors import ModelError
from octavo.export.fp16 import fp16_overflow, fp16_twin
from octavo.text.buckets import shape_of
from octavo.text.layout import INPUT_NAMES, layout_from_batch

pytestmark = pytest.mark.slow  # .ci/run names it

MIXED = [3, 1, 17, 40]


def session_of(graph):
    """ONNX Runtime computing the graph as it is written, node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])


def run(graph, batch, positions, shape=None):
    layout = layout_from_batch(batch, positions, shape)
    return session_of(graph).run(None, {name: getattr(layout, name) for name in INPUT_NAMES})[0]


def constants_of(graph):
    return {tensor.name: tensor for tensor in graph.graph.initializer}


def with_constant(graph, name, change):
    """Return a copy with one constant changed."""
    changed = copy.deepcopy(graph)
    tensor = constants_of(changed)[name]
    tensor.CopyFrom(numpy_helper.from_array(change(np.array(numpy_helper.to_array(tensor))), name))
    return changed


class TestNumbers:
    def test_a_float_twin_is_within_half_a_hundredth(self, fp32, make_batch):
        """The stated bound, of the largest output: fp16 has 11 bits, and rounds some tens of times on the way."""
        positions, batch = fp32.model.config.positions, make_batch(MIXED, head=fp32.head)
        expected = run(fp32.graph, batch, positions)
        got = run(fp16_twin(fp32.graph), batch, positions)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=0.005 * np.abs(expected).max())
        assert not np.array_equal(got, expected)

    def test_an_int8_twin_is_within_the_reaction_to_flips(self, int8, make_batch, inputs_of, reaction_to_flips):
        """The stated bound: one in twenty values of each quantized tensor moves by one level, and the float bound.

        An fp16 value of up to 127 levels is up to 0.03 levels off, and so every thirtieth of the largest may flip.
        """
        positions, batch = int8.model.config.positions, make_batch(MIXED, head=int8.head)
        expected = run(int8.graph, batch, positions)
        got = run(fp16_twin(int8.graph), batch, positions)
        flips = reaction_to_flips(int8.model, inputs_of(batch, positions), share=0.05, trials=4)
        np.testing.assert_allclose(got, expected, atol=flips + 0.005 * np.abs(expected).max())

    def test_the_bound_tells_the_twin_from_one_with_other_scales(
        self, exported, make_batch, inputs_of, reaction_to_flips
    ):
        """Otherwise the test above would pass for any graph of the same shape."""
        subject = exported("bert", "int8")
        positions, batch = subject.model.config.positions, make_batch(MIXED)
        name = next(name for name in constants_of(subject.graph) if name.endswith("ffn1.parts.0.input_scale"))
        other = with_constant(subject.graph, name, lambda scale: scale * np.float32(0.25))
        expected = run(subject.graph, batch, positions)
        flips = reaction_to_flips(subject.model, inputs_of(batch, positions), share=0.05, trials=4)
        bound = flips + 0.005 * np.abs(expected).max()
        assert np.abs(run(fp16_twin(other), batch, positions) - expected).max() > bound

    def test_padding_changes_nothing_and_is_finite(self, each_head, make_batch):
        """A sequence of padding alone has a length of 0, which fp16 would divide by."""
        positions, batch = each_head.model.config.positions, make_batch([5, 1, 7], head=each_head.head)
        twin = fp16_twin(each_head.graph)
        plain = run(twin, batch, positions)[: len(batch.read_places)]
        padded = run(twin, batch, positions, (16, 8, 16))
        assert np.isfinite(padded).all()
        np.testing.assert_allclose(padded[: len(plain)], plain, atol=0.005 * np.abs(plain).max())
        assert shape_of(batch) != (16, 8, 16)


class TestForm:
    def test_inputs_and_output_keep_their_types(self, int8):
        twin = fp16_twin(int8.graph)
        assert list(twin.graph.input) == list(int8.graph.graph.input)
        assert list(twin.graph.output) == list(int8.graph.graph.output)
        assert twin.opset_import == int8.graph.opset_import

    def test_scales_and_levels_are_kept_to_the_bit(self, int8):
        before, after = constants_of(int8.graph), constants_of(fp16_twin(int8.graph))
        kept = [name for name in before if name.endswith(("_scale", "_zero", "input_factor"))]
        kept += [name for name, tensor in before.items() if tensor.data_type == TensorProto.INT8]
        assert len(kept) > 3 * int8.quantizers
        for name in kept:
            assert after[name].SerializeToString() == before[name].SerializeToString()

    def test_weights_keep_their_names_and_are_fp16(self, fp32):
        after = constants_of(fp16_twin(fp32.graph))
        for name, tensor in constants_of(fp32.graph).items():
            if "." in name:
                assert after[name].data_type == (TensorProto.FLOAT16 if tensor.data_type == 1 else tensor.data_type)

    def test_products_attention_and_layer_norm_are_fp16_and_statistics_are_not(self, exported):
        twin = onnx.shape_inference.infer_shapes(fp16_twin(exported("bert", "int8", "mean").graph))
        types = {value.name: value.type.tensor_type.elem_type for value in twin.graph.value_info}
        found = {}
        for node in twin.graph.node:
            if node.output[0] in types:
                found.setdefault(node.op_type, set()).add(types[node.output[0]])
        half, full = {TensorProto.FLOAT16}, {TensorProto.FLOAT}
        for op in ("MatMul", "Softmax", "Erf", "LayerNormalization"):
            assert found[op] == half
        for op in ("DequantizeLinear", "ReduceSum", "Clip", "Sqrt", "Reciprocal"):
            assert found[op] == full
        stash = [
            a.i
            for n in twin.graph.node
            if n.op_type == "LayerNormalization"
            for a in n.attribute
            if a.name == "stash_type"
        ]
        assert set(stash) == {TensorProto.FLOAT}

    def test_is_deterministic_and_leaves_the_graph_alone(self, exported):
        graph = exported("bert", "int8").graph
        before = graph.SerializeToString()
        assert fp16_twin(graph).SerializeToString() == fp16_twin(graph).SerializeToString()
        assert graph.SerializeToString() == before

    def test_a_weight_outside_the_range_is_refused_by_name(self, exported):
        graph = with_constant(exported("bert", "fp32").graph, "head.dense.weight", lambda weight: weight + 70_000)
        with pytest.raises(ModelError, match=r"head\.dense\.weight holds 70,00"):
            fp16_twin(graph)

    def test_a_graph_with_scales_per_token_has_a_twin(self, per_token, make_batch):
        positions, batch = per_token.model.config.positions, make_batch(MIXED, head=per_token.head)
        expected = run(per_token.graph, batch, positions)
        np.testing.assert_allclose(
            run(fp16_twin(per_token.graph), batch, positions), expected, atol=0.2 * np.abs(expected).max()
        )


class TestOverflow:
    @pytest.fixture
    def layouts(self, make_batch):
        return [layout_from_batch(make_batch([5, 9], seed)) for seed in range(2)]

    def test_ordinary_activations_stay_in_the_range(self, int8, make_batch):
        layout = layout_from_batch(make_batch(MIXED, head=int8.head), int8.model.config.positions)
        assert fp16_overflow(int8.graph, [layout]) == []

    def test_a_channel_that_leaves_it_is_named(self, exported, layouts):
        name = "encoder.layers.0.ffn2.parts.0.bias"

        def spoil(bias):
            bias[3] = 70_000
            return bias

        found = fp16_overflow(with_constant(exported("bert", "fp32").graph, name, spoil), layouts)
        assert {(one.channel, one.after) for one in found} == {(3, name)}  # the sum, and the residual with it
        assert len(found) == 2
        assert all(one.value == pytest.approx(70_000, rel=0.01) for one in found)
        assert found == sorted(found, key=lambda one: -one.value)
        assert str(found[0]).startswith(f"channel 3 of {found[0].tensor} (after {name}) reaches ")

    def test_every_batch_counts(self, exported, layouts):
        """One word is far away, and only the second batch has it."""
        (word,) = (set(layouts[1].input_ids.tolist()) - set(layouts[0].input_ids.tolist())) & {layouts[1].input_ids[0]}

        def spoil(words):
            words[word] = 7e4
            return words

        graph = with_constant(exported("bert", "fp32").graph, "encoder.embeddings.words.weight", spoil)
        assert fp16_overflow(graph, layouts[:1]) == []
        assert fp16_overflow(graph, layouts)

    def test_a_nan_is_an_overflow(self, exported, layouts):
        graph = with_constant(exported("bert", "fp32").graph, "head.dense.bias", lambda bias: bias * np.float32("nan"))
        assert fp16_overflow(graph, layouts)[0].value == np.inf
