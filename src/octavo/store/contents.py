"""The JSON of a release that serving reads: `config.json` (how to run it) and `golden.json` (what it must say)."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from octavo.errors import ReleaseError
from octavo.types import FloatArray, Input, Pair, Words

Content = TypeVar("Content", bound=msgspec.Struct)


class ReleaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to run the release.

    Attributes:
        task: what the model does.
        settings: what the task knows beside its name, such as labels or prompts.
        precision: of the linear layers.
        backend: the engine that was certified.
        max_length: tokens after which a text is cut.
        position_offset: row of the position table that the first token takes.
        segment_stride: rows between the position tables of the first and the second text of a pair.
        family: of the encoder, with its sizes: for people.
        shapes: (tokens, batch, length) buckets that the development rows fell into; warmed up at load.
    """

    format: Literal[1] = 1
    task: str
    settings: dict[str, Any]
    precision: str
    backend: str
    max_length: int
    position_offset: int
    segment_stride: int = 0
    family: str
    hidden_size: int
    layers: int
    heads: int
    shapes: list[tuple[int, int, int]]


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs whose ids and outputs are checked every time the release is loaded.

    Attributes:
        inputs: a text, a pair of texts as a list, or words as `{"words": [...]}`.
        ids: token ids of each input.
        outputs: what the certified engine put out, one row per token that the head reads.
        tolerance: largest difference of a value that counts as the same answer on another processor.
    """

    format: Literal[1] = 1
    inputs: list[str | list[str] | dict[str, list[str]]]
    ids: list[list[int]]
    outputs: list[list[float]]
    tolerance: float


def input_json(given: Input) -> str | list[str] | dict[str, list[str]]:
    """Return an input as golden files write it."""
    if isinstance(given, Pair):
        return [given.first, given.second]
    return {"words": list(given.words)} if isinstance(given, Words) else given


def input_from_json(written: str | list[str] | dict[str, list[str]]) -> Input:
    """Return the input that a golden file means."""
    if isinstance(written, list):
        return Pair(*written)
    return Words(tuple(written["words"])) if isinstance(written, dict) else written


def golden_tolerance(engine: FloatArray, reference: FloatArray) -> float:
    """Return how far another processor's roundings may move an output.

    INT8 kernels differ in which halves they round up, so an engine differs from the torch reference by about as much
    as it differs from itself elsewhere: four times that, plus a thousandth of the largest value.
    """
    return float(4 * np.abs(engine - reference).max() + 1e-3 * np.abs(reference).max())


def content_bytes(content: msgspec.Struct) -> bytes:
    """Return a content as JSON that people can read."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def content_from_bytes(content: bytes, kind: type[Content], source: str) -> Content:
    """Read a content back.

    Raises:
        ReleaseError: it is no JSON, or not of this form.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise ReleaseError(f"{source}: {error}. The release was not made by this version of Octavo.") from None
