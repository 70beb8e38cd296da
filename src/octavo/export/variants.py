"""Lossless rewrites of the canonical graph for engines that want another spelling of the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_SHIFT = 128  # int8 level + 128 = uint8 level


def u8_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with activations in uint8 around zero point 128 in place of int8 around 0.

    Levels, scales and results are the same; ONNX Runtime fuses this spelling on x86. Weights stay int8.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    constants = {tensor.name for tensor in twin.graph.initializer}
    zero = numpy_helper.from_array(np.array(_SHIFT, np.uint8), "activation_zero_u8")
    twin.graph.initializer.append(zero)
    for node in twin.graph.node:
        quantizes = node.op_type == "QuantizeLinear"
        # A DequantizeLinear whose input is a constant holds a weight.
        if quantizes or (node.op_type == "DequantizeLinear" and node.input[0] not in constants):
            node.input[2] = zero.name
    used = {name for node in twin.graph.node for name in node.input}
    kept = [tensor for tensor in twin.graph.initializer if tensor.name in used]
    del twin.graph.initializer[:]
    twin.graph.initializer.extend(kept)
    del twin.graph.value_info[:]  # they name the levels' old type
    onnx.checker.check_model(twin, full_check=True)
    return twin
