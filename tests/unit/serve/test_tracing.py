"""With a stand-in for OpenTelemetry that notes spans: the real one is an extra, and sends them over the network."""

import asyncio
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from octavo.errors import MissingExtraError
from octavo.serve.tracing import Tracing


@dataclass
class _Span:
    name: str
    context: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    start_time: int | None = None
    ended: int | None = None
    kind: str | None = None

    def set_attribute(self, name, value):
        self.attributes[name] = value

    def end(self, end_time=-1):
        self.ended = end_time


class _Provider:
    def __init__(self, resource):
        self.spans = []
        self.closed = False

    def add_span_processor(self, processor):
        pass

    def get_tracer(self, name):
        return self

    def start_span(self, name, **facts):
        self.spans.append(_Span(name, **facts))
        return self.spans[-1]

    def shutdown(self):
        self.closed = True


@pytest.fixture
def opentelemetry(monkeypatch):
    def module(name, **content):
        made = ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    trace = SimpleNamespace(SpanKind=SimpleNamespace(SERVER="server"), set_span_in_context=lambda span: span)
    propagate = SimpleNamespace(extract=lambda headers: headers.get("traceparent"))
    module("opentelemetry", trace=trace, propagate=propagate)
    for name in ("exporter", "exporter.otlp", "exporter.otlp.proto", "exporter.otlp.proto.http", "sdk"):
        module(f"opentelemetry.{name}")
    module("opentelemetry.exporter.otlp.proto.http.trace_exporter", OTLPSpanExporter=object)
    module("opentelemetry.sdk.resources", Resource=SimpleNamespace(create=dict))
    module("opentelemetry.sdk.trace", TracerProvider=_Provider)
    module("opentelemetry.sdk.trace.export", BatchSpanProcessor=lambda exporter: exporter)


def _ask(tracing, listening, path="/v1/classify", status=200):
    async def app(scope, receive, send):
        listening()
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"traceparent", b"00-abc")]}
    asyncio.run(tracing.wrap(app)(scope, None, send))


def test_a_request_is_a_span_with_its_stages(opentelemetry, make_reply):
    tracing = Tracing()
    _ask(tracing, lambda: tracing.answered(make_reply("3"), 0.006))
    request, *stages = tracing._provider.spans
    assert (request.name, request.context, request.kind) == ("POST /v1/classify", "00-abc", "server")
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["octavo.version"] == "3"
    assert request.ended is not None
    assert [stage.name for stage in stages] == ["tokenize", "queue", "compute"]
    assert all(stage.context is request for stage in stages)
    assert [stage.ended - stage.start_time for stage in stages] == [100_000, 1_000_000, 4_000_000]
    assert stages[0].ended == stages[1].start_time


def test_a_refusal_is_in_the_span(opentelemetry):
    tracing = Tracing()
    _ask(tracing, lambda: tracing.refused("intents", "overloaded"), "/v2/models/intents/versions/3/infer", 429)
    (request,) = tracing._provider.spans
    assert request.name == "POST /v2/models/{model}/versions/{version}/infer"
    assert request.attributes["octavo.refused"] == "overloaded"


def test_outside_http_there_is_no_span(opentelemetry, make_reply):
    tracing = Tracing()
    tracing.answered(make_reply(), 0.006)
    tracing.refused("intents", "overloaded")
    tracing.close()
    assert tracing._provider.spans == []
    assert tracing._provider.closed


def test_without_the_extra_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"octavo\[otel\]"):
        Tracing()
