"""What in a graph keeps TensorRT from INT8 products and fused attention, by the node that is to blame.

Read off the ONNX nodes alone, by three rules that were measured (docs/gpu.md): quantization must be symmetric, scales
must be constants, and of an attention's q, k, v and softmax either all or none are quantized. What an engine made of
the graph is for `octavo.engines.plan_layers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

# Operators that only move values: what feeds a product through them feeds it.
_MOVING = ("Transpose", "Reshape", "Gather", "Split", "Unsqueeze", "Squeeze", "Slice", "Cast", "Identity")
_PRODUCTS = ("MatMul", "Gemm")
_REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceL2")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A node that is to blame.

    Attributes:
        node: its name.
        blocks: name of the product, or of the softmax of an attention, that suffers.
        reason: a sentence.
    """

    node: str
    blocks: str
    reason: str


@dataclass(frozen=True, slots=True)
class Product:
    """A product with a constant weight.

    Attributes:
        node: its name.
        weight: name of the weight, such as `encoder.layers.0.qkv.parts.0.weight`.
        is_quantized: whether the weight is int8.
    """

    node: str
    weight: str
    is_quantized: bool


class _Graph:
    """A graph that can be asked who makes a tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer: Mapping[str, onnx.NodeProto] = {name: node for node in self.nodes for name in node.output}

    def source(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor, behind nodes that only move it."""
        node = self.producer.get(tensor)
        while node is not None and node.op_type in _MOVING:
            node = self.producer.get(node.input[0])
        return node

    def weight_of(self, product: onnx.NodeProto) -> tuple[str, bool] | None:
        """Return the constant weight of a product and whether it is quantized; None where it has none."""
        if product.input[1] in self.constants:
            return product.input[1], False
        source = self.source(product.input[1])
        if source is not None and source.op_type == "DequantizeLinear" and source.input[0] in self.constants:
            return source.input[0], True
        return None

    def found_before(self, tensor: str, ops: tuple[str, ...], stop: tuple[str, ...]) -> onnx.NodeProto | None:
        """Return the nearest node of some kinds on the way back from a tensor; `stop` ends the way."""
        front, seen = [tensor], {tensor}
        while front:
            nodes = [self.producer[name] for name in front if name in self.producer]
            if found := next((node for node in nodes if node.op_type in ops), None):
                return found
            front = [name for node in nodes if node.op_type not in stop for name in node.input if name not in seen]
            seen.update(front)
        return None


def products(model: onnx.ModelProto) -> list[Product]:
    """Return the products with a constant weight, in the order of the graph."""
    graph = _Graph(model)
    nodes = [node for node in graph.nodes if node.op_type in _PRODUCTS]
    return [Product(node.name, *weight) for node in nodes if (weight := graph.weight_of(node))]


def attentions(model: onnx.ModelProto) -> list[str]:
    """Return the names of the softmax nodes, one for each attention."""
    return [node.name for node in model.graph.node if node.op_type == "Softmax"]


def blockers(model: onnx.ModelProto) -> list[Blocker]:
    """Return the nodes that are to blame; none for a graph that is as it should be."""
    graph = _Graph(model)
    return [*_asymmetric(graph), *_computed_scales(graph), *_half_quantized_attention(graph)]


def _asymmetric(graph: _Graph) -> list[Blocker]:
    found = []
    for node in graph.nodes:
        is_weight = node.op_type == "DequantizeLinear" and node.input[0] in graph.constants
        if (node.op_type != "QuantizeLinear" and not is_weight) or len(node.input) < 3:
            continue
        zero = graph.constants.get(node.input[2])
        if zero is not None and (values := numpy_helper.to_array(zero)).any():
            point = int(np.ravel(values)[np.flatnonzero(values)[0]])
            reason = f"its zero point is {point}: TensorRT takes symmetric quantization, with zero points of 0, alone"
            found.append(Blocker(node.name, _product_after(graph, node), reason))
    return found


def _product_after(graph: _Graph, node: onnx.NodeProto) -> str:
    """Return the product that a quantized tensor enters."""
    reached = set(node.output)
    for later in graph.nodes:
        if reached & set(later.input):
            if later.op_type in _PRODUCTS:
                return str(later.name)
            if later.op_type in (*_MOVING, "DequantizeLinear"):
                reached.update(later.output)
    return str(node.name)


def _computed_scales(graph: _Graph) -> list[Blocker]:
    found = []
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" and node.input[1] not in graph.constants:
            maker = graph.found_before(node.input[1], _REDUCTIONS, ()) or graph.producer[node.input[1]]
            found.append(_computed(maker, _product_after(graph, node)))
        if node.op_type in _PRODUCTS and (weight := graph.weight_of(node)) and weight[1]:
            source = graph.source(node.input[0])
            if source is None or source.op_type == "DequantizeLinear":
                continue
            # Rounding that is written out: x / scale, Round, times scale. LayerNorm ends the way to the scale.
            ends = ("LayerNormalization", "Softmax", *_PRODUCTS)
            maker = graph.found_before(node.input[0], _REDUCTIONS, ends)
            if maker is None:
                found.append(
                    Blocker(source.name, node.name, f"what it makes enters {weight[0]} without being quantized")
                )
            else:
                found.append(_computed(maker, node.name))
    return found


def _computed(maker: onnx.NodeProto, product: str) -> Blocker:
    reason = "it computes a scale inside the graph: TensorRT multiplies in INT8 where scales are constants"
    return Blocker(maker.name, product, reason)


def _half_quantized_attention(graph: _Graph) -> list[Blocker]:
    found = []
    for softmax in graph.nodes:
        if softmax.op_type != "Softmax":
            continue
        scores = graph.found_before(softmax.input[0], ("MatMul",), ())
        mixed = [node for node in graph.nodes if node.op_type == "MatMul" and _reads(graph, node, softmax)]
        operands = [name for product in (scores, *mixed) if product is not None for name in product.input[:2]]
        sources = [graph.source(name) for name in operands]
        quantized = [node for node in sources if node is not None and node.op_type == "DequantizeLinear"]
        if quantized and len(quantized) < len(sources):
            first = graph.source(quantized[0].input[0]) or quantized[0]
            reason = (
                f"of this attention's q, k, v and softmax {len(quantized)} are quantized and "
                f"{len(sources) - len(quantized)} not: TensorRT fuses it where all are, or none"
            )
            found.append(Blocker(first.name, softmax.name, reason))
    return found


def _reads(graph: _Graph, product: onnx.NodeProto, softmax: onnx.NodeProto) -> bool:
    """Return whether a product's left operand is the softmax, quantized or not."""
    source = graph.source(product.input[0])
    while source is not None and source.op_type in ("QuantizeLinear", "DequantizeLinear"):
        source = graph.source(source.input[0])
    return source is softmax
