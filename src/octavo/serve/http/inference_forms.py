"""What bodies of the Open Inference Protocol look like over HTTP."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import msgspec

Parameters = dict[str, bool | int | float | str]


class InferInput(msgspec.Struct, kw_only=True):
    """A tensor of texts: in `data`, or in the bytes after the JSON (`parameters.binary_data_size`)."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES"]
    parameters: Parameters = {}
    data: list[Any] | None = None


class InferOutput(msgspec.Struct, kw_only=True):
    """An output that is wanted; in bytes with `parameters.binary_data`."""

    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct, kw_only=True):
    """Named tensors; without `outputs` all of them are answered."""

    inputs: list[InferInput]
    id: str | None = None
    parameters: Parameters = {}
    outputs: list[InferOutput] = []


class InferredTensor(TypedDict):
    """An output: in `data`, row after row, or in the bytes after the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: NotRequired[dict[str, int]]
    data: NotRequired[list[float | str]]


class InferAnswer(TypedDict):
    """The outputs, and who gave them."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[InferredTensor]


class ServerMetadata(TypedDict):
    """This server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(TypedDict):
    """A tensor; a dimension of -1 is any."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """A model, its loaded versions, and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Liveness(TypedDict):
    """The server lives."""

    live: bool


class Readiness(TypedDict):
    """The server, or the model, answers."""

    ready: bool
