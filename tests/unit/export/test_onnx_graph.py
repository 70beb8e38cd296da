import copy
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from octavo.export.onnx_graph import OUTPUT_NAME, onnx_from_model
from octavo.export.variants import u8_twin
from octavo.quantize.fake_quantize import TokenQuantizer, int8_weight, token_scales
from octavo.quantize.placement import QuantizedLinear, linears
from octavo.tasks.base import Reads
from octavo.text.buckets import shape_of
from octavo.text.layout import INPUT_NAMES, NO_OFFSET, layout_from_batch

LENGTHS = [[1], [9], [512], [3, 1, 17, 40], [1] * 33, [12, 7]]


def session_of(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime computing the graph as it is written, node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])


def run(session, batch, positions, shape=None):
    layout = layout_from_batch(batch, positions, shape)
    return session.run(None, {name: getattr(layout, name) for name in INPUT_NAMES})


def initializers(graph):
    return {tensor.name: tensor for tensor in graph.graph.initializer}


class TestFile:
    def test_is_valid_and_of_an_opset_that_every_engine_loads(self, either):
        graph = either.graph
        onnx.checker.check_model(graph, full_check=True)
        versions = {opset.domain: opset.version for opset in graph.opset_import}
        assert 17 <= versions[""] <= 20
        assert {node.domain for node in graph.graph.node} == {""}  # standard operators only
        assert not graph.functions

    def test_inputs_and_output(self, int8):
        graph = int8.graph.graph
        sizes = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        }
        tokens = ["tokens"]
        reads = ["reads" if int8.model.reads is Reads.WORDS else "batch"]
        assert sizes == {
            "input_ids": tokens,
            "position_ids": tokens,
            "slots": ["batch", "length"],
            "mask": ["batch", "length"],
            "rows": tokens,
            "read": reads,
            OUTPUT_NAME: [*reads, {"pairs": 1, "classify": 5, "words": 5}.get(int8.head, 32)],
        }

    def test_holds_no_stack_traces_and_no_paths(self, either):
        graph = copy.deepcopy(either.graph)
        for tensor in graph.graph.initializer:
            tensor.ClearField("raw_data")  # random bytes may spell anything
        content = graph.SerializeToString()
        assert not re.search(rb"\.py\b|site-packages|/home/|/work/|/tmp/|File \"|stack_trace", content)
        assert not graph.metadata_props
        assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)

    def test_keeps_its_weights_inside(self, int8):
        assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in int8.graph.graph.initializer)

    def test_export_is_deterministic_byte_for_byte(self, either):
        torch.manual_seed(99)  # must not matter
        assert onnx_from_model(either.model).SerializeToString() == either.graph.SerializeToString()

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"heads": 4}, {"heads": 2}),
            ({"activation": "gelu"}, {"activation": "relu"}),
            ({"family": "bert"}, {"family": "distilbert"}),  # their heads differ by an activation
            ({"head": "mean"}, {"head": "first"}),
            ({"head": "first"}, {"head": "last"}),
            ({"seed": 0}, {"seed": 1}),
        ],
        ids=str,
    )
    def test_models_of_one_size_get_graphs_of_their_own(self, make_quantized, make_batch, inputs_of, one, other):
        for options in (one, other):
            batch = make_batch([4, 9], head=options.get("head", "classify"))
            model = make_quantized(**{"layers": 1} | options)
            with torch.no_grad():
                expected = model(*inputs_of(batch)).numpy()
            got = run(session_of(onnx_from_model(model)), batch, NO_OFFSET)[0]
            np.testing.assert_allclose(got, expected, atol=0.01)

    def test_export_leaves_the_model_as_it_was(self, make_quantized, make_batch, inputs_of):
        model = make_quantized(layers=1)
        inputs = inputs_of(make_batch([4, 9]))
        with torch.no_grad():
            before = model(*inputs)
            kinds = [type(module) for module in model.modules()]
            onnx_from_model(model.train())
            assert model.training
            assert [type(module) for module in model.modules()] == kinds
            assert torch.equal(model.eval()(*inputs), before)


