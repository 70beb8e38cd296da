"""Tensors as the Open Inference Protocol sends them: shapes, datatypes, and texts as bytes. Knows no task.

Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.serve.refusals import BadRequest
from octavo.types import FloatArray

BYTES, FP32 = "BYTES", "FP32"
ANY = -1

_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as metadata describes it; a dimension of -1 is any.

    Attributes:
        name: of the tensor.
        datatype: `BYTES` or `FP32`.
        shape: of it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output: numbers, or texts.

    Attributes:
        name: of the tensor.
        shape: of it.
        values: FP32 in this shape, or one text per element.
    """

    name: str
    shape: tuple[int, ...]
    values: FloatArray | list[str]

    @property
    def datatype(self) -> str:
        """`BYTES` or `FP32`."""
        return BYTES if isinstance(self.values, list) else FP32

    def raw(self) -> bytes:
        """Return the elements as they go over the wire: little-endian, texts with their lengths before them."""
        if isinstance(self.values, list):
            return raw_from_texts(self.values)
        return self.values.astype("<f4", copy=False).tobytes()


def raw_from_texts(texts: Sequence[str]) -> bytes:
    """Return the elements of a BYTES tensor, each with its length before it."""
    encoded = [text.encode() for text in texts]
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def texts_from_raw(raw: bytes, name: str) -> list[str]:
    """Return the texts of a BYTES tensor.

    Raises:
        BadRequest: lengths that do not add up, or texts that are not UTF-8.
    """
    texts = []
    place = 0
    while place < len(raw):
        start = place + _LENGTH.size
        place = start + _LENGTH.unpack_from(raw, place)[0] if start <= len(raw) else len(raw) + 1
        if place > len(raw):
            raise BadRequest(
                f"Input '{name:.60}': the bytes end within an element. Each is a length in 4 bytes, little-endian, "
                "then so many bytes."
            )
        texts.append(text_from_bytes(raw[start:place], name))
    return texts


def text_from_bytes(content: bytes, name: str) -> str:
    """Return an element as text. Raises BadRequest where it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"Input '{name}': a text is not UTF-8 ({error.reason}).") from None


def check_tensor(name: str, datatype: str, shape: Sequence[int], elements: int) -> None:
    """Refuse an input that is no list of texts.

    Args:
        name: of the input.
        datatype: that it is said to have.
        shape: that it is said to have.
        elements: that came.

    Raises:
        BadRequest: another datatype, more than one dimension, or a shape of other elements.
    """
    if datatype != BYTES:
        raise BadRequest(f"Input '{name}' has datatype {datatype:.20}; texts are {BYTES}.")
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1) or min(shape) < 1:
        raise BadRequest(f"Input '{name}' has shape {list(shape)[:8]}; texts are [n] or [n, 1], with n from 1 on.")
    if math.prod(shape) != elements:
        raise BadRequest(f"Input '{name}' has shape {list(shape)}, and {elements} elements came.")
