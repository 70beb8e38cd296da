"""The Open Inference Protocol, version 2, over HTTP, with its extension for binary tensors.

What the tensors of each task are called stands in `serve/inference.py`.
Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import orjson

import octavo
from octavo.serve.http.body import body_from_json
from octavo.serve.http.endpoint import Operation
from octavo.serve.http.errors import Dialect
from octavo.serve.http.exchange import JSON, Answer, Call, headers_from_reply, json_answer
from octavo.serve.http.inference_forms import (
    InferAnswer,
    InferInput,
    InferRequest,
    Liveness,
    ModelMetadata,
    Readiness,
    ServerMetadata,
    TensorMetadata,
)
from octavo.serve.inference import (
    EXTENSIONS,
    check_outputs,
    deadline_from_parameters,
    input_specs,
    inputs_of,
    items_from_texts,
    output_specs,
    platform_of,
    tensors_from_reply,
)
from octavo.serve.refusals import BadRequest, Unavailable
from octavo.serve.service import ModelInfo, Reply, Request
from octavo.serve.tensors import BYTES, Tensor, TensorSpec, check_tensor, texts_from_raw

_HEADER_LENGTH = b"inference-header-content-length"
_BINARY = (b"content-type", b"application/octet-stream")
_DEEPEST = 2  # dimensions of a list of texts


async def _server(call: Call, body: None) -> Answer:
    return json_answer({"name": "octavo", "version": octavo.__version__, "extensions": EXTENSIONS})


async def _live(call: Call, body: None) -> Answer:
    return json_answer({"live": True})


async def _ready(call: Call, body: None) -> Answer:
    if not call.service.ready:
        raise Unavailable("The service is starting or stopping, or no model serves.")
    return json_answer({"ready": True})


async def _model_ready(call: Call, body: None) -> Answer:
    _info(call)
    return json_answer({"ready": True})


async def _model(call: Call, body: None) -> Answer:
    info = _info(call)
    content: ModelMetadata = {
        "name": info.model,
        "versions": list(call.service.versions(info.model)),
        "platform": platform_of(info),
        "inputs": [_metadata(spec) for spec in input_specs(info.task)],
        "outputs": [_metadata(spec) for spec in output_specs(info.task)],
    }
    return json_answer(content)


async def _infer(call: Call, body: bytes) -> Answer:
    info = _info(call)
    request, rest = _request_and_rest(call.headers, body)
    texts = _texts(request.inputs, rest)
    names = [output.name for output in request.outputs]
    check_outputs(info.task, names)
    items = items_from_texts(info.task, texts, request.parameters)
    call.check_inputs(inputs_of(texts))
    deadline_s = deadline_from_parameters(request.parameters, call.deadline_s)
    reply = await call.ask(Request(info.model, items, call.path.get("version"), deadline_s))
    return _answer(request, reply, tensors_from_reply(info.task, reply, names))


def _info(call: Call) -> ModelInfo:
    return call.service.model(call.path["model"], call.path.get("version"))


def _metadata(spec: TensorSpec) -> TensorMetadata:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


_DECODER = msgspec.json.Decoder(InferRequest)


def _request_and_rest(headers: Mapping[bytes, bytes], body: bytes) -> tuple[InferRequest, bytes]:
    """Return the JSON of a body, and the bytes after it."""
    given = headers.get(_HEADER_LENGTH)
    if given is None:
        return body_from_json(_DECODER, body), b""
    if not given.isdigit() or len(given) > 18 or int(given) > len(body):
        raise BadRequest(
            f"Inference-Header-Content-Length is {given.decode('latin-1')!r:.40}, and the body has {len(body)} bytes."
        )
    length = int(given)
    return body_from_json(_DECODER, body[:length]), body[length:]


def _texts(inputs: Sequence[InferInput], rest: bytes) -> dict[str, list[str]]:
    """Return the texts of every input; `rest` holds those that are binary, one after the other."""
    texts: dict[str, list[str]] = {}
    place = 0
    for tensor in inputs:
        if tensor.name in texts:
            raise BadRequest(f"Input '{tensor.name:.60}' occurs twice.")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            elements = _texts_from_data(tensor)
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest) - place:
                raise BadRequest(
                    f"Input '{tensor.name:.60}': binary_data_size is {size!r:.40}, and {len(rest) - place} bytes are "
                    "left after the JSON. Inference-Header-Content-Length says where they begin."
                )
            elements = texts_from_raw(rest[place : place + size], tensor.name)
            place += size
        check_tensor(tensor.name, tensor.datatype, tensor.shape, len(elements))
        texts[tensor.name] = elements
    if place < len(rest):
        raise BadRequest(f"{len(rest) - place} bytes after the JSON belong to no input.")
    return texts


def _texts_from_data(tensor: InferInput) -> list[str]:
    if tensor.data is None:
        what = "shared memory, which is not read here" if "shared_memory_region" in tensor.parameters else "missing"
        raise BadRequest(f"Input '{tensor.name:.60}': its data is {what}. Send it as `data`, or binary.")
    elements = tensor.data
    for _ in range(_DEEPEST - 1):  # lists may be nested as the shape is
        if elements and all(isinstance(element, list) for element in elements):
            elements = [*chain.from_iterable(elements)]
    if not all(isinstance(element, str) for element in elements):
        raise BadRequest(f"Input '{tensor.name:.60}': its data should be a list of texts.")
    return elements


def _answer(request: InferRequest, reply: Reply, tensors: Sequence[Tensor]) -> Answer:
    """Return the outputs, those in bytes after the JSON that were asked for so."""
    by_default = bool(request.parameters.get("binary_data_output"))
    wanted = {output.name: bool(output.parameters.get("binary_data", by_default)) for output in request.outputs}
    written: list[dict[str, Any]] = []
    raws: list[bytes] = []
    for tensor in tensors:
        one: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if wanted.get(tensor.name, by_default):
            raws.append(tensor.raw())
            one["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            one["data"] = tensor.values if tensor.datatype == BYTES else tensor.values.ravel()  # type: ignore[union-attr]
        written.append(one)
    content: dict[str, Any] = {"model_name": reply.model, "model_version": reply.version, "outputs": written}
    if request.id is not None:
        content["id"] = request.id
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raws:
        return Answer(head, headers=(JSON, *headers_from_reply(reply)))
    length = (_HEADER_LENGTH, b"%d" % len(head))
    return Answer(b"".join([head, *raws]), headers=(_BINARY, length, *headers_from_reply(reply)))


_EXAMPLE = {
    "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["undo the last commit"]}],
}


def _of_model(path: str) -> tuple[Operation, ...]:
    """Return what can be asked of a model at a path: of the version that serves, or of one that is named."""
    which = "a version of a model" if "version" in path else "a model"
    return (
        Operation(
            method="POST",
            path=f"{path}/infer",
            handle=_infer,
            summary=f"Ask {which}, in tensors",
            dialect=Dialect.INFERENCE,
            body=bytes,
            documented_body=InferRequest,
            answer=InferAnswer,
            example=_EXAMPLE,
        ),
        Operation(
            method="GET",
            path=f"{path}/ready",
            handle=_model_ready,
            summary=f"Whether {which} answers",
            dialect=Dialect.INFERENCE,
            answer=Readiness,
        ),
        Operation(
            method="GET",
            path=path,
            handle=_model,
            summary=f"Describe {which}: its tensors",
            dialect=Dialect.INFERENCE,
            answer=ModelMetadata,
        ),
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/v2/health/live",
        handle=_live,
        summary="Whether the process lives",
        dialect=Dialect.INFERENCE,
        answer=Liveness,
        is_open=True,
    ),
    Operation(
        method="GET",
        path="/v2/health/ready",
        handle=_ready,
        summary="Whether requests are answered; 503 while starting and stopping",
        dialect=Dialect.INFERENCE,
        answer=Readiness,
        is_open=True,
    ),
    Operation(
        method="GET",
        path="/v2",
        handle=_server,
        summary="Describe the server",
        dialect=Dialect.INFERENCE,
        answer=ServerMetadata,
    ),
    *_of_model("/v2/models/{model}"),
    *_of_model("/v2/models/{model}/versions/{version}"),
)