class TestWeights:
    def test_are_int8_and_those_of_the_model(self, exported):
        model, graph, _ = exported("bert", "int8")
        stored = {
            name: numpy_helper.to_array(tensor)
            for name, tensor in initializers(graph).items()
            if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims and len(tensor.dims) == 2
        }
        assert len(stored) == 4 + 5
        assert all(np.abs(levels.astype(int)).max() == 127 for levels in stored.values())
        for name, linear in linears(model).items():
            levels, _ = int8_weight(linear.smoothed_weight)
            parts = [levels for key, levels in sorted(stored.items()) if key.startswith(f"{name}.")]
            assert np.array_equal(np.concatenate(parts, axis=1), levels.numpy().T)

    def test_no_float_copy_of_a_quantized_weight_is_left(self, exported):
        graph = exported("bert", "int8").graph
        floats = [
            name
            for name, tensor in initializers(graph).items()
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
        ]
        assert all("embeddings" in name or "head" in name for name in floats)

    def test_scales_are_constants_one_per_output(self, exported):
        graph = exported("bert", "int8").graph
        constants = initializers(graph)
        for node in graph.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert node.input[1] in constants
                assert node.input[2] in constants
                if node.input[0] in constants:
                    outputs = constants[node.input[0]].dims[1]
                    assert list(constants[node.input[1]].dims) == [outputs]
                    assert [(a.name, a.i) for a in node.attribute] == [("axis", 1)]
                else:
                    assert list(constants[node.input[1]].dims) == []


class TestNumbers:
    @pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{len(lengths)} of {max(lengths)}")
    def test_fp32_graph_equals_torch(self, fp32, make_batch, inputs_of, lengths):
        positions = fp32.model.config.positions
        batch = make_batch(lengths, head=fp32.head)
        reads = len(batch.read_places)
        with torch.no_grad():
            expected = fp32.model(*inputs_of(batch, positions)).numpy()[:reads]
        session = session_of(fp32.graph)
        np.testing.assert_allclose(run(session, batch, positions)[0][:reads], expected, atol=1e-5)
        bucketed = run(session, batch, positions, shape_of(batch))[0]
        np.testing.assert_allclose(bucketed[:reads], expected, atol=1e-5)
        assert np.isfinite(bucketed).all()  # padding sequences too

    @pytest.mark.parametrize("shape", [(16, 8, 16), (16, 4, 16), (40, 4, 32)], ids=str)
    def test_padding_changes_nothing_and_gives_finite_rows(self, each_head, make_batch, shape):
        """Whole sequences of padding have no token to take the mean of."""
        positions = each_head.model.config.positions
        batch = make_batch([5, 1, 7], head=each_head.head)
        session = session_of(each_head.graph)
        plain = run(session, batch, positions)[0][: len(batch.read_places)]
        padded = run(session, batch, positions, shape)[0]
        assert np.isfinite(padded).all()
        np.testing.assert_allclose(padded[: len(plain)], plain, atol=1e-5)

    def test_segments_matter_where_the_head_is_for_pairs(self, exported, make_batch):
        model, graph, _ = exported("bert", "fp32", "pairs")
        pairs, texts = make_batch([9, 5], head="pairs"), make_batch([9, 5])
        session = session_of(graph)
        one, other = (run(session, batch, model.config.positions)[0] for batch in (pairs, texts))
        assert np.array_equal(pairs.ids, texts.ids)
        assert np.abs(one - other).max() > 0.01

    @pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{len(lengths)} of {max(lengths)}")
    def test_int8_graph_is_within_one_step_of_torch(self, quantized, make_batch, inputs_of, lengths, reaction_to_flips):
        """Every quantized tensor agrees to one level, and nearly everywhere exactly.

        Both compute the same levels from floats that differ by float errors, about 1e-6 of the range or 1e-4 of a
        step: so of ten thousand values a few lie close enough to the middle of two levels to round to the other
        one. A flip then moves the later values of its sequence by a fraction of a step and flips some of them, so
        each sequence is judged up to its first flip, and by its outputs.
        """
        positions = quantized.model.config.positions
        batch = make_batch(lengths, head=quantized.head)
        inputs = inputs_of(batch, positions)
        ours = levels_in_torch(quantized.model, inputs)
        graph = copy.deepcopy(quantized.graph)
        for node in list(graph.graph.node):
            # Levels are int8 out of QuantizeLinear, and floats out of Round.
            kind = {"QuantizeLinear": onnx.TensorProto.INT8, "Round": onnx.TensorProto.FLOAT}.get(node.op_type)
            if kind:
                graph.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], kind, None))
        outputs, *theirs = run(session_of(graph), batch, positions)
        assert len(theirs) == len(ours) == quantized.quantizers
        clean = np.ones(len(batch), bool)  # sequences in which nothing has flipped yet
        of_token = np.repeat(np.arange(len(batch)), batch.lengths)
        for levels, reference in zip(theirs, ours, strict=True):
            off = np.abs(np.rint(levels).astype(int) - reference)
            of_row = of_token if len(off) == len(of_token) else np.arange(len(batch))  # the last Q: read tokens
            judged = off[clean[of_row]]
            assert judged.max(initial=0) <= 1
            assert (judged > 0).sum() <= max(2, 0.002 * judged.size)
            assert (off > 0).mean() < 0.1
            clean[of_row[(off > 0).any(axis=1)]] = False
        with torch.no_grad():
            expected = quantized.model(*inputs).numpy()
        np.testing.assert_allclose(outputs, expected, atol=max(1e-5, reaction_to_flips(quantized.model, inputs)))

    @pytest.mark.parametrize("head", ["classify", "pairs", "words", "mean", "last", "first"])
    def test_the_tolerance_for_flips_tells_quantized_from_float(
        self, make_model, make_quantized, make_batch, inputs_of, reaction_to_flips, head
    ):
        """Otherwise the test above would pass for a graph that quantizes nothing."""
        model, floating = make_quantized("bert", head), make_model("bert", head)  # the same weights
        inputs = inputs_of(make_batch([3, 1, 17, 40], head=head), model.config.positions)
        with torch.no_grad():
            off = (model(*inputs) - floating(*inputs)).abs().max()
        assert off > reaction_to_flips(model, inputs, share=0.002)


