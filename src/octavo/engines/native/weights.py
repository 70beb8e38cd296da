"""A quantized model as the extension takes it: arrays and settings. Knows no graph, and no processor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from octavo.types import FloatArray


class Activation(StrEnum):
    """What stands between the two layers of the feed-forward, or after the head's dense layer."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    RELU = "relu"
    TANH = "tanh"


class StatesRead(StrEnum):
    """Which hidden states the head reads, as far as the graph tells: one token may be the first or the last."""

    ONE = "one"
    MEAN = "mean"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class LinearWeights:
    """A quantized linear layer.

    Attributes:
        weight: int8 levels, (in, out).
        weight_scale: what a level is worth, (out,).
        bias: (out,).
        input_scale: of the levels of the input; None for one for each token.
        input_factor: what the input is multiplied by before it is rounded, (in,); None for 1.
    """

    weight: npt.NDArray[np.int8]
    weight_scale: FloatArray
    bias: FloatArray
    input_scale: float | None
    input_factor: FloatArray | None


@dataclass(frozen=True, slots=True)
class LayerNormWeights:
    """A LayerNorm over the hidden size."""

    weight: FloatArray
    bias: FloatArray
    epsilon: float


@dataclass(frozen=True, slots=True)
class DenseWeights:
    """A float layer of the head; the weight is (out, in)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer. `qkv` is one layer, or Q and KV apart where the last layer serves one token."""

    qkv: list[LinearWeights]
    attention_output: LinearWeights
    attention_norm: LayerNormWeights
    ffn1: LinearWeights
    ffn2: LinearWeights
    ffn_norm: LayerNormWeights


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """All that the extension must know of a model but how positions are counted."""

    words: FloatArray
    positions: FloatArray
    norm: LayerNormWeights
    layers: list[LayerWeights]
    heads: int
    activation: Activation
    reads: StatesRead
    dense: DenseWeights | None
    dense_activation: Activation
    output: DenseWeights | None
    normalize: bool
