"""The fp16 twin of a graph: what TensorRT builds from, as its INT8 kernels and fused attention want fp16 around them.

Embeddings, attention, LayerNorm, residuals, products, activations and head are fp16. What stays fp32 has a reason to:
Q/DQ pairs with the smoothing before them, so that scales keep their value and TensorRT writes INT8 products down in
fp32 (fp16 could not hold them before they are scaled); sums over many values (pooling, lengths of vectors); the
statistics of LayerNorm, by its `stash_type`. Inputs and output keep their types.

Knows nothing of engines; what one makes of the twin is read by `octavo.engines.plan_layers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference

from octavo.errors import ModelError
from octavo.text.layout import PackedLayout
from octavo.types import FloatArray

FP16_MAX = 65_504.0

_SUFFIX = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_PRODUCTS = ("MatMul", "Gemm")
# Sums and least values: they meet numbers that fp16 rounds to infinity or to zero.
_STATISTICS = ("ReduceSum", "ReduceMax", "Clip")


@dataclass(frozen=True, slots=True)
class Overflow:
    """A channel that would leave the fp16 range.

    Attributes:
        tensor: its name in the graph.
        after: the last parameter that went into it, such as `encoder.layers.3.ffn2.parts.0.bias`; empty for none.
        channel: index in the tensor's last dimension.
        value: the largest magnitude seen, infinity for a NaN.
    """

    tensor: str
    after: str
    channel: int
    value: float

    def __str__(self) -> str:
        return f"channel {self.channel} of {self.tensor} (after {self.after or 'the inputs'}) reaches {self.value:,.0f}"


def fp16_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16, with fp32 where the module says so. Quantized and float graphs alike.

    Raises:
        ModelError: a weight lies outside the fp16 range.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    rewriter = _Rewriter(model)
    for node in model.graph.node:
        graph.node.extend(rewriter.rewritten(node))
    graph.initializer.extend(rewriter.constants())
    onnx.checker.check_model(twin, full_check=True)
    return twin


class _Rewriter:
    """Gives each node its precision, and puts a Cast where a tensor is made in one and used in the other."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._floats = _float_tensors(model)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._outputs = {value.name for value in graph.output}
        self._kept = _kept_in_fp32(graph)
        self._made: dict[str, int] = {}  # the precision that a tensor is made in; inputs are fp32
        self._cast: set[str] = set()
        self._used: dict[tuple[str, int], TensorProto] = {}

    def rewritten(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yield the node in its precision, with the casts that it needs around it."""
        is_fp32 = node.output[0] in self._kept or node.op_type == "Cast"
        precision = TensorProto.FLOAT if is_fp32 else TensorProto.FLOAT16
        written = onnx.NodeProto()
        written.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in self._constants:
                written.input[place] = self._constant(name, precision)
            elif name in self._floats and self._made.get(name, TensorProto.FLOAT) != precision:
                written.input[place] = f"{name}_{_SUFFIX[precision]}"
                yield from self._cast_once(name, precision)
        for place, name in enumerate(node.output):
            if name in self._outputs and not is_fp32:  # an output keeps its type
                written.output[place] = f"{name}_{_SUFFIX[precision]}"
                yield written
                yield _cast(written.output[place], name, TensorProto.FLOAT)
                return
            self._made[name] = precision
        yield written

    def constants(self) -> Iterable[TensorProto]:
        """Return the constants in the precisions that they were asked for."""
        return self._used.values()

    def _cast_once(self, name: str, precision: int) -> Iterator[onnx.NodeProto]:
        cast = f"{name}_{_SUFFIX[precision]}"
        if cast not in self._cast:
            self._cast.add(cast)
            yield _cast(name, cast, precision)

    def _constant(self, name: str, precision: int) -> str:
        """Return the name of a constant in a precision; what is no float stays what it is."""
        tensor = self._constants[name]
        if tensor.data_type != TensorProto.FLOAT:
            precision = tensor.data_type
        if (name, precision) not in self._used:
            # The first use keeps the name, so that weights are called what they are called in the canonical graph.
            is_first = not any(used == name for used, _ in self._used)
            written = TensorProto()
            written.CopyFrom(tensor)
            if precision == TensorProto.FLOAT16:
                written = numpy_helper.from_array(_in_fp16(name, numpy_helper.to_array(tensor)))
            written.name = name if is_first else f"{name}_{_SUFFIX[precision]}"
            self._used[name, precision] = written
        return str(self._used[name, precision].name)


def _in_fp16(name: str, values: FloatArray) -> npt.NDArray[np.float16]:
    worst = float(np.abs(values).max(initial=0.0))
    if worst > FP16_MAX:  # a NaN goes through, for engines to find
        raise ModelError(
            f"The weight {name} holds {worst:,.0f}, and fp16 ends at {FP16_MAX:,.0f}: this model has no fp16 twin. "
            "Use another engine than TensorRT."
        )
    return values.astype(np.float16)


def _cast(source: str, target: str, precision: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=precision)


def _float_tensors(model: onnx.ModelProto) -> dict[str, int]:
    """Return the graph's fp32 inputs and computed tensors with their width; 1 where the last size is not fixed."""
    graph = shape_inference.infer_shapes(model).graph
    floats = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT:
            floats[value.name] = (kind.shape.dim[-1].dim_value or 1) if kind.shape.dim else 1
    return floats


def _kept_in_fp32(graph: onnx.GraphProto) -> set[str]:
    """Return the first outputs of the nodes that stay fp32."""
    producer = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    kept: set[str] = set()
    for node in graph.node:  # in topological order, so that what follows a sum is met after it
        after = consumers.get(node.output[0], [])
        if (
            node.op_type in _QDQ
            or node.op_type in _STATISTICS
            or (node.op_type == "Mul" and {one.op_type for one in after} in ({"QuantizeLinear"}, {"ReduceSum"}))
            or (node.op_type not in _PRODUCTS and any(_is_sum(producer.get(name), kept) for name in node.input))
        ):
            kept.add(node.output[0])
    return kept


def _is_sum(node: onnx.NodeProto | None, kept: set[str]) -> bool:
    """Return whether a node is a sum over many values, or was computed from one."""
    ops = ("ReduceSum", "Div", "Sqrt", "Reciprocal", "Clip")
    return node is not None and node.output[0] in kept and node.op_type in ops


def fp16_overflow(model: onnx.ModelProto, layouts: Iterable[PackedLayout]) -> list[Overflow]:
    """Run real inputs through a graph in fp32, and return the channels that would leave the fp16 range in its twin.

    Args:
        model: the canonical graph, quantized or float.
        layouts: inputs such as users send; the activations of random tokens say little.

    Returns:
        The worst first; none where the twin is safe for these inputs.
    """
    floats, kept = _float_tensors(model), _kept_in_fp32(model.graph)
    watched = [name for node in model.graph.node for name in node.output if name in floats and name not in kept]
    session = _session(model, watched)
    inputs = [value.name for value in session.get_inputs()]
    worst: dict[str, FloatArray] = {}
    for layout in layouts:
        values = session.run(watched, {name: getattr(layout, name) for name in inputs})
        for name, value in zip(watched, values, strict=True):
            # What has no width of its own, such as attention scores, is judged as one channel.
            amax = np.abs(value.reshape(-1, floats[name])).max(axis=0, initial=0.0)  # (channels,)
            worst[name] = np.maximum(worst.get(name, np.float32(0.0)), np.nan_to_num(amax, nan=np.inf, posinf=np.inf))
    found = [
        Overflow(name, _last_parameter(model.graph, name), int(channel), float(amax[channel]))
        for name, amax in worst.items()
        for channel in np.flatnonzero(amax > FP16_MAX)
    ]
    return sorted(found, key=lambda one: -one.value)


def _session(model: onnx.ModelProto, outputs: Iterable[str]) -> onnxruntime.InferenceSession:
    """Return ONNX Runtime with intermediate tensors as outputs, computed as the graph is written."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in shown.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _last_parameter(graph: onnx.GraphProto, tensor: str) -> str:
    """Return the nearest parameter on the way back from a tensor; parameters have dotted names."""
    producer = {name: node for node in graph.node for name in node.output}
    constants = {one.name for one in graph.initializer}
    front, seen = [tensor], {tensor}
    while front:
        names = [name for one in front if one in producer for name in producer[one].input]
        if named := [name for name in names if name in constants and "." in name]:
            return str(named[-1])
        front = [name for name in names if name not in seen]
        seen.update(front)
    return ""
