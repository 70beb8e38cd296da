"""How an encoder's layers are written down in ONNX: linear layers as MatMul, quantized ones with their Q/DQ pairs.

The quantized forms emit `QuantizeLinear` and `DequantizeLinear` themselves, with int8 weights and scales as constants,
so nothing has to be folded afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo.encoder.model import Embeddings, Layer, Linear
from octavo.quantize.fake_quantize import ActivationQuantizer, TokenQuantizer, int8_weight, token_scales
from octavo.quantize.placement import QuantizedLinear, linears


def exported_form(model: nn.Module) -> nn.Module:
    """Return a copy of the model with every layer in its exported form; its tensors are the graph's constants."""
    model = copy.deepcopy(model).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, Embeddings):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _ExportedEmbeddings(module))
    reads_one = bool(model.reads_one)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # has no part in a graph, and graphs of one size are traced once
    layers = [module for module in model.modules() if isinstance(module, Layer)]
    for layer in layers:
        hidden = layer.heads * layer.head_size
        scale_qkv = torch.ones(3 * hidden)
        scale_qkv[:hidden] = layer.head_size**-0.5
        scale_qkv[2 * hidden :] /= _take_smoothing(layer.attention_output)
        query_apart = [slice(0, hidden), slice(hidden, None)]
        for name, linear in linears(layer).items():
            is_qkv = name == "qkv"
            factor = scale_qkv if is_qkv else torch.ones(linear.out_features)
            slices = query_apart if is_qkv and reads_one and layer is layers[-1] else [slice(None)]
            setattr(layer, name, _ExportedLinear(linear, factor, slices))
        layer.attention = _attention
    return model


def _take_smoothing(linear: Linear) -> Tensor | float:
    """Return the factors that a layer's input is divided by, and leave the division to whoever makes the input.

    The attention context is a mean of V's rows, channel by channel: to divide V's outputs is the same, and as they only
    change the scales of V's weights, it costs nothing.
    """
    if not isinstance(linear, QuantizedLinear) or linear.smoothing is None:
        return 1.0
    smoothing = linear.smoothing
    linear.weight = nn.Parameter(linear.smoothed_weight.detach())
    linear.smoothing = None
    return smoothing


class _ExportedEmbeddings(nn.Module):
    """Embeddings with the segments' rows already added to the position table."""

    positions: Tensor

    def __init__(self, embeddings: Embeddings) -> None:
        super().__init__()
        self.words, self.norm = embeddings.words, embeddings.norm
        self.register_buffer("positions", embeddings.position_table().detach().clone())

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        return self.norm(self.words(input_ids) + F.embedding(position_ids, self.positions))  # type: ignore[no-any-return]


class _QuantizedForm(nn.Module):
    """A quantized linear layer: levels times int8 weights, stored (in, out) as MatMul wants them."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor
    input_factor: Tensor | None
    bias: Tensor

    def __init__(self, linear: QuantizedLinear, factor: Tensor, outputs: slice) -> None:
        super().__init__()
        levels, scale = int8_weight(linear.smoothed_weight)
        scale = (scale * factor)[outputs]  # exact in the levels: only the scale of the outputs changes
        self.register_buffer("weight", levels[outputs].t().contiguous())  # (in, out)
        self.register_buffer("weight_scale", scale.clone())  # (out,)
        self.register_buffer("weight_zero", torch.zeros(len(scale), dtype=torch.int8))
        smoothing = linear.smoothing
        self.register_buffer("input_factor", None if smoothing is None else 1 / smoothing)  # (in,)
        self.register_buffer("bias", (linear.bias.detach() * factor)[outputs].clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.input_factor is not None:
            x = x * self.input_factor
        weight = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (self.weight, self.weight_scale, self.weight_zero),
            attrs={"axis": 1},
            dtype=x.dtype,
            shape=self.weight.shape,
        )
        return self._rounded(x) @ weight + self.bias

    def _rounded(self, x: Tensor) -> Tensor:
        """Return the input as its levels stand for it, same shape."""
        raise NotImplementedError


class _PerTensorLinear(_QuantizedForm):
    """One constant scale for the input: the Q/DQ pair that every engine folds into its INT8 kernels."""

    input_scale: Tensor
    input_zero: Tensor

    def __init__(self, linear: QuantizedLinear, factor: Tensor, outputs: slice) -> None:
        super().__init__(linear, factor, outputs)
        assert isinstance(linear.input_quantizer, ActivationQuantizer)
        self.register_buffer("input_scale", linear.input_quantizer.scale.detach().clone())  # ()
        self.register_buffer("input_zero", torch.zeros((), dtype=torch.int8))

    def _rounded(self, x: Tensor) -> Tensor:
        symbolic = torch.onnx.ops.symbolic
        quantizer = (self.input_scale, self.input_zero)
        levels = symbolic("QuantizeLinear", (x, *quantizer), dtype=torch.int8, shape=x.shape)
        return symbolic("DequantizeLinear", (levels, *quantizer), dtype=x.dtype, shape=x.shape)


class _PerTokenLinear(_QuantizedForm):
    """A scale for each row of the input, computed in the graph: exact everywhere, INT8 in the native engine alone.

    Written out, as no operator of this opset quantizes rows by scales that it is given.
    """

    def _rounded(self, x: Tensor) -> Tensor:
        scale = token_scales(x)  # (rows, 1)
        return torch.round(x / scale) * scale


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
    """A linear layer, or two where the last layer computes Q for one token of each sequence and K and V for all.

    The slices are cut here: sliced constants would stay in the graph and hide the weights from the engines.
    """

    def __init__(self, linear: Linear, factor: Tensor, slices: Sequence[slice]) -> None:
        super().__init__()
        form = _form_of(linear)
        self.slices = list(slices)
        self.parts = nn.ModuleList(form(linear, factor, part) for part in slices)

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        return self.parts[self.slices.index(outputs)](x)  # type: ignore[no-any-return]


def _form_of(linear: Linear) -> Any:
    """Return the class that writes a linear layer down."""
    if not isinstance(linear, QuantizedLinear):
        return _FloatLinear
    return _PerTokenLinear if isinstance(linear.input_quantizer, TokenQuantizer) else _PerTensorLinear


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention whose scale has been folded into Q: fewer nodes, and the pattern that every engine fuses."""
    return torch.softmax(query @ key.transpose(-2, -1) + mask, dim=-1) @ value
