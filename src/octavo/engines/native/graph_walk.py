"""Walking an ONNX graph backwards, one expected node at a time.

Whoever walks says what must have made a tensor; anything else is an `UnknownGraphError` that names the node. In the end
every node must have been walked, so that nothing in a graph is left out unseen. Knows ONNX, and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


class UnknownGraphError(Exception):
    """A graph that is not what the walker expected. Says where."""


class GraphWalk:
    """A graph, and which of its nodes have been seen.

    Attributes:
        sizes: what the sizes of inputs are called, such as `{"slots[0]": "batch"}`.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        nodes: how many there are.
    """

    def __init__(self, graph: onnx.GraphProto, numbers: Sequence[memoryview | None]) -> None:
        """Walk nothing yet. `numbers` are those of the graph's initializers, or None where they are in the graph."""
        self._makers: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            for output in node.output:
                if output in self._makers:
                    raise UnknownGraphError(f"tensor {output} is made twice")
                self._makers[output] = node
        self._constants = {tensor.name: (tensor, raw) for tensor, raw in zip(graph.initializer, numbers, strict=True)}
        self._nodes = list(graph.node)
        self._seen: set[int] = set()
        self.sizes: dict[str, str] = {}
        self.inputs = {value.name for value in graph.input} - self._constants.keys()
        self.outputs = [value.name for value in graph.output]
        self.nodes = len(self._nodes)

    def kind(self, tensor: str) -> str:
        """Return the operation that made a tensor, or `""` for an input or a constant."""
        return self._makers[tensor].op_type if tensor in self._makers else ""

    def made_by(self, tensor: str, op_type: str, **attributes: Any) -> list[str]:
        """Return the inputs of the node that made `tensor`, which must be of this type with these attributes.

        Raises:
            UnknownGraphError: it is not.
        """
        node = self._makers.get(tensor)
        if node is None or node.op_type != op_type or node.domain:
            found = "an input or a constant" if node is None else f"{node.op_type} {node.name}"
            raise UnknownGraphError(f"tensor {tensor} comes from {found}, not from {op_type}")
        self._seen.add(id(node))
        found_attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for name, expected in attributes.items():
            if found_attributes.get(name) != expected:
                raise UnknownGraphError(
                    f"{op_type} {node.name} has {name} = {found_attributes.get(name)}, not {expected}"
                )
        return list(node.input)

    def attribute(self, tensor: str, name: str) -> Any:
        """Return an attribute of the node that made `tensor`; None where it has none of this name."""
        return next(
            (onnx.helper.get_attribute_value(a) for a in self._makers[tensor].attribute if a.name == name), None
        )

    def operands(self, tensor: str, op_type: str) -> tuple[str, str]:
        """Return the inputs of a commutative node of which one is a constant: the computed one, then the constant.

        Raises:
            UnknownGraphError: another node, or no constant.
        """
        left, right = self.made_by(tensor, op_type)
        if left in self._constants:
            left, right = right, left
        if left in self._constants or right not in self._constants:
            raise UnknownGraphError(f"{op_type} that makes {tensor} has no constant")
        return left, right

    def is_constant(self, tensor: str) -> bool:
        """Return whether a tensor is a constant of the graph."""
        return tensor in self._constants

    def constant_operand(self, tensor: str) -> bool:
        """Return whether an input of the node that made `tensor` is a constant."""
        return any(name in self._constants for name in self._makers[tensor].input)

    def output_place(self, tensor: str) -> int:
        """Return which output of its node a tensor is."""
        return list(self._makers[tensor].output).index(tensor)

    def array(self, tensor: str, dtype: npt.DTypeLike, rank: int) -> npt.NDArray[Any]:
        """Return a constant's values.

        Raises:
            UnknownGraphError: no constant, or one of another type or rank.
        """
        if tensor not in self._constants:
            raise UnknownGraphError(f"tensor {tensor} is no constant")
        constant, raw = self._constants[tensor]
        if constant.data_location == onnx.TensorProto.EXTERNAL:
            raise UnknownGraphError(f"tensor {tensor} lies in another file")
        try:
            values = numpy_helper.to_array(constant) if raw is None else _array_from_raw(constant, raw)
        except Exception as error:  # its errors share no base class
            raise UnknownGraphError(f"tensor {tensor} cannot be read: {error}") from None
        if values.dtype != dtype or values.ndim != rank:
            raise UnknownGraphError(
                f"tensor {tensor} is {values.dtype} of rank {values.ndim}, not {np.dtype(dtype)} of rank {rank}"
            )
        return np.ascontiguousarray(values) if rank else values

    def scalar(self, tensor: str) -> float:
        """Return a constant of one float."""
        return float(self.array(tensor, np.float32, 0))

    def expect_scalar(self, tensor: str, expected: float) -> None:
        """Raise UnknownGraphError unless the constant is this number, to the precision of a float."""
        value = self.scalar(tensor)
        if not abs(value - expected) <= 1e-6 * abs(expected):
            raise UnknownGraphError(f"constant {tensor} is {value}, not {expected}")

    def expect_integers(self, tensor: str, expected: Sequence[int]) -> None:
        """Raise UnknownGraphError unless the constant is this list of whole numbers."""
        found = self.array(tensor, np.int64, 1).tolist()
        if found != list(expected):
            raise UnknownGraphError(f"constant {tensor} is {found}, not {list(expected)}")

    def shape(self, tensor: str) -> list[int | str]:
        """Return a shape that the graph states or puts together: whole numbers, and names of sizes as in `sizes`."""
        parts = [tensor] if self.is_constant(tensor) else self.made_by(tensor, "Concat", axis=0)
        return [size for part in parts for size in self._part_of_shape(part)]

    def _part_of_shape(self, tensor: str) -> list[int | str]:
        if self.is_constant(tensor):
            return list(self.array(tensor, np.int64, 1).tolist())
        (source,) = self.made_by(tensor, "Shape")
        start, end = self.attribute(tensor, "start") or 0, self.attribute(tensor, "end")
        if source not in self.inputs or end is None:
            raise UnknownGraphError(f"shape {tensor} is not that of an input's axis")
        names = [f"{source}[{axis}]" for axis in range(start, end)]
        return [self.sizes.get(name, name) for name in names]

    def expect_shape(self, tensor: str, expected: Sequence[int | str]) -> None:
        """Raise UnknownGraphError unless the shape is this one."""
        found = self.shape(tensor)
        if found != list(expected):
            raise UnknownGraphError(f"shape {tensor} is {found}, not {list(expected)}")

    def expect_input(self, tensor: str, name: str) -> None:
        """Raise UnknownGraphError unless the tensor is this input of the graph."""
        if tensor != name or name not in self.inputs:
            raise UnknownGraphError(f"tensor {tensor} is not the input {name}")

    def expect_same(self, tensor: str, other: str) -> None:
        """Raise UnknownGraphError unless both are one tensor."""
        if tensor != other:
            raise UnknownGraphError(f"tensor {tensor} stands where {other} should")

    def finish(self) -> None:
        """Raise UnknownGraphError where a node has not been walked."""
        for node in self._nodes:
            if id(node) not in self._seen:
                raise UnknownGraphError(f"{node.op_type} {node.name} is not part of the model")


def _array_from_raw(constant: onnx.TensorProto, raw: memoryview) -> npt.NDArray[Any]:
    """Return a copy of a constant's numbers, which lie where they lie: no processor is asked to read them there."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(constant.data_type).newbyteorder("<")
    return np.frombuffer(raw, dtype).reshape(tuple(constant.dims)).copy()
