"""The gRPC server: messages of the Open Inference Protocol to requests of the service, and replies back.

What the tensors of each task are called stands in `serve/inference.py`. Outputs are sent raw.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

import octavo
from octavo.errors import InputError
from octavo.serve.grpc import inference_pb2 as messages
from octavo.serve.http.exchange import Call
from octavo.serve.http.keys import check_key, digests_of
from octavo.serve.http.settings import ApiSettings
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
from octavo.serve.refusals import BadRequest, Overloaded, Refusal
from octavo.serve.service import Listener, Reply, Request, Service
from octavo.serve.tensors import Tensor, TensorSpec, check_tensor, text_from_bytes, texts_from_raw

_SERVICE = "inference.GRPCInferenceService"
_LOG = logging.getLogger(__name__)
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

# A method's request, and the call that it is made in, to its response. Messages have no useful types.
Answering = Callable[[Any, Call], Awaitable[Any]]


def create_grpc_server(
    service: Service, settings: ApiSettings | None = None, *, listener: Listener | None = None
) -> grpc.aio.Server:
    """Return a server; give it a port (`add_insecure_port`) and start it, in the event loop that it is made in.

    Args:
        service: that answers.
        settings: limits and keys; None for the defaults.
        listener: hears of what is refused before the service is asked.
    """
    settings = settings or ApiSettings()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.max_body_bytes)])
    guard = _Guard(service, settings, listener)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            guard.guarded(answer, getattr(messages, f"{name}Request"), is_open=name in _OPEN),
            response_serializer=getattr(messages, f"{name}Response").SerializeToString,
        )
        for name, answer in _METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    return server


class _Guard:
    """What all methods have in common: keys, deadlines, and what becomes of failures."""

    def __init__(self, service: Service, settings: ApiSettings, listener: Listener | None) -> None:
        self._service = service
        self._settings = settings
        self._listener = listener
        self._digests = digests_of(settings.api_keys)

    def guarded(self, answer: Answering, kind: Any, *, is_open: bool) -> Callable[[bytes, Any], Awaitable[Any]]:
        """Return a method as gRPC calls it; a client that cancels cancels the awaiting of its answer.

        Args:
            answer: makes the response.
            kind: of message that a request is.
            is_open: whether no key is needed.
        """

        async def method(content: bytes, context: Any) -> Any:
            call = Call(self._service, self._settings, {}, {})
            if (left_s := context.time_remaining()) is not None:
                call.deadline_s = time.monotonic() + left_s
            try:
                check_key(_authorization(context), () if is_open else self._digests)
                return await answer(_message(kind, content), call)
            except Refusal as error:
                refusal = error
            except InputError as error:  # a task may find fault with an item
                refusal = BadRequest(str(error))
            except Exception:
                _LOG.exception("A request failed")
                return await context.abort(grpc.StatusCode.INTERNAL, "The server failed to answer. Its log says why.")
            if self._listener is not None and call.asked is None:
                self._listener.refused("", refusal.reason)
            code = _CODES.get(refusal.status, grpc.StatusCode.INTERNAL)
            return await context.abort(code, str(refusal), _trailing(refusal))

        return method


async def _server_live(request: Any, call: Call) -> Any:
    return messages.ServerLiveResponse(live=True)


async def _server_ready(request: Any, call: Call) -> Any:
    return messages.ServerReadyResponse(ready=call.service.ready)


async def _server_metadata(request: Any, call: Call) -> Any:
    return messages.ServerMetadataResponse(name="octavo", version=octavo.__version__, extensions=EXTENSIONS)


async def _model_ready(request: Any, call: Call) -> Any:
    try:
        call.service.model(request.name, request.version or None)
    except Refusal:
        return messages.ModelReadyResponse(ready=False)
    return messages.ModelReadyResponse(ready=True)


async def _model_metadata(request: Any, call: Call) -> Any:
    info = call.service.model(request.name, request.version or None)
    return messages.ModelMetadataResponse(
        name=info.model,
        versions=call.service.versions(info.model),
        platform=platform_of(info),
        inputs=[_metadata(spec) for spec in input_specs(info.task)],
        outputs=[_metadata(spec) for spec in output_specs(info.task)],
    )


async def _model_infer(request: Any, call: Call) -> Any:
    version = request.model_version or None
    info = call.service.model(request.model_name, version)
    parameters = {name: _value(parameter) for name, parameter in request.parameters.items()}
    deadline_s = deadline_from_parameters(parameters, call.deadline_s)
    texts = _texts(request)
    names = [output.name for output in request.outputs]
    check_outputs(info.task, names)
    items = items_from_texts(info.task, texts, parameters)
    call.check_inputs(inputs_of(texts))
    reply = await call.ask(Request(info.model, items, version, deadline_s))
    return _response(request.id, reply, tensors_from_reply(info.task, reply, names))


_METHODS: dict[str, Answering] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ServerMetadata": _server_metadata,
    "ModelReady": _model_ready,
    "ModelMetadata": _model_metadata,
    "ModelInfer": _model_infer,
}


# Probes show no key.
_OPEN = ("ServerLive", "ServerReady")


def _message(kind: Any, content: bytes) -> Any:
    """Return the message of some bytes; gRPC itself would log a traceback where they are none."""
    try:
        return kind.FromString(content)
    except DecodeError:
        raise BadRequest(f"The request is no message of type {kind.DESCRIPTOR.full_name}.") from None


def _authorization(context: Any) -> bytes:
    shown = dict(context.invocation_metadata() or ()).get("authorization", "")
    return shown.encode() if isinstance(shown, str) else bytes(shown)


def _trailing(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """Return metadata that say when to come back, as gRPC's own retries read them."""
    if not isinstance(refusal, Overloaded):
        return ()
    return (("grpc-retry-pushback-ms", str(max(1, math.ceil(1000 * refusal.retry_after_s)))),)


def _metadata(spec: TensorSpec) -> Any:
    return messages.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _value(parameter: Any) -> bool | int | float | str:
    """Return the value of a parameter, of whichever type it is; "" for none."""
    kind = parameter.WhichOneof("parameter_choice")
    value: bool | int | float | str = getattr(parameter, kind) if kind else ""
    return value


def _texts(request: Any) -> dict[str, list[str]]:
    """Return the texts of every input, raw or in messages. Raises BadRequest."""
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise BadRequest(f"There are {len(request.inputs)} inputs, and raw_input_contents of {len(raws)}.")
    texts: dict[str, list[str]] = {}
    for i, tensor in enumerate(request.inputs):
        if tensor.name in texts:
            raise BadRequest(f"Input '{tensor.name:.60}' occurs twice.")
        if "shared_memory_region" in tensor.parameters:
            raise BadRequest(
                f"Input '{tensor.name:.60}' is in shared memory, which is not read here. Send its contents."
            )
        if raws:
            elements = texts_from_raw(raws[i], tensor.name)
        else:
            elements = [text_from_bytes(element, tensor.name) for element in tensor.contents.bytes_contents]
        check_tensor(tensor.name, tensor.datatype, tensor.shape, len(elements))
        texts[tensor.name] = elements
    return texts


def _response(identifier: str, reply: Reply, tensors: Sequence[Tensor]) -> Any:
    response = messages.ModelInferResponse(
        model_name=reply.model,
        model_version=reply.version,
        id=identifier,
        outputs=[
            messages.ModelInferResponse.InferOutputTensor(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            for tensor in tensors
        ],
        raw_output_contents=[tensor.raw() for tensor in tensors],
    )
    for name in ("queue_ms", "tokenize_ms", "compute_ms"):
        response.parameters[name].double_param = getattr(reply.timing, name)
    return response
