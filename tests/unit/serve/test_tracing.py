"""With OpenTelemetry's own SDK, and an exporter that keeps spans in memory."""

import asyncio
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from octavo.errors import MissingExtraError
from octavo.serve.tracing import Tracing

TRACE, PARENT = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}-01".encode()


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter):
    made = Tracing(exporter)
    yield made
    made.close()


def _ask(tracing, listening, path="/v1/classify", status=200, headers=((b"traceparent", TRACEPARENT),)):
    async def app(scope, receive, send):
        listening()
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(tracing.wrap(app)(scope, None, send))


def _spans(tracing, exporter):
    """Return the span of the last request, and the spans within it, in order."""
    tracing._provider.force_flush()
    *within, request = exporter.get_finished_spans()
    return request, sorted(within, key=lambda span: span.start_time)


def test_a_request_is_a_span_with_its_stages(tracing, exporter, make_reply):
    _ask(tracing, lambda: tracing.answered(make_reply("3"), 0.006))
    request, stages = _spans(tracing, exporter)
    assert (request.name, request.kind) == ("POST /v1/classify", SpanKind.SERVER)
    assert request.attributes == {
        "http.request.method": "POST",
        "url.path": "/v1/classify",
        "http.response.status_code": 200,
        "octavo.model": "intents",
        "octavo.version": "3",
        "octavo.inputs": 1,
        "octavo.tokens": 7,
    }
    assert request.resource.attributes["service.name"] == "octavo"
    assert [stage.name for stage in stages] == ["tokenize", "queue", "compute"]
    assert {stage.parent.span_id for stage in stages} == {request.context.span_id}
    assert [stage.end_time - stage.start_time for stage in stages] == [100_000, 1_000_000, 4_000_000]
    assert [stage.end_time for stage in stages[:-1]] == [stage.start_time for stage in stages[1:]]
    assert stages[-1].end_time <= request.end_time


def test_the_trace_of_the_client_goes_on(tracing, exporter, make_reply):
    _ask(tracing, lambda: tracing.answered(make_reply(), 0.006))
    request, stages = _spans(tracing, exporter)
    assert {span.context.trace_id for span in (request, *stages)} == {TRACE}
    assert (request.parent.span_id, request.parent.is_remote) == (PARENT, True)


@pytest.mark.parametrize(
    "header", [b"", b"00-junk", b"\xff\xfe", TRACEPARENT[:-10], b"00-" + b"0" * 32 + b"-" + b"0" * 16]
)
def test_a_header_that_means_nothing_begins_a_trace(tracing, exporter, header):
    _ask(tracing, lambda: None, headers=[(b"traceparent", header)])
    request, _ = _spans(tracing, exporter)
    assert request.parent is None
    assert request.context.trace_id


def test_a_client_that_is_not_sampled_leaves_no_span(tracing, exporter):
    _ask(tracing, lambda: None, headers=[(b"traceparent", TRACEPARENT[:-2] + b"00")])
    tracing._provider.force_flush()
    assert exporter.get_finished_spans() == ()


def test_a_refusal_is_in_the_span(tracing, exporter):
    _ask(tracing, lambda: tracing.refused("intents", "overloaded"), "/v2/models/intents/versions/3/infer", 429)
    request, _ = _spans(tracing, exporter)
    assert request.name == "POST /v2/models/{model}/versions/{version}/infer"
    assert request.attributes["octavo.refused"] == "overloaded"
    assert request.attributes["http.response.status_code"] == 429


def test_outside_http_there_is_no_span(tracing, exporter, make_reply):
    tracing.answered(make_reply(), 0.006)
    tracing.refused("intents", "overloaded")
    tracing._provider.force_flush()
    assert exporter.get_finished_spans() == ()


def test_what_is_left_is_sent_at_the_end(exporter):
    tracing = Tracing(exporter)
    _ask(tracing, lambda: None)
    tracing.close()
    assert [span.name for span in exporter.get_finished_spans()] == ["POST /v1/classify"]


def test_without_the_extra_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"octavo\[otel\]"):
        Tracing()
