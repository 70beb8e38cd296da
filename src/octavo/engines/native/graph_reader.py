"""From the canonical Q/DQ graph to weights and settings: an exact match of what `octavo.export` writes, or a refusal.

The graph is walked from its output back to its inputs, and every node of it must have its place. Knows how the
exporter spells each layer; how the numbers are laid out for a processor is the extension's business.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from octavo.engines.native.graph_walk import GraphWalk, UnknownGraphError
from octavo.engines.native.raw_tensors import without_large_tensors
from octavo.engines.native.weights import (
    Activation,
    DenseWeights,
    LayerNormWeights,
    LayerWeights,
    LinearWeights,
    ModelWeights,
    StatesRead,
)
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray

_OPSET = 18
_LEAST_SQUARE = 1e-12  # of a normalizing head, as in octavo.encoder.model
_MAX_LEVEL, _SMALLEST_SCALE = 127, 1e-12  # of scales for each token
_TOKENS_APART, _HEADS_APART, _KEYS_ACROSS = [0, 2, 1, 3], [0, 2, 1, 3], [0, 2, 3, 1]


def weights_from_onnx(content: bytes) -> ModelWeights:
    """Read a canonical INT8 graph. Large arrays are copied without the interpreter's lock: others serve meanwhile.

    Raises:
        UnknownGraphError: no ONNX, or any other graph; the message names the node or tensor.
    """
    try:
        structure, numbers = without_large_tensors(content)
        model = onnx.load_model_from_string(structure)
    except Exception as error:  # protobuf's errors are not onnx's
        raise UnknownGraphError(f"these bytes are no ONNX model ({type(error).__name__})") from None
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("") != _OPSET:
        raise UnknownGraphError(f"the graph's operator set is {versions.get('')}, not {_OPSET}")
    return _Reader(GraphWalk(model.graph, numbers)).model()


class _Reader:
    """Reads one graph. Method by method it mirrors `octavo.encoder.model` and `octavo.export.layers`, backwards."""

    def __init__(self, walk: GraphWalk) -> None:
        self._walk = walk
        self._activations: set[Activation] = set()
        self._heads: set[int] = set()
        self._hidden = 0

    def model(self) -> ModelWeights:
        walk = self._walk
        if len(walk.outputs) != 1 or not walk.inputs <= set(INPUT_NAMES):
            raise UnknownGraphError(f"the graph has the inputs {sorted(walk.inputs)} and outputs {walk.outputs}")
        states, normalize = self._normalized(walk.outputs[0])
        output = None
        if walk.kind(states) == "Gemm":
            states, output = self._dense(states)
        dense, dense_activation = None, Activation.TANH
        if walk.kind(states) in ("Tanh", "Relu"):
            dense_activation = Activation(walk.kind(states).lower())
            (product,) = walk.made_by(states, walk.kind(states))
            states, dense = self._dense(product)
        tokens, reads = self._states_read(states)
        batch = {"slots[0]": "batch", "mask[0]": "batch", "slots[1]": "length", "mask[1]": "length"}
        walk.sizes = batch if reads is StatesRead.WORDS else batch | {"read[0]": "batch"}
        layers: list[LayerWeights] = []
        while not self._is_embedding(tokens):
            tokens, layer = self._layer(tokens, one=reads is StatesRead.ONE and not layers)
            layers.insert(0, layer)
            if len(layers) > walk.nodes:
                raise UnknownGraphError(f"tensor {tokens} is made of itself")
        if not layers:
            raise UnknownGraphError("the graph has no layers")
        words, positions, norm = self._embeddings(tokens)
        if reads is StatesRead.MEAN:
            self._check_mean(states)
        walk.finish()
        (heads,), (activation,) = self._heads, self._activations
        return ModelWeights(
            words, positions, norm, layers, heads, activation, reads, dense, dense_activation, output, normalize
        )

    def _normalized(self, tensor: str) -> tuple[str, bool]:
        """states * 1 / sqrt(max(sum(states * states), least))"""
        walk = self._walk
        if walk.kind(tensor) != "Mul":
            return tensor, False
        states, inverse = walk.made_by(tensor, "Mul")
        (root,) = walk.made_by(inverse, "Reciprocal")
        (square,) = walk.made_by(root, "Sqrt")
        total, least = walk.made_by(square, "Clip")
        walk.expect_scalar(least, _LEAST_SQUARE)
        squares, axes = walk.made_by(total, "ReduceSum", keepdims=1)
        walk.expect_integers(axes, [-1])
        for factor in walk.made_by(squares, "Mul"):
            walk.expect_same(factor, states)
        return states, True

    def _dense(self, tensor: str) -> tuple[str, DenseWeights]:
        x, weight, bias = self._walk.made_by(tensor, "Gemm", alpha=1.0, beta=1.0, transA=0, transB=1)
        return x, DenseWeights(self._floats(weight, 2), self._floats(bias, 1))

    def _states_read(self, states: str) -> tuple[str, StatesRead]:
        """Return the hidden states of all tokens, or of the one that is read."""
        match self._walk.kind(states):
            case "Gather":
                return self._gathered(states, "read"), StatesRead.WORDS
            case "Div":
                total, _ = self._walk.made_by(states, "Div")
                masked, _ = self._walk.made_by(total, "ReduceSum", keepdims=0)
                spread, _ = self._walk.made_by(masked, "Mul")
                rows, _ = self._walk.made_by(spread, "Reshape")
                return self._gathered(rows, "slots"), StatesRead.MEAN
            case _:
                return states, StatesRead.ONE

    def _check_mean(self, states: str) -> None:
        """sum(spread * is_token) / max(sum(is_token), 1), with is_token = (mask == 0)"""
        walk = self._walk
        total, count = walk.made_by(states, "Div")
        masked, axes = walk.made_by(total, "ReduceSum", keepdims=0)
        walk.expect_integers(axes, [1])
        spread, weights = walk.made_by(masked, "Mul")
        _, shape = walk.made_by(spread, "Reshape")
        walk.expect_shape(shape, ["batch", "length", self._hidden])
        column, axes = walk.made_by(weights, "Unsqueeze")
        walk.expect_integers(axes, [2])
        number, least = walk.made_by(count, "Clip")
        walk.expect_scalar(least, 1.0)
        is_token, axes = walk.made_by(number, "ReduceSum", keepdims=1)
        walk.expect_integers(axes, [1])
        walk.expect_same(column, is_token)
        (equal,) = walk.made_by(is_token, "Cast", to=onnx.TensorProto.FLOAT)
        mask, zero = walk.operands(equal, "Equal")
        walk.expect_input(mask, "mask")
        walk.expect_scalar(zero, 0.0)

    def _gathered(self, tensor: str, places: str) -> str:
        """Return what the rows at an input's places were gathered from."""
        source, flat = self._walk.made_by(tensor, "Gather", axis=0)
        name, shape = self._walk.made_by(flat, "Reshape")
        self._walk.expect_input(name, places)
        self._walk.expect_shape(shape, [-1])
        return source

    def _is_embedding(self, tensor: str) -> bool:
        total = self._walk.made_by(tensor, "LayerNormalization")[0]
        return all(self._walk.kind(part) == "Gather" for part in self._walk.made_by(total, "Add"))

    def _embeddings(self, tensor: str) -> tuple[FloatArray, FloatArray, LayerNormWeights]:
        total, norm = self._layer_norm(tensor)
        tables = []
        for rows, name in zip(self._walk.made_by(total, "Add"), ("input_ids", "position_ids"), strict=True):
            table, places = self._walk.made_by(rows, "Gather", axis=0)
            self._walk.expect_input(places, name)
            tables.append(self._floats(table, 2))
        return tables[0], tables[1], norm

    def _layer_norm(self, tensor: str) -> tuple[str, LayerNormWeights]:
        x, weight, bias = self._walk.made_by(tensor, "LayerNormalization", axis=-1)
        epsilon = self._walk.attribute(tensor, "epsilon")
        if epsilon is None:
            raise UnknownGraphError(f"LayerNormalization that makes {tensor} states no epsilon")
        return x, LayerNormWeights(self._floats(weight, 1), self._floats(bias, 1), float(epsilon))

    def _layer(self, tensor: str, *, one: bool) -> tuple[str, LayerWeights]:
        """Return a layer's input and its weights; `one` for the last layer of a head that reads one token."""
        walk = self._walk
        total, ffn_norm = self._layer_norm(tensor)
        attended, product = walk.made_by(total, "Add")
        inner, ffn2 = self._linear(product)
        x, ffn1 = self._linear(self._activated(inner))
        walk.expect_same(x, attended)
        self._hidden = ffn1.weight.shape[0]
        total, attention_norm = self._layer_norm(attended)
        residual, product = walk.made_by(total, "Add")
        context, attention_output = self._linear(product)
        if one:
            x, qkv = self._attention_of_one(context, residual)
        else:
            x, qkv = self._attention(self._gathered(context, "rows"), residual)
        return x, LayerWeights(qkv, attention_output, attention_norm, ffn1, ffn2, ffn_norm)

    def _activated(self, tensor: str) -> str:
        """Return what the activation was applied to."""
        walk = self._walk
        if walk.kind(tensor) == "Relu":
            self._activations.add(Activation.RELU)
            return walk.made_by(tensor, "Relu")[0]
        x, gate = walk.made_by(tensor, "Mul")  # x * (0.5 * (1 + erf or tanh))
        double, half = walk.operands(gate, "Mul")
        walk.expect_scalar(half, 0.5)
        odd, one = walk.operands(double, "Add")
        walk.expect_scalar(one, 1.0)
        if walk.kind(odd) == "Erf":
            self._activations.add(Activation.GELU)
            (ratio,) = walk.made_by(odd, "Erf")
            source, root = walk.made_by(ratio, "Div")
            walk.expect_scalar(root, math.sqrt(2))
        else:
            self._activations.add(Activation.GELU_TANH)
            source = self._tanh_argument(odd)
        walk.expect_same(source, x)
        if len(self._activations) > 1:
            raise UnknownGraphError(f"layers have different activations: {sorted(self._activations)}")
        return x

    def _tanh_argument(self, tensor: str) -> str:
        """tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))"""
        walk = self._walk
        (argument,) = walk.made_by(tensor, "Tanh")
        polynomial, factor = walk.operands(argument, "Mul")
        walk.expect_scalar(factor, math.sqrt(2 / math.pi))
        x, term = walk.made_by(polynomial, "Add")
        cube, factor = walk.operands(term, "Mul")
        walk.expect_scalar(factor, 0.044715)
        base, power = walk.made_by(cube, "Pow")
        walk.expect_scalar(power, 3.0)
        walk.expect_same(base, x)
        return x

    def _attention(self, joined: str, x: str) -> tuple[str, list[LinearWeights]]:
        query, key, value = self._attended(joined)
        projected, head_size = self._split(self._transposed(query, _HEADS_APART), 0, 3)
        source, qkv = self._linear(self._keys_and_values(projected, key, value, 3, head_size))
        self._walk.expect_same(source, x)
        return x, [qkv]

    def _attention_of_one(self, joined: str, wanted: str) -> tuple[str, list[LinearWeights]]:
        """Q of the tokens that are read, K and V of all."""
        walk = self._walk
        x = self._gathered(wanted, "read")
        query, key, value = self._attended(joined)
        product, shape = walk.made_by(query, "Reshape")
        _, heads, _, head_size = self._four(walk.shape(shape), shape)
        walk.expect_shape(shape, [-1, heads, 1, head_size])
        self._note_heads(heads, head_size)
        source, q = self._linear(product)
        walk.expect_same(source, wanted)
        projected, _ = self._split(self._transposed(key, _KEYS_ACROSS), 0, 2)
        source, kv = self._linear(self._keys_and_values(projected, key, value, 2, head_size))
        walk.expect_same(source, x)
        return x, [q, kv]

    def _attended(self, joined: str) -> tuple[str, str, str]:
        """softmax(q @ k + mask) @ v, with the heads joined again. Returns q, k and v."""
        walk = self._walk
        apart, shape = walk.made_by(joined, "Reshape")
        walk.expect_shape(shape, [-1, self._hidden])
        product = self._transposed(apart, _TOKENS_APART)
        weights, value = walk.made_by(product, "MatMul")
        (scores,) = walk.made_by(weights, "Softmax", axis=-1)
        raw, rows = walk.made_by(scores, "Add")
        mask, axes = walk.made_by(rows, "Unsqueeze")
        walk.expect_input(mask, "mask")
        walk.expect_integers(axes, [1, 2])
        query, key = walk.made_by(raw, "MatMul")
        return query, key, value

    def _transposed(self, tensor: str, axes: list[int]) -> str:
        return self._walk.made_by(tensor, "Transpose", perm=axes)[0]

    def _split(self, part: str, place: int, parts: int) -> tuple[str, int]:
        """Return what was split into Q, K and V (or K and V), and the head size; `part` is one of them, by heads."""
        walk = self._walk
        rows, shape = walk.made_by(part, "Reshape")
        _, _, heads, head_size = self._four(walk.shape(shape), shape)
        walk.expect_shape(shape, ["batch", "length", heads, head_size])
        self._note_heads(heads, head_size)
        (projected,) = walk.made_by(rows, "Split", axis=2, num_outputs=parts)
        if walk.output_place(rows) != place:
            raise UnknownGraphError(f"tensor {rows} is not part {place} of its layer")
        return projected, head_size

    def _keys_and_values(self, projected: str, key: str, value: str, parts: int, head_size: int) -> str:
        """Check that K and V are the last parts of `projected`. Returns what was spread out to the sequences."""
        walk = self._walk
        for tensor, axes, place in ((key, _KEYS_ACROSS, parts - 2), (value, _HEADS_APART, parts - 1)):
            source, size = self._split(self._transposed(tensor, axes), place, parts)
            walk.expect_same(source, projected)
            if size != head_size:
                raise UnknownGraphError(f"tensor {tensor} has heads of {size}, not {head_size}")
        spread, shape = walk.made_by(projected, "Reshape")
        walk.expect_shape(shape, ["batch", "length", parts * self._hidden])
        return self._gathered(spread, "slots")

    def _four(self, sizes: list[int | str], tensor: str) -> list[Any]:
        if len(sizes) != 4:
            raise UnknownGraphError(f"shape {tensor} is {sizes}, not one by heads")
        return sizes

    def _note_heads(self, heads: Any, head_size: Any) -> None:
        self._heads.add(heads)
        if not isinstance(heads, int) or len(self._heads) > 1 or heads < 1 or heads * head_size != self._hidden:
            raise UnknownGraphError(f"{heads} heads of {head_size} do not make a hidden size of {self._hidden}")

    def _linear(self, tensor: str) -> tuple[str, LinearWeights]:
        """Return a linear layer's input and its weights."""
        walk = self._walk
        product, bias = walk.made_by(tensor, "Add")
        activation, dequantized = walk.made_by(product, "MatMul")
        if walk.is_constant(dequantized):
            raise UnknownGraphError(f"tensor {dequantized} is a float weight, and this engine multiplies INT8 alone")
        weight, scale, zero = walk.made_by(dequantized, "DequantizeLinear", axis=1)
        if self._walk.array(zero, np.int8, 1).any():
            raise UnknownGraphError(f"zero point {zero} is not zero")
        per_token = walk.kind(activation) == "Mul"
        x, input_scale = self._rounded_per_token(activation) if per_token else self._rounded(activation)
        factor = None
        if walk.kind(x) == "Mul" and walk.constant_operand(x):
            x, name = walk.operands(x, "Mul")
            factor = self._floats(name, 1)
        levels: npt.NDArray[np.int8] = walk.array(weight, np.int8, 2)
        return x, LinearWeights(levels, self._floats(scale, 1), self._floats(bias, 1), input_scale, factor)

    def _rounded(self, tensor: str) -> tuple[str, float]:
        """Levels with one scale for the whole tensor. Returns what was rounded, and the scale."""
        walk = self._walk
        levels, *constants = walk.made_by(tensor, "DequantizeLinear")
        x, *others = walk.made_by(levels, "QuantizeLinear")
        if constants != others or len(constants) != 2:
            raise UnknownGraphError(f"tensor {levels} is rounded and read with different scales")
        scale, zero = constants
        if walk.array(zero, np.int8, 0).any():
            raise UnknownGraphError(f"zero point {zero} is not zero")
        return x, walk.scalar(scale)

    def _rounded_per_token(self, tensor: str) -> tuple[str, None]:
        """round(x / scale) * scale, with scale = max(max|x| / 127, smallest) for each row."""
        walk = self._walk
        levels, scale = walk.made_by(tensor, "Mul")
        (ratio,) = walk.made_by(levels, "Round")
        x, divisor = walk.made_by(ratio, "Div")
        walk.expect_same(divisor, scale)
        share, *bounds = walk.made_by(scale, "Clip")
        if len(bounds) != 1:
            raise UnknownGraphError(f"tensor {scale} has a scale that is bound on both sides")
        walk.expect_scalar(bounds[0], _SMALLEST_SCALE)
        largest, factor = walk.operands(share, "Mul")
        walk.expect_scalar(factor, 1 / _MAX_LEVEL)
        magnitudes, axes = walk.made_by(largest, "ReduceMax", keepdims=1)
        walk.expect_integers(axes, [-1])
        (source,) = walk.made_by(magnitudes, "Abs")
        walk.expect_same(source, x)
        return x, None

    def _floats(self, tensor: str, rank: int) -> FloatArray:
        values: FloatArray = self._walk.array(tensor, np.float32, rank)
        return values
