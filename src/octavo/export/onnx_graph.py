"""From a torch model to the canonical ONNX graph: packed layout, Q/DQ pairs, int8 weights, frozen scales.

Tracing takes seconds and depends on sizes alone, so each size is traced once, with three layers where the others are
like the second, and every model of that size is written into a copy of its graph.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from octavo.export.layers import exported_form
from octavo.export.repeat import TRACED, with_layers
from octavo.tasks.base import Reads
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, layout_from_batch

OPSET = 18  # the newest that TensorRT, OpenVINO and ONNX Runtime all run fast (17 to 20 load everywhere)
OUTPUT_NAME = "output"

_MOST_TRACES = 4
_traces: dict[str, onnx.ModelProto] = {}


def onnx_from_model(model: nn.Module) -> onnx.ModelProto:
    """Export a float or fake-quantized model, in evaluation mode, with dynamic tokens, batch and length.

    Returns:
        A checked ONNX model with inputs `INPUT_NAMES` and the output `OUTPUT_NAME`, (reads, width).
    """
    form = exported_form(model)
    shapes = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in form.state_dict().items()]
    # The number of heads and the activations show in the configuration alone, what the head reads nowhere else.
    key = f"{form.config} {form.reads} {form.get_submodule('head').normalize} {form} {shapes}"
    if key not in _traces:
        while len(_traces) >= _MOST_TRACES:
            del _traces[next(iter(_traces))]
        _traces[key] = _traced(form)
    graph = onnx.ModelProto()
    graph.CopyFrom(_traces[key])
    _write_tensors(graph, form.state_dict())
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _traced(form: nn.Module) -> onnx.ModelProto:
    """Return the form's graph, whose tensors mean nothing yet."""
    layers = form.get_submodule("encoder.layers")
    assert isinstance(layers, nn.ModuleList)
    if len(layers) <= TRACED or not _all_alike(layers[1:-1]):
        return _traced_whole(form)
    encoder = form.get_submodule("encoder")
    try:
        encoder.layers = nn.ModuleList([layers[0], layers[1], layers[-1]])
        graph = _traced_whole(form)
    finally:
        encoder.layers = layers
    return with_layers(graph, len(layers))


def _all_alike(layers: nn.ModuleList) -> bool:
    """Return whether layers differ in the values of their tensors alone."""
    described = {str([(name, t.shape, t.dtype) for name, t in one.state_dict().items()]) + str(one) for one in layers}
    return len(described) == 1


def _traced_whole(form: nn.Module) -> onnx.ModelProto:
    """Trace with random tensors: the exporter merges equal constants, and no two of these are equal."""
    kept = {name: tensor.clone() for name, tensor in form.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for name, tensor in form.state_dict().items():
                if not name.endswith("_zero"):  # zero points are zero in every model, and may be merged
                    tensor.copy_(
                        torch.randint(1, 127, tensor.shape, generator=generator)
                        + torch.rand(tensor.shape, generator=generator)
                    )
        graph = _exported(form)
    finally:
        form.load_state_dict(kept)
    _strip(graph)
    known = set(kept)
    unknown = [
        t.name
        for t in graph.graph.initializer
        if t.name not in known and t.data_type == onnx.TensorProto.FLOAT and t.dims
    ]
    assert not unknown, f"the exporter computed {unknown} from the model's tensors"
    return graph


def _write_tensors(graph: onnx.ModelProto, tensors: dict[str, Tensor]) -> None:
    """Replace the graph's constants by the model's tensors of the same name, in place."""
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, tensor in tensors.items():
        if name in constants:
            constants[name].CopyFrom(numpy_helper.from_array(tensor.detach().contiguous().numpy(), name))
        else:
            assert name.endswith("_zero"), f"the traced graph has no constant {name}"


def _exported(form: nn.Module) -> onnx.ModelProto:
    # A head that reads words reads another number of tokens than there are sequences; sizes that differ stay apart.
    reads = [[0, 1], [0, 2], [0, 1, 3]] if str(form.reads) == Reads.WORDS else None
    layout = layout_from_batch(TokenBatch.from_sequences([[5, 6, 7], [5, 6, 7, 8, 9], [5, 6, 7, 8]], reads=reads))
    example = tuple(torch.from_numpy(getattr(layout, name)) for name in INPUT_NAMES)
    tokens, batch, length, read = (torch.export.Dim(name) for name in ("tokens", "batch", "length", "reads"))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            form,
            example,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(INPUT_NAMES),
            output_names=[OUTPUT_NAME],
            dynamic_shapes=(
                {0: tokens},
                {0: tokens},
                {0: batch, 1: length},
                {0: batch, 1: length},
                {0: tokens},
                {0: read if reads else batch},
            ),
        )
    assert program is not None
    return program.model_proto


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter noted for debugging: stack traces hold local paths and change the hash."""
    for holder in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input):
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
        if hasattr(holder, "doc_string"):
            holder.doc_string = ""
    # Types of constants are said twice; tools that transpose a constant (ONNX Runtime's quantizer) trip over the copy.
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in constants]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress notes and deprecation warnings off the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
