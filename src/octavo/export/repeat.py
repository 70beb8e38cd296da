"""The graph of a deep encoder out of that of three layers: the one in the middle, repeated.

Tracing costs time for every layer, and layers between the first and the last differ in their tensors alone. Knows how
our encoder names those (`encoder.layers.<number>.`), and nothing of what a layer does.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

TRACED = 3  # the first layer makes what all share, the last one may compute one token only

_LAYERS = "encoder.layers."


def with_layers(graph: onnx.ModelProto, layers: int) -> onnx.ModelProto:
    """Return the graph of `layers` layers out of that of three, whose middle layer is repeated.

    The copies' constants are the middle layer's, under their own names: whoever traced with tensors that mean nothing
    writes the real ones in anyway.

    Raises:
        ValueError: what the middle layer computes is used elsewhere than in the layer that follows.
    """
    nodes = list(graph.graph.node)
    start, end = _end_of(0, nodes), _end_of(1, nodes)
    entry, leaves = nodes[start - 1].output[0], nodes[end - 1].output[0]
    before, block, after = nodes[:start], nodes[start:end], nodes[end:]
    made = {name for node in block for name in node.output}
    if used := {name for node in after for name in node.input} & made - {leaves}:
        raise ValueError(f"{sorted(used)} of the middle layer are used beyond it")
    copies = range(2, layers - 1)
    shapes = [info for info in graph.graph.value_info if info.name in made]
    repeated: list[onnx.NodeProto] = []
    latest = leaves
    for number in copies:
        names = {name: f"{name}_layer_{number}" for name in made} | {entry: latest}
        repeated += [_copied(node, names, number) for node in block]
        latest = names[leaves]
    final = [_copied(node, {leaves: latest}, layers - 1, of=2) for node in after]
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    del result.graph.node[:]
    result.graph.node.extend([*before, *block, *repeated, *final])
    _repeat_constants(result.graph, layers)
    for number in copies:
        for info in shapes:
            result.graph.value_info.add().CopyFrom(info)
            result.graph.value_info[-1].name = f"{info.name}_layer_{number}"
    return result


def _end_of(layer: int, nodes: Iterable[onnx.NodeProto]) -> int:
    """Return the number of the node after a layer's last one, its second normalization."""
    last = f"{_LAYERS}{layer}.ffn_norm.weight"
    return next(number for number, node in enumerate(nodes, 1) if last in node.input)


def _copied(node: onnx.NodeProto, names: dict[str, str], layer: int, of: int = 1) -> onnx.NodeProto:
    """Return a node with other names for values, and with the parameters of `layer` for those of layer `of`."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, _of_layer(name, of, layer)) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    copy.name = f"{node.name}_layer_{layer}" if of == 1 else node.name
    return copy


def _of_layer(name: str, old: int, new: int) -> str:
    prefix = f"{_LAYERS}{old}."
    return f"{_LAYERS}{new}.{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def _repeat_constants(graph: onnx.GraphProto, layers: int) -> None:
    """Name the last layer's constants anew, and give every copy of the middle layer some of its own."""
    for tensor in graph.initializer:
        tensor.name = _of_layer(tensor.name, 2, layers - 1)
    for tensor in list(graph.initializer):
        for number in range(2, layers - 1):
            if (name := _of_layer(tensor.name, 1, number)) != tensor.name:
                graph.initializer.add().CopyFrom(tensor)
                graph.initializer[-1].name = name
