"""Smoothing: moving the outlier channels of an activation into the weights before both are quantized.

A few channels of a LayerNorm or GELU output peak at fifteen times the median channel; one scale for the whole tensor
leaves the others a handful of levels. Each channel is divided by a factor on its branch to the linear layer, and the
weight's input is multiplied by it: the product is the same, and both are easier to round. The residual keeps the raw
value.

Xiao et al. 2023, SmoothQuant, https://arxiv.org/abs/2211.10438, has one strength for all layers. How much each layer
can bear differs, and is cheap to see: `searched_factors` tries strengths on the layer alone, as Lin et al. 2023, AWQ,
https://arxiv.org/abs/2306.00978, do for weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo.encoder.model import Linear
from octavo.quantize.fake_quantize import TokenQuantizer, fake_quantize, fake_quantize_weight, scale_from_amax
from octavo.quantize.placement import linears, run_watched
from octavo.types import Scheme

# The inputs that come out of a LayerNorm, which bear one strength for all; with one for the attention context and the
# GELU output too, models were measured to get worse.
SMOOTHED = ("qkv", "ffn1")
STRENGTHS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SMALLEST = 1e-5
_ROWS_PER_BATCH, _MOST_ROWS = 64, 1024  # inputs of a layer that its strengths are tried on


@torch.no_grad()
def smoothing_factors(model: nn.Module, batches: Iterable[tuple[Tensor, ...]], strength: float) -> dict[str, Tensor]:
    """Run the float model and return the factors of QKV and FFN1 inputs by layer name, (in,) each.

    Args:
        model: a model with unquantized `Linear` layers, in evaluation mode.
        batches: the model's positional arguments, one tuple a batch.
        strength: 0 leaves the activation as it is, 1 moves all of its range into the weight.
    """
    layers = {name: layer for name, layer in linears(model).items() if name.rpartition(".")[2] in SMOOTHED}
    seen = _inputs_seen(model, layers, batches)
    return {name: _factors(layer, seen[name].amax, strength) for name, layer in layers.items()}


@torch.no_grad()
def searched_factors(
    model: nn.Module, batches: Iterable[tuple[Tensor, ...]], scheme: Scheme = Scheme.PER_TENSOR
) -> dict[str, Tensor]:
    """Run the float model and return each layer's factors by name, (in,) each; of layers that are better without, none.

    Of the strengths in `STRENGTHS` a layer gets the one with which its quantized output is nearest to its float output,
    in mean squares over a sample of its inputs.

    Args:
        model: a model with unquantized `Linear` layers, in evaluation mode.
        batches: the model's positional arguments, one tuple a batch.
        scheme: of the activations' scales.
    """
    layers = linears(model)
    seen = _inputs_seen(model, layers, batches)
    found = {}
    for name, layer in layers.items():
        candidates = {strength: _factors(layer, seen[name].amax, strength) for strength in STRENGTHS if strength}
        candidates[0.0] = torch.ones(layer.in_features)
        rows = torch.cat(seen[name].rows)  # (rows, in)
        best = min(STRENGTHS, key=lambda s: _error(layer, rows, seen[name].amax, candidates[s], scheme))
        if best:
            found[name] = candidates[best]
    return found


@dataclass(slots=True)
class _Seen:
    """What entered a layer: the largest value of each channel, (in,), and some of the inputs, (rows, in) in parts."""

    amax: Tensor
    rows: list[Tensor] = field(default_factory=list)
    count: int = 0

    def add(self, x: Tensor, outputs: slice = slice(None)) -> None:
        torch.maximum(self.amax, x.abs().amax(dim=0), out=self.amax)
        if self.count < _MOST_ROWS:
            # Evenly spaced: a batch is sorted by nothing, and the choice needs no random numbers.
            chosen = x[torch.linspace(0, len(x) - 1, min(_ROWS_PER_BATCH, len(x))).long()]
            self.rows.append(chosen.clone())
            self.count += len(chosen)


def _inputs_seen(
    model: nn.Module, layers: dict[str, Linear], batches: Iterable[tuple[Tensor, ...]]
) -> dict[str, _Seen]:
    seen = {name: _Seen(torch.zeros(layer.in_features)) for name, layer in layers.items()}
    run_watched(model, batches, {name: one.add for name, one in seen.items()})
    return seen


def _factors(layer: Linear, amax: Tensor, strength: float) -> Tensor:
    """Return factors whose geometric mean is 1, so that strengths differ in shape alone, (in,)."""
    weights = layer.weight.detach().abs().amax(dim=0).clamp_min(_SMALLEST)  # (in,)
    factors = amax.clamp_min(_SMALLEST) ** strength / weights ** (1 - strength)
    return factors / factors.log().mean().exp()


def _error(layer: Linear, rows: Tensor, amax: Tensor, factors: Tensor, scheme: Scheme) -> float:
    """Return the mean squared error of the layer's output when input and weight are quantized, ()."""
    smoothed = rows / factors
    if scheme is Scheme.PER_TOKEN:
        smoothed = TokenQuantizer()(smoothed)
    else:
        smoothed = fake_quantize(smoothed, torch.tensor(scale_from_amax(float((amax / factors).max()))))
    quantized = F.linear(smoothed, fake_quantize_weight(layer.weight * factors))
    return float((quantized - F.linear(rows, layer.weight)).square().mean())
