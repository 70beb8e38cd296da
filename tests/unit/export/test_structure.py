import copy

import numpy as np
import pytest
from onnx import numpy_helper

from octavo.export.onnx_graph import onnx_from_model
from octavo.export.structure import structure_of
from octavo.export.variants import u8_twin


def test_int8_graph(int8):
    structure = structure_of(int8.graph)
    # QKV, attention output and the two of the feed-forward.
    assert structure.int8_matmuls == int8.products
    assert structure.float_matmuls == int8.head_weights
    assert structure.quantize_nodes == int8.quantizers
    assert structure.asymmetric == []


def test_graph_with_scales_per_token(per_token):
    structure = structure_of(per_token.graph)
    assert structure.int8_matmuls == per_token.products
    assert structure.float_matmuls == per_token.head_weights
    assert structure.quantize_nodes == 0  # no operator of the opset does it: it is written out


def test_fp32_graph(fp32):
    structure = structure_of(fp32.graph)
    assert structure.int8_matmuls == {}
    assert structure.quantize_nodes == 0
    assert len(structure.float_matmuls) == fp32.quantizers + len(fp32.head_weights)
    assert structure.float_matmuls[fp32.quantizers :] == fp32.head_weights
    assert not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in fp32.graph.graph.node)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_last_layer_alone_is_split(make_quantized, layers):
    structure = structure_of(onnx_from_model(make_quantized(layers=layers)))
    assert structure.int8_matmuls == {**dict.fromkeys(range(layers - 1), 4), layers - 1: 5}


@pytest.mark.parametrize("head", ["words", "mean"])
def test_no_layer_is_split_where_every_token_may_be_read(make_quantized, head):
    structure = structure_of(onnx_from_model(make_quantized("bert", head, layers=3)))
    assert structure.int8_matmuls == {0: 4, 1: 4, 2: 4}


def test_attention_and_residuals_are_float(int8):
    """The products of two activations take no Q/DQ, and each DequantizeLinear feeds one product."""
    graph = int8.graph.graph
    consumers = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node.op_type)
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            assert set(consumers[node.output[0]]) == {"MatMul"}


def test_the_twin_is_asymmetric_and_says_so(int8):
    structure = structure_of(u8_twin(int8.graph))
    assert structure.int8_matmuls == int8.products
    assert len(structure.asymmetric) == 2 * int8.quantizers


def test_a_zero_point_that_is_not_zero_is_found(exported):
    graph = copy.deepcopy(exported("bert", "int8").graph)
    node = next(node for node in graph.graph.node if node.op_type == "QuantizeLinear")
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == node.input[2])
    tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), tensor.name))
    assert node.name in structure_of(graph).asymmetric
