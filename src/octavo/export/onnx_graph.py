"""From a torch model to the canonical ONNX graph: packed layout, Q/DQ pairs, int8 weights, frozen scales.

The quantized linear layers are swapped for layers that emit `QuantizeLinear` and `DequantizeLinear`, with
int8 weights and scales as constants, so nothing has to be folded afterwards.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from octavo.encoder.model import Layer, Linear
from octavo.quantize.fake_quantize import int8_weight
from octavo.quantize.placement import QuantizedLinear, linears
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES, layout_from_batch

OPSET = 18  # the newest that TensorRT, OpenVINO and ONNX Runtime all run fast (17 to 20 load everywhere)
OUTPUT_NAME = "logits"


class _QdqLinear(nn.Module):
    """A linear layer written as Q/DQ around a MatMul. The weight is stored (in, out), as MatMul wants it."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor
    input_scale: Tensor
    input_zero: Tensor
    bias: Tensor

    def __init__(self, linear: QuantizedLinear, factor: Tensor, outputs: slice) -> None:
        super().__init__()
        levels, scale = int8_weight(linear.weight)
        scale = (scale * factor)[outputs]  # exact in the levels: only the scale of the outputs changes
        self.register_buffer("weight", levels[outputs].t().contiguous())  # (in, out)
        self.register_buffer("weight_scale", scale.clone())  # (out,)
        self.register_buffer("weight_zero", torch.zeros(len(scale), dtype=torch.int8))
        self.register_buffer("input_scale", linear.input_quantizer.scale.detach().clone())  # ()
        self.register_buffer("input_zero", torch.zeros((), dtype=torch.int8))
        self.register_buffer("bias", (linear.bias.detach() * factor)[outputs].clone())

    def forward(self, x: Tensor) -> Tensor:
        symbolic = torch.onnx.ops.symbolic
        quantizer = (self.input_scale, self.input_zero)
        levels = symbolic("QuantizeLinear", (x, *quantizer), dtype=torch.int8, shape=x.shape)
        dequantized = symbolic("DequantizeLinear", (levels, *quantizer), dtype=x.dtype, shape=x.shape)
        weight = symbolic(
            "DequantizeLinear",
            (self.weight, self.weight_scale, self.weight_zero),
            attrs={"axis": 1},
            dtype=x.dtype,
            shape=self.weight.shape,
        )
        return dequantized @ weight + self.bias


class _FloatLinear(nn.Module):
    """A float linear layer as MatMul and Add, so that float and quantized graphs differ in Q/DQ alone."""

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: Linear, factor: Tensor, outputs: slice) -> None:
        super().__init__()
        self.register_buffer("weight", (linear.weight.detach() * factor[:, None])[outputs].t().contiguous())
        self.register_buffer("bias", (linear.bias.detach() * factor)[outputs].clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _ExportedLinear(nn.Module):
    """A linear layer, or two where the last layer computes Q for the first tokens and K and V for all.

    The slices are cut here: sliced constants would stay in the graph and hide the weights from the engines.
    """

    def __init__(self, linear: Linear, factor: Tensor, slices: Sequence[slice]) -> None:
        super().__init__()
        form = _QdqLinear if isinstance(linear, QuantizedLinear) else _FloatLinear
        self.slices = list(slices)
        self.parts = nn.ModuleList(form(linear, factor, part) for part in slices)  # type: ignore[arg-type]

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        return self.parts[self.slices.index(outputs)](x)  # type: ignore[no-any-return]


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention whose scale has been folded into Q: fewer nodes, and the pattern that every engine fuses."""
    return torch.softmax(query @ key.transpose(-2, -1) + mask, dim=-1) @ value


def _prepare(model: nn.Module) -> None:
    """Swap layers for their exported forms, in place."""
    layers = [module for module in model.modules() if isinstance(module, Layer)]
    for layer in layers:
        hidden = layer.heads * layer.head_size
        scale_query = torch.ones(3 * hidden)
        scale_query[:hidden] = layer.head_size**-0.5
        first_only = [slice(0, hidden), slice(hidden, None)]
        for name, linear in linears(layer).items():
            is_qkv = name == "qkv"
            factor = scale_query if is_qkv else torch.ones(linear.out_features)
            slices = first_only if is_qkv and layer is layers[-1] else [slice(None)]
            setattr(layer, name, _ExportedLinear(linear, factor, slices))
        layer.attention = _attention


def onnx_from_model(model: nn.Module) -> onnx.ModelProto:
    """Export a float or fake-quantized model, in evaluation mode, with dynamic tokens, batch and length.

    Returns:
        A checked ONNX model with inputs `INPUT_NAMES` and the output `logits`, (batch, outputs).
    """
    model = copy.deepcopy(model).eval()
    _prepare(model)
    layout = layout_from_batch(TokenBatch.from_sequences([[5, 6, 7], [5, 6, 7, 8, 9], [5, 6, 7, 8]]))
    example = tuple(torch.from_numpy(getattr(layout, name)) for name in INPUT_NAMES)
    tokens, batch, length = (torch.export.Dim(name) for name in ("tokens", "batch", "length"))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
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
                {0: batch},
            ),
        )
    assert program is not None
    graph = program.model_proto
    _strip(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter noted for debugging: stack traces hold local paths and change the hash."""
    for holder in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input):
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
        if hasattr(holder, "doc_string"):
            holder.doc_string = ""


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
