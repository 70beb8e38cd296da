"""The files that an engine is built from: ONNX bytes of one model and its variants, already verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from octavo.text.buckets import Shape
from octavo.text.layout import Positions


@dataclass(frozen=True, slots=True)
class ModelGraph:
    """One model's graphs and what an engine must know beside them.

    Attributes:
        precision: `fp32` or `int8`, for the engine's id.
        graphs: ONNX bytes by role: `canonical`, and `u8` where there is a twin.
        positions: how rows of the position table are counted.
        max_length: the longest sequence, in tokens.
        key: sha256 of the release, which names compiled engines in the cache; None keeps none, for a graph that may
            never be released.
        shapes: buckets of real traffic, for engines that are tuned to shapes when they are built.
    """

    precision: str
    graphs: Mapping[str, bytes]
    positions: Positions
    max_length: int
    key: str | None
    shapes: tuple[Shape, ...] = ()
