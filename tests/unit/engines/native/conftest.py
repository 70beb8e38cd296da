"""Random models for the extension, and the same arithmetic in numpy to hold it against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octavo.engines.native import available
from octavo.engines.native.extension import encoder_from_weights
from octavo.engines.native.weights import (
    Activation,
    DenseWeights,
    LayerNormWeights,
    LayerWeights,
    LinearWeights,
    ModelWeights,
    StatesRead,
)
from octavo.text.batch import TokenBatch
from octavo.text.layout import NO_OFFSET, Positions

VOCABULARY = 64
LONGEST = 600


def pytest_collection_modifyitems(items: Any) -> None:
    """Skip what needs the extension where there is none."""
    if not available():
        for item in items:
            if "make_encoder" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="the native extension was not built"))


@pytest.fixture(scope="session")
def make_weights() -> Any:
    """Return random weights of a model. Scales fit the values, so that few of them are clipped."""

    def make(
        *,
        hidden: int = 32,
        heads: int = 4,
        inner: int = 48,
        layers: int = 2,
        activation: Activation = Activation.GELU,
        reads: StatesRead = StatesRead.ONE,
        outputs: int | None = 5,
        dense: bool = True,
        normalize: bool = False,
        per_token: bool = False,
        seed: int = 0,
    ) -> ModelWeights:
        rng = np.random.default_rng(seed)

        def floats(*shape: int, scale: float = 0.2) -> Any:
            return (rng.standard_normal(shape) * scale).astype(np.float32)

        def linear(inputs: int, width: int, amax: float, *, smooth: bool = False) -> LinearWeights:
            levels = rng.integers(-127, 128, (inputs, width)).astype(np.int8)
            scale = rng.uniform(0.5, 1.5, width).astype(np.float32) / np.float32(73 * inputs**0.5)
            factor = rng.uniform(0.7, 1.3, inputs).astype(np.float32) if smooth else None
            return LinearWeights(levels, scale, floats(width), None if per_token else amax / 127, factor)

        def norm() -> LayerNormWeights:
            return LayerNormWeights(1 + floats(hidden), floats(hidden), 1e-5)

        def layer(*, split: bool) -> LayerWeights:
            qkv = linear(hidden, 3 * hidden, 3.5, smooth=True)
            parts = [qkv]
            if split:
                columns = (slice(0, hidden), slice(hidden, None))
                parts = [
                    LinearWeights(
                        np.ascontiguousarray(qkv.weight[:, part]),
                        qkv.weight_scale[part],
                        qkv.bias[part],
                        qkv.input_scale,
                        qkv.input_factor,
                    )
                    for part in columns
                ]
            return LayerWeights(
                parts,
                linear(hidden, hidden, 2.5),
                norm(),
                linear(hidden, inner, 3.5, smooth=True),
                linear(inner, hidden, 3.0),
                norm(),
            )

        one = reads is StatesRead.ONE
        return ModelWeights(
            words=floats(VOCABULARY, hidden, scale=1),
            positions=floats(2 * LONGEST, hidden, scale=0.5),
            norm=norm(),
            layers=[layer(split=one and i == layers - 1) for i in range(layers)],
            heads=heads,
            activation=activation,
            reads=reads,
            dense=DenseWeights(floats(hidden, hidden), floats(hidden)) if dense else None,
            dense_activation=Activation.TANH,
            output=None if outputs is None else DenseWeights(floats(outputs, hidden), floats(outputs)),
            normalize=normalize,
        )

    return make


class Encoder:
    """An encoder of the extension that takes a `TokenBatch`."""

    def __init__(self, native: Any) -> None:
        self.native = native

    def run(self, batch: TokenBatch) -> Any:
        return self.native.run(batch.ids, batch.offsets, batch.segments, batch.reads)


@pytest.fixture(scope="session")
def make_encoder() -> Any:
    """Return an encoder of the extension for some weights."""

    def make(weights: ModelWeights, isa: str = "", threads: int = 1, positions: Positions = NO_OFFSET) -> Encoder:
        return Encoder(encoder_from_weights(weights, positions, LONGEST, isa=isa, threads=threads))

    return make


@pytest.fixture(scope="session")
def random_batch() -> Any:
    """Return a batch of random tokens; `words` names some reads, `last` the last token of each sequence."""

    def make(lengths: Any, seed: int = 0, *, reads: str = "", segments: bool = False) -> TokenBatch:
        rng = np.random.default_rng(seed)
        sequences = [rng.integers(0, VOCABULARY, n).tolist() for n in lengths]
        places = {
            "": None,
            "last": [[n - 1] for n in lengths],
            "words": [sorted(rng.integers(0, n, rng.integers(1, 4)).tolist()) for n in lengths],
        }[reads]
        kinds = [rng.integers(0, 2, n).tolist() for n in lengths] if segments else None
        return TokenBatch.from_sequences(sequences, kinds, places)

    return make


def numpy_encoder(
    weights: ModelWeights, batch: TokenBatch, positions: Positions = NO_OFFSET, flips: np.random.Generator | None = None
) -> Any:
    """Run a model in numpy, in double precision between the roundings: the reference, written for clarity.

    With `flips`, three in a thousand levels of every linear layer's input is off by one.
    """
    place = np.arange(batch.tokens) - np.repeat(batch.offsets[:-1], batch.lengths)
    rows = place + positions.offset
    if batch.segments is not None:
        rows = rows + batch.segments * positions.segment_stride
    x = _norm(weights.words[batch.ids].astype(np.float64) + weights.positions[rows], weights.norm)  # (tokens, hidden)
    for layer in weights.layers:
        if len(layer.qkv) == 2:
            read = x[batch.read_places]
            query = _linear(read, layer.qkv[0], flips)
            key, value = np.split(_linear(x, layer.qkv[1], flips), 2, axis=1)
            of_sequence = [slice(i, i + 1) for i in range(len(batch))]
        else:
            read = x
            query, key, value = np.split(_linear(x, layer.qkv[0], flips), 3, axis=1)
            of_sequence = [slice(*pair) for pair in zip(batch.offsets[:-1], batch.offsets[1:], strict=True)]
        context = np.zeros_like(query)
        for i, queries in enumerate(of_sequence):
            keys = slice(batch.offsets[i], batch.offsets[i + 1])
            context[queries] = _attend(query[queries], key[keys], value[keys], weights.heads)
        x = _norm(read + _linear(context, layer.attention_output, flips), layer.attention_norm)
        inner = _ACTIVATIONS[weights.activation](_linear(x, layer.ffn1, flips))
        x = _norm(x + _linear(inner, layer.ffn2, flips), layer.ffn_norm)
    return _head(weights, batch, x)


def numpy_answer(weights: ModelWeights, batch: TokenBatch, positions: Positions = NO_OFFSET) -> tuple[Any, float]:
    """Return what numpy answers, and how far another engine may lie off because roundings flip.

    Floats are summed in other orders elsewhere, and GELU is within 1e-4: a value as near as that to the middle of two
    levels may round to the other one. Three in a thousand are more than ever do; and twice what they do in six
    trials, which seldom meet the worst place for a flip.
    """
    exact = numpy_encoder(weights, batch, positions)
    rng = np.random.default_rng(0)
    moved = [np.abs(numpy_encoder(weights, batch, positions, rng) - exact).max() for _ in range(6)]
    return exact, max(1e-4, 2 * max(moved))


def _linear(x: Any, layer: LinearWeights, flips: np.random.Generator | None) -> Any:
    if layer.input_factor is not None:
        x = x * layer.input_factor
    scale = layer.input_scale
    if scale is None:
        scale = np.maximum(np.abs(x).max(1, keepdims=True) / 127, 1e-12)
    levels = np.clip(np.rint(x / scale), -128, 127)
    if flips is not None:
        levels = levels + flips.choice([-1, 0, 1], x.shape, p=[0.0015, 0.997, 0.0015])
    return (levels @ layer.weight.astype(np.float64)) * scale * layer.weight_scale + layer.bias


def _norm(x: Any, norm: LayerNormWeights) -> Any:
    centred = x - x.mean(1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(1, keepdims=True) + norm.epsilon)
    return centred / deviation * norm.weight + norm.bias


def _attend(query: Any, key: Any, value: Any, heads: int) -> Any:
    parts = [np.split(part, heads, axis=1) for part in (query, key, value)]
    contexts = []
    for q, k, v in zip(*parts, strict=True):
        scores = q @ k.T
        weights = np.exp(scores - scores.max(1, keepdims=True))
        contexts.append(weights / weights.sum(1, keepdims=True) @ v)
    return np.concatenate(contexts, axis=1)


def _gelu(x: Any) -> Any:
    from math import erf, sqrt

    return 0.5 * x * (1 + np.vectorize(erf, otypes=[float])(x / sqrt(2)))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


_ACTIVATIONS = {
    Activation.GELU: _gelu,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.TANH: np.tanh,
}


def _head(weights: ModelWeights, batch: TokenBatch, x: Any) -> Any:
    if weights.reads is StatesRead.MEAN:
        x = np.add.reduceat(x, batch.offsets[:-1], axis=0) / batch.lengths[:, None]
    elif weights.reads is StatesRead.WORDS:
        x = x[batch.read_places]
    if weights.dense is not None:
        x = _ACTIVATIONS[weights.dense_activation](x @ weights.dense.weight.T + weights.dense.bias)
    if weights.output is not None:
        x = x @ weights.output.weight.T + weights.output.bias
    return x / np.linalg.norm(x, axis=1, keepdims=True) if weights.normalize else x
