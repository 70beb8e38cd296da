"""What a graph multiplies in INT8 and what in float, read off the ONNX nodes: the check on Q/DQ placement."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

_LAYER = re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Structure:
    """Matrix products with a constant weight, by kind.

    Attributes:
        int8_matmuls: per layer number, the products of levels: their weight comes out of DequantizeLinear, their input
            too, or out of a Round where each token has its own scale.
        float_matmuls: names of the weights that are multiplied in float (the head's; all in an FP32 graph).
        quantize_nodes: number of QuantizeLinear nodes.
        asymmetric: names of Q/DQ nodes whose zero point is not 0.
    """

    int8_matmuls: dict[int, int]
    float_matmuls: list[str]
    quantize_nodes: int
    asymmetric: list[str]


def structure_of(model: onnx.ModelProto) -> Structure:
    """Count the graph's products. Products of two activations (attention) are left out."""
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    int8: Counter[int] = Counter()
    floats: list[str] = []
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        left, right = (producer.get(name) for name in node.input[:2])
        if node.input[1] in constants:
            floats.append(node.input[1])
        elif (
            (_is_dequantize(left) or _is_rounded(left, producer))
            and _is_dequantize(right)
            and right is not None
            and right.input[0] in constants
        ):
            found = _LAYER.search(right.input[0])
            int8[int(found.group(1)) if found else -1] += 1
    quantizing = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    asymmetric = [
        node.name
        for node in quantizing
        if len(node.input) > 2 and onnx.numpy_helper.to_array(constants[node.input[2]]).any()
    ]
    pairs = sum(node.op_type == "QuantizeLinear" for node in quantizing)
    return Structure(dict(sorted(int8.items())), floats, pairs, asymmetric)


def _is_dequantize(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _is_rounded(node: onnx.NodeProto | None, producer: Mapping[str, onnx.NodeProto]) -> bool:
    """Return whether a node multiplies rounded values by their scales: quantization per token, written out."""
    if node is None or node.op_type != "Mul":
        return False
    rounded = producer.get(node.input[0])
    return rounded is not None and rounded.op_type == "Round"