def levels_in_torch(model, inputs):
    """The int8 levels that enter each product, in the order of execution; Q of the last layer apart."""
    seen = []

    def watch(module, args):
        assert isinstance(module, QuantizedLinear)
        quantizer = module.input_quantizer
        x = args[0] * (1 / module.smoothing) if module.smoothing is not None else args[0]
        scale = token_scales(x) if isinstance(quantizer, TokenQuantizer) else quantizer.scale
        seen.append((quantizer(x) / scale).round().int().numpy())

    handles = [linear.register_forward_pre_hook(watch) for linear in linears(model).values()]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


class TestU8Twin:
    def test_is_exactly_equal(self, int8, make_batch):
        positions = int8.model.config.positions
        canonical, twin = session_of(int8.graph), session_of(u8_twin(int8.graph))
        for lengths in LENGTHS:
            batch = make_batch(lengths, head=int8.head)
            assert np.array_equal(run(twin, batch, positions)[0], run(canonical, batch, positions)[0])

    def test_is_exactly_equal_where_values_are_clipped(self, exported, make_batch):
        """Scales a hundred times smaller saturate both ends: -128 and 127, 0 and 255."""
        graph = copy.deepcopy(exported("bert", "int8").graph)
        for name, tensor in initializers(graph).items():
            if name.endswith("input_scale"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / 100, name))
        batch = make_batch([5, 2, 30])
        canonical, twin, unclipped = (
            run(session_of(one), batch, NO_OFFSET)[0] for one in (graph, u8_twin(graph), exported("bert", "int8").graph)
        )
        assert np.array_equal(twin, canonical)
        assert not np.array_equal(canonical, unclipped)

    def test_activations_are_u8_around_128_and_weights_stay_s8(self, int8):
        twin = u8_twin(int8.graph)
        constants = {name: numpy_helper.to_array(tensor) for name, tensor in initializers(twin).items()}
        for node in twin.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                zero = constants[node.input[2]]
                if node.input[0] in constants:
                    assert constants[node.input[0]].dtype == zero.dtype == np.int8
                    assert not zero.any()
                else:
                    assert zero.dtype == np.uint8
                    assert zero == 128

    def test_has_the_same_scales_and_weights_and_no_leftovers(self, int8):
        before, after = initializers(int8.graph), initializers(u8_twin(int8.graph))
        kept = before.keys() & after.keys()
        assert all(after[name].SerializeToString() == before[name].SerializeToString() for name in kept)
        assert all("zero" in name for name in before.keys() ^ after.keys())
        used = {name for node in u8_twin(int8.graph).graph.node for name in node.input}
        assert set(after) <= used

    def test_no_two_weights_share_their_zero_points(self, int8):
        """ONNX Runtime's `session.x64quantprecision` fails on shared ones: "Attempt to replace the existing tensor"."""
        twin = u8_twin(int8.graph)
        constants = initializers(twin)
        zeros = [node.input[2] for node in twin.graph.node if node.input[0] in constants and len(node.input) > 2]
        assert len(zeros) == len(set(zeros)) == int8.quantizers

    def test_leaves_the_canonical_graph_alone(self, int8):
        before = int8.graph.SerializeToString()
        u8_twin(int8.graph)
        assert int8.graph.SerializeToString() == before

    def test_is_deterministic(self, int8):
        assert u8_twin(int8.graph).SerializeToString() == u8_twin(int8.graph).SerializeToString()
