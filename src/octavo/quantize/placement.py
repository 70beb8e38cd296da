"""Where the encoder is quantized: the input and the weight of every linear layer inside it, and nothing else.

So the quantized tensors are each LayerNorm output that feeds a linear layer, the attention context and the
GELU output. Residuals take the float value; embeddings, softmax, attention products and the head stay float.
This is the placement for which TensorRT keeps its fused attention and OpenVINO its INT8 kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo.encoder.model import Linear
from octavo.quantize.fake_quantize import (
    ActivationQuantizer,
    TokenQuantizer,
    fake_quantize_weight,
    scale_from_amax,
)
from octavo.quantize.observers import Histogram, amax_from_histogram
from octavo.types import Observer

Watcher = Callable[..., None]


class QuantizedLinear(Linear):
    """A linear layer whose input and weight are fake-quantized, the input after its channels were smoothed.

    The input's scale is one for all where `amax` is given, else each token's own.
    """

    smoothing: Tensor | None
    input_quantizer: ActivationQuantizer | TokenQuantizer

    def __init__(self, linear: Linear, amax: float | None, smoothing: Tensor | None = None) -> None:
        super().__init__(linear.in_features, linear.out_features)
        self.weight, self.bias = linear.weight, linear.bias
        self.input_quantizer = TokenQuantizer() if amax is None else ActivationQuantizer(amax)
        self.register_buffer("smoothing", smoothing)

    @property
    def smoothed_weight(self) -> Tensor:
        """The weight that is quantized, (out, in)."""
        return self.weight if self.smoothing is None else self.weight * self.smoothing

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        """Map (rows, in) to (rows, out), or to the columns of `outputs`."""
        weight = fake_quantize_weight(self.smoothed_weight)
        if self.smoothing is not None:
            x = x * (1 / self.smoothing)
        return F.linear(self.input_quantizer(x), weight[outputs], self.bias[outputs])


def linears(model: nn.Module) -> dict[str, Linear]:
    """Return the linear layers that are quantized, by name, in the order of execution."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


@torch.no_grad()
def calibrate(
    model: nn.Module, batches: Iterable[tuple[Tensor, ...]], smoothing: Mapping[str, Tensor] | None = None
) -> dict[str, Histogram]:
    """Run the float model and count what enters each linear layer, smoothed where there are factors for it.

    Args:
        model: a model with unquantized `Linear` layers, in evaluation mode.
        batches: the model's positional arguments, one tuple a batch.

    Returns:
        A histogram per linear layer, by name.
    """
    histograms: dict[str, Histogram] = {name: Histogram() for name in linears(model)}

    def watcher(name: str) -> Watcher:
        factors = (smoothing or {}).get(name)

        def count(x: Tensor, outputs: slice = slice(None)) -> None:
            # The last layer asks QKV for Q of the first tokens, then for K and V of all: count no token twice.
            if outputs.stop is None:
                histograms[name].add(x if factors is None else x * (1 / factors))

        return count

    run_watched(model, batches, {name: watcher(name) for name in histograms})
    return histograms


def run_watched(model: nn.Module, batches: Iterable[tuple[Tensor, ...]], watchers: Mapping[str, Watcher]) -> None:
    """Run a model, and show to each watcher what its linear layer is called with, before it is.

    Args:
        model: a model with `Linear` layers.
        batches: the model's positional arguments, one tuple a batch.
        watchers: by name of the layer; called with the layer's arguments.
    """
    layers = linears(model)

    def hook(watch: Watcher) -> Any:
        return lambda _module, args: watch(*args)

    handles = [layers[name].register_forward_pre_hook(hook(watch)) for name, watch in watchers.items()]
    try:
        for batch in batches:
            model(*batch)
    finally:
        for handle in handles:
            handle.remove()


def amax_by_layer(histograms: Mapping[str, Histogram], observer: Observer) -> dict[str, float]:
    """Read a clipping value off every histogram."""
    return {name: amax_from_histogram(histogram, observer) for name, histogram in histograms.items()}


def quantize(model: nn.Module, amax: Mapping[str, float] | None, smoothing: Mapping[str, Tensor] | None = None) -> None:
    """Replace every linear layer by its fake-quantized form, in place, sharing the weights.

    Args:
        model: a model with unquantized `Linear` layers.
        amax: the clipping value of each layer's input; None for scales per token.
        smoothing: factors of the layers that have some.
    """
    for name, linear in linears(model).items():
        parent, _, child = name.rpartition(".")
        own = None if amax is None else amax[name]
        setattr(model.get_submodule(parent), child, QuantizedLinear(linear, own, (smoothing or {}).get(name)))


def set_amax(model: nn.Module, amax: Mapping[str, float]) -> None:
    """Give a quantized model other clipping values, in place."""
    with torch.no_grad():
        for name, module in linears(model).items():
            assert isinstance(module, QuantizedLinear), f"{name} is not quantized"
            assert isinstance(module.input_quantizer, ActivationQuantizer), f"{name} has scales per token"
            module.input_quantizer.log_scale.fill_(math.log(scale_from_amax(amax[name])))
