"""Lossless rewrites of the canonical graph for engines that want another spelling of the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_SHIFT = 128  # int8 level + 128 = uint8 level


def u8_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with activations in uint8 around zero point 128 in place of int8 around 0.

    Levels, scales and results are the same; ONNX Runtime fuses this spelling on x86. Weights stay int8, each with
    zero points of its own: where ONNX Runtime rewrites weights (x86 without VNNI), it cannot share them.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    zero = numpy_helper.from_array(np.array(_SHIFT, np.uint8), "activation_zero_u8")
    twin.graph.initializer.append(zero)
    for number, node in enumerate(twin.graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if node.input[0] in constants:  # a weight
            own = twin.graph.initializer.add()
            own.CopyFrom(constants[node.input[2]])
            own.name = node.input[2] = f"weight_zero_{number}"
        else:
            node.input[2] = zero.name
    used = {name for node in twin.graph.node for name in node.input}
    kept = [tensor for tensor in twin.graph.initializer if tensor.name in used]
    del twin.graph.initializer[:]
    twin.graph.initializer.extend(kept)
    del twin.graph.value_info[:]  # they name the levels' old type
    onnx.checker.check_model(twin, full_check=True)
    return twin
