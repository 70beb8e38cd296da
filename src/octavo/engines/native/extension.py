"""The way into the C++ extension: whether there is one, and weights handed over to it.

The only module that names the extension's functions.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from octavo.engines import native as package
from octavo.engines.native.weights import LayerWeights, ModelWeights
from octavo.errors import EngineError
from octavo.text.layout import Positions


def instruction_sets() -> list[str]:
    """Return what the extension can use on this machine, the best first; `portable` is always there.

    Raises:
        EngineError: the extension was not built.
    """
    return list(_extension().instruction_sets())


def spin(isa: str, rounds: int) -> int:
    """Do about as many rounds of integer products and nothing else: what this processor can at most.

    Returns:
        The number of products.

    Raises:
        EngineError: the extension was not built.
        ValueError: an instruction set that this machine lacks.
    """
    return int(_extension().spin(isa, rounds))


def encoder_from_weights(
    weights: ModelWeights, positions: Positions, max_length: int, *, isa: str = "", threads: int = 1
) -> Any:
    """Pack a model's weights for this machine.

    Args:
        weights: the model.
        positions: how rows of its position table are counted.
        max_length: the longest sequence, in tokens.
        isa: instruction set; empty for the best.
        threads: CPU threads.

    Returns:
        The extension's encoder: `run(ids, offsets, segments, reads)` gives (outputs, width), without the interpreter's
        lock; `isa`, `threads` and `width` are what they say.

    Raises:
        EngineError: the extension was not built.
        ValueError: tensors that do not fit together, or an instruction set that this machine lacks.
    """
    native = _extension()
    model = native.model(
        words=weights.words,
        positions=weights.positions,
        norm=native.layer_norm(**_named(weights.norm)),
        layers=[_layer(native, layer) for layer in weights.layers],
        heads=weights.heads,
        activation=native.Activation[weights.activation.name],
        reads=native.Reads[weights.reads.name],
        dense=weights.dense and native.dense(**_named(weights.dense)),
        dense_activation=native.Activation[weights.dense_activation.name],
        output=weights.output and native.dense(**_named(weights.output)),
        normalize=weights.normalize,
        position_offset=positions.offset,
        segment_stride=positions.segment_stride,
        max_length=max_length,
    )
    return native.Encoder(model, isa, threads)


def _extension() -> Any:
    if not package.available():
        raise EngineError(
            "The native engine was not built when Octavo was installed. Install a C++ compiler (g++ 11 or newer, or"
            " Clang 14 or newer) and install Octavo again, or use the openvino engine."
        )
    from octavo.engines.native import _native  # type: ignore[attr-defined]

    return _native


def _named(weights: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name: the extension's functions call their arguments the same."""
    return {field.name: getattr(weights, field.name) for field in fields(weights)}


def _layer(native: Any, layer: LayerWeights) -> Any:
    return native.layer(
        qkv=[native.linear(**_named(part)) for part in layer.qkv],
        attention_output=native.linear(**_named(layer.attention_output)),
        attention_norm=native.layer_norm(**_named(layer.attention_norm)),
        ffn1=native.linear(**_named(layer.ffn1)),
        ffn2=native.linear(**_named(layer.ffn2)),
        ffn_norm=native.layer_norm(**_named(layer.ffn_norm)),
    )
