"""The gRPC server, asked by the real client and by bare channels."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from octavo.serve.grpc import inference_pb2 as messages
from octavo.serve.grpc.server import create_grpc_server
from octavo.serve.http.settings import ApiSettings
from octavo.serve.refusals import Overloaded, Unavailable
from octavo.serve.tensors import raw_from_texts
from octavo.store.model import Model
from tests.unit.serve.direct_service import DirectService, HeardRefusals, make_tiny_models

TEXTS = ["turn it off", "book a table"]


@pytest.fixture(scope="module")
def tiny_served() -> dict[str, Model]:
    return make_tiny_models()


@pytest.fixture
def service(tiny_served: dict[str, Model]) -> DirectService:
    return DirectService(dict(tiny_served))


@pytest.fixture
def listener() -> HeardRefusals:
    return HeardRefusals()


@contextlib.contextmanager
def _served(service: DirectService, settings: ApiSettings, listener: HeardRefusals) -> Iterator[str]:
    """Serve on a free port of this machine, with an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[grpc.aio.Server, int]:
        server = create_grpc_server(service, settings, listener=listener)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def serve(service: DirectService, listener: HeardRefusals) -> Callable[..., Any]:
    return lambda **settings: _served(service, ApiSettings(**settings), listener)


@pytest.fixture
def address(serve: Callable[..., Any]) -> Iterator[str]:
    with serve() as where:
        yield where


def infer(address: str, request: Any, **options: Any) -> Any:
    """Ask without a client's help."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        return method(request, **options)


def refused(address: str, request: Any, **options: Any) -> Any:
    """Ask, and return how it was refused."""
    with pytest.raises(grpc.RpcError) as error:
        infer(address, request, **options)
    return error.value


def asking(*texts: str, model: str = "intent", **changes: Any) -> Any:
    tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return messages.ModelInferRequest(model_name=model, inputs=[tensor], **changes)


def test_triton_over_grpc(address, tiny_served):
    triton = pytest.importorskip("tritonclient.grpc")
    from tritonclient.utils import InferenceServerException

    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("intent", "2")
        assert not client.is_model_ready("none")
        assert client.get_server_metadata().name == "octavo"
        metadata = client.get_model_metadata("match")
        assert (list(metadata.versions), metadata.platform) == (["3", "2"], "octavo_native")
        assert [list(one.shape) for one in metadata.outputs] == [[-1, 32]]
        text = triton.InferInput("text", [2], "BYTES")
        text.set_data_from_numpy(np.array(TEXTS, np.object_))
        result = client.infer("match", [text], request_id="7", client_timeout=30)
        expected = [one.vector for one in tiny_served["match"].predict(TEXTS)]
        np.testing.assert_allclose(result.as_numpy("embedding"), expected, rtol=1e-5)
        assert (result.get_response().id, result.get_response().model_version) == ("7", "3")
        labels = client.infer("intent", [text], outputs=[triton.InferRequestedOutput("label")]).as_numpy("label")
        assert [one.decode() for one in labels] == [one.label for one in tiny_served["intent"].predict(TEXTS)]
        with pytest.raises(InferenceServerException, match="intent, match, order, slots") as unknown:
            client.infer("none", [text])
        assert unknown.value.status() == "StatusCode.NOT_FOUND"


def test_contents_in_messages_and_raw_are_the_same(address):
    raw = asking("turn it off")
    raw.inputs[0].ClearField("contents")
    raw.raw_input_contents.append(raw_from_texts(["turn it off"]))
    plain = infer(address, asking("turn it off"))
    assert infer(address, raw) == plain
    assert [one.name for one in plain.outputs] == ["label", "confidence", "logits"]
    assert plain.parameters["compute_ms"].double_param == 0.125


def test_parameters_and_versions(address, service):
    request = asking("lamp", model="match", model_version="2")
    request.parameters["input_type"].string_param = "document"
    request.parameters["timeout"].int64_param = 60_000_000
    assert infer(address, request).model_version == "2"
    (asked,) = service.asked
    assert asked.items[0].text == "lamp"
    assert asked.deadline_s > time.monotonic() + 30


def _changed(change: Callable[[Any], None]) -> Any:
    request = asking("a")
    change(request)
    return request


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (_changed(lambda one: one.raw_input_contents.extend([b"", b""])), "raw_input_contents of 2"),
        (_changed(lambda one: one.raw_input_contents.append(b"\x05\0\0\0a")), "end within"),
        (_changed(lambda one: one.inputs.append(one.inputs[0])), "occurs twice"),
        (_changed(lambda one: one.inputs[0].parameters["shared_memory_region"].SetInParent()), "shared memory"),
        (_changed(lambda one: setattr(one.inputs[0], "datatype", "FP32")), "datatype"),
        (_changed(lambda one: one.inputs[0].contents.bytes_contents.append(b"\xff")), "not UTF-8"),
        (_changed(lambda one: one.inputs[0].shape.append(2)), "shape"),
        (_changed(lambda one: one.parameters["timeout"].SetInParent()), "microseconds"),
        (_changed(lambda one: one.outputs.add(name="scores")), "'scores' is not known"),
        (asking(*"abc"), "3 inputs, and 2"),
        (messages.ModelInferRequest(model_name="intent"), "'text' is missing"),
    ],
)
def test_what_does_not_add_up_is_refused(serve, service, listener, request_, part):
    with serve(max_inputs=2) as address:
        error = refused(address, request_)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert part in error.details()
    assert not service.asked
    assert len(listener.reasons) == 1


def test_refusals_of_the_service_have_their_codes(address, service, listener):
    service.error = Overloaded("full", 0.25)
    error = refused(address, asking("a"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "250") in [tuple(one) for one in error.trailing_metadata()]
    service.error = Unavailable("stopping")
    assert refused(address, asking("a")).code() is grpc.StatusCode.UNAVAILABLE
    service.error = KeyError("a secret")
    error = refused(address, asking("a"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert listener.reasons == []  # the service has told of them


def test_keys(serve):
    with serve(api_keys=("one",)) as address:
        assert refused(address, asking("a")).code() is grpc.StatusCode.UNAUTHENTICATED
        wrong = [("authorization", "Bearer two")]
        assert refused(address, asking("a"), metadata=wrong).code() is grpc.StatusCode.UNAUTHENTICATED
        assert infer(address, asking("a"), metadata=[("authorization", "Bearer one")]).model_name == "intent"
        with grpc.insecure_channel(address) as channel:  # probes show no key
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert messages.ServerLiveResponse.FromString(live(b"")).live


def test_a_client_whose_time_is_up_ends_the_asking(address, service):
    service.delay_s = 60
    assert refused(address, asking("a"), timeout=0.1).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    while not service.left:  # the test's own timeout ends what never does
        time.sleep(0.01)
    assert service.asked[0].deadline_s is not None


def test_a_message_that_is_too_large_is_refused(serve, service):
    with serve(max_body_bytes=10_000) as address:
        assert refused(address, asking("a" * 20_000)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not service.asked


def test_not_ready(address, service):
    service.ready = False
    with grpc.insecure_channel(address) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        assert not messages.ServerReadyResponse.FromString(ready(b"")).ready


def test_bytes_that_are_no_message_are_refused(address, caplog):
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError, match=r"no message of type inference\.ModelInferRequest") as error:
            method(b"\xff" * 10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not caplog.records
