import copy

import numpy as np
import pytest
from onnx import helper, numpy_helper

from octavo.export.blockers import attentions, blockers, products


def quantized_attention(graph, operands):
    """Return a copy with Q/DQ pairs on some operands of every attention: `q`, `k`, `softmax`, `v`."""
    changed = copy.deepcopy(graph)
    nodes = list(changed.graph.node)
    softmax = {node.output[0] for node in nodes if node.op_type == "Softmax"}
    scores = {node.input[0] for node in nodes if node.op_type == "Softmax"}
    added = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Add" and node.output[0] in scores}
    values = [numpy_helper.from_array(np.float32(0.05), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    changed.graph.initializer.extend(values)
    written = []
    for node in nodes:
        if node.op_type == "MatMul":
            names = ("q", "k") if node.output[0] in added.values() else ("softmax", "v")
            is_attention = names == ("q", "k") or node.input[0] in softmax
            for place, name in enumerate(names if is_attention else ()):
                if name not in operands:
                    continue
                x = node.input[place]
                pair = [x, "scale", "zero"], [f"{x}_levels", "scale", "zero"]
                written.append(
                    helper.make_node("QuantizeLinear", pair[0], [f"{x}_levels"], name=f"quantize_{name}_{x}")
                )
                written.append(helper.make_node("DequantizeLinear", pair[1], [f"{x}_rounded"]))
                node.input[place] = f"{x}_rounded"
        written.append(node)
    del changed.graph.node[:]
    changed.graph.node.extend(written)
    return changed


def test_our_graphs_block_nothing(int8):
    assert blockers(int8.graph) == []


def test_a_float_graph_has_nothing_to_block(fp32):
    assert blockers(fp32.graph) == []
    assert not any(one.is_quantized for one in products(fp32.graph))


def test_products_and_attentions(exported):
    subject = exported("bert", "int8")
    found = products(subject.graph)
    assert [one.weight for one in found if not one.is_quantized] == subject.head_weights
    assert sum(one.is_quantized for one in found) == subject.quantizers
    assert len(attentions(subject.graph)) == 2


@pytest.mark.parametrize("operands", ["qkv", "qk", "v", ("softmax",)])
def test_a_half_quantized_attention_names_a_quantizer_of_it(exported, operands):
    found = blockers(quantized_attention(exported("roberta", "int8", "words").graph, operands))
    assert [one.blocks for one in found] == attentions(exported("roberta", "int8", "words").graph)
    assert all(one.node.startswith("quantize_") for one in found)
    assert f"{len(operands)} are quantized and {4 - len(operands)} not" in found[0].reason


def test_an_attention_that_is_all_quantized_is_fine(exported):
    graph = quantized_attention(exported("roberta", "int8", "words").graph, ("q", "k", "softmax", "v"))
    assert blockers(graph) == []


@pytest.mark.parametrize("of", ["input_zero", "weight_zero"])
def test_a_zero_point_names_the_node_that_has_it(exported, of):
    graph = copy.deepcopy(exported("bert", "int8").graph)
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith(of))
    tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), 3, np.int8), tensor.name))
    found = blockers(graph)
    quantizing = {node.name for node in graph.graph.node if tensor.name in node.input}
    assert found
    assert {one.node for one in found} <= quantizing
    assert all("zero point is 3" in one.reason for one in found)
    assert {one.blocks for one in found} <= {one.node for one in products(graph)}


def test_scales_that_are_computed_name_the_node_that_computes_them(per_token):
    found = blockers(per_token.graph)
    kinds = {node.name: node.op_type for node in per_token.graph.graph.node}
    assert [one.blocks for one in found] == [one.node for one in products(per_token.graph) if one.is_quantized]
    assert {kinds[one.node] for one in found} == {"ReduceMax"}


def test_a_quantizer_whose_scale_is_computed(exported):
    graph = copy.deepcopy(exported("bert", "int8").graph)
    node = next(node for node in graph.graph.node if node.op_type == "QuantizeLinear")
    maker = helper.make_node("ReduceMax", [node.input[0]], ["its_scale"], name="find_scale", keepdims=0)
    graph.graph.node.insert(0, maker)
    node.input[1] = "its_scale"
    assert [one.node for one in blockers(graph)] == ["find_scale"]


def test_an_input_that_is_not_quantized(exported):
    graph = copy.deepcopy(exported("bert", "int8").graph)
    nodes = {node.output[0]: node for node in graph.graph.node}
    product = next(node for node in graph.graph.node if node.name == products(graph)[0].node)
    product.input[0] = nodes[nodes[product.input[0]].input[0]].input[0]
    (found,) = blockers(graph)
    assert found.blocks == product.name
    assert "without being quantized" in found.reason
