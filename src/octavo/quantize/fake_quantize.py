"""Fake quantization: rounding to int8 levels in float arithmetic, with gradients that training can use.

Symmetric, zero point 0. Activations have one scale per tensor, learned in quantization-aware training, or one per
token, taken from its largest value; weights have one per output channel, always taken from their current amax.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

QMIN, QMAX = -128, 127
WEIGHT_QMAX = 127  # weights leave -128 unused, so that negating a weight negates its level
_SMALLEST_SCALE = 1e-12  # a channel of zeros still needs a scale to divide by


class _FakeQuantize(torch.autograd.Function):
    """Round to the nearest level; the gradients are those of Learned Step Size Quantization.

    Esser et al. 2020, https://arxiv.org/abs/1902.08153: straight through inside the range, and for the scale
    the rounding residue inside, the clipping level outside.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        y = torch.fake_quantize_per_tensor_affine(x, float(scale), 0, QMIN, QMAX)
        ctx.save_for_backward(x, y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y, scale = ctx.saved_tensors
        inside = (x >= (QMIN - 0.5) * scale) & (x <= (QMAX + 0.5) * scale)
        for_x = gradient * inside if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return for_x, None
        # Inside, y - x is the residue that scales with the step; outside, y is a level times the scale.
        return for_x, (gradient * torch.where(inside, y - x, y)).sum() / scale


def fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """Round `x` to multiples of the 0-dim `scale` between -128 and 127 of them, differentiably in both."""
    return _FakeQuantize.apply(x, scale)  # type: ignore[no-any-return, no-untyped-call]


class ActivationQuantizer(nn.Module):
    """Per-tensor symmetric int8 with a learnable step size.

    The parameter is the logarithm of the scale (Jain et al. 2020, https://arxiv.org/abs/1903.08066), so that
    one learning rate fits tensors of every magnitude and the scale stays positive.
    """

    def __init__(self, amax: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale_from_amax(amax))))

    @property
    def scale(self) -> Tensor:
        """The step size, 0-dim."""
        return self.log_scale.exp()

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize, same shape."""
        return fake_quantize(x, self.scale)


class TokenQuantizer(nn.Module):
    """Symmetric int8 with one scale per row, from its largest value: nothing is clipped, nothing is learned."""

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize rows, same shape; the gradient passes straight through."""
        plain = x.detach()
        scale = token_scales(plain)
        return x + (torch.round(plain / scale) * scale - plain)


def token_scales(x: Tensor) -> Tensor:
    """Return the step size of each row of (…, width), (…, 1)."""
    return (x.abs().amax(dim=-1, keepdim=True) * (1.0 / QMAX)).clamp_min(_SMALLEST_SCALE)


def scale_from_amax(amax: float) -> float:
    """Return the step size that maps `amax` to the highest level."""
    return max(amax / QMAX, _SMALLEST_SCALE)


def weight_scale(weight: Tensor) -> Tensor:
    """Return one scale per output channel of a weight (out, in), (out,)."""
    return (weight.detach().abs().amax(dim=1) / WEIGHT_QMAX).clamp_min(_SMALLEST_SCALE)


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """Fake-quantize a weight (out, in) per output channel; the gradient passes straight through."""
    scale = weight_scale(weight)
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -WEIGHT_QMAX, WEIGHT_QMAX)


def int8_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the int8 levels (out, in) and the scales (out,) that `fake_quantize_weight` stands for."""
    scale = weight_scale(weight)
    levels = torch.round(weight.detach() * (1.0 / scale)[:, None]).clamp(-WEIGHT_QMAX, WEIGHT_QMAX)
    return levels.to(torch.int8), scale
