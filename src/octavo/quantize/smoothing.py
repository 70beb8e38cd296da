"""Smoothing: moving the outlier channels of an activation into the weights before both are quantized.

A few channels of a LayerNorm output peak at fifteen times the median channel; one scale for the whole tensor leaves the
others a handful of levels. Each channel is divided by a factor on its branch to the linear layer, and the weight's
input is multiplied by it: the product is the same, and both are easier to round. The residual keeps the raw value.

Xiao et al. 2023, SmoothQuant, https://arxiv.org/abs/2211.10438.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from octavo.quantize.placement import linears

# The inputs that come out of a LayerNorm. Smoothing the attention context and the GELU output too was measured to hurt.
SMOOTHED = ("qkv", "ffn1")
_SMALLEST = 1e-5


@torch.no_grad()
def smoothing_factors(model: nn.Module, batches: Iterable[tuple[Tensor, ...]], strength: float) -> dict[str, Tensor]:
    """Run the float model and return each smoothed layer's factors by name, (in,) each.

    Args:
        model: a model with unquantized `Linear` layers, in evaluation mode.
        batches: the model's positional arguments, one tuple a batch.
        strength: 0 leaves the activation as it is, 1 moves all of its range into the weight.
    """
    layers = {name: layer for name, layer in linears(model).items() if name.rpartition(".")[2] in SMOOTHED}
    amax = {name: torch.zeros(layer.in_features) for name, layer in layers.items()}

    def watch(name: str) -> Any:
        def observe(_module: nn.Module, args: tuple[Any, ...]) -> None:
            torch.maximum(amax[name], args[0].abs().amax(dim=0), out=amax[name])

        return observe

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        for batch in batches:
            model(*batch)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: (
            amax[name].clamp_min(_SMALLEST) ** strength
            / layer.weight.detach().abs().amax(dim=0).clamp_min(_SMALLEST) ** (1 - strength)
        )
        for name, layer in layers.items()
    }
